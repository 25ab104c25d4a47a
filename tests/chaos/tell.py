"""How scenarios are told: their list, and what several of them do."""

import dataclasses
import os
import subprocess
import time

import reader
from machines import Absent, Fault, until

LEASE = 6  # seconds, of the profile `fast` that these engines have
ALL = []


@dataclasses.dataclass
class Scenario:
    name: str
    fault: str
    database: str
    expected: str
    story: object
    seconds: int  # on two idle cores, for the order in which they are played
    needs: tuple = ()
    long: bool = False  # not in the default run
    stage: dict = dataclasses.field(default_factory=dict)


def scenario(fault, database, expected, seconds, needs=(), long=False, **stage):
    def add(story):
        ALL.append(Scenario(story.__name__, fault, database, expected, story, seconds, needs, long, stage))
        return story

    return add


def lasting(short, long):
    """Seconds that something lasts: enough to tell in the default run, as SAFETY 8 has it in the long one."""
    return long if os.environ.get("CHAOS_LONG") else short


def check_refused(stage, engine, host, why=""):
    """A report to this engine is not acknowledged now."""
    if stage.journal.send(engine, "PROCESS", host, {"event": "STARTED", "process_name": f"refused-{time.monotonic_ns()}"}, 20):
        raise Fault(f"{engine.name} acknowledged a report {why}")


def owner_killed(stage):
    """Three times, half way; started again while another goes on."""
    stage.strike()
    gaps = []
    for wanted in (1, 7, 13):
        stage.wait_evacuations(wanted)
        owner = stage.owner()
        owner.kill()
        killed, before = time.monotonic(), stage.evacuations()
        until("another goes on", lambda: stage.evacuations() > before or stage.none_open(), 60, 0.02)
        gaps.append(round(time.monotonic() - killed, 1))
        owner.start(wait=False)
    stage.figures["takeover"] = gaps


def owner_frozen(stage):
    """Another goes on; the stale one is woken, and what it still meant to do is not done."""
    stage.strike()
    stage.wait_evacuations(2)
    owner = stage.owner()
    owner.freeze()
    frozen = time.monotonic()
    others = [engine for engine in stage.engines if engine is not owner]
    until("another goes on", lambda: any(stage.calls_from(engine, frozen) for engine in others), 60, 0.05)
    stage.figures["takeover"] = time.monotonic() - frozen
    time.sleep(max(0, frozen + lasting(15, 60) - time.monotonic()))
    owner.thaw()
    stage.strike()


def building(stage, unnamed):
    """A host on which guests are being rebuilt: while some call lies with a host that Nova has not named, or when none does and none is to
    come, so that whoever dies with it is known."""
    def look():
        named, others = stage.cloud.building()
        fits = others if unnamed else not others and not to_come(stage)
        return fits and next((row["dest"] for row in named if row["dest"] not in stage.victims), None)

    return until("guests are being rebuilt somewhere", look, 60, 0.01)


def to_come(stage):
    """Guests of the victims that are still to be sent, or sent once more."""
    try:
        rows = stage.source.rows(["status", "dest_host", "stage"], "vmoves")
    except reader.Blind:
        return True
    early = ("planned", "locking", "resetting", "ready", "sending")
    return [row for row in rows if row["status"] in ("pending", "ongoing") and (row["stage"] in early or row["dest_host"] in stage.victims)]


def destination_dies(stage):
    """A host dies while guests of another are being rebuilt on it, and another engine may have its recovery: they move once more (F43)."""
    stage.strike()
    stage.wait_evacuations(8)
    stage.strike(building(stage, unnamed=False), engines=stage.engines[::-1], settled=False)
    stage.wait_evacuations(16)
    stage.strike(building(stage, unnamed=False), engines=stage.engines[1:], settled=False)


def destination_lost(stage):
    """A host dies when Nova has just chosen it: the call lies in its queue, the record names nobody, and no engine may send a second call.
    A person is asked, and evacuates the guests; Nova then gives that work to the first record and leaves the second without a destination for
    good (NOVA.md). The recovery sees them there and ends."""
    host = stage.strike()
    stage.strike(building(stage, unnamed=True), settled=False)

    def asked():
        return any(row["host_name"] == host and row["state"] == "needs_operator" for row in stage.open_recoveries())

    until("a person is asked", asked, 90, 0.3)
    hanging = {row["guest"] for row in stage.cloud.evacuation_records() if row["status"] == "accepted" and not row["dest"]}
    for guest in sorted(hanging):
        stage.cloud.nova(f"/servers/{guest}/action", {"evacuate": {}})
    stage.figures["by a person"] = len(hanging)
    until("they run", stage.victims_are_back, 60, 0.5)
    left = [row for row in stage.cloud.evacuation_records() if row["status"] == "accepted" and not row["dest"]]
    if not hanging or len(left) != len(hanging):
        raise Fault(f"{len(hanging)} hung, and {len(left)} are left: the story is another one")


def missing(one):
    """What of the product or the machine a scenario waits for, if anything."""
    if "former" in one.needs and not os.environ.get("HALBERD_FORMER"):
        raise Absent("HALBERD_FORMER names no program of the former version")
    if "rewind" in one.needs and not has_verb("reconcile", "leave"):
        raise Absent("this halberd does not notice a rewound database yet (it has no `reconcile leave`)")
    if "restore" in one.needs and not has_verb("db", "restore"):
        raise Absent("this halberd has no `db restore` yet")


def has_verb(*words):
    return subprocess.run([os.environ["HALBERD"], *words, "--help"], capture_output=True).returncode == 0
