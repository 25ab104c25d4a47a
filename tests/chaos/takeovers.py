"""Figures: the owner of a recovery is killed (SIGKILL) half way, and how long until another engine goes on.

    takeovers.py N [WORD...]    N times for each of sqlite-fast, postgres-balanced, galera-fast and so on; with words only those that have one

Two engines and a simulated cloud of their own make a pair; several pairs work side by side, each in a database of its own on one server or
cluster, so that a hundred takeovers take minutes. SQLite has one engine, which is started again at once, as systemd would. The moment of the kill
is drawn: up to three seconds after the recovery was first seen with an owner.

Both figures come from what the other engine itself wrote, with the one clock of this machine: its log line when the claim was committed, and its
first record under the new epoch (an intent or an audit record of the recovery).
"""

import json
import os
import pathlib
import platform
import random
import sys
import threading
import time
import traceback
from datetime import datetime

import reader
from cloud import Cloud, Witness
from engines import Engine, make_key, program_exists, register
from journal import STOPPED
from machines import STATE, Absent, Fault, until
from stage import Ground

PAIRS = int(os.environ.get("CHAOS_PAIRS", "10"))
LEASES = {"fast": 6, "balanced": 10}
GUESTS = 6
KILLED_WITHIN = 3.0


def say(*words):
    print(*words, flush=True)


