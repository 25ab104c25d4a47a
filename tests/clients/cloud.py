"""A simulated cloud with `halberd serve` in it, for clients that are no Rust. Standard library only, so that it runs in every environment.

Everything listens on loopback ports of its own and lies in a directory of its own. Whatever is started here dies with the process
that started it, however that ends: the kernel sees to it (prctl(2), PR_SET_PDEATHSIG).
"""

import ctypes
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def dies_with_us():
    """For a child, before exec: the kernel ends it when we end."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def until(what, look, seconds=60.0, pause=0.05):
    """Looks until there is something to see, and returns it. `what` is said when it does not come."""
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"not seen within {seconds:.0f} s: {what}; last: {seen!r}")
        time.sleep(pause)


def program(variable, name):
    """A built program: named by the environment, or in cargo's target directory."""
    given = os.environ.get(variable)
    if given:
        return given
    target = os.environ.get("CARGO_TARGET_DIR", str(HERE.parent.parent / "target"))
    return str(pathlib.Path(target) / "debug" / name)


class Child:
    """A program with its log; ended by `stop`, or with us."""

    def __init__(self, name, command, directory, env=None, **options):
        self.name = name
        self.log = pathlib.Path(directory) / f"{name}.log"
        self._file = open(self.log, "ab")
        self.process = subprocess.Popen(
            [str(word) for word in command],
            env=env,
            stderr=self._file,
            preexec_fn=dies_with_us,
            **{"stdin": subprocess.DEVNULL, "stdout": self._file, **options},
        )

    def lives(self):
        return self.process.poll() is None

    def text(self):
        return self.log.read_text(errors="replace")

    def stop(self):
        for end in (self.process.terminate, self.process.kill):
            if not self.lives():
                break
            end()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                pass
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        self._file.close()


