"""What the suites of clients stand on: the simulated cloud and `halberd serve` beside it, as programs of their own on loopback ports of their own.

Whoever starts them ends them: both are closed by `Stage.__exit__`, and die with this process if it is killed.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

PATIENCE_S = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, wanted, patience_s=PATIENCE_S, pause_s=0.1):
    """Asks until the answer is true, and gives it."""
    end = time.monotonic() + patience_s
    while True:
        found = wanted()
        if found:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {patience_s} s")
        time.sleep(pause_s)


def end_on_signals():
    """So that a signal leaves through the `finally`s."""

    def leave(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def start(arguments, log, **options):
    """A program that dies with this one, whatever that dies of."""
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *map(str, arguments)], stderr=open(log, "ab"), **options
    )


def stop(program):
    if program.poll() is None:
        program.terminate()
        try:
            program.wait(20)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


class Cloud:
    """The simulated cloud; `about` is what it says of itself."""

    def __init__(self, work, *options):
        self.program = start(
            [os.environ["HALBERD_SIM"], *options],
            work / "cloud.log",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.program.stdout.readline()
        if not line:
            raise RuntimeError((work / "cloud.log").read_text())
        self.about = json.loads(line)

    def obey(self, command):
        self.program.stdin.write(command + "\n")
        self.program.stdin.flush()
        answer = json.loads(self.program.stdout.readline())
        if not answer.pop("ok"):
            raise RuntimeError(f"{command}: {answer['error']}")
        return answer

    def user(self, name):
        return self.about["users"][name]

    def bmc(self, host):
        return next(it["bmc"] for it in self.about["hosts"] if it["name"] == host)


class Halberd:
    """`halberd serve` with the given auth, on SQLite in `work`, with the cloud's Nova."""

    def __init__(self, work, cloud, auth, more=""):
        self.url = f"http://127.0.0.1:{free_port()}"
        login, about = cloud.user("halberd"), cloud.about
        config = work / "halberd.toml"
        # JSON's strings are TOML's too.
        config.write_text(
            f"""
[database]
url = "sqlite:{work}/halberd.db"
[api]
listen = "{self.url.removeprefix('http://')}"
auth = "{auth}"
[engine]
heartbeat_listen = []
[policy]
profile = "fast"
[openstack]
auth_url = {json.dumps(about["auth_url"])}
username = "halberd"
password = {json.dumps(login["password"])}
project_name = {json.dumps(login["project_name"])}
user_domain_name = {json.dumps(about["domain_name"])}
project_domain_name = {json.dumps(about["domain_name"])}
region = {json.dumps(about["region"])}
{more}"""
        )
        self.log = work / "halberd.log"
        self.program = start(
            [os.environ["HALBERD"], "serve", "--config", config, "--log-format", "text"],
            self.log,
            cwd=work,
            stdin=subprocess.DEVNULL,
            stdout=open(self.log, "ab"),
        )
        until("halberd is ready", self.is_ready)

    def is_ready(self):
        if self.program.poll() is not None:
            raise RuntimeError(f"halberd serve ended with {self.program.returncode}:\n{self.log.read_text()[-3000:]}")
        try:
            return call(f"{self.url}/healthcheck?ready", raw=True) is not None
        except (urllib.error.URLError, ConnectionError):
            return False


def call(url, method="GET", body=None, raw=False, **headers):
    """One request; JSON both ways. Errors as urllib raises them, with the answer's text."""
    data = None if body is None else json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return (answer.headers, text) if raw else json.loads(text or b"null")
    except urllib.error.HTTPError as error:
        error.msg = f"{error.msg}: {error.read()[:500]!r}"
        raise


def token(cloud, user):
    login, domain = cloud.user(user), {"name": cloud.about["domain_name"]}
    auth = {
        "identity": {
            "methods": ["password"],
            "password": {"user": {"name": user, "password": login["password"], "domain": domain}},
        },
        "scope": {"project": {"name": login["project_name"], "domain": domain}},
    }
    return call(f"{cloud.about['auth_url']}/auth/tokens", "POST", {"auth": auth}, raw=True)[0]["X-Subject-Token"]


class Stage:
    """Cloud and service. Use it as a context."""

    def __init__(self, work, auth, *cloud_options, more=""):
        self.work = pathlib.Path(work)
        self.auth, self.cloud_options, self.more = auth, cloud_options, more
        self.cloud = self.halberd = None

    def __enter__(self):
        try:
            self.cloud = Cloud(self.work, *self.cloud_options)
            self.halberd = Halberd(self.work, self.cloud, self.auth, self.more)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for it in (self.halberd, self.cloud):
            if it is not None:
                stop(it.program)
