"""Plays the scenarios one after another, each in a world of its own, and says what the checker found."""

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
from stage import Stage, judge

KEPT = pathlib.Path(os.environ.get("HALBERD_CHAOS_KEPT", "/tmp/chaos-kept"))


def say(*words):
    print(*words, flush=True)


def round_of(value):
    return round(value, 1) if isinstance(value, float) else value


def told(figures):
    return ", ".join(f"{name} {round_of(value)}" for name, value in figures.items())


def play(one):
    """Passed, failed or skipped, with words."""
    keep = KEPT / one.name
    stage, problems = None, []
    try:
        scenarios.missing(one)
        stage = Stage(one.database, keep=keep, **one.stage)
        one.story(stage)
        found, counts = judge(stage.finish(), keep)
        problems += [f"{rule}: {words}" for rule, words in found]
        say("   ", told(stage.figures))
        say("    looked at:", told(counts))
    except Absent as absent:
        return "skipped", [f"absent: {absent}"]
    except Exception as error:  # whatever it is, the next scenario is to be played
        problems.append(str(error) if isinstance(error, Fault) else traceback.format_exc())
        if stage is not None:
            problems += after_all(stage, keep)
    finally:
        if stage is not None:
            stage.close(keep if problems or os.environ.get("CHAOS_KEEP") else None)
    return ("failed" if problems else "passed"), problems


def after_all(stage, keep):
    """What the checker has to say about a story that did not come to its end."""
    try:
        stage._halt()
        history = stage.history()
        open_ones = [row for row in history.tables["recoveries"] if row["closed_at"] is None]
        said = [f"open: {row['kind']} {row['host_name']} {row['state']}, epoch {row['epoch']}: {row['reason']}" for row in open_ones]
        history.waiting, history.recovered = True, False
        return said + [f"{rule}: {words}" for rule, words in judge(history, keep)[0]]
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
    if words == ["--bench"]:
        return bench()
    chosen = [one for one in scenarios.ALL if not words or any(word in (one.name, one.fault, one.database) or word in one.name for word in words)]
    if words == ["--list"]:
        for one in scenarios.ALL:
            say(f"{one.name:28} {one.fault}  {one.database:15} {one.expected}")
        return 0
    if not chosen:
        say(f"no scenario has any of: {' '.join(words)}")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    outcomes = {}
    for one in chosen:
        began = time.monotonic()
        say(f"== {one.name} ({one.fault}, {one.database}): {one.expected}")
        outcome, problems = play(one)
        outcomes.setdefault(outcome, []).append(one.name)
        for problem in problems:
            say("    " + problem.replace("\n", "\n    "))
        say(f"== {one.name} {outcome}, {time.monotonic() - began:.0f} s")
    for outcome in ("skipped", "failed"):
        if outcomes.get(outcome):
            say(f"{outcome}: {' '.join(outcomes[outcome])}")
    say(", ".join(f"{len(outcomes.get(outcome, ()))} {outcome}" for outcome in ("passed", "failed", "skipped")))
    if outcomes.get("failed"):
        say(f"logs: {KEPT}")
        return 1
    return 0 if outcomes.get("passed") else 77


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