class Simulator:
    """The simulated cloud: Keystone, Nova, Placement, BMCs. `info` is what it says about itself; calling it gives it a command."""

    def __init__(self, directory, **options):
        command = [program("HALBERD_SIM", "halberd-sim")]
        for name, value in options.items():
            command.append(f"--{name.replace('_', '-')}={value}")
        self.child = Child("sim", command, directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._lock = threading.Lock()
        self.info = self._line()

    def _line(self):
        line = self.child.process.stdout.readline()
        if not line:
            raise AssertionError(f"the simulated cloud ended: {self.child.text()}")
        return json.loads(line)

    def __call__(self, *words):
        with self._lock:
            self.child.process.stdin.write((" ".join(words) + "\n").encode())
            self.child.process.stdin.flush()
            answer = self._line()
        if not answer.pop("ok"):
            raise AssertionError(f"{words}: {answer}")
        return answer

    def guests_of(self, host):
        return [guest for guest in self("guests")["guests"] if guest["host"] == host]


# Short where the original's users would wait, and Nova's own interval with them: `nova_report_interval_ms` must be what Nova does.
REPORT_INTERVAL_MS = 1000
POLICY = {"nova_report_interval_ms": REPORT_INTERVAL_MS, "agentless_return_ms": 2000}


class Cloud:
    """Simulator, service, and the catalog entry that leads to it."""

    def __init__(self, api=None, policy=None, **sim):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="halberd-clients-"))
        self.children = []
        try:
            self._start(api or {}, {**POLICY, **(policy or {})}, sim)
        except BaseException:
            self.stop()
            raise

    def _start(self, api, policy, sim):
        self.sim = Simulator(self.directory, report_interval_ms=REPORT_INTERVAL_MS, **sim)
        self.children.append(self.sim.child)
        info = self.sim.info
        login = info["users"]["halberd"]
        sections = {
            "database": {"url": f"sqlite:{self.directory}/halberd.db"},
            "api": {"listen": "127.0.0.1:0", "auth": "keystone", "www_authenticate_uri": info["auth_url"], **api},
            "openstack": {
                "auth_url": info["auth_url"],
                "username": "halberd",
                "password": login["password"],
                "project_name": login["project_name"],
                "user_domain_name": info["domain_name"],
                "project_domain_name": info["domain_name"],
                "region": info["region"],
            },
            "engine": {"name": "clients", "probe_ports": [info["user_land_port"]]},
            "policy": policy,
        }
        # JSON's strings, numbers, booleans and lists are TOML's.
        lines = []
        for section, keys in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        config = self.directory / "halberd.toml"
        config.write_text("\n".join(lines) + "\n")
        env = {key: value for key, value in os.environ.items() if not key.startswith(("HALBERD__", "OS_"))}
        command = [program("HALBERD", "halberd"), "serve", "--config", config, "--log-format", "json"]
        self.service = Child("halberd", command, self.directory, env=env)
        self.children.append(self.service)
        self.url = until("the service says where it listens", self._listening, 60)
        self.sim("register", "instance-ha", "masakari", self.url)

    def _listening(self):
        if not self.service.lives():
            raise AssertionError(f"the service ended: {self.service.text()}")
        for line in self.service.text().splitlines():
            if '"the API listens"' in line:
                return json.loads(line)["fields"]["url"]
        return None

    def login(self, user="admin"):
        """What a client's environment says to log in, as in an operator's openrc."""
        info, account = self.sim.info, self.sim.info["users"][user]
        return {
            "OS_AUTH_URL": info["auth_url"],
            "OS_USERNAME": user,
            "OS_PASSWORD": account["password"],
            "OS_PROJECT_NAME": account["project_name"],
            "OS_USER_DOMAIN_NAME": info["domain_name"],
            "OS_PROJECT_DOMAIN_NAME": info["domain_name"],
            "OS_IDENTITY_API_VERSION": "3",
        }

    def token(self, user="admin"):
        info, account = self.sim.info, self.sim.info["users"][user]
        domain = {"name": info["domain_name"]}
        body = {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {"user": {"name": user, "password": account["password"], "domain": domain}},
                },
                "scope": {"project": {"name": account["project_name"], "domain": domain}},
            }
        }
        request = urllib.request.Request(info["auth_url"] + "/auth/tokens", json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request) as answer:
            return answer.headers["X-Subject-Token"]

    def call(self, method, path, body=None, headers=None, user="admin"):
        """Our API without any client: status, headers and parsed body."""
        headers = {"X-Auth-Token": self.token(user), **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **headers}, method=method)
        try:
            with urllib.request.urlopen(request) as answer:
                status, headers, text = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, headers, text = error.code, error.headers, error.read()
        try:
            return status, headers, json.loads(text or b"null")
        except ValueError:
            return status, headers, text.decode(errors="replace")

    def make_segment(self, name, hosts, method="auto", **attributes):
        """A segment with hosts and their fence devices, as an operator enters them. Ids of the segment and, by name, of the hosts."""
        body = {"segment": {"name": name, "recovery_method": method, "service_type": "COMPUTE"}}
        status, _, made = self.call("POST", "/v1/segments", body)
        assert status == 201, made
        segment = made["segment"]["uuid"]
        ids = {}
        for host in hosts:
            body = {"host": {"name": host, "type": "COMPUTE", "control_attributes": "SSH", **attributes}}
            status, _, made = self.call("POST", f"/v1/segments/{segment}/hosts", body)
            assert status == 201, made
            ids[host] = made["host"]["uuid"]
            self.give_fence_device(host, ids[host])
        return segment, ids

    def give_fence_device(self, host, uuid):
        known = next(known for known in self.sim.info["hosts"] if known["name"] == host)
        attributes = {"rack": known["rack"], "serial": known["serial"], "machine": known["uuid"]}
        status, _, answer = self.call("PUT", f"/halberd/v1/hosts/{uuid}/attributes", attributes)
        assert status == 200, answer
        devices = {"levels": [{"devices": [known["bmc"]]}]}
        status, _, answer = self.call("PUT", f"/halberd/v1/hosts/{uuid}/fence-devices", devices)
        assert status == 200, answer

    def notifications(self, **query):
        text = "&".join(f"{key}={value}" for key, value in query.items())
        status, _, answer = self.call("GET", f"/v1/notifications?{text}")
        assert status == 200, answer
        return answer["notifications"]

    def stop(self):
        for child in reversed(self.children):
            child.stop()
        keep = os.environ.get("HALBERD_CLIENTS_KEEP")
        if keep:
            target = pathlib.Path(keep) / self.directory.name
            shutil.copytree(self.directory, target, dirs_exist_ok=True)
        shutil.rmtree(self.directory, ignore_errors=True)
