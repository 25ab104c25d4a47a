"""Halberd as its users have it: `halberd serve` on each of three machines, or API and engine apart."""

import json
import os
import pathlib
import time
import urllib.error
import urllib.request

from cloud import REPORT_INTERVAL_MS
from machines import Absent, Clock, Disk, Fault, until

PORT = 15868
# Fast, so that a takeover is waited for six seconds; and nothing of a scenario's failures is one too many for a day.
POLICY = {
    "profile": "fast",
    "nova_report_interval_ms": REPORT_INTERVAL_MS,
    "agentless_return_ms": 2000,
    "fence_every_ms": 200,
    "fence_burst": 10,
    "fence_daily_hosts": 1000,
    "domain_hold_hosts": 100,
    "fleet_hold_hosts": 100,
}


class Engine:
    """One `halberd` process on its machine."""

    def __init__(self, site, at, name=None, url=None, machine=None, policy=None, clock=True, role="serve", disk_mib=64, program=None, **engine):
        self.site, self.name, self.role = site, name or f"engine{at + 1}", role
        self.machine = machine or site.net.machine(f"engine{at + 1}", f"2.{at + 1}")
        self.disk = Disk(self.machine.folder / f"{self.name}-{at}", disk_mib)
        self.clock = Clock(f"{self.name}-{at}") if clock else None
        self.address = f"http://{self.machine.address}:{PORT}"
        self.process, self.program = None, program or os.environ["HALBERD"]
        self.config = self.machine.folder / f"{self.name}-{at}.toml"
        cloud, login = site.cloud, site.cloud.info["users"]["halberd"]
        sections = {
            "database": {"url": url or f"sqlite:{self.disk.path}/halberd.db"},
            "api": {"listen": f"{self.machine.address}:{PORT}", "auth": "keystone", "www_authenticate_uri": cloud.auth_url},
            "openstack": {
                "auth_url": cloud.auth_url,
                "username": "halberd",
                "password": login["password"],
                "project_name": login["project_name"],
                "user_domain_name": cloud.info["domain_name"],
                "project_domain_name": cloud.info["domain_name"],
                "region": cloud.info["region"],
            },
            "engine": {"name": self.name, "probe_ports": [], "secrets_key_file": str(site.key), "service_poll_ms": 1000, **engine},
            "policy": {**POLICY, **(policy or {})},
        }
        # JSON's strings, numbers, booleans and lists are TOML's.
        lines = []
        for section, keys in sections.items():
            lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
        self.config.write_text("\n".join(lines) + "\n")
        self.config.chmod(0o600)

    def command(self, *words):
        # What is not to be inherited is taken away and not emptied.
        drop = [word for name in os.environ if name.startswith(("HALBERD__", "OS_")) for word in ("-u", name)]
        return ["env", *drop, self.program, *words]

    def start(self, wait=True, program=None, prefix=()):
        self.program = program or self.program
        command = self.command(self.role, "--config", self.config, "--log-format", "json")
        name = f"{self.name}-{self.role}"
        self.process = self.machine.start(name, [*prefix, *command], env=self.clock.environment() if self.clock else None, cwd=self.disk.path)
        if wait:
            self.wait()

    def wait(self, seconds=60):
        if self.role == "engine":
            until(f"{self.name} works", lambda: self._lives() and "engine" in self.process.text(), seconds)
        else:
            until(f"{self.name} answers", lambda: self._lives() and self.answers(), seconds)

    def _lives(self):
        if not self.process.lives():
            raise Fault(f"{self.name} ended with {self.process.process.returncode}:\n{self.process.tail()}")
        return True

    def answers(self, seconds=2):
        try:
            with urllib.request.urlopen(self.address + "/healthcheck", timeout=seconds) as answer:
                return answer.status == 200
        except OSError:
            return False

    def ready(self, seconds=20):
        """What it tells a load balancer: whether a report would be taken and acted upon, and why not."""
        try:
            with urllib.request.urlopen(self.address + "/healthcheck?ready", timeout=seconds) as answer:
                return answer.status == 200, ""
        except urllib.error.HTTPError as error:
            return False, error.read().decode(errors="replace")
        except OSError as error:
            return False, str(error)

    def run(self, *words, check=True, program=None, **environment):
        """A verb of the program on this machine, with this configuration."""
        command = [program if word == self.program and program else word for word in self.command(*words, "--config", self.config)]
        return self.machine.run(command, env={"HALBERD_CONFIG": str(self.config), **environment}, check=check)

    def verb(self, *words, check=True):
        """A verb that speaks to an API, on this machine; `clouds.yaml` lies in its folder."""
        return self.machine.run(self.command(*words), check=check)

    def kill(self):
        self.process.kill()

    def freeze(self):
        self.process.freeze()

    def thaw(self):
        """Wakes it. What stood still for half its lease ends itself, and is started again, as systemd does."""
        self.process.thaw()
        end = time.monotonic() + 5
        while self.process.lives() and time.monotonic() < end:
            time.sleep(0.1)
        if not self.process.lives():
            self.start()

    def stop(self):
        return self.process.stop(30)

    def call(self, method, path, body=None, user="admin", seconds=20, token=None):
        """The API: status and parsed body. Raises OSError when it cannot be reached."""
        headers = {"X-Auth-Token": token or self.site.cloud.token(user), "Content-Type": "application/json", "OpenStack-API-Version": "instance-ha 1.3"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        try:
            return status, json.loads(text or b"null")
        except ValueError:
            return status, text.decode(errors="replace")

    def good(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        if not 200 <= status < 300:
            raise Fault(f"{method} {path}: {status} {answer}")
        return answer

    def owner_of(self, recoveries):
        """Whether one of these recoveries is this engine's: `engines.id` of its name."""
        ids = {row["id"] for row in self.site.source.rows(["id", "name"], "engines") if row["name"] == self.name}
        return any(row["owner"] in ids for row in recoveries)


def register(door, cloud):
    """One segment with every host and its BMC, as an operator enters them."""
    body = {"segment": {"name": "s", "recovery_method": "auto", "service_type": "COMPUTE"}}
    segment = door.good("POST", "/v1/segments", body)["segment"]["uuid"]
    for name in cloud.hosts():
        body = {"host": {"name": name, "type": "COMPUTE", "control_attributes": "SSH"}}
        uuid = door.good("POST", f"/v1/segments/{segment}/hosts", body)["host"]["uuid"]
        known, device = cloud.device(name)
        door.good("PUT", f"/halberd/v1/hosts/{uuid}/attributes", {"rack": known["rack"], "serial": known["serial"], "machine": known["uuid"]})
        door.good("PUT", f"/halberd/v1/hosts/{uuid}/fence-devices", {"levels": [{"devices": [device]}]})


def make_key(path):
    path = pathlib.Path(path)
    path.touch(0o600)
    path.write_bytes(os.urandom(32))
    return path


def program_exists():
    for name in ("HALBERD", "HALBERD_SIM"):
        if not os.access(os.environ.get(name, ""), os.X_OK):
            raise Absent(f"{name} names no program")
