"""Torc perf: perf/REPORT.md and its plots, from the rows of perf/report."""
import json
import os
import pathlib
import platform
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
KEPT = HERE / "report.json"  # rows of all tables, so that one table can be remade alone


def machine():
    name = "unknown processor"
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}"


def merged(rows, others):
    """The rows kept before, with the tables measured now in their place."""
    tables = {}
    if KEPT.exists():
        tables = json.loads(KEPT.read_text(encoding="utf-8"))
    for table in dict.fromkeys(row.table for row in rows):
        tables[table] = {"when": time.strftime("%Y-%m-%d"), "machine": machine(), "others": round(others, 2),
                         "rows": [json.loads(row.json()) for row in rows if row.table == table]}
    KEPT.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")
    return tables


def plot(table, rows):
    """Ratios beside goals, as a bar chart; the file's name."""
    picture = f"report-{table}.png"
    lines = "\n".join(f'"{row["name"][:60]}" {row["ratio"]} {row["goal"]}' for row in rows)
    script = f"""set terminal pngcairo size 1100,{140 + 48 * len(rows)} font 'sans,10'
set output '{HERE / picture}'
set title 'Torc: {table}, ratio to the peer (bar) and goal (mark); logarithmic'
$data << END
{lines}
END
set logscale x; set xrange [0.05:]; set yrange [-0.7:{len(rows) - 0.3}]; set grid x; unset key
set lmargin 62; set boxwidth 0.6; set style fill solid 0.7
set ytics ({", ".join(f'"{row["name"][:60]}" {len(rows) - 1 - at}' for at, row in enumerate(rows))})
plot $data using (0.5*($2+0.05)):({len(rows) - 1}-$0):(0.5*($2-0.05)):(0.3) with boxxyerror lc rgb '#3b6ea5', \\
     $data using 3:({len(rows) - 1}-$0) with points pt 9 ps 2 lc rgb '#c0392b'
"""
    subprocess.run(["gnuplot"], input=script.encode(), check=True)
    return picture


def page(tables):
    yield "# What was measured"
    yield ""
    yield "Made by `perf/report`; run it again for figures of your machine. Each figure is a median of several runs"
    yield "beside a peer, or a limit of the machine, measured in the same run: ratios count, absolute numbers move"
    yield "by half from hour to hour on shared machines. `ratio` is how many times better than the peer; a goal is met"
    yield "when the ratio reaches it. `others` is the largest share of a core that strangers took meanwhile."
    for table, kept in tables.items():
        yield ""
        yield f"## {table.capitalize()}"
        yield ""
        yield f"{kept['when']}, {kept['machine']}, others {kept['others']}"
        yield ""
        yield "| what | ours (least to most) | peer | ratio | goal | |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for row in kept["rows"]:
            span = f" ({row['min']:.4g} to {row['max']:.4g})" if "min" in row and row["min"] != row["max"] else ""
            note = f" ({row['note']})" if row.get("note") else ""
            yield (f"| {row['name']}{note} | {row['ours']:.4g}{span} {row.get('unit', '')} | {row['peer']:.4g} | "
                   f"{row['ratio']:.3g} | {row['goal']:.3g} | {'met' if row['met'] else '**missed**'} |")
        yield ""
        yield f"![{table}]({plot(table, kept['rows'])})"


def write(rows, settings):
    tables = merged(rows, settings.others)
    (HERE / "REPORT.md").write_text("\n".join(page(tables)) + "\n", encoding="utf-8")