class Pair:
    """Two engines (one on SQLite) with a cloud and a database of their own, and what was measured on them."""

    def __init__(self, number, net, database, profile, rounds):
        self.number, self.net, self.database = number, net, database
        self.key = make_key(STATE / f"secrets-{number}.key")
        self.measured, self.rounds, self.chance = [], rounds, random.Random(number)
        self.policy = {"profile": profile, "evacuations_in_flight": 2}
        self.engines = []

    def lay(self):
        """Everything but that engines run: a schema is made in a moment on a cluster that has nothing else to do."""
        database = self.database
        path = STATE / f"engine{2 * self.number + 1}" / f"engine{2 * self.number + 1}-{2 * self.number}" / "halberd.db"
        readers = [database.reader(self.number) if database else reader.Sqlite(path) for _ in range(2)]
        self.source, self.witness = readers[0], Witness(readers[1], f"witness-{self.number}")
        self.cloud = Cloud(self.net, self.witness.path, hosts=self.rounds + 5, guests=GUESTS, at=self.number + 1, watched=False, rebuild_ms=1000)
        for at in range(2 if database else 1):
            number = 2 * self.number + at
            url = database.url(number, self.number) if database else None
            self.engines.append(Engine(self, number, url=url, policy=self.policy, clock=False))
        if database:
            self.engines[0].run("db", "migrate")

    def start(self):
        for engine in self.engines:
            engine.start(wait=False)
        for engine in self.engines:
            engine.wait()
        register(self.engines[0], self.cloud)
        self.victims = self.cloud.hosts()

    def _rows(self, columns, what):
        try:
            return self.source.rows(columns.split(), what)
        except reader.Blind:
            return []

    def _owned(self, host):
        rows = self._rows("id host_name kind owner epoch closed_at", "recoveries")
        return next((row for row in rows if row["host_name"] == host and row["kind"] == "host" and row["owner"] and row["closed_at"] is None), None)

    def round(self):
        """One host dies, its recovery's owner is killed. False when the recovery had ended by then."""
        host = self.victims.pop(0)
        self.cloud("kill", host)
        body = {"notification": {"type": "COMPUTE_HOST", "hostname": host, "generated_time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()), "payload": STOPPED}}
        until("the report is taken", lambda: any(engine.call("POST", "/v1/notifications", body)[0] in (202, 409) for engine in self.engines), 30, 0.3)
        until(f"an engine owns the recovery of {host}", lambda: self._owned(host), 60, 0.1)
        time.sleep(self.chance.uniform(0, KILLED_WITHIN))
        row = self._owned(host)
        if row is None:
            return False
        names = {one["id"]: one["name"] for one in self._rows("id name", "engines")}
        owner = next(engine for engine in self.engines if engine.name == names[row["owner"]])
        others = [engine for engine in self.engines if engine is not owner] or [owner]
        killed = time.time()
        owner.kill()
        stood = self._owned(host)
        if not self.database:
            owner.start(wait=False)
        if stood is None or stood["epoch"] != row["epoch"] or stood["owner"] != row["owner"]:
            self._again(owner)
            return False
        claimed = until("another engine claims it", lambda: self._claimed(others, row["id"], row["epoch"]), 60, 0.1)
        written = until("it writes", lambda: self._written(row["id"], row["epoch"]), 60, 0.2)
        self.measured.append((claimed - killed, written - killed))
        self._again(owner)
        until(f"the recovery of {host} has ended", lambda: not self._open(host), 120, 0.3)
        return True

    def _open(self, host):
        rows = self._rows("host_name kind closed_at", "recoveries") or [{"host_name": host, "kind": "host", "closed_at": None}]
        return [row for row in rows if row["host_name"] == host and row["kind"] == "host" and row["closed_at"] is None]

    def _claimed(self, engines, recovery, epoch):
        for engine in engines:
            for line in engine.process.text().splitlines():
                if '"recovery claimed"' in line and recovery in line:
                    said = json.loads(line)
                    fields = {**said, **said.get("fields", {})}
                    if int(fields["epoch"]) > epoch:
                        return datetime.fromisoformat(said["timestamp"].replace("Z", "+00:00")).timestamp()
        return None

    def _written(self, recovery, epoch):
        rows = self._rows("at epoch", f"audit WHERE chain = '{recovery}'") + self._rows("created_at epoch", f"intents WHERE recovery = '{recovery}'")
        times = [row.get("at", row.get("created_at")) for row in rows if row["epoch"] > epoch]
        return min(times) / 1e6 if times else None

    def _again(self, owner):
        if self.database:
            owner.start(wait=False)
        owner.wait()

    def work(self):
        """Whatever goes wrong is said, and the other pairs go on."""
        try:
            while len(self.measured) < self.rounds and self.victims[:-4]:
                self.round()
        except Exception as error:
            say(f"    pair {self.number}: {error if isinstance(error, Fault) else traceback.format_exc()}")

    def close(self):
        for what in ("cloud", "witness", "source"):
            if hasattr(self, what):
                getattr(getattr(self, what), "stop" if what == "cloud" else "close")()


def rank(values, share):
    """The nearest rank: of a hundred the 99th is p99."""
    values = sorted(values)
    return values[max(0, -(-len(values) * share // 100) - 1)]


def measure(kind, profile, count):
    pairs_wanted = min(PAIRS, count)
    ground = Ground()
    began = time.monotonic()
    pairs = []
    try:
        database = ground.database(kind, more=pairs_wanted - 1) if kind != "sqlite" else ground.database(kind)
        # A few rounds are not counted (the recovery had ended), so each pair has hosts to spare.
        rounds = -(-count // pairs_wanted)
        pairs = [Pair(at, ground.net, database, profile, rounds) for at in range(pairs_wanted)]
        for pair in pairs:
            pair.lay()
        for pair in pairs:
            pair.start()
        workers = [threading.Thread(target=pair.work) for pair in pairs]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        found = [one for pair in pairs for one in pair.measured]
        words = f"{kind:9} {profile:9} {len(found):4}"
        for at in (0, 1):
            values = [one[at] for one in found]
            words += f"   {rank(values, 50):6.2f} {rank(values, 99):6.2f} {max(values):6.2f}" if values else "   nothing"
        say(f"{words}   {LEASES[profile] if kind != 'sqlite' else '-':>5} {os.getloadavg()[0]:6.1f} {time.monotonic() - began:6.0f}")
        return len(found) >= count
    finally:
        for pair in pairs:
            pair.close()
        ground.close()


def machine():
    """What these figures were measured on."""
    cpu = next((line.split(":")[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) / 2**20
    build = "release" if "/release/" in os.environ["HALBERD"] else "debug"
    return f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GiB, Linux {platform.release()}, {build} build, load {os.getloadavg()[0]:.1f} at the start"


def main(words):
    count, words = int(words[0]) if words else 100, words[1:]
    program_exists()
    say(machine())
    say(f"seconds from SIGKILL to another engine's claim, and to its first record; {PAIRS} pairs side by side; SQLite: started again at once")
    say(f"{'database':9} {'profile':9} {'n':>4}   {'p50':>6} {'p99':>6} {'max':>6}   {'p50':>6} {'p99':>6} {'max':>6}   {'lease':>5} {'load':>6} {'took':>6}")
    whole = True
    for kind in ("sqlite", "postgres", "galera"):
        for profile in LEASES:
            if words and not any(word in f"{kind}-{profile}" for word in words):
                continue
            try:
                whole &= measure(kind, profile, count)
            except Absent as absent:
                say(f"{kind:9} {profile:9} absent: {absent}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
