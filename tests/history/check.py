#!/usr/bin/python3
"""Torc tests: is this history linearizable?  `check.py HISTORY...`

Reads what `torc-perf --workload check --history FILE` writes: one JSON object a line for each operation, with
`call_ns` and `return_ns` of one clock; "in_doubt": true marks a write whose outcome is not known. Each key is a
register of its own (every value is written once), so keys are checked one by one. A range of `shard` consistency
counts as one read of each key that it covers, present or absent.

Torc promises more than some order: a key's writes take effect in the order of their versions. So the order of the
writes whose version is known is given (a write in doubt has one when its value was seen), and what remains is to
find a moment for each, between its call and its return, such that every read that saw it has a moment between it
and the next. The earliest moments that fit are found from the front, the latest from the back; an operation that
has no room between them has no order that explains it. Reads of nothing may lie in any gap (the beginning, behind a
delete). Writes in doubt that nobody saw may have happened or not: they excuse, and demand nothing.

Status 0 and a summary, or 1 and the story.
"""
import collections
import json
import sys

FOREVER = float("inf")
WRITES = {"put", "put_if", "delete"}
UNDECIDED = {"in_doubt", "pending", "seq_old", "internal"}  # may have been applied (docs/PROTOCOL.md)
ANSWERS = {"ok", "not_found", "condition_failed"}


class Operation:
    """One operation on one key, as its client saw it."""

    __slots__ = ("kind", "call", "end", "status", "line", "value", "version", "if_version", "doubtful")

    def __init__(self, kind, entry, line, value=None, version=None):
        self.kind, self.call, self.end = kind, entry["call_ns"], entry["return_ns"]
        self.status, self.line = entry["status"], line
        self.value, self.version, self.if_version = value, version, entry.get("if_version")
        self.doubtful = bool(entry.get("in_doubt")) or self.status in UNDECIDED
        if self.doubtful:
            self.end = FOREVER

    def __str__(self):
        doubt = " (in doubt)" if self.doubtful else ""
        return f"line {self.line}: {self.kind} {self.value} {self.status}{doubt} version {self.version}"


class State:
    """What the key was from one write to the next: the write, and who saw it."""

    __slots__ = ("write", "version", "present", "first", "last", "seen_first", "seen_last")

    def __init__(self, write, version, present):
        self.write, self.version, self.present = write, version, present
        self.first, self.last = 0, FOREVER  # earliest and latest moment of the write
        self.seen_first, self.seen_last = 0, FOREVER  # latest call, earliest return of those who saw it


def read_range(entry, line, keys, ranges):
    rows = entry["result"]
    names = [row[0] for row in rows]
    if names != sorted(set(names)):
        raise SystemExit(f"line {line}: the range is not sorted, or holds a key twice")
    if any(not entry["start"] <= name < entry["end"] for name in names):
        raise SystemExit(f"line {line}: the range holds a key outside [{entry['start']}, {entry['end']})")
    limit = entry.get("limit") or 0
    end = entry["end"] if not limit or len(rows) < limit else names[-1] + 1
    for key, value, *version in rows:
        keys[key].append(Operation("range", entry, line, value, version[0] if version else None))
    ranges.append((entry["start"], end, set(names), entry, line))


def split(lines):
    """(count, key -> operations): what each key's clients did and saw."""
    keys, ranges, count = collections.defaultdict(list), [], 0
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        count += 1
        entry = json.loads(text)
        kind = entry["op"]
        if kind == "range":
            if entry["status"] == "ok":
                read_range(entry, line, keys, ranges)
        elif kind == "get":
            keys[entry["key"]].append(Operation(kind, entry, line, entry.get("result"), entry.get("version")))
        elif kind in WRITES:
            keys[entry["key"]].append(Operation(kind, entry, line, entry.get("value"), entry.get("version")))
        else:
            raise SystemExit(f"line {line}: operation {kind!r} is not known")
    for start, end, names, entry, line in ranges:
        for key in [key for key in keys if start <= key < end and key not in names]:
            absent = Operation("range", entry, line)
            absent.status = "not_found"
            keys[key].append(absent)
    return count, keys


