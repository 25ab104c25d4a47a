"""The simulated cloud (`halberd-sim`: Keystone, Nova, Placement, BMCs) on a machine of its own, and what is true in it.

`recorder.py` stands before it. Beside the calls that it writes down, the truth is looked at many times a second: where Nova places each guest,
where it really runs, which hosts have power. That a guest ran twice is besides counted by the simulated cloud itself, at every instant.
"""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import reader
from machines import HERE, STATE, Fault, until

LOOKS_PER_SECOND = 20
# nova-compute's interval; short, as Nova's own ten seconds would only make everything slower.
REPORT_INTERVAL_MS = 1000


class Truth:
    """What was seen, and when it changed."""

    def __init__(self):
        self.guests, self.hosts = [], []

    def add(self, at, guests, hosts):
        where = {guest["id"]: (guest["host"], tuple(guest["running_on"])) for guest in guests}
        if not self.guests or self.guests[-1][1] != where:
            self.guests.append((at, where))
        power = {host["name"]: (host["power"], host["state"], host["boots"]) for host in hosts}
        if not self.hosts or self.hosts[-1][1] != power:
            self.hosts.append((at, power))


class Cloud:
    """The simulated cloud; calling it gives it a command."""

    def __init__(self, net, witness=None, hosts=6, guests=3, at=0, watched=True, **options):
        self.machine = net.machine(f"cloud{at or ''}", f"0.{10 + at}")
        options = {"hosts": hosts, "guests": guests, "report_interval_ms": REPORT_INTERVAL_MS, "service_down_ms": 6000,
                   "rebuild_ms": 1000, "boot_ms": 1000, **options}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self.sim = self.machine.start("sim", [os.environ["HALBERD_SIM"], *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._lock, self._tokens = threading.Lock(), {}
        self.info = self._line()
        self.address = self.machine.address
        self.history = self.machine.folder / "history.jsonl"
        self.history.touch()
        self._record(witness)
        self.truth, self._stop, self._watcher = Truth(), threading.Event(), None
        if watched:
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()

    def _line(self):
        line = self.sim.process.stdout.readline()
        if not line:
            raise Fault(f"the simulated cloud ended: {self.sim.text()}")
        return json.loads(line)

    def __call__(self, *words):
        with self._lock:
            self.sim.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
            self.sim.process.stdin.flush()
            answer = self._line()
        if not answer.pop("ok"):
            raise Fault(f"{words}: {answer}")
        return answer

    def _record(self, witness):
        doors = [{"port": urllib.parse.urlsplit(self.info["auth_url"]).port, "kind": "openstack"}]
        for host in self.info["hosts"]:
            bmc = host["bmc"]
            kind, address = bmc["type"], bmc["address"]
            port = urllib.parse.urlsplit(address if "//" in address else f"//{address}").port
            doors.append({"port": port, "kind": kind, "host": host["name"]})
        spec = self.machine.folder / "recorder.json"
        spec.write_text(json.dumps({"address": self.address, "doors": doors, "history": str(self.history), "witness": str(witness or "")}))
        self.recorder = self.machine.start("recorder", [sys.executable, HERE / "recorder.py", spec])
        until("the recorder is ready", lambda: "ready" in self.recorder.text(), 20)

    def _watch(self):
        while not self._stop.wait(1 / LOOKS_PER_SECOND):
            try:
                self.truth.add(time.monotonic(), self("guests")["guests"], self("hosts")["hosts"])
            except (Fault, OSError, ValueError):
                return

    def outside(self, text):
        """An address of the simulated cloud, as other machines reach it."""
        return text.replace("127.0.0.1", self.address)

    @property
    def auth_url(self):
        return self.outside(self.info["auth_url"])

    def guests_of(self, host):
        return [guest for guest in self("guests")["guests"] if guest["host"] == host]

    def hosts(self, kind=None):
        """Names, of those whose BMC speaks this if one is asked for."""
        return [host["name"] for host in self.info["hosts"] if kind in (None, host["bmc"]["type"])]

    def device(self, name):
        known = next(host for host in self.info["hosts"] if host["name"] == name)
        return known, {**known["bmc"], "address": self.outside(known["bmc"]["address"])}

    def login(self, user="admin"):
        """As it stands in clouds.yaml."""
        account, domain = self.info["users"][user], self.info["domain_name"]
        auth = {"auth_url": self.auth_url, "username": user, "password": account["password"], "project_name": account["project_name"],
                "user_domain_name": domain, "project_domain_name": domain}
        return {"auth": auth, "region_name": self.info["region"]}

    def token(self, user="admin"):
        """Kept for a while: Keystone is not what is tried here."""
        token, until_then = self._tokens.get(user, ("", 0.0))
        if time.monotonic() > until_then:
            token = self._login(user)
            self._tokens[user] = token, time.monotonic() + 600
        return token

    def _login(self, user):
        account, domain = self.info["users"][user], {"name": self.info["domain_name"]}
        body = {"auth": {
            "identity": {"methods": ["password"], "password": {"user": {"name": user, "password": account["password"], "domain": domain}}},
            "scope": {"project": {"name": account["project_name"], "domain": domain}},
        }}
        request = urllib.request.Request(self.auth_url + "/auth/tokens", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            catalog = json.load(answer)["token"].get("catalog", ())
            self._compute = next((end["url"] for entry in catalog if entry["type"] == "compute" for end in entry["endpoints"] if end["interface"] == "public"), None)
            return answer.headers["X-Subject-Token"]

    def nova(self, path, body=None):
        """What Nova itself says; with a body, to what a person asks of it."""
        token = self.token()
        headers = {"X-Auth-Token": token, "OpenStack-API-Version": "compute 2.79", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(self._compute + path, data, headers), timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def evacuation_records(self):
        """Nova's records of evacuations, oldest first."""
        rows = self.nova("/os-migrations?migration_type=evacuation")["migrations"]
        return [{"id": row["id"], "guest": row["instance_uuid"], "source": row["source_compute"], "dest": row["dest_compute"], "status": row["status"]}
                for row in sorted(rows, key=lambda row: row["id"])]

    def building(self):
        """Evacuations that have not ended: those whose destination Nova has named, and how many others."""
        records = [row for row in self.evacuation_records() if row["status"] in ("accepted", "pre-migrating")]
        return [row for row in records if row["dest"]], sum(1 for row in records if not row["dest"])

    def down(self, hosts):
        """Whether Nova has noticed that these are dead: until then it sends guests there."""
        rows = {row["host"]: row["state"] for row in self.nova("/os-services?binary=nova-compute")["services"]}
        return all(rows[host] == "down" for host in hosts)

    def calls(self):
        """The recorder's history: deeds in the order of their arrival, each with its answer if there was one."""
        deeds = {}
        for line in self.history.read_text().splitlines():
            entry = json.loads(line)
            if "arrived" in entry:
                deeds[entry["arrived"]["n"]] = entry["arrived"]
            else:
                said = entry["answered"]
                deeds[said["n"]].update(status=said["status"], answered=said["at"], text=said["text"])
        return sorted(deeds.values(), key=lambda deed: deed["n"])

    def accepted(self, deed="evacuate"):
        """How many calls of a kind were accepted so far."""
        return sum(1 for call in self.calls() if call["deed"] == deed and 200 <= call.get("status", 0) < 300)

    def stop(self):
        self._stop.set()
        if self._watcher:
            self._watcher.join()


class Witness:
    """Answers the recorder what intents stand in the database when a deed comes."""

    def __init__(self, source, name="witness"):
        self.path = STATE / name
        self.path.unlink(missing_ok=True)
        self._source = source
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(self.path))
        self._door.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                line, _ = self._door.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(line,), daemon=True).start()

    def _answer(self, line):
        with line:
            try:
                deed = json.loads(line.makefile().readline())
                found = {"intents": reader.open_intents(self._source, deed["effects"], deed.get("guest"), deed.get("host"))} if deed["effects"] else {"intents": []}
            except (reader.Blind, ValueError, OSError) as error:
                found = {"blind": str(error)}
            try:
                line.sendall(json.dumps(found).encode() + b"\n")
            except OSError:
                pass

    def close(self):
        self._door.close()
        self._source.close()
