"""A real Galera cluster of three: MariaDB and galera-4 of Debian, each node on its own machine with its own disc.

Settings are those of SAFETY 3.2: every commit is flushed on every node before it is acknowledged. The rest is small, for three nodes on two
cores. A node that was killed joins again by itself; after all were killed the most advanced is found by what each has recovered, and the
cluster is begun from that one.
"""

import pathlib
import re
import shutil
import subprocess
import time

import reader
from machines import STATE, Absent, Disk, Fault, until

PROVIDERS = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib/libgalera_smm.so")
USER, PASSWORD = "halberd", "chaos"
NODES = 3
DISK_MIB = 320
OWNER = "mysql"  # as root, the rsync daemon of a state transfer would write as nobody

CONFIG = """[mariadbd]
datadir = {data}/base
socket = {data}/socket
pid-file = {data}/pid
# Names in /tmp come from process ids, which other runs have too.
tmpdir = {data}/tmp
bind-address = {address}
port = 3306
skip-name-resolve
default-storage-engine = InnoDB
innodb_autoinc_lock_mode = 2
binlog_format = ROW
# SAFETY 3.2: what is acknowledged is on the disc of each node.
innodb_flush_log_at_trx_commit = 1
innodb_doublewrite = ON
# Small, and nothing that is not needed.
innodb_buffer_pool_size = 32M
innodb_log_file_size = 16M
innodb_temp_data_file_path = ibtmp1:4M:autoextend
performance_schema = OFF
key_buffer_size = 1M
aria_pagecache_buffer_size = 1M
max_connections = 340
table_open_cache = 400
thread_cache_size = 8
wsrep_on = ON
wsrep_provider = {provider}
wsrep_cluster_name = chaos
wsrep_cluster_address = gcomm://{members}
wsrep_node_address = {address}
wsrep_node_name = {name}
wsrep_sst_method = rsync
wsrep_slave_threads = 2
# A silent member is out after five seconds; Galera's own fifteen would only make the scenarios longer.
wsrep_provider_options = "gcache.size=16M;gcache.page_size=8M;evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT3S;evs.inactive_timeout=PT5S;evs.install_timeout=PT5S;evs.inactive_check_period=PT0.5S"
"""


def _copy(what, into):
    """With owners."""
    subprocess.run(["cp", "-a", what, into], check=True)