class Key:
    """One key's history; `complaint` is None or why no order explains it."""

    def __init__(self, operations):
        answered = [op for op in operations if op.doubtful or op.status in ANSWERS]
        self.writes = [op for op in answered if op.kind in WRITES]
        self.reads = [op for op in answered if op.kind not in WRITES and not op.doubtful]
        self.by_value = {op.value: op for op in operations if op.kind in ("put", "put_if")}
        self.doubtful_puts = [op for op in self.writes if op.doubtful and op.kind != "delete"]
        self.doubtful_deletes = [op for op in self.writes if op.doubtful and op.kind == "delete"]
        self.states = []
        self.complaint = (self.learn() or self.conditions() or self.attach() or self.place() or
                          self.place_absent())

    def learn(self):
        """Versions of values, and the states in their order."""
        versions = {op.value: op.version for op in self.writes
                    if op.kind != "delete" and op.status == "ok" and not op.doubtful}
        for read in self.reads:
            if read.status != "ok":
                continue
            write = self.by_value.get(read.value)
            if write is None or (not write.doubtful and write.status != "ok"):
                return f"{read}: nobody wrote that" if write is None else f"{read}: that was refused, {write}"
            if read.version is not None and versions.setdefault(read.value, read.version) != read.version:
                return f"{read}: the same value had version {versions[read.value]} elsewhere"
        self.states = [State(None, 0, False)]
        for write in self.writes:
            if write.kind == "delete" and write.status == "ok" and not write.doubtful:
                self.states.append(State(write, write.version, False))
            elif write.kind != "delete" and write.value in versions:
                self.states.append(State(write, versions[write.value], True))
        self.states.sort(key=lambda state: state.version)
        for before, state in zip(self.states, self.states[1:]):
            if before.version == state.version:
                return f"{state.write}: has the version of {before.write}"
        return None

    def excused(self, doubtful, operation):
        """Whether a write in doubt that nobody saw may have come before the operation's end."""
        seen = {state.write.line for state in self.states if state.write}
        return any(op.call <= operation.end and op.line not in seen for op in doubtful)

    def conditions(self):
        """What a write found is what its condition says."""
        known = {state.version for state in self.states}
        for before, state in zip(self.states, self.states[1:]):
            write = state.write
            if write.kind == "delete" and not before.present and not self.excused(self.doubtful_puts, write):
                return f"{write}: deleted what was not there, after {before.write}"
            if write.kind != "put_if":
                continue
            wanted = write.if_version or 0
            if wanted == 0 and before.present and not self.excused(self.doubtful_deletes, write):
                return f"{write}: wanted no record, and came after {before.write}"
            hidden = wanted not in known and self.excused(self.doubtful_puts, write)
            if wanted != 0 and before.version != wanted and not hidden:
                return f"{write}: wanted version {wanted}, and came after {before.write}"
        return None

    def attach(self):
        """Who saw which state. Reads of nothing wait for place_absent."""
        by_version = {state.version: state for state in self.states if state.present}
        by_value = {state.write.value: state for state in self.states if state.present}
        for op in self.reads + self.writes:
            if op.status == "ok" and op.kind not in WRITES:
                state = by_value[op.value]
            elif op.status == "condition_failed" and op.version:
                if op.version == op.if_version:
                    return f"{op}: the condition held, and yet it failed"
                state = by_version.get(op.version)
                if state is None:
                    if not self.excused(self.doubtful_puts, op):
                        return f"{op}: nobody wrote that version"
                    continue
            else:
                continue
            if state.write.call > op.end:
                return f"{op}: saw what was written later, {state.write}"
            state.seen_first = max(state.seen_first, op.call)
            state.seen_last = min(state.seen_last, op.end)
        return None

    def place(self):
        """The earliest and the latest moment of each write; a write without room is the culprit."""
        now = 0
        for before, state in zip(self.states, self.states[1:]):
            now = state.first = max(now, state.write.call, before.seen_first)
            if now > state.write.end:
                return f"{state.write}: came too late for its version, after {before.write}"
            if now > state.seen_last:
                return f"{state.write}: a read that saw it ended before it can have happened"
        now = FOREVER
        for before, state in zip(reversed(self.states[:-1]), reversed(self.states)):
            now = state.last = min(now, state.write.end, state.seen_last)
            if now < state.first or now < before.seen_first:
                return f"{state.write}: {before.write} was seen after it"
        return None

    def place_absent(self):
        """Each answer that there is no record has a gap to lie in."""
        gaps = [(state.first, after.last) for state, after in zip(self.states, self.states[1:] + [None])
                if not state.present and after] if self.states else []
        if not self.states[-1].present:
            gaps.append((self.states[-1].first, FOREVER))
        for op in self.reads + self.writes:
            absent = op.status == "not_found" or op.status == "condition_failed" and op.version == 0
            if not absent or op.doubtful:
                continue
            if op.status == "condition_failed" and not op.if_version:
                return f"{op}: the condition held, and yet it failed"
            if not any(first <= op.end and op.call <= last for first, last in gaps) and \
                    not self.excused(self.doubtful_deletes, op):
                return f"{op}: there was a record all the time"
        return None


def check(lines):
    """(operations checked, complaints)"""
    count, keys = split(lines)
    complaints = []
    for name, operations in sorted(keys.items()):
        complaint = Key(operations).complaint
        if complaint:
            complaints.append(f"key {name}: {complaint}")
    return count, complaints


def main():
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    lines = []
    for name in sys.argv[1:]:
        with open(name, encoding="utf-8") as file:
            lines.extend(file)
    count, complaints = check(lines)
    for complaint in complaints:
        print(complaint)
    print(f"{count} operations, {'not ' if complaints else ''}linearizable")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
