#!/usr/bin/python3
"""Torc tests: the README says what is so: its five lines in each language, and limits that the programs know.

    tests/e2e/readme_test.py
Last line: `N passed, N failed`. Needs root (node.py). scripts/quickstart has a test of its own.
"""
import os
import re
import sys
import tempfile

from node import BUILD, PROGRAMS, ROOT, Checks, Node, run

HOST = "10.79.0.11"  # of the examples
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What the lines of the shell say, beginning with each; None: whatever it is.
SHELL = {"torc put 42": b"", "torc get 42": b"forty-two\n", "torc range": b'{"key":42,"value":"forty-two"}\n', "printf": None}
checks = Checks()


def block(title, language):
    """The one block of code below a title."""
    section = README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    return re.search(f"```{language}\n(.*?)```", section, re.S).group(1)


def environment(node, **more):
    """What the README tells to set, for this build and this node."""
    path = f"{BUILD}/client:{os.environ['PATH']}"
    return dict(os.environ, PATH=path, TORC_CLUSTER=node.address, **more)


def case_shell(node):
    """five lines in the shell"""
    lines = block("Five lines in the shell", "sh").splitlines()
    checks.equal("shell: the last line is the shell of torc", lines[-1].split("#")[0].strip(), "torc")
    for line in lines[:-1]:
        done = run("sh", "-ec", line, check=False, env=environment(node))
        wanted = [answer for start, answer in SHELL.items() if line.startswith(start)]
        checks.equal(f"shell: {line}: status", done.returncode, 0)
        checks.that(f"shell: {line}: its answer", len(wanted) == 1 and wanted[0] in (None, done.stdout), done.stdout)
    checks.equal("shell: what was loaded is there", node.torc("get", "1.0.0.0", "--key-format", "ip").stdout, b"1.0.0.255,AU\n")
    done = run("bash", "-c", 'eval "$(torc completion bash)"; complete -p torc', check=False, env=environment(node))
    checks.equal("shell: completion is there", done.returncode, 0)


def case_c(node):
    """five lines in C, before an installation"""
    lines = block("Five lines in C", "c").replace(HOST, node.address).splitlines()
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/five.c", "w", encoding="ascii") as file:
            file.write("\n".join(["#include <stdio.h>", lines[0], "int main(void) {", *lines[1:], "}", ""]))
        words = environment(node, PKG_CONFIG_PATH=f"{BUILD}/meson-uninstalled", LD_LIBRARY_PATH=f"{BUILD}/client")
        line = f"cc -Wall -Wextra -Werror {folder}/five.c -o {folder}/five $(pkg-config --cflags --libs torc)"
        done = run("sh", "-ec", line, check=False, env=words)
        if checks.that("C: is compiled", done.returncode == 0, done.stderr.decode(errors="replace")[-400:]):
            done = run(f"{folder}/five", check=False, env=words)
            checks.equal("C: puts and gets", (done.returncode, done.stdout), (0, b"forty-two"))


def case_python(node):
    """five lines in Python, whose comments say what they print"""
    lines = block("Five lines in Python", "python").replace(HOST, node.address)
    node.torc("delete", "1.0.0.0", "--key-format", "ip", check=False)
    done = run("/usr/bin/python3", "-c", lines, check=False, cwd=ROOT,
               env=environment(node, PYTHONPATH="client/python", TORC_BUILD=str(BUILD)))
    wanted = [match.group(1) for match in re.finditer(r"print\(.*?\)\s+# (.*)", lines)]
    checks.equal("Python: prints what its comments say", done.stdout.decode().splitlines(), wanted)
    checks.equal("Python: two lines print", len(wanted), 2)


def limit(name):
    return re.search(rf"^\| {re.escape(name)} \| (.*) \|$", README, re.M).group(1)


def case_limits():
    """limits of the table that are settings have these defaults"""
    said = run(PROGRAMS["torc-control"], "--print-config").stdout.decode()

    def default(setting):
        return re.search(rf"^#? ?{setting} = (\S+)", said, re.M).group(1)
    checks.that("limits: keys", f"default {int(default('keys')):,}".replace(",", " ") in limit("keys"), default("keys"))
    checks.equal("limits: sessions", limit("sessions").split(" (")[0].replace(" ", ""), default("sessions-max"))
    checks.equal("limits: deadline", limit("deadline of an operation").split(" by")[0].replace(" ", ""), default("deadline-max"))
    checks.equal("limits: value", limit("value").split("to ")[1][:3].replace(" ", ""), default("value-max"))
    for name in re.findall(r"`([a-z]+-[a-z]+)`", README.split("## Limits")[1].split("## ")[0]):
        checks.that(f"limits: there is a setting {name}", re.search(rf"^#? ?{name} = ", said, re.M) is not None)


def main():
    checks.case(case_limits)
    with Node("--keys", 1_000_000_000) as node:
        for case in (case_shell, case_c, case_python):
            checks.case(case, node)
    checks.end()


if __name__ == "__main__":
    sys.exit(main())
