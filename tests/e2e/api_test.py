#!/usr/bin/python3
"""Torc tests: the C API as programs use it (api_os.c), against a node that `torc serve` runs.

    tests/e2e/api_test.py
Last line: `N passed, N failed`. Needs root (node.py).
"""
import re

from node import BUILD, Checks, Node, run

KEYS = 1_000_000
checks = Checks()


def case_api(node, address):
    """the C API"""
    done = run(BUILD / "tests" / "torc-api", address, KEYS, check=False, timeout=60)
    text = done.stdout.decode(errors="replace")
    found = re.search(r"(\d+) passed, (\d+) failed", text)
    if not found:
        checks.that(f"torc-api {address} ran", False, f"status {done.returncode}: {text[-400:]}"
                    f"{done.stderr.decode(errors='replace')[-400:]}")
        return
    checks.passed += int(found[1])
    checks.failed += int(found[2])
    if int(found[2]):
        print(text, flush=True)


def main():
    with Node("--keys", KEYS) as node:
        for address in (node.address, node.address6):
            checks.case(case_api, node, address)
    checks.end()


if __name__ == "__main__":
    main()
