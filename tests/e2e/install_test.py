#!/usr/bin/python3
"""Torc tests: what `meson install` leaves, used as its users would, and a client built where there is no DPDK.

    tests/e2e/install_test.py [WORD…]   all cases, or those whose name holds a word
Last line: `N passed, N failed`. Needs root: what is installed is looked at through a mount that only the
test's own commands see, so nothing of the machine changes.
"""
import json
import os
import pathlib
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from node import BUILD, PROGRAMS, ROOT, Checks, Network, Node, run

# What a client must build without: its headers and pkg-config files vanish behind empty mounts.
SERVER_HEADERS = ("/usr/include/dpdk", "/usr/include/x86_64-linux-gnu/dpdk", "/usr/include/liburing")
SERVER_PACKAGES = ("libdpdk", "libdpdk-libs", "liburing", "libmicrohttpd", "cunit")
EXPOSURE_MOST = 40  # `systemd-analyze security`, in tenths: 0 is the most careful, 100 the least
PROGRAM = """#include <stdio.h>
#include <torc/torc.h>
int main(int count, char **words)
{
    struct torc_store *store;
    struct torc_value value;
    if (count != 2 || torc_open(words[1], NULL, &store, NULL) != TORC_ERR_OK) { return 1; }
    if (torc_put(store, 42, "forty-two", 9, NULL) != TORC_ERR_OK) { return 2; }
    if (torc_get(store, 42, &value) != TORC_ERR_OK) { return 3; }
    fwrite(value.data, 1, value.bytes, stdout);
    torc_value_free(&value);
    torc_close(store);
    return 0;
}
"""
checks = Checks()


class Installed:
    """`meson install` into a scratch folder that stands where the prefix is, for commands of ours alone."""

    def __init__(self):
        options = json.loads(run("meson", "introspect", "--buildoptions", BUILD).stdout)
        self.options = {option["name"]: option["value"] for option in options}
        self.prefix = self.options["prefix"]
        self.folder = tempfile.mkdtemp(prefix="torc-install-")
        run("meson", "install", "-C", BUILD, "--no-rebuild", env=dict(os.environ, DESTDIR=self.folder))
        self.there = pathlib.Path(self.folder + self.prefix)
        self.lib = f"{self.prefix}/{self.options['libdir']}"

    def command(self, *words):
        """The words that run a command which sees the installed tree and no header of a server's libraries."""
        script = f"mount --bind {self.there} {self.prefix} && {hide_script()} exec \"$@\""
        return ["unshare", "--mount", "sh", "-ec", script, "sh", *map(str, words)]

    def run(self, *words, **options):
        options.setdefault("check", False)
        environment = dict(os.environ, LD_LIBRARY_PATH=self.lib, PKG_CONFIG_PATH=f"{self.lib}/pkgconfig")
        for name in ("PYTHONPATH", "TORC_LIBRARY", "TORC_CLUSTER", "TORC_BUILD"):
            environment.pop(name, None)
        return run(*self.command(*words), env=environment, cwd="/", **options)

    def close(self):
        shutil.rmtree(self.folder)


def hide_script():
    """Mounts that make the server's libraries vanish; empty where there are none."""
    script = "".join(f"mount -t tmpfs none {path}; " for path in SERVER_HEADERS if os.path.isdir(path))
    for package in SERVER_PACKAGES:
        done = run("pkg-config", "--variable=pcfiledir", package, check=False)
        path = f"{done.stdout.decode().strip()}/{package}.pc"
        if done.returncode == 0 and os.path.exists(path):
            script += f"mount --bind /dev/null {path}; "
    return script


def well(sentence, done):
    return checks.that(sentence, done.returncode == 0,
                       f"status {done.returncode}: {(done.stderr or done.stdout).decode(errors='replace')[-400:]}")


# -- what was installed

def case_layout(tree):
    """every part lies where it is looked for"""
    libdir = tree.options["libdir"]
    for path in ("bin/torc", "libexec/torc/torc-control", "libexec/torc/torc-dataplane", "include/torc/torc.h",
                 "include/torc/err.h", f"{libdir}/libtorc.so", f"{libdir}/libtorc.so.0", f"{libdir}/libtorc.a",
                 f"{libdir}/libtorc-memif.so", f"{libdir}/pkgconfig/torc.pc", "lib/systemd/system/torc-control.service",
                 "lib/systemd/system/torc-dataplane.service", "lib/sysusers.d/torc.conf",
                 "share/bash-completion/completions/torc.bash",
                 *(f"share/doc/torc/{page}.md" for page in ("README", "OPERATIONS", "CONSISTENCY", "FORMATS", "PROTOCOL"))):
        checks.that(f"installed: {path}", (tree.there / path).exists())
    headers = sorted(path.name for path in (tree.there / "include").rglob("*.h"))
    checks.equal("installed: the public headers and no other", headers, ["err.h", "torc.h"])


