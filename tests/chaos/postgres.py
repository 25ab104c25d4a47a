"""A real PostgreSQL pair with streaming replication: a primary, and a standby that is synchronous or not, each on its own machine.

Clients use a floating address, as keepalived or a Patroni callback would move it. Promotion is by hand of the scenario; the old primary is
killed (fenced) or, to see what happens, merely cut off.
"""

import glob
import os
import pathlib
import shutil
import subprocess
import time

import reader
from machines import NET, STATE, Absent, Disk, Fault, until

USER, PASSWORD = "halberd", "chaos"
OWNER = "postgres"  # it refuses to run as root
FLOATING = f"{NET}.1.100"
DISK_MIB = 320

CONFIG = """
listen_addresses = '*'
port = 5432
unix_socket_directories = '{folder}'
shared_buffers = 24MB
max_connections = 340
dynamic_shared_memory_type = posix
wal_level = replica
max_wal_senders = 6
max_replication_slots = 4
wal_keep_size = 64MB
max_wal_size = 96MB
min_wal_size = 32MB
hot_standby = on
# SAFETY 3.2: what is acknowledged is on disc here, and on the standby's where one is named.
fsync = on
full_page_writes = on
synchronous_commit = on
wal_receiver_timeout = 5s
wal_sender_timeout = 5s
wal_retrieve_retry_interval = 500ms
autovacuum_max_workers = 1
logging_collector = off
"""


