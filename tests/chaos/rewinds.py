"""Scenarios in which a database shows less than engines remember. From the moment it is back no engine does anything that cannot be taken back,
until a person has looked and said so; then all is recovered, once, with epochs that nobody ever had."""

import json
import shutil
import time

from journal import STOPPED
from machines import Fault, until
from tell import LEASE, scenario

# What a rewound database must not lead to. Flags that say what is true already may be set again.
DESTRUCTIVE = ("power ForceOff", "power On", "force down", "evacuate", "os-stop", "os-start", "os-resetState")


def destructive(stage, since, before=None):
    return [call for call in stage.cloud.calls() if call["deed"] in DESTRUCTIVE and call["at"] > since and (before is None or call["at"] < before)]


def kinds(stage):
    return {row["kind"] for row in stage.source.rows(["id", "kind"], "events")}


def left(stage):
    return "reconcile_only.left" in kinds(stage)


def way_out(stage):
    """What every rewound database demands."""
    back = stage.rewinds[-1][2]
    for engine in stage.engines:
        if not engine.process.lives():
            engine.start(wait=False)
    for engine in stage.engines:
        engine.wait()
    until("every engine says reconcile-only", lambda: left(stage) or all(stage.reconcile_only(engine) for engine in stage.engines), 60, 0.5)
    stage.figures["said after"] = time.monotonic() - back
    until("an event says so", lambda: "database.rewound" in kinds(stage), 30, 0.5)
    # A new failure, whether its report is taken now or not, and time enough for whoever does not know.
    host = stage.strike(report=False, settled=False)
    for engine in stage.engines:
        stage.journal.send(engine, "COMPUTE_HOST", host, STOPPED, 10)
    # It may end by itself, when all that engines find in the world is explained: until then nothing is done either.
    still, end = time.monotonic(), time.monotonic() + LEASE + 4
    while time.monotonic() < end:
        look = time.monotonic()
        if not all(stage.reconcile_only(engine) for engine in stage.engines):
            break
        still = look
        time.sleep(0.5)
    sent = destructive(stage, back, still)
    if sent:
        raise Fault(f"{len(sent)} deeds after the database was rewound: " + "; ".join(f"{call['deed']} of {call.get('guest') or call['host']} from {call['from']}" for call in sent[:4]))
    stage.figures["silent for"] = still - back
    if left(stage):
        stage.figures["left"] = "by itself"
    else:
        shown = stage.operator(stage.engines[-1], "reconcile", "show").stdout
        stage.figures["left"] = f"by a person who saw {shown.strip().splitlines()[0]!r}"
        stage.leave_reconcile_only()
    until("no engine says reconcile-only", lambda: not any(stage.reconcile_only(engine) for engine in stage.engines), 60, 0.5)
    # Monitors say what is so until somebody knows it; what they had said before the rewind may be forgotten.
    for host in stage.victims:
        stage.journal.report_host(host)
    until("all guests run again", stage.victims_are_back, 90, 0.5)
    until("an event says that it was left", lambda: left(stage), 30, 0.5)


@scenario("F57", "galera", "all nodes die and come back without the last commits: reconcile-only, no evacuation a second time", 75, needs=("rewind",))
def galera_commits_lost(stage):
    stage.strike()
    until("a recovery is open", stage.open_recoveries, 30, 0.05)
    kept = time.monotonic()
    stage.db.image()
    stage.wait_evacuations(3)
    with stage.rewinding(kept):
        stage.db.rewind()
    way_out(stage)


@scenario("F58", "postgres-async", "failover to a standby that lacks the last seconds: reconcile-only, evacuations adopted and not repeated", 60, needs=("rewind",))
def postgres_commits_lost(stage):
    stage.strike()
    until("a recovery is open", stage.open_recoveries, 30, 0.05)
    stage.db.lag()
    kept = time.monotonic() - 0.2
    stage.wait_evacuations(3)
    with stage.rewinding(kept):
        stage.db.promote()
    way_out(stage)


@scenario("F61", "postgres", "yesterday's base backup is restored: identity and high-water mark differ, all engines reconcile-only", 60, needs=("rewind",))
def postgres_backup_restored(stage):
    stage.db.backup()
    kept = time.monotonic()
    stage.strike()
    stage.journal.chatter(6)
    stage.wait_evacuations(3)
    for engine in stage.engines:
        engine.stop()
    with stage.rewinding(kept):
        stage.db.restore()
    way_out(stage)


@scenario("F61", "sqlite", "yesterday's file comes back: reconcile-only, said where operators look, nothing done until it is left", 55, needs=("rewind",))
def sqlite_backup_restored(stage):
    engine = stage.engines[0]
    engine.stop()
    kept = time.monotonic()
    backup = engine.disk.path / "halberd.db.yesterday"
    shutil.copyfile(engine.disk.path / "halberd.db", backup)
    engine.start()
    stage.strike()
    stage.journal.chatter(5)
    stage.wait_evacuations(2)
    with stage.rewinding(kept):
        engine.kill()
        for end in ("-wal", "-shm"):
            (engine.disk.path / f"halberd.db{end}").unlink(missing_ok=True)
        backup.replace(engine.disk.path / "halberd.db")
    way_out(stage)


def own_backup(stage):
    """`halberd db backup`, work goes on, `halberd db restore`: the way that operators are told."""
    engine = stage.engines[0]
    backup = engine.machine.folder / "yesterday.backup"
    stage.strike()
    stage.journal.chatter(4)
    stage.journal.quiet()
    engine.run("db", "backup", "--to", str(backup))
    kept = time.monotonic()
    stage.strike()
    stage.journal.chatter(4)
    stage.wait_evacuations(3)
    for one in stage.engines:
        one.stop()
    with stage.rewinding(kept):
        stage.empty_database()
        done = engine.run("db", "restore", "--from", str(backup))
        stage.figures["restore says"] = json.dumps((done.stdout + done.stderr).strip().splitlines()[-1:])
    way_out(stage)


@scenario("F61", "sqlite", "`halberd db restore` of `halberd db backup`: reconcile-only until it is left", 60, needs=("rewind", "restore"))
def sqlite_own_backup(stage):
    own_backup(stage)


@scenario("F61", "postgres", "`halberd db restore` of `halberd db backup`: reconcile-only until it is left", 60, needs=("rewind", "restore"))
def postgres_own_backup(stage):
    own_backup(stage)


@scenario("F61", "galera", "`halberd db restore` of `halberd db backup`: reconcile-only until it is left", 65, needs=("rewind", "restore"))
def galera_own_backup(stage):
    own_backup(stage)