def case_c(tree, node):
    """a C program is built by pkg-config alone, with no DPDK anywhere"""
    checks.that("no DPDK: its headers are hidden", not sees_dpdk(tree))
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "example.c")
        source.write_text(PROGRAM, encoding="ascii")
        for name, words in (("", "--cflags --libs torc"),
                            (" --static", "--static --cflags --libs torc | sed s/-ltorc/-l:libtorc.a/")):
            line = f"cc -Wall -Wextra -Werror -std=c11 {source} -o {folder}/example $(pkg-config {words})"
            if well(f"pkg-config{name}: a C program is built", tree.run("sh", "-ec", line)):
                done = tree.run(f"{folder}/example", node.address)
                checks.equal(f"pkg-config{name}: it puts and gets", (done.returncode, done.stdout), (0, b"forty-two"))


def sees_dpdk(tree):
    """Whether DPDK can still be included."""
    return tree.run("sh", "-c", "echo '#include <rte_eal.h>' | cc -E -I/usr/include/dpdk -x c - >/dev/null").returncode == 0


def case_python(tree, node):
    """the Python module is found without a path"""
    program = ("import sys, torc\nwith torc.Store(sys.argv[1]) as store:\n    store.put(43, 'from Python')\n"
               "    print(store.get(43), torc.__file__)\n")
    done = tree.run("/usr/bin/python3", "-c", program, node.address)
    well("python: import torc", done)
    checks.that("python: what was put is got, by the installed module",
                done.stdout.startswith(b"b'from Python' " + tree.prefix.encode()), done.stdout)


def case_programs(tree):
    """the installed torc runs a node by the installed programs"""
    with tempfile.TemporaryDirectory() as folder, Network() as network:
        data = os.path.join(folder, "data")

        def inside(*words):
            return network.run(*tree.command(tree.prefix + "/bin/torc", *words, "--data", data), check=False)
        done = inside("serve", "--detach", "--address", f"{network.host(11)}/24", "--address6", "off", "--workers", 1)
        if well("programs: torc serve --detach", done):
            well("programs: put", inside("put", 1, "one"))
            checks.equal("programs: get", inside("get", 1).stdout, b"one\n")
            checks.that("programs: torc-dataplane is the installed one", any(
                b"libexec/torc/torc-dataplane" in path.read_bytes() for path in cmdlines(network)))
            well("programs: stop", inside("stop"))


def cmdlines(network):
    return [pathlib.Path(f"/proc/{pid}/cmdline")
            for pid in run("ip", "netns", "pids", network.namespace).stdout.decode().split()]


# -- services

def case_units(tree):
    """the units are understood by systemd, and hardened"""
    if shutil.which("systemd-analyze") is None:
        print("units: there is no systemd-analyze here, its checks are left out")
        return
    units = [f"{tree.prefix}/lib/systemd/system/torc-{name}.service" for name in ("control", "dataplane")]
    done = tree.run("systemd-analyze", "verify", "--man=no", *units)
    well("units: systemd-analyze verify", done)
    for unit in units:
        name = os.path.basename(unit)
        checks.that(f"units: verify has no remark on {name}", name.encode() not in done.stderr, done.stderr)
        well(f"units: exposure of {name} is below {EXPOSURE_MOST / 10}",
             tree.run("systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MOST}", unit))


def unit_lines(tree, name):
    """{key: [values]} of an installed unit."""
    lines = {}
    for line in (tree.there / f"lib/systemd/system/{name}.service").read_text(encoding="utf-8").splitlines():
        key, found, value = line.partition("=")
        if found and not line.startswith("#"):
            lines.setdefault(key, []).append(value)
    return lines


def case_unit_words(tree):
    """what the units name is there: programs, options, users, directories, the file of OPERATIONS.md"""
    made = (tree.there / "lib/sysusers.d/torc.conf").read_text(encoding="utf-8").splitlines()[-1]
    _, user, _, _, home = shlex.split(made)
    for name in ("torc-control", "torc-dataplane"):
        lines = unit_lines(tree, name)
        words = shlex.split(lines["ExecStart"][0])
        checks.equal(f"{name}: one ExecStart", len(lines["ExecStart"]), 1)
        checks.equal(f"{name}: systemd does not give up starting it", lines.get("StartLimitIntervalSec"), ["0"])
        checks.equal(f"{name}: nor burns a core over one that cannot run", lines.get("RestartSec"), ["2s"])
        for line in lines["ExecStart"] + lines.get("ExecStartPre", []):
            well(f"{name}: {shlex.split(line)[0]} can be started", tree.run("test", "-x", shlex.split(line)[0]))
        file = words[words.index("--config") + 1]
        if checks.that(f"{name}: its settings lie below the prefix", file.startswith(tree.prefix + "/"), file):
            well(f"{name}: its settings are made as OPERATIONS.md says",
                 tree.run("sh", "-ec", f"mkdir -p {os.path.dirname(file)} && {words[0]} --print-config > {file}"))
        well(f"{name}: takes the words of ExecStart", tree.run(*words, "--check-config"))
        done = tree.run(*words, "--no-such-setting", "1", "--check-config")
        checks.equal(f"{name}: and would refuse others", done.returncode, 2)
        settings = tree.run(words[0], "--print-config").stdout.decode().splitlines()
        checks.that(f"{name}: the state directory is where the data is by default",
                    f"data = /var/lib/{lines['StateDirectory'][0]}" in settings)
        checks.equal(f"{name}: runs as the user that is made", (lines["User"], lines["Group"]), ([user], [user]))
        checks.equal(f"{name}: whose home is that directory", home, f"/var/lib/{lines['StateDirectory'][0]}")
        for page in lines["Documentation"]:
            well(f"{name}: {page} is there", tree.run("test", "-s", page.removeprefix("file:")))
        for other in lines.get("Wants", []):
            checks.that(f"{name}: wants {other}, a unit that is there",
                        (tree.there / "lib/systemd/system" / other).exists())
    pre = shlex.split(unit_lines(tree, "torc-dataplane")["ExecStartPre"][0])
    checks.equal("torc-dataplane: makes the channel's folder in that directory", pre[-1], f"{home}/run")


