"""Scenarios on three real Galera nodes, each with an engine of its own."""

import threading
import time

from engines import Engine
from machines import Fault, until
from tell import LEASE, check_refused, lasting, owner_frozen, owner_killed, scenario

DAY = 86_400


def crowd_of(stage, engines, count, stop=None):
    """Clients that report at the same time, so that commits are under way when something happens; started."""
    def work(engine):
        for _ in range(count):
            if stop is not None and stop.is_set():
                return
            stage.journal.chatter(1, engines=[engine])

    crowd = [threading.Thread(target=work, args=(engine,), daemon=True) for engine in engines]
    for thread in crowd:
        thread.start()
    return crowd


@scenario("F53", "galera", "the owner's node is killed while it commits: another engine goes on, one owner at a time; the node joins again", 45)
def galera_node_killed(stage):
    stage.strike()
    stage.wait_evacuations(2)
    owner = stage.owner()
    node, stop = stage.db.nodes[stage.engines.index(owner)], threading.Event()
    crowd, before = crowd_of(stage, [owner] * 3, 50, stop), len(stage.journal.acks)
    until("its node is at work", lambda: len(stage.journal.acks) > before + 3, 30, 0.01)
    node.kill()
    stop.set()
    for thread in crowd:
        thread.join()
    others = [engine for engine in stage.engines if engine is not owner]
    check_refused(stage, owner, stage.spare(), "without its node")
    stage.journal.chatter(6, engines=others)
    until("another goes on", lambda: stage.evacuations() >= 8, 60)
    began = time.monotonic()
    node.start()
    node.wait(3)
    stage.figures["node joins again"] = time.monotonic() - began
    until("its engine takes reports again", lambda: stage.journal.chatter(1, engines=[owner]), 60, 0.5)
    stage.strike(engines=[owner])


@scenario("F54", "galera", "one node and its engine cut off from the two: they stop, the majority goes on, the cut heals", 50)
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
    # Before the next dies: Nova may have chosen that one, and a call lost with its destination waits for a person (F43).
    until("the majority has taken over", stage.victims_are_back, 90, 0.5)
    stage.strike(engines=others)
    until("the majority recovers all", lambda: stage.evacuations() >= 12, 90)
    healed = time.monotonic()
    # A request that was on its way when the cut came may still arrive.
    stage.demand_silence(lonely, stopped + 1, healed)
    stage.net.heal()
    for node in stage.db.nodes:
        node.wait(3)
    until("the lonely engine takes reports again", lambda: stage.journal.chatter(1, engines=[lonely]), 60, 0.5)


@scenario("F55", "galera", "three engines on three nodes want the same rows: bounded retries, one wins each, four hosts recovered", 40)
def galera_hot_rows(stage):
    crowd = crowd_of(stage, stage.engines * 2, 25)
    hosts = [stage.strike(report=False) for _ in range(4)]
    # Else it would send guests of one to another.
    until("Nova has noticed", lambda: stage.cloud.down(hosts), 30, 0.3)
    reports = [threading.Thread(target=stage.journal.report_host, args=(host,), kwargs={"engines": [engine]}) for host in hosts for engine in stage.engines]
    for thread in reports:
        thread.start()
    for thread in [*crowd, *reports]:
        thread.join()


@scenario("F56", "galera", "an engine whose node lags takes over: it waits for what was committed and never acts on old rows", 40)
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


@scenario("F57", "galera", "all nodes are killed, the most advanced begins the cluster: nothing is lost, the recovery goes on", 60)
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


@scenario("F60", "galera", "the whole database stands still: no deed past its deadline, then on", 60)
def galera_stalls(stage):
    stage.strike()
    stage.wait_evacuations(2)
    for node in stage.db.nodes:
        node.freeze()
    stalled, lasts = time.monotonic(), lasting(15, 60)
    time.sleep(lasts)
    for engine in stage.engines:
        stage.demand_silence(engine, stalled + LEASE, stalled + lasts)
    for node in stage.db.nodes:
        node.thaw()
    until("the cluster is whole", lambda: all(node.synced(3) for node in stage.db.nodes), 90, 0.5)


@scenario("F51", "galera", "a node's disc is full: its engine stops or waits, the others go on; with room it joins again", 60)
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


@scenario("F63", "galera", "the owner is killed three times half way: another goes on within lease and a poll, each evacuation once", 55, guests=20)
def galera_owner_killed(stage):
    owner_killed(stage)


@scenario("F64", "galera", "the owner is frozen and woken: another has gone on, the stale one does no harm", 45)
def galera_owner_frozen(stage):
    owner_frozen(stage)


@scenario("F65", "galera", "all engines are killed and started again: they look first, then go on; nothing is shot that was not", 35)
def galera_all_restart(stage):
    stage.strike()
    stage.wait_evacuations(3)
    for engine in stage.engines:
        engine.kill()
    for engine in stage.engines:
        engine.start(wait=False)
    for engine in stage.engines:
        engine.wait()
    stage.journal.chatter(6)


@scenario("F66", "galera", "one engine's clock is a day ahead, one a day behind: no change, also when the owner is killed", 45)
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


@scenario("F68", "galera", "a second engine of the same name refuses; the first goes on", 25)
def galera_same_name(stage):
    first = stage.engines[0]
    twin = Engine(stage, 8, name=first.name, machine=stage.net.machine("twin", "2.9"), url=stage.db.url(1))
    twin.start(wait=False)
    until("the twin has ended", lambda: not twin.process.lives(), 60)
    if twin.process.process.returncode == 0:
        raise Fault("the twin ended as if all were well")
    stage.figures["twin says"] = twin.process.tail(1)[-200:]
    stage.strike()
