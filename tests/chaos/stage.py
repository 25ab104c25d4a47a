"""One scenario's world: machines, database, simulated cloud, engines, client; and the history that is read at its end."""

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
from engines import Engine, make_key, program_exists
from galera import Galera
from journal import Journal
from machines import STATE, Absent, Fault, Net, until
from postgres import Postgres

# Long enough that something can be struck in the middle, short enough to be waited for.
GUESTS, REBUILD_MS, IN_FLIGHT = 8, 1500, 2
HOSTS = 8
# Engines hold back for the profile's time to verdict after their start (G8); what comes in that window has a scenario of its own.
QUIET_SECONDS = 4
SAMPLE_SECONDS = 0.4


class Stage:
    """What a scenario acts on. `database` is sqlite (one engine), galera, postgres or postgres-async."""

    def __init__(self, database="sqlite", engines=None, guests=GUESTS, hosts=HOSTS, policy=None, quiet=True, keep=None):
        try:
            self._build(database, engines, guests, hosts, policy, quiet)
        except BaseException as error:
            self.close(None if isinstance(error, Absent) else keep)
            raise

    def _build(self, database, engines, guests, hosts, policy, quiet):
        program_exists()
        self.began = time.monotonic()
        self.figures, self.victims, self.rewinds = {}, [], []
        self.waiting, self.recovered = False, True
        self.net = Net()
        self.engines, self.db = [], None
        self._token, self._stop = ("", 0.0), threading.Event()
        self._policy = {"evacuations_in_flight": IN_FLIGHT, **(policy or {})}
        self.key = make_key(STATE / "secrets.key")
        self.kind = database
        sources = self._databases(database)
        self.source, witness_source, self._sampled = sources
        self.witness = Witness(witness_source)
        self.cloud = Cloud(self.net, self.witness.path, hosts=hosts, guests=guests, rebuild_ms=REBUILD_MS)
        count = engines or (1 if database == "sqlite" else 3)
        self.engines += [Engine(self, at, url=self.db.url(at) if self.db else None, policy=self._policy) for at in range(count)]
        if self.db:
            self._migrate()
        self.journal = Journal(self)
        self.samples = []
        began = time.monotonic()
        for engine in self.engines:
            engine.start()
        self.figures["engines up"] = time.monotonic() - began
        self._register()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        self.journal.start()
        if quiet:
            time.sleep(max(0, began + self.figures["engines up"] + QUIET_SECONDS - time.monotonic()))
        self.figures["stage up"] = time.monotonic() - self.began

    def _databases(self, database):
        if database == "sqlite":
            path = STATE / "engine1" / "engine1-0" / "halberd.db"
            return [reader.Sqlite(path) for _ in range(3)]
        self.db = {
            "galera": lambda: Galera(self.net),
            "postgres": lambda: Postgres(self.net),
            "postgres-async": lambda: Postgres(self.net, synchronous=False),
        }[database]()
        self.figures["database up"] = self.db.figures["up"]
        return [self.db.reader() for _ in range(3)]

    def _migrate(self):
        done = self.engines[0].run("db", "migrate", check=False)
        if done.returncode:
            said = (done.stderr + done.stdout).strip()
            if re.search(r"come with a later version", said):
                raise Absent(f"{self.kind} in this halberd: {said.splitlines()[-1]}")
            raise Fault(f"halberd db migrate ended with {done.returncode}: {said}")

    def _register(self):
        """One segment with every host and its BMC, as an operator enters them."""
        door = self.engines[0]
        body = {"segment": {"name": "s", "recovery_method": "auto", "service_type": "COMPUTE"}}
        self.segment = door.good("POST", "/v1/segments", body)["segment"]["uuid"]
        self.host_ids = {}
        for name in self.cloud.hosts():
            body = {"host": {"name": name, "type": "COMPUTE", "control_attributes": "SSH"}}
            uuid = door.good("POST", f"/v1/segments/{self.segment}/hosts", body)["host"]["uuid"]
            self.host_ids[name] = uuid
            known, device = self.cloud.device(name)
            door.good("PUT", f"/halberd/v1/hosts/{uuid}/attributes", {"rack": known["rack"], "serial": known["serial"], "machine": known["uuid"]})
            door.good("PUT", f"/halberd/v1/hosts/{uuid}/fence-devices", {"levels": [{"devices": [device]}]})

    def token(self, user="admin"):
        """Kept for a while: Keystone is not what is tried here."""
        token, until_then = self._token
        if time.monotonic() > until_then:
            token = self.cloud.token(user)
            self._token = token, time.monotonic() + 600
        return token

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
        return next(name for name in self.cloud.hosts(kind) if name not in self.victims)

    def strike(self, host=None, how="kill", report=True, engines=None):
        """A hypervisor dies, and a monitor says so."""
        host = host or self.spare()
        self.victims.append(host)
        self.cloud(how, host)
        if report:
            self.journal.report_host(host, engines=engines)
        return host

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
        """Whether an engine says so where operators look."""
        try:
            _, answer = engine.call("GET", "/halberd/v1/readiness")
        except OSError:
            return False
        return "reconcile" in json.dumps(answer)

    @contextlib.contextmanager
    def rewinding(self, kept):
        """What is done in here takes away from the database what was written after that moment."""
        begun = time.monotonic()
        yield
        self.rewinds.append((kept, begun, time.monotonic()))

    # ------------------------------------------------------------------------------------------------------ the end

    def finish(self, seconds=150):
        """Waits for the end of all that was begun, and gives the history."""
        self.net.heal()
        if not self.waiting:
            self.journal.quiet(seconds)
            until("every recovery has ended", self._none_open, seconds, 0.5)
        self.figures["engines MiB"] = sum(engine.process.memory() for engine in self.engines if engine.process.lives())
        if self.db:
            self.figures["database MiB"] = self.db.memory()
        time.sleep(1.5)  # whoever still meant to do something twice does it now
        self._halt()
        return self.history()

    def _none_open(self):
        try:
            return not [row for row in self.open_recoveries() if row["kind"] == "host"]
        except reader.Blind:
            return False

    def _halt(self):
        self._stop.set()
        self.journal.stop()
        self.cloud.stop()

    def history(self):
        tables = until("the database can be read", self._tables, 60, 0.5)
        return History(
            calls=self.cloud.calls(),
            places=self.cloud.truth.guests,
            power=self.cloud.truth.hosts,
            double_runs=self.cloud("double-runs")["double_runs"],
            samples=self.samples,
            tables=tables,
            acks=self.journal.acks,
            listings=self.journal.listings,
            victims=self.victims,
            rewinds=self.rewinds,
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
        if hasattr(self, "net"):
            self.net.close()


def keep_logs(into):
    """Logs, configurations and histories of all machines; no data of databases, no keys."""
    into = pathlib.Path(into)
    for path in STATE.glob("*/*"):
        if path.is_file() and path.suffix in (".log", ".jsonl", ".toml", ".cnf"):
            target = into / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def judge(history, keep=None):
    """The checker's word: what was violated, and how much each rule has looked at."""
    checker = Checker(history)
    found = checker.check()
    if keep and found:
        pathlib.Path(keep).mkdir(parents=True, exist_ok=True)
        (pathlib.Path(keep) / "history.json").write_text(json.dumps(dataclasses.asdict(history), default=str, indent=1))
    return found, checker.counts
