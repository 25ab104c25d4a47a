"""The scenarios: what befalls a cloud, its database and its engines, told as code. Each leaves the judgement to the checker, beside what it
demands itself."""

import dataclasses
import os
import random
import shutil
import threading
import time

import reader
from engines import Engine
from machines import Absent, Fault, until
from postgres import FLOATING

DAY = 86_400
LEASE = 6  # seconds, of the profile `fast` that these engines have
ALL = []


@dataclasses.dataclass
class Scenario:
    name: str
    fault: str
    database: str
    expected: str
    story: object
    needs: tuple = ()
    stage: dict = dataclasses.field(default_factory=dict)


def scenario(fault, database, expected, needs=(), **stage):
    def add(story):
        ALL.append(Scenario(story.__name__, fault, database, expected, story, needs, stage))
        return story

    return add


def check_refused(stage, engine, host, why=""):
    """A report to this engine is not acknowledged now."""
    if stage.journal.send(engine, "PROCESS", host, {"event": "STARTED", "process_name": f"refused-{time.monotonic_ns()}"}, 20):
        raise Fault(f"{engine.name} acknowledged a report {why}")


# ---------------------------------------------------------------------------------------------------------- SQLite


@scenario("F51", "sqlite", "with a full disc nothing is acknowledged and nothing done; with room again all goes on", guests=6)
def sqlite_disk_full(stage):
    engine = stage.engines[0]
    stage.journal.chatter(10)
    host = stage.strike(report=False)
    engine.disk.fill()
    refused = sum(stage.journal.send(engine, "COMPUTE_HOST", host, {"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "NORMAL"}) is None for _ in range(5))
    stage.figures["refused while full"] = refused
    if not engine.answers():
        raise Fault("the engine does not even say that it lives")
    if stage.evacuations():
        raise Fault("evacuated without a report")
    engine.disk.free()
    stage.journal.report_host(host)
    stage.wait_evacuations(2)
    engine.disk.fill()
    time.sleep(5)
    engine.disk.free()


@scenario("F52", "sqlite", "killed at any moment, started again: one recovery, each evacuation once, no report lost")
def sqlite_killed(stage):
    engine, chance = stage.engines[0], random.Random(5)
    stage.strike()
    for _ in range(6):
        stage.journal.chatter(4)
        time.sleep(chance.uniform(0.05, 1.5))
        engine.kill()
        engine.start()
    stage.journal.chatter(4)


@scenario("F64", "sqlite", "frozen for twenty seconds between its deeds, then woken: goes on, nothing twice")
def sqlite_frozen(stage):
    engine = stage.engines[0]
    stage.strike()
    stage.wait_evacuations(2)
    engine.freeze()
    time.sleep(20)
    engine.thaw()


@scenario("F66", "sqlite", "the engine's clock jumps a day ahead, then two back: no change")
def sqlite_clock(stage):
    engine = stage.engines[0]
    stage.strike()
    stage.wait_evacuations(1)
    engine.clock.set(DAY)
    stage.journal.chatter(5)
    stage.wait_evacuations(4)
    engine.clock.set(-DAY)
    stage.journal.chatter(5)
    stage.journal.quiet()
    stage.strike()
    stage.journal.quiet()
    engine.clock.set(0)
    stage.strike()


@scenario("F68", "sqlite", "a second engine on the same file refuses and says why; the first goes on")
def sqlite_two_engines(stage):
    first = stage.engines[0]
    second = Engine(stage, 8, name="second", machine=first.machine, url=f"sqlite:{first.disk.path}/halberd.db")
    config = second.config.read_text().replace(f":{15868}", ":15870")
    second.config.write_text(config)
    second.start(wait=False)
    until("the second has ended", lambda: not second.process.lives(), 30)
    if second.process.process.returncode == 0 or "in use by another engine" not in second.process.text():
        raise Fault(f"the second ended with {second.process.process.returncode}: {second.process.tail()}")
    stage.strike()


@scenario("F65", "sqlite", "a host is reported while the engine holds back after its start: recovered when that is over", quiet=False)
def sqlite_quiet_start(stage):
    stage.strike()


@scenario("F61", "sqlite", "yesterday's file comes back: reconcile-only, said where operators look, nothing done", needs=("rewind",))
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
    after_rewind(stage)


def after_rewind(stage):
    """All engines, started again or not, are reconcile-only and touch nothing; a new failure changes nothing about that."""
    for engine in stage.engines:
        if not engine.process.lives():
            engine.start()
    until("an engine says reconcile-only", lambda: any(stage.reconcile_only(engine) for engine in stage.engines), 60, 0.5)
    settled = time.monotonic() + 1
    time.sleep(1)
    stage.strike()
    time.sleep(LEASE + 6)
    for engine in stage.engines:
        if not stage.reconcile_only(engine):
            raise Fault(f"{engine.name} is not reconcile-only")
        stage.demand_silence(engine, settled)
    stage.waiting, stage.recovered = True, False


# ---------------------------------------------------------------------------------------------------------- Galera


@scenario("F53", "galera", "the owner's node is killed while it commits: another engine goes on, one owner at a time; the node joins again")
def galera_node_killed(stage):
    stage.strike()
    stage.wait_evacuations(2)
    owner = stage.owner()
    node = stage.db.nodes[stage.engines.index(owner)]
    crowd = [threading.Thread(target=stage.journal.chatter, args=(20,), kwargs={"engines": [owner]}) for _ in range(3)]
    for thread in crowd:
        thread.start()
    time.sleep(0.2)
    node.kill()
    for thread in crowd:
        thread.join()
    stage.journal.chatter(6, engines=[engine for engine in stage.engines if engine is not owner])
    stage.journal.quiet()
    began = time.monotonic()
    node.start()
    node.wait(3)
    stage.figures["node joins again"] = time.monotonic() - began
    until("its engine takes reports again", lambda: stage.journal.chatter(1, engines=[owner]), 60, 0.5)
    stage.strike(engines=[owner])


@scenario("F54", "galera", "one node and its engine cut off from the two: they stop, the majority goes on, the cut heals")
def galera_partition(stage):
    stage.strike()
    stage.wait_evacuations(2)
    lonely = stage.owner()
    at = stage.engines.index(lonely)
    others = [engine for engine in stage.engines if engine is not lonely]
    stage.db.partition([at])
    cut = time.monotonic()
    until("the minority has stopped", lambda: stage.db.nodes[at].status().get("wsrep_cluster_status") != "Primary", 30)
    stage.figures["minority stops"] = time.monotonic() - cut
    stopped = time.monotonic()
    check_refused(stage, lonely, stage.spare(), "in a minority")
    stage.journal.chatter(6, engines=others)
    stage.journal.report_host(stage.strike(report=False), engines=others)
    until("the majority recovers all", lambda: stage.evacuations() >= 12, 90)
    healed = time.monotonic()
    # A request that was on its way when the cut came may still arrive.
    stage.demand_silence(lonely, stopped + 1, healed)
    stage.net.heal()
    for node in stage.db.nodes:
        node.wait(3)
    until("the lonely engine takes reports again", lambda: stage.journal.chatter(1, engines=[lonely]), 60, 0.5)


@scenario("F55", "galera", "three engines on three nodes want the same rows: bounded retries, one wins each, four hosts recovered")
def galera_hot_rows(stage):
    crowd = [threading.Thread(target=stage.journal.chatter, args=(25,), kwargs={"engines": [engine]}) for engine in stage.engines for _ in range(2)]
    for thread in crowd:
        thread.start()
    hosts = [stage.strike(report=False) for _ in range(4)]
    reports = [threading.Thread(target=stage.journal.report_host, args=(host,), kwargs={"engines": [engine]}) for host in hosts for engine in stage.engines]
    for thread in reports:
        thread.start()
    for thread in [*crowd, *reports]:
        thread.join()


@scenario("F56", "galera", "an engine whose node lags takes over: it waits for what was committed and never acts on old rows")
def galera_stale_read(stage):
    stage.strike()
    stage.wait_evacuations(2)
    owner = stage.owner()
    others = [at for at, engine in enumerate(stage.engines) if engine is not owner]
    # Its applier stands still and the cluster does not wait for it.
    for at in others:
        stage.db.nodes[at].ask("SET GLOBAL wsrep_desync = ON")
    holds = [
        stage.db.nodes[at].machine.start("lag", ["mariadb", "-u", "root", f"--socket={stage.db.nodes[at].socket}", "-e",
                                                 "SET wsrep_sync_wait = 0; FLUSH TABLES WITH READ LOCK; SELECT SLEEP(8)"])
        for at in others[:1]
    ]
    stage.wait_evacuations(4)
    owner.kill()
    for hold in holds:
        until("the lag ends", lambda: not hold.lives(), 30)
    for at in others:
        stage.db.nodes[at].ask("SET GLOBAL wsrep_desync = OFF", 30)
    stage.journal.quiet()
    owner.start()


@scenario("F57", "galera", "all nodes die and come back without the last commits: reconcile-only, no evacuation a second time", needs=("rewind",))
def galera_commits_lost(stage):
    stage.strike()
    until("a recovery is open", stage.open_recoveries, 30, 0.05)
    kept = time.monotonic()
    stage.db.image()
    stage.wait_evacuations(3)
    with stage.rewinding(kept):
        stage.db.rewind()
    after_rewind(stage)


@scenario("F57", "galera", "all nodes are killed, the most advanced begins the cluster: nothing is lost, the recovery goes on")
def galera_full_stop(stage):
    stage.strike()
    stage.wait_evacuations(2)
    stage.journal.chatter(6)
    for node in stage.db.nodes:
        node.kill()
    began = time.monotonic()
    for engine in stage.engines:
        check_refused(stage, engine, stage.spare(), "without a database")
    stage.figures["best"], stage.figures["positions"] = stage.db.restart_all()
    stage.figures["cluster back"] = time.monotonic() - began


@scenario("F60", "galera", "the whole database stands still for a minute: no deed past its deadline, then on")
def galera_stalls(stage):
    stage.strike()
    stage.wait_evacuations(2)
    for node in stage.db.nodes:
        node.freeze()
    stalled = time.monotonic()
    time.sleep(60)
    for engine in stage.engines:
        stage.demand_silence(engine, stalled + LEASE, stalled + 60)
    for node in stage.db.nodes:
        node.thaw()
    until("the cluster is whole", lambda: all(node.synced(3) for node in stage.db.nodes), 90, 0.5)


@scenario("F51", "galera", "a node's disc is full: its engine stops or waits, the others go on; with room it joins again")
def galera_disk_full(stage):
    stage.strike()
    stage.wait_evacuations(2)
    node = stage.db.nodes[stage.engines.index(stage.owner())]
    node.disk.fill()
    stage.journal.chatter(20)
    time.sleep(10)
    node.disk.free()
    if not node.process.lives() or not node.synced():
        if node.process.lives():
            node.kill()
        node.start()
    node.wait(3)


@scenario("F63", "galera", "the owner is killed three times half way: another goes on within lease and a poll, each evacuation once", guests=20)
def galera_owner_killed(stage):
    stage.strike()
    gaps = []
    for wanted in (1, 7, 13):
        stage.wait_evacuations(wanted)
        owner = stage.owner()
        owner.kill()
        killed, before = time.monotonic(), stage.evacuations()
        until("another goes on", lambda: stage.evacuations() > before or stage._none_open(), 60, 0.02)
        gaps.append(round(time.monotonic() - killed, 1))
        owner.start(wait=False)
    stage.figures["takeover"] = gaps


@scenario("F64", "galera", "the owner is frozen for a minute and woken: another has gone on, the stale one does no harm")
def galera_owner_frozen(stage):
    stage.strike()
    stage.wait_evacuations(2)
    owner = stage.owner()
    owner.freeze()
    frozen = time.monotonic()
    others = [engine for engine in stage.engines if engine is not owner]
    until("another goes on", lambda: any(stage.calls_from(engine, frozen) for engine in others), 60, 0.05)
    stage.figures["takeover"] = time.monotonic() - frozen
    time.sleep(max(0, frozen + 60 - time.monotonic()))
    owner.thaw()
    stage.strike()


@scenario("F65", "galera", "all engines are killed and started again: they look first, then go on; nothing is shot that was not")
def galera_all_restart(stage):
    stage.strike()
    stage.wait_evacuations(3)
    for engine in stage.engines:
        engine.kill()
    for engine in stage.engines:
        engine.start()
    stage.journal.chatter(6)


@scenario("F66", "galera", "one engine's clock is a day ahead, one a day behind: no change, also when the owner is killed")
def galera_clocks(stage):
    stage.engines[0].clock.set(DAY)
    stage.engines[1].clock.set(-DAY)
    stage.strike()
    stage.wait_evacuations(2)
    stage.journal.chatter(6)
    owner = stage.owner()
    owner.kill()
    stage.journal.quiet()
    owner.start()
    for engine, jump in zip(stage.engines, (-DAY, DAY, 3600)):
        engine.clock.set(jump)
    stage.strike()


@scenario("F68", "galera", "a second engine of the same name refuses; the first goes on")
def galera_same_name(stage):
    first = stage.engines[0]
    twin = Engine(stage, 8, name=first.name, machine=stage.net.machine("twin", "2.9"), url=stage.db.url(1))
    twin.start(wait=False)
    until("the twin has ended", lambda: not twin.process.lives(), 60)
    if twin.process.process.returncode == 0:
        raise Fault("the twin ended as if all were well")
    stage.figures["twin says"] = twin.process.tail(1)[-200:]
    stage.strike()


# ------------------------------------------------------------------------------------------------------ PostgreSQL


@scenario("F58", "postgres-async", "failover to a standby that lacks the last seconds: reconcile-only, evacuations adopted and not repeated", needs=("rewind",))
def postgres_commits_lost(stage):
    stage.strike()
    until("a recovery is open", stage.open_recoveries, 30, 0.05)
    stage.db.lag()
    kept = time.monotonic() - 0.2
    stage.wait_evacuations(3)
    with stage.rewinding(kept):
        stage.db.promote()
    after_rewind(stage)


@scenario("F59", "postgres", "the primary dies, the standby takes over after half a minute: acts pause, then go on, nothing lost")
def postgres_failover(stage):
    stage.strike()
    stage.wait_evacuations(2)
    stage.journal.chatter(6)
    began = time.monotonic()
    stage.db.promote(wait=25)
    until("reports are taken again", lambda: stage.journal.chatter(1), 60, 0.5)
    stage.figures["failover"] = time.monotonic() - began
    stage.journal.quiet()
    stage.db.rejoin()
    stage.strike()


@scenario("F58", "postgres", "the old primary lives on, cut off with the owner: without its synchronous standby it commits nothing, so no deed")
def postgres_split(stage):
    stage.strike()
    stage.wait_evacuations(2)
    owner = stage.owner()
    old, new = stage.db.primary, stage.db.standby
    here = [old.machine, owner.machine]
    there = [new.machine, *(engine.machine for engine in stage.engines if engine is not owner)]
    stage.net.part(here, there)
    cut = time.monotonic()
    new.run("pg_ctl", "promote", "-D", new.base, "-w", "-t", "30")
    stage.db.primary, stage.db.standby = new, old
    new.machine.take(FLOATING, others_keep=True)
    others = [engine for engine in stage.engines if engine is not owner]
    until("the others take reports", lambda: stage.journal.chatter(1, engines=others), 60, 0.5)
    until("the others go on", lambda: stage.evacuations() >= 8, 90)
    stage.demand_silence(owner, cut + LEASE)
    old.kill()
    stage.net.heal()
    stage.db.rejoin()


@scenario("F60", "postgres", "the primary stands still for half a minute: no deed past its deadline, then on")
def postgres_stalls(stage):
    stage.strike()
    stage.wait_evacuations(2)
    stage.db.primary.freeze()
    stalled = time.monotonic()
    time.sleep(30)
    for engine in stage.engines:
        stage.demand_silence(engine, stalled + LEASE, stalled + 30)
    stage.db.primary.thaw()


@scenario("F61", "postgres", "yesterday's backup is restored: identity and high-water mark differ, all engines reconcile-only", needs=("rewind",))
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
    after_rewind(stage)


@scenario("F62", "postgres", "engines of the former version beside new ones, and a recovery handed from each to the other", needs=("former",))
def postgres_upgrade(stage):
    former = os.environ["HALBERD_FORMER"]
    for engine in stage.engines[:2]:
        engine.stop()
        engine.start(program=former)
    stage.strike()
    stage.wait_evacuations(2)
    stage.owner().kill()
    stage.journal.quiet()
    for engine in stage.engines:
        if not engine.process.lives():
            engine.start()
    stage.strike()


@scenario("F25", "postgres", "the owner loses the database and keeps the cloud: it stops before its next deed, another goes on")
def postgres_cut_off(stage):
    stage.strike()
    stage.wait_evacuations(2)
    owner = stage.owner()
    stage.net.part([owner.machine], stage.db.machines())
    cut = time.monotonic()
    until("another goes on", lambda: stage.evacuations() >= 8, 90)
    stage.demand_silence(owner, cut + LEASE)
    check_refused(stage, owner, stage.spare(), "without a database")


@scenario("F63", "postgres", "the owner is killed three times half way: another goes on within lease and a poll, each evacuation once", guests=20)
def postgres_owner_killed(stage):
    galera_owner_killed(stage)


@scenario("F64", "postgres", "the owner is frozen for a minute and woken: another has gone on, the stale one does no harm")
def postgres_owner_frozen(stage):
    galera_owner_frozen(stage)


@scenario("F67", "postgres", "few file descriptors and a flood of connections: load is shed, the recovery is not held up")
def postgres_flood(stage):
    import socket

    victim = stage.engines[0]
    victim.stop()
    victim.start(prefix=["prlimit", "--nofile=160:160"])
    lines = []
    for _ in range(300):
        try:
            lines.append(socket.create_connection((victim.machine.address, 15868), 0.2))
        except OSError:
            break
    stage.figures["connections"] = len(lines)
    stage.strike(engines=stage.engines[1:])
    stage.wait_evacuations(8)
    for line in lines:
        line.close()
    until("it takes reports again", lambda: stage.journal.chatter(1, engines=[victim]), 60, 0.5)


def missing(one):
    """What of the product or the machine a scenario waits for, if anything."""
    if "former" in one.needs and not os.environ.get("HALBERD_FORMER"):
        raise Absent("HALBERD_FORMER names no program of the former version")
    if "rewind" in one.needs:
        import subprocess

        said = subprocess.run([os.environ["HALBERD"], "db", "--help"], capture_output=True, text=True).stdout
        if "restore" not in said:
            raise Absent("this halberd does not notice a rewound database yet (it has no `db restore`)")
