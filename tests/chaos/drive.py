"""Plays scenarios one after another, in the order given, and says what the checker found. Runs inside the namespaces that `lanes.py` makes."""

import json
import os
import pathlib
import signal
import sys
import time
import traceback

import scenarios
from galera import Galera
from machines import Absent, Fault, Net
from postgres import Postgres
from stage import Ground, Stage, judge

KEPT = pathlib.Path(os.environ.get("HALBERD_CHAOS_KEPT", "/tmp/chaos-kept"))


def say(*words):
    print(*words, flush=True)


def round_of(value):
    return round(value, 1) if isinstance(value, float) else value


def told(figures):
    return ", ".join(f"{name} {round_of(value)}" for name, value in figures.items())


def size(history, counts):
    """What the verdict stands on."""
    looks = len(history.places) + len(history.power) + len(history.samples) + len(history.listings)
    return {"calls": len(history.calls), "guests": counts["guests_are_back"], "looks": looks, "reports": len(history.acks), "events": counts["events_without_gaps"]}


def play(one, ground):
    """Passed, failed or skipped, with words and how much was looked at."""
    keep = KEPT / one.name
    stage, problems, seen = None, [], {}
    try:
        scenarios.missing(one)
    except Absent as absent:
        return "skipped", [f"absent: {absent}"], seen
    try:
        options = {**one.stage}
        if options.get("program") == "former":
            options["program"] = os.environ["HALBERD_FORMER"]
        stage = Stage(ground, one.database, keep=keep, **options)
        one.story(stage)
        history = stage.finish()
        found, counts = judge(history, keep)
        seen = size(history, counts)
        problems += [f"{rule}: {words}" for rule, words in found]
        say("   ", told(stage.figures))
        say("    looked at:", told(counts))
    except Absent as absent:
        return "skipped", [f"absent: {absent}"], seen
    except Exception as error:  # whatever it is, the next scenario is to be played
        problems.append(str(error) if isinstance(error, Fault) else traceback.format_exc())
        if stage is not None:
            problems += after_all(stage, keep)
    finally:
        if stage is not None:
            stage.close(keep if problems or os.environ.get("CHAOS_KEEP") else None)
        # What one scenario broke must not be what the next one finds.
        ground.close() if problems or stage is None else ground.clear()
    return ("failed" if problems else "passed"), problems, seen


def after_all(stage, keep):
    """What the checker has to say about a story that did not come to its end."""
    try:
        stage.halt()
        history = stage.history()
        open_ones = [row for row in history.tables["recoveries"] if row["closed_at"] is None]
        said = [f"open: {row['kind']} {row['host_name']} {row['state']}, epoch {row['epoch']}: {row['reason']}" for row in open_ones]
        said += [f"move of {row['instance']}: {row['status']}, {row['stage']}, from {row['source_host']} to {row['dest_host']}" for row in history.tables["vmoves"]
                 if row["status"] in ("pending", "ongoing") and row["recovery"] in {one["id"] for one in open_ones}]
        history.waiting, history.recovered = True, False
        return said + [f"{rule}: {words}" for rule, words in judge(history, keep, always=True)[0]]
    except Exception as error:
        return [f"and its history cannot be read: {error}"]


def bench():
    """How long the databases take to come up and what they weigh."""
    for kind in (Galera, Postgres):
        net = Net()
        try:
            database = kind(net)
            say(f"{database.kind}: {told(database.figures)}, {database.memory():.0f} MiB")
        except Absent as absent:
            say(f"{kind.kind}: absent: {absent}")
        finally:
            net.close()
    return 0


def main(words):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if words == ["--bench"]:
        return bench()
    ground = Ground()
    for one in [next(one for one in scenarios.ALL if one.name == word) for word in words]:
        began = time.monotonic()
        say(f"== {one.name} ({one.fault}, {one.database}): {one.expected}")
        outcome, problems, seen = play(one, ground)
        for problem in problems:
            say("    " + problem.replace("\n", "\n    "))
        took = time.monotonic() - began
        say(f"== {one.name} {outcome}, {took:.0f} s")
        say("-- " + json.dumps({"name": one.name, "outcome": outcome, "seconds": took, "seen": seen}))
    ground.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
