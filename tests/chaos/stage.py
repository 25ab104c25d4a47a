"""One scenario's world: machines, database, simulated cloud, engines, client; and the history that is read at its end.

The machines with the database outlive a scenario that ended well (`Ground`): the next one finds them whole, with an empty database.
"""

import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import threading
import time

import reader
from checker import Checker, History
from cloud import Cloud, Witness
from engines import Engine, make_key, program_exists, register
from galera import Galera
from journal import Journal
from machines import HARNESS, STATE, Absent, Fault, Net, until
from postgres import Postgres

# Long enough that something can be struck in the middle, short enough to be waited for.
GUESTS, REBUILD_MS, IN_FLIGHT = 8, 1500, 2
HOSTS = 8
# Engines hold back for the profile's time to verdict after their start (G8); what comes in that window has a scenario of its own.
QUIET_SECONDS = 4
SAMPLE_SECONDS = 0.4


class Ground:
    """The network, and one database on it that several scenarios use in turn."""

    def __init__(self):
        self.net, self._kind, self._database = None, None, None

    def database(self, kind, **options):
        """Whole and empty; None for SQLite, whose file is the engine's. PostgreSQL's pair serves both ways of replication."""
        word = kind.removesuffix("-async")
        if self._kind not in (None, word):
            self.close()
        if self.net is None:
            self.net = Net()
        self._kind = word
        if word == "sqlite":
            return None
        asked = {"synchronous": word == kind} if word == "postgres" else {}
        if self._database is None:
            self._database = {"galera": Galera, "postgres": Postgres}[word](self.net, **asked)
        if options or self._database.used:
            self._database.fresh(**asked, **options)
        self._database.used = True
        return self._database

    def clear(self):
        """Takes away what a scenario has put on it."""
        if self.net:
            self.net.heal()
            self.net.clear(self._database.machines() if self._database else ())

    def close(self):
        if self.net:
            self.net.close()
        self.net, self._kind, self._database = None, None, None


