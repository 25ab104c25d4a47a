"""Scenarios with programs of the former version (`HALBERD_FORMER`) beside those of this one, on this one's schema (F62, I32).

Engines are replaced one by one, there and back. At each of them a recovery is under way, held by the one that is replaced; over the whole the
recoveries stood in different states when they changed hands.
"""

import os

import reader
from machines import Fault, until
from tell import scenario

# Tables that every step of a recovery reads. A later version may add to any of them.
GROWING = ("hosts", "notifications", "recoveries", "vmoves", "intents", "events", "engines", "wishes", "settings", "audit", "segments")
# Where a recovery shall stand when its owner is replaced, or further.
ROAD = ("confirming", "fencing", "evacuating", "verifying")


def state_of(stage, host):
    try:
        rows = stage.source.rows(["host_name", "kind", "state", "owner", "closed_at"], "recoveries")
    except reader.Blind:
        return None
    return next((row for row in rows if row["host_name"] == host and row["kind"] == "host" and row["owner"]), None)


def all_sent(stage):
    """No recovery will send a guest to a host that is struck now: Nova would not know for a while that it is dead."""
    try:
        rows = stage.open_recoveries()
    except reader.Blind:
        return False
    return not [row for row in rows if row["kind"] == "host" and row["state"] != "verifying"]


def hand_over(stage, wanted, program, how):
    """A host dies; when its recovery stands where it is wanted, or further, its owner is replaced. Where it stood."""
    until("guests of hosts before are sent", lambda: all_sent(stage), 60, 0.2)
    host = stage.strike()

    def there():
        row = state_of(stage, host)
        # Held by its engine's own quiet start, it has not come further.
        early = (*ROAD[: ROAD.index(wanted)], "held") if wanted != ROAD[0] else ()
        return row if row and row["state"] not in early else None

    seen = until(f"a recovery that is {wanted}", there, 60, 0.01)
    owner = stage.owner_engine(seen["owner"])
    getattr(owner, how)()
    owner.start(program=program, wait=False)
    return seen["state"]


def replace_all(stage, program, wanted, how):
    """Every engine runs this program in the end, whoever owned what."""
    states = []
    for state in wanted:
        states.append(hand_over(stage, state, program, how))
        wait_all(stage)
    for engine in stage.engines:
        if engine.program != program:
            engine.stop()
            engine.start(program=program)
    return states


def wait_all(stage):
    for engine in stage.engines:
        engine.wait()
    for engine in stage.engines:
        until(f"{engine.name} takes reports", lambda: stage.journal.chatter(1, engines=[engine]), 60, 0.3)


def schema(stage):
    return max(row["version"] for row in stage.source.rows(["version"], "_sqlx_migrations"))


def grow(stage):
    """As the step of a version after ours may: a column that nobody knows in tables that are read all the time, and the word that programs of
    our step serve on it."""
    ours, was = schema(stage), serves_from(stage)
    stage.db.alter([f"ALTER TABLE {table} ADD COLUMN of_a_later_version BIGINT" for table in GROWING])
    stage.db.alter([
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'later', TRUE, 'x', 0)",
        *says_serves_from(ours),
    ])
    return was


def shrink(stage, was):
    """As it was before. The columns stay: expand first, contract a release later."""
    stage.db.alter(["DELETE FROM _sqlx_migrations WHERE version = 99", *says_serves_from(was)])


def serves_from(stage):
    rows = stage.source.rows(["name", "value"], "settings")
    return next((row["value"] for row in rows if row["name"] == "schema_serves_from"), None)


def says_serves_from(step):
    yield "DELETE FROM settings WHERE name = 'schema_serves_from'"
    if step is not None:
        yield f"INSERT INTO settings (name, value, version, updated_at) VALUES ('schema_serves_from', '{step}', 1, 0)"


def later_schema(stage):
    """The next version has migrated the database under our engines: they go on, and start again on it."""
    stage.strike()
    stage.wait_evacuations(2)
    grow(stage)
    stage.journal.chatter(6)
    until("the recovery goes on", lambda: stage.evacuations() >= 8, 60)
    stage.strike()
    until("it goes on with the next host", lambda: stage.evacuations() >= 10, 60)
    owner = stage.owner()
    owner.kill()
    owner.start()
    wait_all(stage)


def upgrade(stage):
    former, ours = os.environ["HALBERD_FORMER"], os.environ["HALBERD"]
    before = schema(stage)
    # A recovery is under way while the schema grows under its owner.
    stage.strike()
    stage.wait_evacuations(2)
    stage.engines[0].run("db", "migrate", program=ours)
    stage.figures["schema"] = f"{before} -> {schema(stage)}"
    stage.journal.chatter(6)
    stage.strike()
    there = replace_all(stage, ours, ROAD, "stop")
    stage.figures["there"] = " ".join(there)
    stage.journal.quiet()
    was = grow(stage)
    stage.strike()
    stage.journal.quiet()
    shrink(stage, was)
    serves(stage, former)
    back = replace_all(stage, former, ROAD, "kill")
    stage.figures["back"] = " ".join(back)
    if len(set(there)) < 3 or len(set(back)) < 3:
        raise Fault(f"recoveries changed hands in {there} and {back} only")
    stage.strike()


def serves(stage, former):
    """The former version starts on our schema."""
    engine = stage.engines[2]
    engine.stop()
    engine.start(program=former, wait=False)
    until("it works or ends", lambda: not engine.process.lives() or engine.answers(), 60)
    if not engine.process.lives():
        raise Fault("the former version does not start on this version's schema: " + engine.process.tail(1)[-300:])


@scenario("F62", "postgres", "the next version migrates the database under running engines: they go on, and start again on it", 35)
def postgres_later_schema(stage):
    later_schema(stage)


@scenario("F62", "galera", "the next version migrates the database under running engines: they go on, and start again on it", 40)
def galera_later_schema(stage):
    later_schema(stage)


@scenario("F62", "postgres", "engines are replaced one by one, N-1 to N and back, recoveries under way in every step", 110, needs=("former",), long=True, hosts=26, guests=5, program="former")
def postgres_upgrade(stage):
    upgrade(stage)


@scenario("F62", "galera", "engines are replaced one by one, N-1 to N and back, recoveries under way in every step", 130, needs=("former",), long=True, hosts=26, guests=5, program="former")
def galera_upgrade(stage):
    upgrade(stage)
