#!/usr/bin/python3
"""Torc tests: docs/FORMATS.md, its vectors and the files of a node that ran, read with torc_files.py.

Last line: `N passed, N failed`. The part with a node needs root (tests/e2e/node.py).
"""
import os
import pathlib
import random
import re
import subprocess
import sys

import torc_files as f

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from node import BUILD, Checks, Node  # noqa: E402  # the path comes first

checks = Checks()
CLUSTER = 0xc1c2c3c4c5c6c7c8
HLC = 0x65c0a9f3d0000001


def document_vectors():
    text = (ROOT / "docs/FORMATS.md").read_text(encoding="utf-8")
    return {name: bytes.fromhex("".join(body.split()))
            for name, body in re.findall(r"```vector (\S+)\n(.*?)```", text, re.S)}


def block_of(data):
    """A block of the document: without the zeros at its end."""
    return data + bytes(-len(data) % f.SLOT)


def vectors():
    said = document_vectors()
    printed = subprocess.run([BUILD / "tests/format-vectors"], capture_output=True, check=True, text=True).stdout
    for line in printed.splitlines():
        name, text = line.split()
        checks.equal(f"the code writes vector {name}", text, said[name].hex())
    checks.equal("CRC", f.crc32c(b"123456789"), 0xe3069283)
    checks.equal("torc.node", f.decode_node(said["node"]), dict(node=1, cluster=CLUSTER, starts=0))
    checks.equal("journal header", f.decode_journal_header(said["journal-header"])["machine"][:4].hex(), "a0a1a2a3")
    entry, size = f.decode_journal_entry(said["journal-entry"])
    checks.equal("journal entry", (entry["revision"], size, entry["ops"][0]["key"]),
                 (5, len(said["journal-entry"]), "shard/1"))
    checks.equal("record", f.decode_record(entry["ops"][0]["value"]),
                 dict(lo=0, hi=1000, epoch=3, primary_node=1, primary_boot=3, insync=[(1, 1), (3, 9)], birth=2,
                      parents=[(4, 2, 600), (5, 1, 700)], previous=[(1, 1), (2, 5), (3, 9)],
                      losses=[(2, 2, 5, 4444, 1700000000)], nonce=77))
    checks.equal("record of a node", f.decode_record(said["record-node"]),
                 dict(boot=3, down=2, copy=1, start_count=3, base_port=28700, cores=2, address="10.79.0.11",
                      address6="fd79::b", domain="rack 1", capacity=100, zone=4, slot=7, state=1,
                      leaving=3, nonce=77))
    checks.equal("record of a wish", f.decode_record(said["record-want"]),
                 dict(nodes=[1, 2, 4095], primary=2, nonce=77))
    checks.equal("record of a counter", f.decode_record(said["record-counter"]), dict(value=17, nonce=77))
    checks.equal("record of placement", f.decode_record(said["record-placement"]),
                 dict(term=5, leader=1, boot=3, beat=900, nonce=77))
    checks.equal("record of a start", f.decode_record(said["record-start"]),
                 dict(start_count=3, served=2, copy=1, nonce=77))
    checks.equal("record of a cluster", f.decode_record(said["record-meta"])["created_s"], 1700000000)
    checks.equal("segment", f.decode_segment(said["segment"])["first"], 1)
    block = f.decode_block(block_of(said["block"]))
    records = f.decode_records(block)
    checks.equal("block", (block["sequence"], block["durable"], block["offset"]), (2, 1, 8192))
    checks.equal("kinds", [record["kind"] for record in records], ["EPOCH", "PUT", "DELETE"])
    checks.equal("LSNs", [record["lsn"] for record in records], [9, 10, 100])
    checks.equal("a put", (records[1]["key"], records[1]["value"], records[1]["seq"], records[1]["low"]),
                 (42, b"forty-two", 300, 298))
    checks.equal("a delete", (records[2]["key"], records[2]["hlc"], records[2]["seq"]), (1000000, HLC + 4096, 299))
    block = f.decode_block(block_of(said["block-begun"]))
    records = f.decode_records(block)
    checks.equal("a log begun anew", [(record["kind"], record["lsn"], record["turn"]) for record in records],
                 [("BEGUN", 205, 2), ("PUT", 205, 2)])
    checks.equal("a block of version 1 has no BEGUN", (block["version"], f.decode_block(
        block_of(said["block"]))["version"]), (2, 1))
    head, pairs, clients, footer = f.decode_checkpoint(said["checkpoint"])
    checks.equal("checkpoint", {key: value for key, (value, _) in pairs.items()},
                 {7: b"seven", 42: b"forty-two", 1000: b""})
    checks.that("its footer", footer["end_lsn"] >= head["lsn"] and clients)
    for name, decode in (("node", f.decode_node), ("segment", f.decode_segment),
                         ("checkpoint", f.decode_checkpoint)):
        bad = bytearray(said[name])
        bad[20] ^= 1
        try:
            decode(bytes(bad))
            checks.that(f"a flipped bit in {name} is seen", False)
        except f.Damage:
            checks.that(f"a flipped bit in {name} is seen", True)
    bad = bytearray(block_of(said["block"]))
    bad[4000] ^= 1
    checks.equal("a flipped bit in a block's zeros too", f.decode_block(bytes(bad)), None)


def a_node():
    rng = random.Random(int(os.environ.get("TORC_SEED", "1")))
    wanted = {}

    def write(node, count):
        for _ in range(count):
            key = rng.randrange(1000)
            if rng.random() < 0.2 and key in wanted:
                node.torc("delete", key)
                del wanted[key]
            else:
                value = rng.randbytes(rng.choice((0, 5, 300, 3000, 300000)))
                node.torc("put", key, "-", stdin=value)
                wanted[key] = value

    def compare(node, sentence):
        found = {key: value for key, (value, _) in f.read_directory(node.data).items()}
        checks.that(sentence, found == wanted, f"{len(found)} found, {len(wanted)} wanted")

    with Node("--keys", 1000, "--shards", 4, "--segment-bytes", "4M", "--checkpoint-bytes", "16M",
              "--checkpoint-on-stop", "no") as node:
        write(node, 60)
        node.stop()
        compare(node, "the log alone holds what was written")
        node.start()
        write(node, 30)
        node.admin("checkpoint")
        write(node, 30)
        node.kill("dataplane", "control")
        node.wait_ready()
        write(node, 10)
        node.workers = 2
        node.stop()
        node.start()
        write(node, 20)
        node.stop()
        compare(node, "checkpoints, the log above them and another worker's stream too")


def main():
    vectors()
    if os.geteuid() == 0:
        a_node()
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
