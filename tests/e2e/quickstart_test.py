#!/usr/bin/python3
"""Torc tests: scripts/quickstart as a newcomer runs it, in a clean copy, twice in a row, and what it leaves.

    tests/e2e/quickstart_test.py
Last line: `N passed, N failed`. Needs root: it runs in a network namespace of its own, so that it meets no
node of this machine. What it would download is fetched beforehand, for the namespace has no way out.
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from node import BUILD, ROOT, Checks, run

NAMESPACE = f"torc-quickstart-{os.getpid()}"
COUNTRY = "3238008831,NL"  # of 193.0.6.139, RIPE NCC's web server for decades
checks = Checks()


def clean_copy(folder):
    """What a clone has: the files that git tracks, or would."""
    files = run("git", "-C", ROOT, "-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard").stdout
    there = b"\0".join(name for name in files.split(b"\0") if name and os.path.exists(os.path.join(os.fsencode(ROOT), name)))
    tar = subprocess.run(["tar", "-C", str(ROOT), "--null", "-T", "-", "-cf", "-"], input=there, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-C", folder, "-xf", "-"], input=tar.stdout, check=True)
    fetched = run(ROOT / "scripts/fetch-data", "tor-geoipdb", "--into", BUILD / "data").stdout.decode().strip()
    os.makedirs(f"{folder}/build")
    run("cp", "-r", os.path.dirname(fetched), f"{folder}/build/data")


def inside(folder, *words):
    """Ended early, it ends its whole group, and waits: scripts make namespaces of their own and remove them."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORC_")}
    words = ["ip", "netns", "exec", NAMESPACE, *map(str, words)]
    with subprocess.Popen(words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            out, errors = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=60)
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, errors)


def files_of(folder):
    return sorted(str(path.relative_to(folder)) for path in pathlib.Path(folder).rglob("*")
                  if path.relative_to(folder).parts[0] != "build" and path.name != "__pycache__")


def processes():
    return run("ip", "netns", "pids", NAMESPACE).stdout.split()


def links():
    return re.findall(r"^\d+: (\S+?)[@:]", run("ip", "-n", NAMESPACE, "-o", "link").stdout.decode(), re.M)


def quickstart(folder, name, *words):
    done = inside(folder, "scripts/quickstart", *words)
    said = done.stdout.decode(errors="replace")
    good = checks.that(f"{name}: ends well", done.returncode == 0,
                       f"status {done.returncode}: {said[-600:]}{done.stderr.decode(errors='replace')[-600:]}")
    if good:
        checks.that(f"{name}: which country an address is in", COUNTRY in said, said[-2000:])
        counts = re.findall(r"count 0 4294967296\n(\d+)\n", said)
        checks.that(f"{name}: all ranges are there, also after the restart and the death",
                    len(counts) == (4 if name == "first" else 2) and len(set(counts)) == 1 and int(counts[0]) > 300_000,
                    counts)
        checks.that(f"{name}: says how long it took, within 5 minutes",
                    int(re.search(r"all answers were right, (\d+) s", said)[1]) < 300, said[-100:])
        death = re.search(r"had (\d+) answers, no error, and waited (\d+) ms at most", said)
        checks.that(f"{name}: a node of three is killed, and its client told how long it waited",
                    death is not None and int(death[1]) > 10 if name == "first" else death is None, said[-1500:])
        for verb in ("install-deps", "meson setup build" if name == "first" else "ninja", "serve --detach", "load", "range", "stop"):
            checks.that(f"{name}: prints the command with {verb}", re.search(rf"^\$ .*{verb}", said, re.M))
    return said


def check_gone(folder, name, before):
    checks.equal(f"{name}: no process is left", processes(), [])
    checks.equal(f"{name}: no link is left", links(), ["lo"])
    checks.that(f"{name}: no data is left", not os.path.exists(f"{folder}/build/quickstart"))
    checks.equal(f"{name}: nothing is made but build/", files_of(folder), before)


def follow(folder, said):
    """The commands that --keep prints must work as they stand."""
    block = said.split("The node goes on running", 1)[1].split("quickstart:", 1)[0]
    lines = [line.strip() for line in block.splitlines() if line.startswith("  ")]
    shell = "; ".join(line for line in lines if "interactive" not in line and "stop" not in line and "all verbs" not in line
                      and " demo " not in line)
    checks.equal("kept: a put and a get by hand", inside(folder, "bash", "-ec", shell).stdout, b"forty-two\n")
    stop = next(line for line in lines if " stop " in line)
    checks.equal("kept: is stopped by what is printed", inside(folder, "bash", "-ec", stop).returncode, 0)
    checks.equal("kept: then no process is left", processes(), [])


def main():
    if os.geteuid() != 0:
        sys.exit("this test makes a network namespace: run it as root")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="torc-quickstart-") as folder:
        clean_copy(folder)
        before = files_of(folder)
        run("ip", "netns", "add", NAMESPACE)
        try:
            run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
            quickstart(folder, "first")
            check_gone(folder, "first", before)
            said = quickstart(folder, "kept", "--keep")
            checks.that("kept: its node runs", len(processes()) >= 3, processes())
            if "The node goes on running" in said:
                follow(folder, said)
            checks.equal("a word it does not know", inside(folder, "scripts/quickstart", "--kep").returncode, 2)
        finally:
            for pid in processes():
                run("kill", "-9", pid.decode(), check=False)
            run("ip", "netns", "del", NAMESPACE)
    checks.end()


if __name__ == "__main__":
    try:
        main()
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP))  # else its own end shows them as tracebacks
