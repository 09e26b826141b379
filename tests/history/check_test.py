#!/usr/bin/python3
"""Torc tests: the history checker against histories that are right, and against planted faults."""
import json
import os
import random
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import check  # noqa: E402

KEYS, CLIENTS, OPERATIONS = 3, 4, 300


class World:
    """A register per key; each operation takes effect at one instant between its call and its return."""

    def __init__(self, rng):
        self.rng, self.now, self.version, self.values = rng, 0, 0, {}
        self.history = []

    def effect(self, entry):
        key, kind = entry.get("key"), entry["op"]
        value, version = self.values.get(key, (None, 0))
        self.version += 1
        if kind == "put" or kind == "put_if" and version == entry["if_version"]:
            self.values[key] = (entry["value"], self.version)
            return {"status": "ok", "version": self.version}
        if kind == "put_if":
            return {"status": "condition_failed", "version": version}
        if kind == "delete":
            self.values.pop(key, None)
            return {"status": "ok", "version": self.version} if version else {"status": "not_found"}
        if kind == "get":
            return {"status": "ok", "result": value, "version": version} if version else {"status": "not_found"}
        rows = sorted((k, *v) for k, v in self.values.items() if entry["start"] <= k < entry["end"])
        return {"status": "ok", "result": [list(row) for row in rows[:entry["limit"] or None]]}

    def run(self):
        """Interleaves clients: each has one operation under way, which is called, takes effect, returns."""
        under_way, number = {}, 0
        while len(self.history) < OPERATIONS:
            self.now += 1 + self.rng.randrange(5)
            client = self.rng.randrange(CLIENTS)
            entry = under_way.get(client)
            if entry is None:
                number += 1
                under_way[client] = {**self.request(number), "client": client, "call_ns": self.now}
            elif "status" not in entry:
                if entry["op"] in check.WRITES and self.rng.random() < 0.04:  # never answered
                    happened = self.effect(entry) if self.rng.random() < 0.5 else None
                    del happened
                    entry.update(status="in_doubt", in_doubt=True, return_ns=self.now)
                    self.history.append(under_way.pop(client))
                else:
                    entry.update(self.effect(entry))
            else:
                entry["return_ns"] = self.now
                self.history.append(under_way.pop(client))
        for entry in under_way.values():  # the end of the run is nobody's answer
            if entry["op"] in check.WRITES:
                self.history.append({**entry, "status": "in_doubt", "in_doubt": True, "return_ns": self.now})
        return self.history

    def request(self, number):
        kind = self.rng.choice(["put", "put", "get", "get", "delete", "put_if", "range"])
        key = self.rng.randrange(KEYS)
        if kind == "range":
            return {"op": kind, "start": 0, "end": KEYS, "limit": self.rng.choice([0, 1, 2])}
        entry = {"op": kind, "key": key}
        if kind in ("put", "put_if"):
            entry["value"] = f"v{number}"
        if kind == "put_if":
            entry["if_version"] = self.rng.choice([0, self.values.get(key, (None, 0))[1]])
        return entry


def verdict(history):
    try:
        return check.check([json.dumps(entry) for entry in history])[1]
    except SystemExit as stop:
        return [str(stop)]


def plant_stale_read(history, rng):
    """A get answers what an earlier, overwritten value was."""
    for entry in rng.sample(history, len(history)):
        if entry["op"] != "get" or entry["status"] != "ok":
            continue
        older = [w for w in history if w["op"] == "put" and w["key"] == entry["key"] and w["status"] == "ok" and
                 any(n["op"] == "put" and n["key"] == w["key"] and n["status"] == "ok" and
                     n["call_ns"] > w["return_ns"] and n["return_ns"] < entry["call_ns"] for n in history)]
        if older:
            entry.update(result=older[0]["value"], version=older[0]["version"])
            return True
    return False


def plant_lost_write(history, rng):
    """A write was acknowledged, and everything seen of it afterwards is as if it had not been."""
    for entry in rng.sample(history, len(history)):
        if entry["op"] != "get" or entry["status"] != "ok":
            continue
        writer = [w for w in history if w.get("value") == entry["result"] and w["return_ns"] < entry["call_ns"]]
        others = [w for w in history if w["op"] in check.WRITES and w["key"] == entry["key"] and
                  w["call_ns"] < entry["return_ns"] and w not in writer and
                  w["return_ns"] > (writer[0]["call_ns"] if writer else 0)]
        if writer and not others and not any(w.get("in_doubt") and w["key"] == entry["key"] for w in history):
            entry.update(status="not_found", result=None, version=None)
            return True
    return False


def plant_double_success(history, rng):
    """A condition that had failed is reported as met: a compare-and-swap won twice."""
    for entry in rng.sample(history, len(history)):
        if entry["op"] == "put_if" and entry["status"] == "condition_failed" and entry["if_version"] and \
                any(w.get("version") == entry["if_version"] and w["status"] == "ok" for w in history) and \
                entry["version"]:
            entry.update(status="ok", version=10**9)
            return True
    return False


def plant_hole(history, rng):
    """A range leaves out a key that nobody touched for a while."""
    for entry in rng.sample(history, len(history)):
        if entry["op"] != "range" or entry["limit"] or not entry["result"]:
            continue
        for row in entry["result"]:
            busy = [w for w in history if w["op"] in check.WRITES and w["key"] == row[0] and
                    (w.get("in_doubt") or w["return_ns"] > entry["call_ns"] - 50 and w["call_ns"] < entry["return_ns"])]
            if not busy:
                entry["result"].remove(row)
                return True
    return False


def main():
    seed = int(os.environ.get("TORC_SEED", 0)) or random.SystemRandom().randrange(1, 2**63)
    print(f"history checker: TORC_SEED={seed}")
    rng = random.Random(seed)
    passed, failed = 0, 0
    for _ in range(25):
        complaints = verdict(World(rng).run())
        passed, failed = passed + (not complaints), failed + bool(complaints)
        print("".join(f"{complaint}\n" for complaint in complaints), end="")
    for plant in (plant_stale_read, plant_lost_write, plant_double_success, plant_hole):
        planted = found = 0
        while planted < 8:
            history = World(rng).run()
            if plant(history, rng):
                planted += 1
                found += bool(verdict(history))
        print(f"{plant.__name__}: {found} of {planted} found")
        passed, failed = passed + (found == planted), failed + (found != planted)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
