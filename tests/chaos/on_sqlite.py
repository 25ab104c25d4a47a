"""Scenarios of one engine with its own file: kills, a freeze, a full disc, a clock, a second engine."""

import random
import time

from engines import Engine
from machines import Fault, until
from tell import lasting, scenario

DAY = 86_400


@scenario("F51", "sqlite", "with a full disc nothing is acknowledged and nothing done; with room again all goes on", 22, guests=6)
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


@scenario("F52", "sqlite", "killed at any moment, started again: one recovery, each evacuation once, no report lost", 28)
def sqlite_killed(stage):
    engine, chance = stage.engines[0], random.Random(5)
    stage.strike()
    for _ in range(6):
        stage.journal.chatter(4)
        time.sleep(chance.uniform(0.05, 1.5))
        engine.kill()
        engine.start()
    stage.journal.chatter(4)


@scenario("F64", "sqlite", "frozen between its deeds, then woken: goes on, nothing twice", 32)
def sqlite_frozen(stage):
    engine = stage.engines[0]
    stage.strike()
    stage.wait_evacuations(2)
    engine.freeze()
    time.sleep(lasting(12, 60))
    engine.thaw()


@scenario("F66", "sqlite", "the engine's clock jumps a day ahead, then two back: no change", 27)
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


@scenario("F68", "sqlite", "a second engine on the same file refuses and says why; the first goes on", 16)
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


@scenario("F65", "sqlite", "a host is reported while the engine holds back after its start: recovered when that is over", 16, quiet=False)
def sqlite_quiet_start(stage):
    stage.strike()
