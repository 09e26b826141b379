#!/usr/bin/env python3
"""Torc lint: the tables of docs/OPERATIONS.md are those of the code, and each setting is read by some program.
`tables.py PROGRAM ROOT [--write]`

PROGRAM is tests/format-vectors: it prints a table as Markdown. With --write the document is brought up to date.
"""
import pathlib
import re
import subprocess
import sys

PART = r"(<!-- {0}: .*? -->\n)(.*?)(<!-- end -->)"


def renewed(text, tables):
    """The document with the tables {name: Markdown} in their places, and what is wrong with it as it is."""
    wrong = []
    for name, table in tables.items():
        found = re.search(PART.format(name), text, re.S)
        if found is None:
            wrong.append(f"there is no place for the table of {name}")
        elif found[2] != table:
            wrong.append(f"the table of {name} is old")
            text = text[:found.start(2)] + table + text[found.end(2):]
    return text, wrong


def unread(table, sources):
    """Names of the table of settings (text of kit/settings.h) that no source takes out of a struct."""
    names = re.findall(r"^ *X\([A-Z]+, (\w+),", table, re.M)
    said = set(re.findall(r"settings(?:\.|->)(\w+)", "\n".join(sources)))
    return [name for name in names if name not in said]


def sources(root):
    for folder in ("kit", "dataplane", "control", "client"):
        for path in root.glob(f"{folder}/**/*.[ch]"):
            if not path.name.startswith("settings"):
                yield path.read_text(encoding="utf-8")


def main():
    program, root = sys.argv[1], pathlib.Path(sys.argv[2])
    page = root / "docs/OPERATIONS.md"
    tables = {name: subprocess.run([program, name], check=True, capture_output=True, text=True).stdout
              for name in ("settings", "metrics", "memory")}
    text, wrong = renewed(page.read_text(encoding="utf-8"), tables)
    if wrong and "--write" in sys.argv:
        page.write_text(text, encoding="utf-8")
        return 0
    for name in unread((root / "kit/settings.h").read_text(encoding="utf-8"), sources(root)):
        print(f"{root}/kit/settings.h: nobody reads the setting {name}")
        wrong.append("")
    for line in filter(None, wrong):
        print(f"{page}: {line}; run tests/lint/tables.py {program} {root} --write")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
