#!/usr/bin/env python3
"""Torc lint: the tables of docs/OPERATIONS.md are those of the code. `tables.py PROGRAM ROOT [--write]`

PROGRAM is tests/format-vectors: it prints a table as Markdown. With --write the document is brought up to date.
"""
import pathlib
import re
import subprocess
import sys

PART = r"(<!-- {0}: .*? -->\n)(.*?)(<!-- end -->)"


def main():
    program, root = sys.argv[1], pathlib.Path(sys.argv[2])
    page = root / "docs/OPERATIONS.md"
    text = fresh = page.read_text(encoding="utf-8")
    for name in ("settings", "metrics"):
        table = subprocess.run([program, name], check=True, capture_output=True, text=True).stdout
        fresh, count = re.subn(PART.format(name), lambda part: part[1] + table + part[3], fresh, count=1, flags=re.S)
        if count == 0:
            print(f"{page}: no place for the table of {name}")
            return 1
    if fresh == text:
        print("tables: docs/OPERATIONS.md says what the code does")
        return 0
    if "--write" in sys.argv:
        page.write_text(fresh, encoding="utf-8")
        return 0
    print(f"{page}: its tables are old; run tests/lint/tables.py {program} {root} --write")
    return 1


if __name__ == "__main__":
    sys.exit(main())