class Node:
    """One server on its machine."""

    def __init__(self, cluster, number, machine):
        self.cluster, self.number, self.machine = cluster, number, machine
        self.name = machine.name
        self.data = machine.folder / "disc"
        self.disk = Disk(self.data, DISK_MIB, OWNER)
        self.base = self.data / "base"
        for folder in (self.base, self.data / "tmp"):
            folder.mkdir()
            shutil.chown(folder, OWNER, OWNER)
        self.socket = self.data / "socket"
        self.config = machine.folder / "my.cnf"
        self.process = None

    def configure(self, members, provider):
        self.config.write_text(
            CONFIG.format(data=self.data, address=self.machine.address, name=self.name, members=",".join(members), provider=provider)
        )

    def _command(self, *more):
        return ["mariadbd", f"--defaults-file={self.config}", *more]

    def install(self):
        """Makes an empty database, once in a cluster's life."""
        self.machine.run(
            ["mariadb-install-db", f"--defaults-file={self.config}", "--auth-root-authentication-method=normal",
             "--skip-test-db", "--wsrep-on=OFF"],
            user=OWNER,
        )

    def start(self, first=False):
        self.process = self.machine.start("mariadbd", self._command(*(["--wsrep-new-cluster"] if first else [])), user=OWNER)

    def ask(self, sql, seconds=10):
        """Runs SQL as root over the socket; lines of columns. Raises `Fault` when it does not answer."""
        command = ["mariadb", "-N", "-B", "-u", "root", f"--socket={self.socket}", "--connect-timeout=3", "-e", sql]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Fault(f"{self.name} does not answer within {seconds} s") from None
        if done.returncode:
            raise Fault(f"{self.name}: {done.stderr.strip()}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def status(self):
        """wsrep's view: state, component, size; empty when it does not answer."""
        names = "'wsrep_local_state_comment', 'wsrep_cluster_status', 'wsrep_cluster_size', 'wsrep_ready', 'wsrep_last_committed', 'wsrep_cluster_state_uuid'"
        try:
            return dict(self.ask(f"SHOW STATUS WHERE Variable_name IN ({names})", 4))
        except (Fault, ValueError):
            return {}

    def synced(self, size=None):
        seen = self.status()
        well = seen.get("wsrep_local_state_comment") == "Synced" and seen.get("wsrep_ready") == "ON"
        return seen if well and seen.get("wsrep_cluster_status") == "Primary" and (not size or seen.get("wsrep_cluster_size") == str(size)) else None

    def wait(self, size=None, seconds=90):
        def look():
            if not self.process.lives():
                raise Fault(f"{self.name} ended with {self.process.process.returncode}:\n{self.process.tail()}")
            return self.synced(size)

        return until(f"{self.name} is synced{f' in a cluster of {size}' if size else ''}", look, seconds, 0.2)

    def kill(self):
        self.process.kill()

    def freeze(self):
        self.process.freeze()

    def thaw(self):
        self.process.thaw()

    def stop(self):
        return self.process.stop(60)

    def position(self):
        """What a node that does not run has: (cluster, sequence number), as its InnoDB recovers it."""
        state = self.base / "grastate.dat"
        text = state.read_text() if state.exists() else ""
        found = re.search(r"^uuid:\s*(\S+)", text, re.M), re.search(r"^seqno:\s*(-?\d+)", text, re.M)
        if all(found) and int(found[1][1]) >= 0:
            return found[0][1], int(found[1][1])
        log = self.data / "recover.log"
        log.unlink(missing_ok=True)
        self.machine.run(self._command("--wsrep-recover", f"--log-error={log}"), user=OWNER, check=False)
        recovered = re.findall(r"Recovered position: ([0-9a-f-]+):(-?\d+)", log.read_text(errors="replace"))
        if not recovered:
            return "", -1
        return recovered[-1][0], int(recovered[-1][1])

    def begin_from_here(self):
        """Marks it as the one that may begin the cluster anew."""
        state = self.base / "grastate.dat"
        state.write_text(re.sub(r"safe_to_bootstrap: \d", "safe_to_bootstrap: 1", state.read_text()))
        (self.base / "gvwstate.dat").unlink(missing_ok=True)


class Galera:
    """The cluster."""

    kind, used = "galera", False

    def __init__(self, net, nodes=NODES):
        for program in ("mariadbd", "mariadb", "mariadb-install-db", "rsync"):
            if not shutil.which(program):
                raise Absent(f"{program} (mariadb-server, rsync)")
        provider = next((path for path in PROVIDERS if pathlib.Path(path).exists()), None)
        if provider is None:
            raise Absent("libgalera_smm.so (galera-4)")
        self.net = net
        self.nodes = [Node(self, at, net.machine(f"db{at}", f"1.{at}")) for at in range(1, nodes + 1)]
        for node in self.nodes:
            node.configure([other.machine.address for other in self.nodes], provider)
        self.figures, self._turn = {}, 0
        began = time.monotonic()
        first = self.nodes[0]
        first.install()
        self.figures["install"] = time.monotonic() - began
        first.start(first=True)
        first.wait(1)
        self.figures["first"] = time.monotonic() - began
        first.ask(f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON `halberd%`.* TO {USER}@'%'")
        # One after another: a donor gives to one at a time.
        for node in self.nodes[1:]:
            node.start()
            node.wait()
        for node in self.nodes:
            node.wait(nodes)
        self.databases = []
        self.fresh()
        self.figures["up"] = time.monotonic() - began

    def fresh(self, more=0):
        """An empty database (and `more` of them) on a cluster that is whole again, for the scenario that comes."""
        began = time.monotonic()
        self._mend()
        first = self.nodes[0]
        for name in self.databases:
            first.ask(f"DROP DATABASE {name}", 60)
        self._turn += 1
        self.databases = [f"halberd{self._turn}", *(f"halberd{self._turn}_{at}" for at in range(more))]
        for name in self.databases:
            first.ask(f"CREATE DATABASE {name} CHARACTER SET utf8mb4", 60)
        self.figures["up"] = time.monotonic() - began

    def _mend(self):
        """Whatever befell it: all nodes live, are synced, and see each other."""
        self.net.heal()
        for node in self.nodes:
            node.disk.free()
            if node.process.frozen:
                node.thaw()
        if not any(node.process.lives() and node.synced() for node in self.nodes):
            self.restart_all()
        for node in self.nodes:
            if not node.process.lives():
                node.start()
            node.wait()
            node.ask("SET GLOBAL wsrep_desync = OFF", 30)
        for node in self.nodes:
            node.wait(len(self.nodes))

    def machines(self):
        return [node.machine for node in self.nodes]

    def url(self, at, which=0):
        """For the engine at this position: each has a node of its own, so that all write everywhere. `which` of the databases."""
        node = self.nodes[at % len(self.nodes)]
        return f"mysql://{USER}:{PASSWORD}@{node.machine.address}:3306/{self.databases[which]}"

    def reader(self, which=0):
        return reader.mysql([node.socket for node in self.nodes], self.databases[which])

    def empty(self):
        """The first database, as if it had just been made."""
        name = self.databases[0]
        self.nodes[0].ask(f"DROP DATABASE {name}; CREATE DATABASE {name} CHARACTER SET utf8mb4", 60)

    def alter(self, statements):
        """SQL of an operator, in the scenario's database."""
        self.nodes[0].ask(f"USE {self.databases[0]}; " + "; ".join(statements), 60)

    def memory(self):
        return sum(node.process.memory() for node in self.nodes if node.process and node.process.lives())

    def partition(self, minority):
        """These nodes, by position, are apart from the others."""
        there = [self.nodes[at].machine for at in minority]
        self.net.part(there, [machine for machine in self.machines() if machine not in there])

    def restart_all(self):
        """After all are dead: begins from the most advanced, and returns its position and what each had."""
        for node in self.nodes:
            if node.process.lives():
                node.kill()
        positions = [node.position() for node in self.nodes]
        clusters = {cluster for cluster, at in positions if at >= 0}
        if len(clusters) != 1:
            raise Fault(f"the nodes are of different clusters: {positions}")
        best = max(range(len(self.nodes)), key=lambda at: positions[at][1])
        self.nodes[best].begin_from_here()
        self.nodes[best].start(first=True)
        self.nodes[best].wait(1)
        for at, node in enumerate(self.nodes):
            if at != best:
                node.start()
                node.wait()
        for node in self.nodes:
            node.wait(len(self.nodes))
        return best, positions

    def image(self):
        """What would be on each disc if the power went now; for `restore`. Nobody is stopped for longer than the copy takes."""
        for node in self.nodes:
            node.freeze()
        try:
            for node in self.nodes:
                into = STATE / f"image-{node.name}"
                shutil.rmtree(into, ignore_errors=True)
                _copy(node.base, into)
        finally:
            for node in self.nodes:
                node.thaw()

    def rewind(self):
        """The power went, and the discs had lied: all nodes come back with what `image` saw."""
        for node in self.nodes:
            if node.process.lives():
                node.kill()
        for node in self.nodes:
            shutil.rmtree(node.base)
            _copy(STATE / f"image-{node.name}", node.base)
        return self.restart_all()

    def stop(self):
        for node in self.nodes:
            if node.process and node.process.lives():
                node.kill()
