"""Torc perf: perf/REPORT.md and its plots, from the rows of perf/report."""
import json
import os
import pathlib
import platform
import subprocess
import time

import bench

HERE = pathlib.Path(__file__).resolve().parent
KEPT = HERE / "report.json"  # rows of all tables, so that one table can be remade alone
NAME_MAX = 78
PAUSES = "report-pauses.png"  # made where they are measured
ORDER = ("machine", "index", "network", "durability", "recovery", "ranges", "breakdown", "availability",
         "scale")
TITLES = {"machine": "The machine itself", "breakdown": "Where the time goes"}
INTRO = """# What was measured

Made by `perf/report`; run it again for figures of your machine. Each figure is the median of several runs (least
and most beside it) next to a peer, or a limit of the machine, measured in the same run: ratios count, absolute
numbers move by half from hour to hour on shared machines. `ratio` is how many times better than the peer; a goal is
met when the ratio reaches it. A row is marked *crowded* when strangers took more than a tenth of a core during one
of its runs, with the largest share. Server and client have a core each; Torc's sessions are
encrypted but where a row says clear; Redis's are not.

Torc over memif has no kernel on its way: that is its design, and its advantage over a peer that uses sockets; the
rows named *kernel port* go through the kernel's UDP on the client's side (af_xdp on the node's), as the peer's do
through TCP. Redis gets the same two cores: `save ""`, one event loop, and as many requests pipelined (`-P`) as Torc
has operations in flight; where many connections help it, fifty of them.

Trees of the index keep each record's version, and all that writes replace in an undo window of 64 MiB, as a worker does;
rows beside *without undo* show the same without that window, and a bulk build has no past to keep. Bytes a key are those
of the tree when the window is empty: it has bytes of its own."""


def machine():
    name = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}"


def kept():
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def keep(table, rows):
    """Puts a table's rows in the place of those it had."""
    if not rows:
        return
    tables = kept()
    tables[table] = {"when": time.strftime("%Y-%m-%d"), "machine": machine(), "rows": rows}
    KEPT.write_text(json.dumps(tables, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def short(name):
    return (name if len(name) <= NAME_MAX else name[:NAME_MAX - 1] + "…").replace('"', "'")


def plot(table, rows):
    """Ratios beside goals, as a bar chart; the file's name."""
    picture = f"report-{table}.png"
    rows = [row for row in rows if row["ratio"] > 0]
    last = len(rows) - 1
    bars = "\n".join(f"{last - at} {row['ratio']} {int(row['met'])}" for at, row in enumerate(rows))
    goals = "\n".join(f"{last - at} {row['goal']}" for at, row in enumerate(rows) if row["goal"] > 0)
    least = min([row["ratio"] for row in rows] + [row["goal"] for row in rows if row["goal"] > 0]) / 2
    most = max([row["ratio"] for row in rows] + [row["goal"] for row in rows]) * 1.5
    names = ", ".join(f'"{short(row["name"])}" {last - at}' for at, row in enumerate(rows))
    script = f"""set terminal pngcairo size 1200,{130 + 26 * len(rows)} font 'sans,9'
set output '{HERE / picture}'
set title 'Torc: {table}. Bar: ratio to the peer (blue: goal met), triangle: goal; logarithmic'
$bars << END
{bars}
END
$goals << END
{goals}
END
set logscale x; set xrange [{least}:{most}]; set yrange [-0.7:{last + 0.7}]; set grid x; unset key
set lmargin 80; set style fill solid 0.8; set ytics ({names})
plot $bars using (0.5*($2+{least})):1:({least}):2:($1-0.32):($1+0.32):($3 > 0 ? 0x3b6ea5 : 0xb0b0b0) \\
       with boxxyerror lc rgb variable, \\
     $goals using 2:1 with points pt 9 ps 1.4 lc rgb '#c0392b'
"""
    subprocess.run(["gnuplot"], input=script.encode(), check=True)
    return picture


def figure(number):
    """Three digits, with thousands and millions by letter."""
    for unit, letter in ((1e6, " M"), (1e3, " k")):
        if abs(number) >= 10 * unit or (letter == " M" and abs(number) >= unit):
            return f"{number / unit:.3g}{letter}"
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def span(row):
    if row.get("runs", 1) < 2 or row.get("min") == row.get("max"):
        return ""
    return f" ({figure(row['min'])} to {figure(row['max'])})"


def remarks(row):
    texts = [row["note"]] if row.get("note") else []
    if row.get("others", 0) > bench.OTHERS_MAX:
        texts.append(f"crowded: others {row['others']}")
    return f" *({'; '.join(texts)})*" if texts else ""


def machine_section(entry):
    yield "| limit | | |"
    yield "| --- | --- | --- |"
    for row in entry["rows"]:
        yield f"| {row['name']} | {row['ours']:.4g} | {row['unit']} |"


def table_section(table, entry):
    met = sum(row["met"] for row in entry["rows"] if row["goal"] > 0)
    yield f"{met} of {sum(row['goal'] > 0 for row in entry['rows'])} goals met."
    yield ""
    yield "| what | ours | peer or limit | ratio | goal | |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in entry["rows"]:
        verdict = ("met" if row["met"] else "**missed**") if row["goal"] > 0 else ""
        goal = f"{row['goal']:.3g}" if row["goal"] > 0 else ""
        yield (f"| {row['name']}{remarks(row)} | {figure(row['ours'])}{span(row)} {row.get('unit', '')} | "
               f"{figure(row['peer'])} | {figure(row['ratio'])} | {goal} | {verdict} |")
    yield ""
    yield f"![{table}]({plot(table, entry['rows'])})"
    if table == "availability":
        yield ""
        yield f"![pauses of clients]({PAUSES})"


def breakdown_section(entry):
    yield ("Nanoseconds of each core for an operation (of a range: for a pair), as `perf/report --breakdown` measures "
           "them: busy time by time stamps of both loops, shared out by samples; the rest is waiting for the other "
           "core. Names of phases are those of `perf/breakdown.py`.")
    for text in entry["rows"]:
        yield ""
        yield text


def page(tables):
    yield INTRO
    for table in [name for name in ORDER if name in tables]:
        entry = tables[table]
        yield ""
        yield f"## {TITLES.get(table, table.capitalize())}"
        yield ""
        yield f"{entry['when']}, {entry['machine']}."
        yield ""
        if table in TITLES:
            yield from (machine_section if table == "machine" else breakdown_section)(entry)
        else:
            yield from table_section(table, entry)


def write():
    (HERE / "REPORT.md").write_text("\n".join(page(kept())) + "\n", encoding="utf-8")
