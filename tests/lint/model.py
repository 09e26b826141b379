#!/usr/bin/env python3
"""Torc lint: the model of replication and the code go together. `model.py ROOT`

Every name in the tables of docs/model/README.md is there: transitions in docs/model/replication.pml, functions (`name()`)
in dataplane/replica*.c and watch*.c; the mistakes are those of kit/bugs.h, of the model and of scripts/model.
"""
import pathlib
import re
import sys

OWN_FROM = 101  # numbers of mistakes that only the model has


def rows_of(text, heading):
    """Cells of the first table below a heading, without its two head lines."""
    below = text.split(f"\n## {heading}", 1)[-1].split("\n## ")[0]
    lines = [line for line in below.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def functions_of(root):
    """Functions that are defined, not only declared or called."""
    found = set()
    for pattern in ("replica*.c", "watch*.c"):
        for path in root.glob(f"dataplane/{pattern}"):
            text = path.read_text()
            found |= set(re.findall(r"^\w[\w\s*]*?\b(\w+)\([^;{}]*\)\s*\{", text, re.M))
    return found


def places(root, readme, model):
    functions = functions_of(root)
    for cells in rows_of(readme, "Where the protocol is"):
        if len(cells) != 4:
            yield f"a row of {len(cells)} cells: {cells[0]}"
            continue
        for name in re.findall(r"`(\w+)`", cells[2]):
            if not re.search(rf"(inline|define|proctype) {name}\b", model):
                yield f"the model has no {name}"
        for name in re.findall(r"`(\w+)\(\)`", cells[3]):
            if name not in functions:
                yield f"no function {name}() in dataplane/replica*.c or watch*.c"


def mistakes(root, readme, model):
    bugs = re.findall(r"^ +X\((\w+), \"", (root / "kit/bugs.h").read_text(), re.M)
    table = re.search(r"^MISTAKES = \{(.*?)^\}", (root / "scripts/model").read_text(), re.M | re.S)
    run = set(map(int, re.findall(r"(\d+): ", table[1]))) if table else set()
    planted = set(map(int, re.findall(r"BUG [!=]= (\d+)", model)))
    told = set()
    for cells in rows_of(readme, "Mistakes"):
        number, name = int(cells[0]), re.search(r"`(\w+)`", cells[1])
        told.add(number)
        if number < OWN_FROM and (not name or number > len(bugs) or bugs[number - 1] != name[1]):
            yield f"mistake {number} is not {name[1] if name else 'named'} in kit/bugs.h"
    for number in sorted((run | planted | told) - (run & planted & told)):
        yield (f"mistake {number}: {'' if number in told else 'not '}in the README, {'' if number in planted else 'not '}"
               f"in the model, {'' if number in run else 'not '}in scripts/model")


def offences(root):
    root = pathlib.Path(root)
    folder = root / "docs/model"
    readme, model = (folder / "README.md").read_text(), (folder / "replication.pml").read_text()
    for complaint in (*places(root, readme, model), *mistakes(root, readme, model)):
        yield f"docs/model/README.md: {complaint}"


def main():
    found = list(offences(sys.argv[1]))
    print("\n".join(found) or "model: its tables name what is there")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
