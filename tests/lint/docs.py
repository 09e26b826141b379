#!/usr/bin/env python3
"""Torc lint: every file that README.md and docs/ speak of is there, and every decision is in their index; and the
versions that CHANGELOG.md names are the code's. `docs.py ROOT`

Looks at words in backquotes, and at the places that links lead to.
"""
import pathlib
import re
import sys

FOLDERS = "include kit storage wire dataplane control client perf tests scripts docs".split()
NAME = re.compile(r"[\w.-]+\.(c|h|py|md|map|build)")
PATH = re.compile(rf"({'|'.join(FOLDERS)})/[\w./-]*")


def words_of(text):
    for number, line in enumerate(text.splitlines(), 1):
        for quoted in re.findall(r"`([^`]+)`", line):
            for word in quoted.split():
                yield number, word, False
        for target in re.findall(r"\]\(([^)#:]+)\)", line):
            yield number, target, True


def is_there(root, page, word, link, names):
    if link:
        return (page.parent / word).exists()
    word = word.rstrip(".,:;")
    if PATH.fullmatch(word):
        return (root / word).exists()
    if NAME.fullmatch(word):
        return word in names
    return True


def unlisted(folder):
    """Records of decisions that their index has no link to."""
    index = folder / "README.md"
    listed = {target for _, target, link in words_of(index.read_text()) if link} if index.exists() else set()
    for record in sorted(folder.glob("[0-9]*.md")):
        if record.name not in listed:
            yield f"docs/decisions/README.md: {record.name} is missing"


def unlike(changes, header):
    """What the text of CHANGELOG.md says of the channel, where that of kit/chan.h says another version."""
    version = re.search(r"TORC_CHAN_VERSION +(\d+)u", header)[1]
    if f"channel {version}." not in changes:
        yield f"CHANGELOG.md: does not say channel {version}., the version of kit/chan.h"


def offences(root):
    root = pathlib.Path(root)
    names = {path.name for folder in [*FOLDERS, "."] for path in
             (root.glob("*.*") if folder == "." else root.glob(f"{folder}/**/*.*"))}
    for page in sorted([root / "README.md", *root.glob("docs/**/*.md")]):
        if not page.exists():
            continue
        for number, word, link in words_of(page.read_text()):
            if not is_there(root, page, word, link, names):
                yield f"{page.relative_to(root)}:{number}: there is no {word}"
    yield from unlisted(root / "docs" / "decisions")
    if (root / "CHANGELOG.md").exists():
        yield from unlike((root / "CHANGELOG.md").read_text(), (root / "kit/chan.h").read_text())


def main():
    found = list(offences(sys.argv[1]))
    print("\n".join(found) or "docs: every file they speak of is there")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