def programs():
    """Where the server's programs are."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda path: float(path.split("/")[4]))
    if not found:
        raise Absent("postgres (postgresql)")
    return pathlib.Path(found[-1]).parent


class Server:
    """One of the two."""

    def __init__(self, pair, name, machine):
        self.pair, self.name, self.machine = pair, name, machine
        self.disk = Disk(machine.folder / "disc", DISK_MIB, OWNER)
        self.folder = machine.folder / "disc"
        self.base = self.folder / "base"
        self.process = None

    def run(self, program, *words, check=True):
        return self.machine.run([self.pair.programs / program, *words], user=OWNER, check=check)

    def start(self):
        (self.base / "postmaster.pid").unlink(missing_ok=True)
        self.process = self.machine.start("postgres", [self.pair.programs / "postgres", "-D", self.base], user=OWNER)

    def ask(self, sql, database="postgres", seconds=10):
        command = ["setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--init-groups", self.pair.programs / "psql", "-X", "-q", "-A", "-t",
                   "-v", "ON_ERROR_STOP=1", "-h", self.folder, "-U", OWNER, "-d", database, "-c", sql]
        try:
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds, env={**os.environ, "PGCONNECT_TIMEOUT": "3"})
        except subprocess.TimeoutExpired:
            raise Fault(f"{self.name} does not answer within {seconds} s") from None
        if done.returncode:
            raise Fault(f"{self.name}: {done.stderr.strip()}")
        return done.stdout.strip()

    def answers(self):
        if not self.process.lives():
            raise Fault(f"{self.name} ended with {self.process.process.returncode}:\n{self.process.tail()}")
        try:
            return self.ask("SELECT 1", seconds=4) == "1"
        except Fault:
            return False

    def wait(self, seconds=60):
        until(f"{self.name} answers", self.answers, seconds, 0.1)

    def setting(self, name, value):
        self.ask(f"ALTER SYSTEM SET {name} = '{value}'")
        self.ask("SELECT pg_reload_conf()")

    def kill(self):
        self.process.kill()

    def freeze(self):
        self.process.freeze()

    def thaw(self):
        self.process.thaw()


class Postgres:
    """The pair. `primary` is who takes writes."""

    kind, used = "postgres", False

    def __init__(self, net, synchronous=True):
        self.programs = programs()
        self.net, self.synchronous = net, synchronous
        self.figures = {}
        began = time.monotonic()
        one = Server(self, "pg1", net.machine("pg1", "1.11"))
        two = Server(self, "pg2", net.machine("pg2", "1.12"))
        self.servers = [one, two]
        self.primary, self.standby = one, two
        one.run("initdb", "-D", one.base, "-A", "trust", "-U", OWNER, "-E", "UTF8", "--locale=C", "--no-sync")
        with open(one.base / "postgresql.conf", "a") as file:
            file.write(CONFIG.format(folder=one.folder))
        with open(one.base / "pg_hba.conf", "a") as file:
            file.write(f"host replication {OWNER} {NET}.0.0/16 trust\nhost all all {NET}.0.0/16 scram-sha-256\n")
        self.figures["install"] = time.monotonic() - began
        one.start()
        one.wait()
        one.machine.take(FLOATING)
        one.ask(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        self.figures["first"] = time.monotonic() - began
        self.follow(two, one)
        self.databases, self._turn = [], 0
        self.fresh(synchronous)
        self.figures["up"] = time.monotonic() - began

    def fresh(self, synchronous=True, more=0):
        """An empty database (and `more` of them) on a pair that is whole again, for the scenario that comes."""
        began = time.monotonic()
        self.synchronous = synchronous
        self._mend()
        self._turn += 1
        former, self.databases = self.databases, [f"halberd{self._turn}", *(f"halberd{self._turn}_{at}" for at in range(more))]
        for name in former:
            self.primary.ask(f"DROP DATABASE {name} WITH (FORCE)", seconds=60)
        for name in self.databases:
            self.primary.ask(f"CREATE DATABASE {name} OWNER {USER}", seconds=60)
        self.figures["up"] = time.monotonic() - began

    def _mend(self):
        """Whatever befell it: a primary, and a standby that follows it."""
        self.net.heal()
        for server in self.servers:
            if server.process.frozen:
                server.thaw()
        if not self.primary.process.lives():
            self.primary.start()
        # Without this nothing is committed while the standby is away.
        self.primary.wait()
        self.primary.setting("synchronous_standby_names", "")
        if self.standby.process.lives() and self._streams():
            self.primary.machine.take(FLOATING)
            if self.synchronous:
                self._demand()
        else:
            self.rejoin()

    def _streams(self):
        name = self.standby.name
        return self.primary.ask(f"SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'") == "1"

    def follow(self, standby, primary):
        """Makes a standby of it, from nothing."""
        shutil.rmtree(standby.base, ignore_errors=True)
        source = f"host={primary.machine.address} port=5432 user={OWNER} application_name={standby.name}"
        standby.run("pg_basebackup", "-d", source, "-D", standby.base, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        with open(standby.base / "postgresql.auto.conf", "a") as file:
            file.write(f"unix_socket_directories = '{standby.folder}'\nsynchronous_standby_names = ''\n")
        standby.start()
        standby.wait()
        self.primary, self.standby = primary, standby
        until("the standby streams", self._streams, 30)

    def _demand(self):
        self.primary.setting("synchronous_standby_names", f"FIRST 1 ({self.standby.name})")
        until("the standby is synchronous", lambda: "sync" in self.primary.ask("SELECT sync_state FROM pg_stat_replication").split(), 30)

    def machines(self):
        return [server.machine for server in self.servers]

    def url(self, at, which=0):
        """The same for every engine: whoever is primary. `which` of the databases."""
        return f"postgres://{USER}:{PASSWORD}@{FLOATING}:5432/{self.databases[which]}"

    def reader(self, which=0):
        folders = [server.folder for server in self.servers]
        return reader.postgres(self.programs / "psql", folders, self.databases[which], OWNER, lambda: self.servers.index(self.primary))

    def empty(self):
        """The first database, as if it had just been made."""
        name = self.databases[0]
        self.primary.ask(f"DROP DATABASE {name} WITH (FORCE)", seconds=60)
        self.primary.ask(f"CREATE DATABASE {name} OWNER {USER}", seconds=60)

    def alter(self, statements):
        """SQL of an operator, in the scenario's database."""
        for statement in statements:
            self.primary.ask(statement, self.databases[0], seconds=60)

    def memory(self):
        return sum(server.process.memory() for server in self.servers if server.process and server.process.lives())

    def lag(self, cut=True):
        """From now on the standby gets nothing (or again): an asynchronous primary goes on alone."""
        if cut:
            self.net.part([self.primary.machine], [self.standby.machine])
        else:
            self.primary.machine.unblock(self.standby.machine)
            self.standby.machine.unblock(self.primary.machine)

    def promote(self, fence=True, wait=0.0):
        """The standby becomes primary and takes the address. With `fence` the old one is killed first, else merely cut off."""
        old, new = self.primary, self.standby
        if fence:
            old.kill()
        else:
            self.net.part([old.machine], [machine for machine in self.net.machines.values() if machine is not old.machine])
        time.sleep(wait)  # how long the failover takes, as the scenario has it
        new.run("pg_ctl", "promote", "-D", new.base, "-w", "-t", "30")
        until("the standby is primary", lambda: new.ask("SELECT pg_is_in_recovery()") == "f", 30)
        new.machine.take(FLOATING)
        self.primary, self.standby = new, old
        return old

    def rejoin(self):
        """The old primary, if it runs, ends, and follows the new one from nothing."""
        if self.standby.process.lives():
            self.standby.kill()
        self.net.heal()
        self.primary.machine.take(FLOATING)
        self.follow(self.standby, self.primary)
        if self.synchronous:
            self._demand()

    def backup(self):
        """A base backup of the primary; for `restore`."""
        into = STATE / "backup"
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir()
        shutil.chown(into, OWNER, OWNER)
        source = f"host={self.primary.folder} port=5432 user={OWNER}"
        self.primary.run("pg_basebackup", "-d", source, "-D", into / "base", "-X", "stream", "-c", "fast", "--no-sync")

    def restore(self):
        """Yesterday's backup takes the place of both: what came after it is gone."""
        for server in self.servers:
            if server.process.lives():
                server.kill()
        shutil.rmtree(self.primary.base)
        subprocess.run(["cp", "-a", STATE / "backup" / "base", self.primary.base], check=True)
        with open(self.primary.base / "postgresql.auto.conf", "a") as file:
            file.write("synchronous_standby_names = ''\n")
        self.primary.start()
        self.primary.wait()
        self.primary.machine.take(FLOATING)
        self.follow(self.standby, self.primary)
        if self.synchronous:
            self._demand()

    def stop(self):
        for server in self.servers:
            if server.process and server.process.lives():
                server.kill()
