"""What stands in a database, by plain SQL and without the product: SQLite through Python's library, the servers through their own clients.

A server is asked over its socket file, which no cut network reaches, so that what is committed can be seen while machines are apart. Each
answer is what was committed when the question came.
"""

import json
import queue
import sqlite3
import subprocess
import threading

# Tables and columns that are looked at. Everything else is nobody's business here.
TABLES = {
    "hosts": "id name admission deleted",
    "notifications": "id kind host status message created_at",
    "recoveries": "id kind subject host host_name state reason owner epoch version event_sequence open_key opened_at closed_at",
    "vmoves": "id recovery instance source_host dest_host status stage",
    "intents": "id recovery host vmove effect open_key epoch attempt detail created_at resolved_at result",
    "audit": "chain sequence before_hash at epoch what text detail hash",
    "audit_heads": "chain sequence hash",
    "events": "id recovery sequence epoch kind",
    "engines": "name id counter stopped_at",
}


class Blind(Exception):
    """The database does not answer."""


class Sqlite:
    """A file, and whatever its journal holds."""

    def __init__(self, path):
        self._path = path

    def rows(self, columns, what):
        try:
            with sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=5) as base:
                found = base.execute(f"SELECT {', '.join(columns)} FROM {what}").fetchall()
            base.close()
        except sqlite3.Error as error:
            raise Blind(f"{self._path}: {error}") from error
        return [dict(zip(columns, row)) for row in found]

    def close(self):
        pass


class _Client:
    """A server's own client, kept open: commands in, lines out, up to a mark."""

    def __init__(self, command, seconds):
        self._seconds, self._turn = seconds, 0
        self._process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._lines = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def ask(self, sql):
        self._turn += 1
        mark = f"--- {self._turn}"
        try:
            self._process.stdin.write(f"{sql};\nSELECT '{mark}';\n")
            self._process.stdin.flush()
        except OSError as error:
            raise Blind(str(error)) from error
        found = []
        while True:
            try:
                line = self._lines.get(timeout=self._seconds)
            except queue.Empty:
                raise Blind(f"no answer within {self._seconds} s") from None
            if line is None:
                raise Blind("; ".join(found[-3:]) or "the client ended")
            if line == mark:
                return found
            found.append(line)

    def close(self):
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                pipe.close()
            except OSError:
                pass


class Server:
    """One server or several: the first that answers is asked, beginning with the one that did last."""

    def __init__(self, commands, first, as_json, seconds=2, only=None):
        self._commands, self._first, self._json, self._seconds = commands, first, as_json, seconds
        self._clients, self._last, self._lock = {}, 0, threading.Lock()
        self._only = only

    def rows(self, columns, what):
        with self._lock:
            why = []
            turns = [self._only()] if self._only else sorted(range(len(self._commands)), key=lambda at: at != self._last)
            for at in turns:
                rows = self._ask(at, columns, what, why)
                if rows is not None:
                    self._last = at
                    return rows
        raise Blind("; ".join(why))

    def _ask(self, at, columns, what, why):
        """One server, and once more if the connection was an old one."""
        for old in (True, False):
            if old and at not in self._clients:
                continue
            try:
                if at not in self._clients:
                    self._clients[at] = _Client(self._commands[at], self._seconds)
                    self._clients[at].ask(self._first)
                return [json.loads(line) for line in self._clients[at].ask(f"SELECT {self._json(columns)} FROM {what}")]
            except (Blind, ValueError) as error:
                why.append(str(error))
                self._clients.pop(at).close()
        return None

    def close(self):
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


def alias(column):
    return column.rpartition(".")[2]


def mysql(sockets, database):
    """MariaDB's nodes. A node outside the primary component refuses, and a late one waits until it is not."""
    commands = [["mariadb", "-N", "-B", "-r", "--unbuffered", "-u", "root", f"--socket={socket}", database] for socket in sockets]
    pairs = lambda columns: "JSON_OBJECT(" + ", ".join(f"'{alias(column)}', {column}" for column in columns) + ")"
    return Server(commands, "SET SESSION wsrep_sync_wait = 1", pairs)


def postgres(psql, folders, database, user, primary):
    """PostgreSQL's servers. Asked is the primary, and where an old one still believes to be one, the one that has the address."""
    commands = [
        ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", psql, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
         "-h", folder, "-U", user, "-d", database]
        for folder in folders
    ]
    pairs = lambda columns: "json_build_object(" + ", ".join(f"'{alias(column)}', {column}" for column in columns) + ")"
    # Division by zero ends the client of a standby: it is not asked.
    return Server(commands, "SELECT 1 / (NOT pg_is_in_recovery())::int", pairs, only=primary)


def everything(source):
    """All tables that are looked at."""
    return {table: source.rows(columns.split(), table) for table, columns in TABLES.items()}


def open_intents(source, effects, guest=None, host=None):
    """Committed and unresolved intents of these effects for a guest, or for a host and the guests on it, by Nova's names."""
    words = ", ".join(f"'{word}'" for word in effects)
    columns = ["i.id", "i.recovery", "i.effect", "i.epoch", "i.attempt"]
    if guest:
        joined = "intents i LEFT JOIN vmoves v ON v.id = i.vmove"
        whose = f"(v.instance = '{guest}' OR i.open_key = 'guest:{guest}')"
    else:
        joined = "intents i LEFT JOIN hosts h ON h.id = i.host LEFT JOIN recoveries r ON r.id = i.recovery"
        whose = f"(h.name = '{host}' OR r.host_name = '{host}')"
    rows = source.rows(columns, f"{joined} WHERE {whose} AND i.effect IN ({words}) AND i.resolved_at IS NULL")
    return [{alias(key): value for key, value in row.items()} for row in rows]