def case_configuration(tree):
    """the file that the units read is made by --print-config"""
    for program in ("torc-control", "torc-dataplane"):
        path = f"{tree.prefix}/libexec/torc/{program}"
        with tempfile.NamedTemporaryFile(suffix=".ini") as file:
            done = tree.run(path, "--print-config")
            well(f"configuration: {program} --print-config", done)
            file.write(done.stdout)
            file.flush()
            well(f"configuration: {program} reads it back", tree.run(path, "--config", file.name, "--check-config"))
            file.write(b"\n[disk]\nsegment-bites = 8M\n")
            file.flush()
            done = tree.run(path, "--config", file.name, "--check-config")
            checks.that(f"configuration: {program} names the nearest key",
                        done.returncode == 2 and b"segment-bytes" in done.stderr, done.stderr)


def case_notify(_tree):
    """torc-control tells systemd its state, that it lives, and that it stops"""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(os.path.join(folder, "notify"))
        ear.settimeout(10)
        data = os.path.join(folder, "data")
        run(PROGRAMS["torc-control"], "init", "--data", data, "--keys", 1000)
        program = subprocess.Popen([str(PROGRAMS["torc-control"]), "--data", data, "--admin-http", "off"],
                                   stderr=subprocess.DEVNULL, env=dict(os.environ, NOTIFY_SOCKET=folder + "/notify"))
        try:
            said = []
            end = time.monotonic() + 10
            while said.count("WATCHDOG=1") < 3 and time.monotonic() < end:
                said += ear.recv(65536).decode().split("\n")
            checks.that("notify: its state", any(line.startswith("STATUS=") for line in said), said)
            checks.that("notify: that it lives, again and again", said.count("WATCHDOG=1") >= 3, said)
            checks.that("notify: not ready without a dataplane", "READY=1" not in said, said)
            program.terminate()
            while "STOPPING=1" not in said and time.monotonic() < end + 10:
                said += ear.recv(65536).decode().split("\n")
            checks.that("notify: that it stops", "STOPPING=1" in said)
            checks.equal("notify: a clean end", program.wait(20), 0)
        finally:
            if program.poll() is None:
                program.kill()
                program.wait()


# -- a client alone

def case_client_only():
    """client, library and program are built where the server's libraries are missing"""
    with tempfile.TemporaryDirectory() as folder:
        words = f"meson setup {folder} {ROOT} -Dserver=disabled -Dmemif=disabled -Dperf=disabled"
        script = f"{hide_script()} {words} && ninja -C {folder} client/torc"
        done = run("unshare", "--mount", "sh", "-ec", script, check=False)
        if not well("client only: builds without DPDK, liburing, libmicrohttpd and CUnit", done):
            return
        done = run(f"{folder}/client/torc", "--version", check=False)
        well("client only: runs", done)
        needs = run("ldd", f"{folder}/client/libtorc.so").stdout.decode()
        for word in ("librte", "uring", "systemd"):
            checks.that(f"client only: libtorc needs no {word}", word not in needs, needs)


def main():
    words = sys.argv[1:]

    def chosen(*cases):
        return [case for case in cases if not words or any(word in case.__name__ for word in words)]
    tree = Installed()
    try:
        for case in chosen(case_layout, case_programs, case_units, case_unit_words, case_configuration, case_notify):
            checks.case(case, tree)
        with_node = chosen(case_c, case_python)
        if with_node:
            with Node("--keys", 1000) as node:
                for case in with_node:
                    checks.case(case, tree, node)
    finally:
        tree.close()
    for case in chosen(case_client_only):
        checks.case(case)
    checks.end()


if __name__ == "__main__":
    main()
