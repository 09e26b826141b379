"""A reader of Torc's data directories, written from docs/FORMATS.md alone: no code of ours is used.

    records = read_directory(path)         # {key: (value, version)} of all shards, by checkpoints and log
"""
import pathlib
import re
import struct

SLOT = 4096
_TABLE = []
for _byte in range(256):
    _crc = _byte
    for _ in range(8):
        _crc = _crc >> 1 ^ (0x82f63b78 if _crc & 1 else 0)
    _TABLE.append(_crc)


class Damage(Exception):
    """The bytes are not what the document says."""


def check(good, text):
    if not good:
        raise Damage(text)


def crc32c(*pieces):
    crc = 0xffffffff
    for piece in pieces:
        for byte in piece:
            crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


def varint(data, at):
    value = shift = 0
    while True:
        check(at < len(data) and shift < 70, "a varint without end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7f) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def signed(coded):
    return coded >> 1 ^ -(coded & 1)


# -- Directory and metastore

def decode_node(data):
    mark, form, node, cluster, starts, zero, crc = struct.unpack("<8sIIQQ28sI", data)
    check(mark == b"torcnode" and form == 1, "torc.node: mark or format")
    check(crc == crc32c(data[:60]) and not any(zero), "torc.node: CRC")
    return dict(node=node, cluster=cluster, starts=starts)


def decode_journal_header(data):
    mark, version, size, machine, snapshots, zero, crc = struct.unpack("<8sII16sI24sI", data)
    check(mark == b"torcmeta" and version == 1 and size == 64, "journal: mark or version")
    check(crc == crc32c(data[:60]) and not any(zero), "journal: CRC")
    return dict(machine=machine, snapshots=snapshots)


def decode_journal_entry(data):
    """(entry, its bytes); None when there is no good one."""
    if len(data) < 24:
        return None
    crc, size, revision, count, flags = struct.unpack_from("<IIQII", data)
    if size < 24 or size > len(data) or crc != crc32c(data[4:size]):
        return None
    ops, at = [], 24
    for _ in range(count):
        kind, zero, key_size, value_size, version = struct.unpack_from("<BBHIQ", data, at)
        check(zero == 0 and kind in (1, 2), "journal: an operation of an unknown kind")
        at += 16
        key = data[at:at + key_size].decode()
        value = data[at + key_size:at + key_size + value_size]
        at += key_size + value_size
        ops.append(dict(kind=kind, key=key, value=value, version=version))
    check(at == size, "journal: an entry's length")
    return dict(revision=revision, flags=flags, ops=ops), size


LISTS = {"nodes": 1, "insync": 2, "previous": 2, "parents": 3, "losses": 5}  # columns


def decode_record(value):
    lines = value.decode().split("\n")
    check(lines[0] in ("format=1", "format=2", "format=3") and lines[-1] == "", "record: format")
    fields = dict(line.split("=", 1) for line in lines[1:-1])
    for name, text in fields.items():
        if name in LISTS:
            rows = [tuple(map(int, row.split(":"))) for row in text.split(",") if row]
            check(all(len(row) == LISTS[name] for row in rows), f"record: {name}")
            fields[name] = rows if LISTS[name] > 1 else [row[0] for row in rows]
        elif name not in ("address", "address6", "domain"):
            fields[name] = int(text)
    return fields


def read_metastore(data):
    decode_journal_header(data[:64])
    at, records = 64, {}
    while True:
        found = decode_journal_entry(data[at:])
        if found is None:
            return records  # a torn tail, or the end
        for op in found[0]["ops"]:
            if op["kind"] == 1:
                records[op["key"]] = decode_record(op["value"])
            else:
                records.pop(op["key"], None)
        at += found[1]


# -- The log

def decode_segment(data):
    (mark, version, zero, cluster, node, stream, segment, size, generation, first, zero2,
     crc) = struct.unpack_from("<IHHQIIIIQQII", data)
    check(mark == int.from_bytes(b"Tseg", "little") and version == 1, "segment: mark or version")
    check(zero == zero2 == 0 and crc == crc32c(data[:52]), "segment: CRC")
    return dict(cluster=cluster, node=node, stream=stream, segment=segment, size=size, generation=generation,
                first=first)


def decode_block(data):
    """The block at the start of the bytes, or None."""
    if len(data) < 96:
        return None
    (mark, version, flags, size, payload, crc, stream, segment, offset, sequence, generation, durable, ceiling,
     cluster, node, carry, count, record_size, shard_count, client_count, zero) = struct.unpack_from(
         "<IHHIIIIIIQQQQQIIIIHHI", data)
    if mark != int.from_bytes(b"Tlog", "little") or version not in (1, 2) or size % SLOT or not 0 < size <= 256 << 10 \
            or size > len(data):
        return None
    if crc != crc32c(data[:16], data[20:size]):
        return None
    check(zero == 0 and payload == carry + record_size + 32 * shard_count + 24 * client_count, "block: lengths")
    at = 96 + carry + record_size
    shards = [struct.unpack_from("<IIIIQQ", data, at + 32 * i) for i in range(shard_count)]
    at += 32 * shard_count
    clients = [struct.unpack_from("<QQII", data, at + 24 * i) for i in range(client_count)]
    return dict(version=version, flags=flags, size=size, stream=stream, segment=segment, offset=offset, sequence=sequence,
                generation=generation, durable=durable, ceiling=ceiling, cluster=cluster, node=node, count=count,
                carry=data[96:96 + carry], records=data[96 + carry:96 + carry + record_size],
                shards=[dict(shard=s[0], epoch=s[1], turn=s[2], lsn=s[4], hlc=s[5]) for s in shards],
                clients=[dict(client=c[0], seq=c[1], principal=c[2]) for c in clients])


KINDS = {1: "PUT", 2: "DELETE", 3: "EPOCH", 4: "MOVED", 5: "EMPTY", 6: "BEGUN"}


def decode_records(block):
    data, at, out = block["records"], 0, []
    shards = [dict(entry) for entry in block["shards"]]
    clients = [dict(entry) for entry in block["clients"]]
    for _ in range(block["count"]):
        kind, with_client = data[at] & 0x7f, data[at] & 0x80
        check(kind in KINDS and (kind != 6 or block["version"] == 2), "record: kind")
        place, at = varint(data, at + 1)
        delta, at = varint(data, at)
        shard = shards[place]
        shard["hlc"] += delta
        record = dict(kind=KINDS[kind], shard=shard["shard"], epoch=shard["epoch"], turn=shard["turn"],
                      lsn=shard["lsn"], hlc=shard["hlc"])
        shard["lsn"] += kind not in (4, 6)
        if with_client:
            place, at = varint(data, at)
            delta, at = varint(data, at)
            below, at = varint(data, at)
            client = clients[place]
            client["seq"] += signed(delta)
            record.update(client=client["client"], principal=client["principal"], seq=client["seq"],
                          low=client["seq"] - below)
        if kind in (1, 2):
            record["key"], at = varint(data, at)
        if kind == 1:
            record["size"], at = varint(data, at)
            record["value"] = data[at:at + record["size"]]
            at += len(record["value"])
        out.append(record)
    check(at == len(data), "block: bytes behind the last record")
    return out


def read_stream(files):
    """Records of one stream, from its segments' bytes in rising order of numbers; and its durable line."""
    heads = [decode_segment(data) for data in files]
    found = {}
    for index, (head, data) in enumerate(zip(heads, files)):
        void = min([later["first"] for later in heads[index + 1:] if later["first"]], default=1 << 64)
        for offset in range(SLOT, len(data), SLOT):
            if data[offset:offset + 4] != b"Tlog":
                continue
            block = decode_block(data[offset:])
            if block and (block["generation"], block["segment"], block["offset"]) == \
                    (head["generation"], head["segment"], offset) and block["sequence"] < void:
                found[block["sequence"]] = block
    line = max([block["durable"] for block in found.values()], default=0)
    records, carried = [], None
    sequence = min(found, default=0)
    while sequence in found:
        block = found[sequence]
        if carried is not None:
            if block["carry"]:
                carried["value"] += block["carry"]
            if len(carried["value"]) == carried["size"]:
                records.append(carried)
                carried = None
            elif not block["carry"]:
                carried = None  # the tail was cut there: it never happened
        for record in decode_records(block):
            if record["kind"] == "PUT" and len(record["value"]) < record["size"]:
                carried = record
            else:
                records.append(record)
        sequence += 1
    check(sequence > line or not found, f"block {sequence} is missing, durable were all up to {line}")
    return records


# -- Checkpoints

def decode_checkpoint(data):
    """(header, {key: (value, version)}, clients, footer)"""
    (mark, version, zero, cluster, node, shard, lo, hi, epoch, turn, lsn, hlc, ceiling, number, start, stream,
     zeros, crc) = struct.unpack_from("<IHHQIIQQIIQQQQQI32sI", data)
    check(mark == int.from_bytes(b"Tckp", "little") and version == 1, "checkpoint: mark or version")
    check(zero == ceiling == 0 and not any(zeros) and crc == crc32c(data[:124]), "checkpoint: CRC")
    head = dict(cluster=cluster, node=node, shard=shard, lo=lo, hi=hi, epoch=epoch, turn=turn, lsn=lsn, hlc=hlc,
                number=number, start=start, stream=stream)
    at, index, pairs, clients, footer, open_value = 128, 0, {}, [], None, None
    while at < len(data):
        mark, kind, flags, zero, number, count, payload, zero2, crc = struct.unpack_from("<IBBHIIIQI", data, at)
        body = data[at + 32:at + 32 + payload]
        check(mark == int.from_bytes(b"Tckb", "little") and number == index and zero == zero2 == 0, "block: head")
        check(crc == crc32c(data[at:at + 28], body), "block: CRC")
        at, index, place = at + 32 + payload, index + 1, 0
        if kind == 1:
            key = stamp = 0
            for _ in range(count):
                delta, place = varint(body, place)
                key += delta
                delta, place = varint(body, place)
                stamp += signed(delta)
                size, place = varint(body, place)
                value = body[place:place + size]
                place += len(value)
                pairs[key] = (value, stamp)
                open_value = (key, size) if len(value) < size else None
            check((open_value is not None) == bool(flags & 1), "block: unfinished")
        elif kind == 2 and flags & 2:
            pairs.pop(open_value[0])
        elif kind == 2:
            pairs[open_value[0]] = (pairs[open_value[0]][0] + body, pairs[open_value[0]][1])
        elif kind == 3:
            for _ in range(count):
                fields = []
                for _ in range(4):
                    value, place = varint(body, place)
                    fields.append(value)
                many = (body[place] & 0x7f) | body[place + 1] << 7
                place += 2
                seq, stamp, done = fields[2], fields[3], {}
                for _ in range(many):
                    delta, place = varint(body, place)
                    seq += signed(delta)
                    delta, place = varint(body, place)
                    stamp += signed(delta)
                    done[seq] = stamp
                clients.append(dict(principal=fields[0], client=fields[1], low=fields[2], hlc=fields[3], done=done))
        else:
            check(kind == 4 and at == len(data), "block: kind")
            names = "records value_bytes clients completions end_lsn end_hlc end_sequence".split()
            footer = dict(zip(names, struct.unpack_from("<7Q", body)))
            check(struct.unpack_from("<I", body, 56)[0] == index, "footer: blocks")
    check(footer is not None and footer["records"] == len(pairs), "checkpoint: no footer, or another count")
    return head, pairs, clients, footer


# -- All of it

def read_directory(path):
    """{key: (value, version)}: every shard's checkpoint, and the log above it."""
    path = pathlib.Path(path)
    node = decode_node((path / "torc.node").read_bytes())
    meta = read_metastore((path / "meta/journal").read_bytes())
    check(meta["meta"]["cluster"] == node["cluster"], "another cluster's metastore")
    shards = {int(key.split("/")[1]): {} for key in meta if key.startswith("shard/")}
    lsns, turns = dict.fromkeys(shards, 0), dict.fromkeys(shards, 0)
    for file in sorted((path / "checkpoint").iterdir()):
        if re.fullmatch(r"\d+-\d+", file.name):
            head, pairs, _, _ = decode_checkpoint(file.read_bytes())
            check(file.name == f"{head['shard']}-{head['lsn']}", "a checkpoint's name")
            if (head["turn"], head["lsn"]) >= (turns[head["shard"]], lsns[head["shard"]]):
                shards[head["shard"]], lsns[head["shard"]] = pairs, head["lsn"]
                turns[head["shard"]] = head["turn"]
    streams = {}
    for file in (path / "log").iterdir():
        if re.fullmatch(r"\d+-\d+", file.name):
            stream, segment = map(int, file.name.split("-"))
            streams.setdefault(stream, {})[segment] = file.read_bytes()
    records = []
    for stream, files in streams.items():
        position = 0
        for record in read_stream([files[number] for number in sorted(files)]):
            records.append((record["shard"], record["turn"], stream, position, record))
            position += 1
    for shard, _, _, _, record in sorted(records, key=lambda line: line[:4]):
        if record["kind"] == "BEGUN" and record["turn"] > turns[shard]:
            shards[shard], lsns[shard], turns[shard] = {}, record["lsn"] - 1, record["turn"]
        if record["kind"] in ("MOVED", "BEGUN") or record["lsn"] <= lsns[shard] or record["turn"] < turns[shard]:
            continue
        check(record["lsn"] == lsns[shard] + 1, f"shard {shard}: LSN {record['lsn']} after {lsns[shard]}")
        lsns[shard] = record["lsn"]
        old = shards[shard].get(record.get("key"))
        if record["kind"] in ("PUT", "DELETE") and (old is None or record["hlc"] > old[1]):
            shards[shard].pop(record["key"], None)
            if record["kind"] == "PUT":
                shards[shard][record["key"]] = (record["value"], record["hlc"])
    return {key: pair for pairs in shards.values() for key, pair in pairs.items()}
