"""Scenarios on a real PostgreSQL pair, three engines at its floating address."""

import os
import socket
import time

from machines import Fault, until
from postgres import FLOATING
from tell import LEASE, check_refused, destination_dies, destination_lost, lasting, owner_frozen, owner_killed, scenario
from upgrades import hand_over, wait_all


@scenario("F59", "postgres", "the primary dies, the standby takes over after a while: acts pause, then go on, nothing lost", 50)
def postgres_failover(stage):
    stage.strike()
    stage.wait_evacuations(2)
    stage.journal.chatter(6)
    began = time.monotonic()
    stage.db.promote(wait=lasting(10, 25))
    until("reports are taken again", lambda: stage.journal.chatter(1), 60, 0.5)
    stage.figures["failover"] = time.monotonic() - began
    stage.journal.quiet()
    stage.db.rejoin()
    stage.strike()


# Nobody at the old primary can know that there is another: until its engine says so, lists from there are of before the cut.
SAYS_SO = 24  # seconds, in which no engine's lease is renewed there


@scenario("F58", "postgres", "the old primary lives on, cut off with the owner: it commits nothing, so no deed and no report; it says that it is not ready", 60)
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
    stage.figures["says"] = until("it says that it is not ready", lambda: owner.ready()[1], SAYS_SO + 5, 1).strip()
    stage.figures["not ready after"] = time.monotonic() - cut
    others = [engine for engine in stage.engines if engine is not owner]
    until("the others take reports", lambda: stage.journal.chatter(1, engines=others), 60, 0.5)
    until("the others go on", lambda: stage.evacuations() >= 8, 90)
    check_refused(stage, owner, stage.spare(), "at a primary without its standby")
    stage.demand_silence(owner, cut + LEASE)
    old.kill()
    stage.cut.append((owner.name, cut, time.monotonic()))
    stage.db.rejoin()  # and the address with it: until then its machine may ask the former one
    until("it is ready again", lambda: owner.ready()[0], 60, 0.5)


@scenario("F60", "postgres", "the primary stands still: no deed past its deadline, then on", 35)
def postgres_stalls(stage):
    stage.strike()
    stage.wait_evacuations(2)
    stage.db.primary.freeze()
    stalled, lasts = time.monotonic(), lasting(15, 60)
    time.sleep(lasts)
    for engine in stage.engines:
        stage.demand_silence(engine, stalled + LEASE, stalled + lasts)
    stage.db.primary.thaw()


@scenario("F25", "postgres", "the owner loses the database and keeps the cloud: it stops before its next deed, another goes on", 35)
def postgres_cut_off(stage):
    stage.strike()
    stage.wait_evacuations(2)
    owner = stage.owner()
    stage.net.part([owner.machine], stage.db.machines())
    cut = time.monotonic()
    until("another goes on", lambda: stage.evacuations() >= 8, 90)
    stage.demand_silence(owner, cut + LEASE)
    check_refused(stage, owner, stage.spare(), "without a database")


@scenario("F63", "postgres", "the owner is killed three times half way: another goes on within lease and a poll, each evacuation once", 50, guests=20)
def postgres_owner_killed(stage):
    owner_killed(stage)


@scenario("F63", "postgres", "the owner is replaced while it still asks whether the host is dead: life of before the report does not refute it", 45)
def postgres_owner_replaced(stage):
    states = []
    for how in ("stop", "kill", "stop"):
        states.append(hand_over(stage, "confirming", os.environ["HALBERD"], how))
        wait_all(stage)
    stage.figures["stood at"] = " ".join(states)
    if "confirming" not in states:
        raise Fault(f"recoveries changed hands in {states} only")


@scenario("F64", "postgres", "the owner is frozen and woken: another has gone on, the stale one does no harm", 40)
def postgres_owner_frozen(stage):
    owner_frozen(stage)


@scenario("F43", "postgres", "the destination dies in the middle of a rebuild, its recovery may be another engine's: the guests move once more", 45)
def postgres_destination_dies(stage):
    destination_dies(stage)


@scenario("F43", "postgres", "a host dies when Nova has just chosen it: no second call, a person is asked; he moves the guests, the recovery sees it and ends",
          60, policy={"evacuations_in_flight": 8, "evacuation_deadline_ms": 15_000})
def postgres_destination_lost(stage):
    destination_lost(stage)


@scenario("F67", "postgres", "few file descriptors and a flood of connections: load is shed, the recovery is not held up", 30)
def postgres_flood(stage):
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