class Stage:
    """What a scenario acts on. `database` is sqlite (one engine), galera, postgres or postgres-async; `program` another `halberd`."""

    def __init__(self, ground, database="sqlite", engines=None, guests=GUESTS, hosts=HOSTS, policy=None, quiet=True, program=None, keep=None):
        try:
            self._build(ground, database, engines, guests, hosts, policy, quiet, program)
        except BaseException as error:
            self.close(None if isinstance(error, Absent) else keep)
            raise

    def _build(self, ground, database, engines, guests, hosts, policy, quiet, program):
        program_exists()
        self.began = time.monotonic()
        self.figures, self.victims, self.rewinds, self.cut = {}, [], [], []
        self.waiting, self.recovered = False, True
        self.db = ground.database(database)
        self.net, self.engines = ground.net, []
        if self.db:
            self.figures["database up"] = self.db.figures["up"]
        self._stop = threading.Event()
        self._policy = {"evacuations_in_flight": IN_FLIGHT, **(policy or {})}
        self.key = make_key(STATE / "secrets.key")
        self.kind = database
        # Three, as each waits for its answers.
        self.source, witness_source, self._sampled = [self.reader() for _ in range(3)]
        self.witness = Witness(witness_source)
        self.cloud = Cloud(self.net, self.witness.path, hosts=hosts, guests=guests, rebuild_ms=REBUILD_MS)
        count = engines or (1 if database == "sqlite" else 3)
        self.engines += [Engine(self, at, url=self.db.url(at) if self.db else None, policy=self._policy, program=program) for at in range(count)]
        if self.db:
            self._migrate()
        self.journal = Journal(self)
        self.samples = []
        began = time.monotonic()
        for engine in self.engines:
            engine.start()
        self.figures["engines up"] = time.monotonic() - began
        register(self.engines[0], self.cloud)
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        self.journal.start()
        if quiet:
            time.sleep(max(0, began + self.figures["engines up"] + QUIET_SECONDS - time.monotonic()))
        self.figures["stage up"] = time.monotonic() - self.began

    def reader(self):
        return self.db.reader() if self.db else reader.Sqlite(STATE / "engine1" / "engine1-0" / "halberd.db")

    def _migrate(self):
        done = self.engines[0].run("db", "migrate", check=False)
        if done.returncode:
            said = (done.stderr + done.stdout).strip()
            if re.search(r"come with a later version", said):
                raise Absent(f"{self.kind} in this halberd: {said.splitlines()[-1]}")
            raise Fault(f"halberd db migrate ended with {done.returncode}: {said}")

    def _sample(self):
        columns = "id kind subject state owner epoch version closed_at".split()
        while not self._stop.wait(SAMPLE_SECONDS):
            began = time.monotonic()
            try:
                rows = self._sampled.rows(columns, "recoveries")
            except reader.Blind:
                continue
            # A look that lasted long (a database that stood still) cannot be put in order with a rewind.
            if time.monotonic() - began < 2:
                self.samples.append((time.monotonic(), rows))

    # -------------------------------------------------------------------------------------------------- what happens

    def spare(self, kind="redfish"):
        """A host that is well; its BMC's orders can be read by the recorder."""
        well = [name for name in self.cloud.hosts(kind) if name not in self.victims]
        if not well:
            raise Fault(f"the scenario has struck every host with {kind}: it needs more than {len(self.cloud.hosts())} hosts")
        return well[0]

    def strike(self, host=None, how="kill", report=True, engines=None, settled=True):
        """A hypervisor dies, and a monitor says so. Guests that are on their way are let arrive: a host that dies when Nova has just chosen it
        for one leaves a record without a destination, which is for a person to settle (`destination_lost`); `settled=False` strikes at once."""
        if settled:
            until("no guest is on its way", self._none_on_its_way, 60, 0.1)
        host = host or self.spare()
        self.victims.append(host)
        self.cloud(how, host)
        if report:
            self.journal.report_host(host, engines=engines)
        return host

    def _none_on_its_way(self):
        try:
            return not [row for row in self.source.rows(["status"], "vmoves") if row["status"] == "ongoing"]
        except reader.Blind:
            return False

    def evacuations(self):
        return self.cloud.accepted("evacuate")

    def wait_evacuations(self, count, seconds=60):
        until(f"{count} accepted evacuations", lambda: self.evacuations() >= count, seconds, 0.02)

    def open_recoveries(self):
        columns = "id kind subject host_name state owner epoch closed_at".split()
        return [row for row in self.source.rows(columns, "recoveries") if row["closed_at"] is None]

    def owner(self, seconds=30):
        """The engine that has an open recovery of a host; its index among the engines."""
        def look():
            try:
                rows = [row for row in self.open_recoveries() if row["kind"] == "host" and row["owner"]]
            except reader.Blind:
                return None
            return next((engine for engine in self.engines if engine.owner_of(rows)), None)

        return until("an engine owns a recovery", look, seconds, 0.05)

    def calls_from(self, engine, since, before=None):
        """Deeds that this engine sent after some moment."""
        return [call for call in self.cloud.calls() if call["from"] == engine.machine.address and call["at"] > since and (before is None or call["at"] < before)]

    def demand_silence(self, engine, since, before=None):
        calls = self.calls_from(engine, since, before)
        if calls:
            raise Fault(f"{engine.name} sent {len(calls)} deeds when it must not: {calls[0]['deed']} of {calls[0].get('guest') or calls[0]['host']}")

    def reconcile_only(self, engine):
        """Whether an engine says so in both places where operators look: its readiness, and the verb."""
        try:
            status, answer = engine.call("GET", "/halberd/v1/readiness")
        except OSError:
            return False
        if status != 200 or "reconcile" not in json.dumps(answer):
            return False
        shown = self.operator(engine, "reconcile", "show", check=False)
        return "reconcile-only" in shown.stdout

    def leave_reconcile_only(self):
        self.operator(self.engines[0], "reconcile", "leave", "--reason", "the scenario has looked at it")

    def operator(self, engine, *words, check=True):
        """A verb that speaks to this engine's API, as a person who may log in."""
        (engine.machine.folder / "clouds.yaml").write_text(json.dumps({"clouds": {"chaos": self.cloud.login()}}))
        return engine.verb(*words, "--url", engine.address, "--cloud", "chaos", check=check)

    def empty_database(self):
        """The database is gone, as after the loss that a backup is for; its name stays."""
        if self.db:
            self.db.empty()
        else:
            for path in self.engines[0].disk.path.glob("halberd.db*"):
                path.unlink()

    def owner_engine(self, owner):
        """The engine with this id, now or in a former life."""
        names = {row["id"]: row["name"] for row in self.source.rows(["id", "name"], "engines")}
        return next(engine for engine in self.engines if engine.name == names[owner])

    def victims_are_back(self):
        """Every guest of the struck hosts runs where Nova has placed it, and all that was begun has ended."""
        guests = {guest["id"]: guest for guest in self.cloud("guests")["guests"]}
        theirs = [guest for guest, (host, _) in self.cloud.truth.guests[0][1].items() if host in self.victims]
        return all(guests[guest]["running_on"] == [guests[guest]["host"]] for guest in theirs)

    @contextlib.contextmanager
    def rewinding(self, kept):
        """What is done in here takes away from the database what was written after that moment."""
        begun = time.monotonic()
        yield
        self.rewinds.append((kept, begun, time.monotonic()))
        for ack in self.journal.acks:
            ack["lost"] = ack["at"] > kept  # nobody waits for its end; what of it is still there is judged all the same

    # ------------------------------------------------------------------------------------------------------ the end

    def finish(self, seconds=75):
        """Waits for the end of all that was begun, and gives the history."""
        self.net.heal()
        if not self.waiting:
            self.journal.quiet(seconds)
            until("every recovery has ended", self.none_open, seconds, 0.5)
        self.figures["engines MiB"] = sum(engine.process.memory() for engine in self.engines if engine.process.lives())
        if self.db:
            self.figures["database MiB"] = self.db.memory()
        time.sleep(1.5)  # whoever still meant to do something twice does it now
        self.halt()
        return self.history()

    def none_open(self):
        try:
            return not [row for row in self.open_recoveries() if row["kind"] == "host"]
        except reader.Blind:
            return False

    def halt(self):
        self._stop.set()
        self.journal.stop()
        self.cloud.stop()

    def history(self):
        tables = until("the database can be read", self._tables, 60, 0.5)
        return History(
            # What a person did by himself is no engine's.
            calls=[call for call in self.cloud.calls() if call["from"] != HARNESS],
            places=self.cloud.truth.guests,
            power=self.cloud.truth.hosts,
            double_runs=self.cloud("double-runs")["double_runs"],
            samples=self.samples,
            tables=tables,
            records=self.cloud.evacuation_records(),
            acks=self.journal.acks,
            listings=self.journal.listings,
            victims=self.victims,
            rewinds=self.rewinds,
            cut=self.cut,
            waiting=self.waiting,
            recovered=self.recovered,
        )

    def _tables(self):
        try:
            return reader.everything(self.source)
        except reader.Blind:
            return None

    def close(self, keep=None):
        """Ends it all. With `keep` the logs go there first."""
        self._stop.set()
        if keep:
            keep_logs(keep)
        for what in ("journal", "cloud"):
            if hasattr(self, what):
                with contextlib.suppress(Exception):
                    getattr(self, what).stop()
        if hasattr(self, "witness"):
            self.witness.close()
        for source in ("source", "_sampled"):
            if hasattr(self, source):
                getattr(self, source).close()


def keep_logs(into):
    """Logs, configurations and histories of all machines; no data of databases, no keys."""
    into = pathlib.Path(into)
    for path in STATE.glob("*/*"):
        if path.is_file() and path.suffix in (".log", ".jsonl", ".toml", ".cnf"):
            target = into / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def judge(history, keep=None, always=False):
    """The checker's word: what was violated, and how much each rule has looked at."""
    checker = Checker(history)
    found = checker.check()
    if keep and (found or always):
        pathlib.Path(keep).mkdir(parents=True, exist_ok=True)
        (pathlib.Path(keep) / "history.json").write_text(json.dumps(dataclasses.asdict(history), default=str, indent=1))
    return found, checker.counts
