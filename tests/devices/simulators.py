"""The BMC simulators of ../shared/bmc-sim: hosts that really die, BMCs that can be made to lie. Standard library only.

What reached a BMC and what became of the machine is asked of the simulators' own records (`ctl.sh requests`, `ctl.sh truth`), never of the
program under test.
"""

import hashlib
import json
import os
import pathlib
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import uuid

LIBRARY = pathlib.Path(os.environ["BMC_SIM"])
RESET = "/Actions/ComputerSystem.Reset"


def until(what, look, seconds=60.0, pause=0.1):
    """Looks until there is something to see, and returns it. `what` is said when it does not come."""
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"not seen within {seconds:.0f} s: {what}; last: {seen!r}")
        time.sleep(pause)


class Machines:
    """One set of simulated hosts with their BMCs; `stop` ends every process of it."""

    def __init__(self, base, port_base, kinds, hosts, *options):
        self.env = {**os.environ, "BMC_SIM_BASE": str(base)}
        self._requests = pathlib.Path(base) / "run" / "requests.log"
        self.kinds = kinds
        pathlib.Path(base).mkdir(parents=True, exist_ok=True)
        command = ["up.sh", "--hosts", str(hosts), "--kinds", ",".join(kinds), "--port-base", str(port_base), *options]
        self._run(*command, timeout=300)
        self.bmcs = {bmc["bmc"]: bmc for bmc in json.loads(self.ctl("inventory"))}
        self.hosts = [f"h{number + 1}" for number in range(hosts)]

    def _run(self, program, *words, timeout=60):
        command = [str(LIBRARY / program), *map(str, words)]
        done = subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise AssertionError(f"{program} {' '.join(map(str, words))}: {done.stdout}{done.stderr}")
        return done.stdout

    def ctl(self, *words):
        return self._run("ctl.sh", *words)

    def stop(self):
        subprocess.run([str(LIBRARY / "down.sh")], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120)

    def truth(self, host):
        return self.ctl("truth", host).strip()

    def answers(self, bmc):
        """What the BMC itself says of the power, asked by ipmitool or curl; `None` while it says nothing."""
        command = [str(LIBRARY / "ctl.sh"), "ask", bmc]
        done = subprocess.run(command, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        return done.stdout.strip().lower() if done.returncode == 0 else None

    def mark(self):
        """Where the record of requests ends now."""
        return self._requests.stat().st_size

    def requests(self, mark=0):
        """The requests since `mark`: BMC, and the words that follow it in the record."""
        with open(self._requests, encoding="utf-8", errors="replace") as record:
            record.seek(mark)
            lines = [line.split() for line in record]
        return [(words[1], words[2:]) for words in lines if len(words) > 3]

    def orders(self, mark, bmcs):
        """Power commands that reached these BMCs since `mark`. Redfish: POSTs of a reset, refused ones too. The others: what their
        protocol engine handed on (an unmodified sushy-emulator tells of a command when it lands)."""
        return sum(bmc in bmcs and self._is_order(bmc, words) for bmc, words in self.requests(mark))

    def _is_order(self, bmc, words):
        if self.bmcs[bmc]["kind"] == "redfish":
            return words[0] == "http" and words[1] == "POST" and words[2].endswith(RESET)
        return words[1] == "set"

    def requests_after_order(self, mark, bmc):
        """How many requests reached the BMC since its first power command, this one included."""
        seen = [words for name, words in self.requests(mark) if name == bmc]
        first = next((n for n, words in enumerate(seen) if self._is_order(bmc, words)), len(seen))
        return sum(words[0] == "http" or self._is_order(bmc, words) for words in seen[first:])

    def pending(self, host):
        """Whether a slow power change of an earlier act is still to come (power.sh leaves it to a shell that sleeps)."""
        run = str(self._requests.parent)
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if f'"{run}" "{host}" ' in words and "-late" in words:
                    return True
        return False

    def strays(self):
        """Power commands that were meant for somebody else's machine: the second system of each Redfish service."""
        found = []
        for bmc, words in self.requests():
            if bmc not in self.bmcs:
                continue
            wrong_host = words[0].endswith("-decoy") and words[1] == "set"
            known = self.bmcs[bmc].get("systems_uri")
            posted = words[0] == "http" and words[1] == "POST" and words[2].endswith(RESET)
            if wrong_host or (posted and not words[2].startswith(known)):
                found.append((bmc, " ".join(words)))
        return found

    def uuid_of(self, bmc):
        """Who the machine behind this BMC is, by the simulators' own rules (up.sh)."""
        known = self.bmcs[bmc]
        if known["kind"] == "ipmisim":
            return str(uuid.UUID(hashlib.md5(known["host"].encode()).hexdigest()))
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, known["host"]))

    def serial_of(self, _bmc):
        """None of these shows one: what an operator may have on file all the same."""
        return "S1"

    def decoy_system(self, bmc):
        host = self.bmcs[bmc]["host"]
        return f"/redfish/v1/Systems/{uuid.uuid5(uuid.NAMESPACE_DNS, f'{host}-decoy.decoy')}"

    def device(self, bmc, /, **changes):
        """The description that an operator would enter. A key set to `None` is left out."""
        known = self.bmcs[bmc]
        if known["proto"] == "redfish":
            device = {"type": "redfish", "address": known["url"], "system": known["systems_uri"], "tls": {"ca_file": known["ca"]}}
        else:
            device = {"type": "ipmi", "address": f"{known['address']}:{known['port']}"}
        device |= {"username": known["username"], "password": known["password"], **changes}
        return {key: value for key, value in device.items() if value is not None}

    def agent(self, bmc, program, /, **changes):
        """The same BMC behind a program of fence-agents."""
        known = self.bmcs[bmc]
        if known["proto"] == "redfish":
            options = {"systems_uri": known["systems_uri"], "ssl_insecure": "1"}
        else:
            options = {"lanplus": "1", "cipher": "3", "power_wait": "0"}
        options["power_timeout"] = "4"  # of their 20 s: a level has 15
        device = {"type": "agent", "program": program, "address": known["address"], "port": known["port"], "options": options}
        device |= {"username": known["username"], "password": known["password"], **changes}
        return {key: value for key, value in device.items() if value is not None}

    def secrets(self, _bmc):
        """Nothing to look for in answers: the passwords here are words that errors use as well."""
        return []

    def proxied(self, bmc):
        known = self.bmcs[bmc]
        return f"{known['proxy_address']}:{known['proxy_port']}"

    def redfish(self, bmc, method, path, body=None, headers=None):
        """One Redfish request by Python's own client: status, headers, JSON."""
        known = self.bmcs[bmc]
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        request = urllib.request.Request(known["url"] + path, data, headers, method=method)
        context = ssl.create_default_context(cafile=known["ca"])
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as answer:
                return answer.status, answer.headers, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, error.headers, None

    def log_in(self, bmc):
        """A session that nobody closes: its path and its token."""
        body = {"UserName": "admin", "Password": "secret"}
        status, headers, _ = self.redfish(bmc, "POST", "/redfish/v1/SessionService/Sessions", body)
        assert status == 201, status
        return headers["Location"], headers["X-Auth-Token"]

    def log_out(self, bmc, session):
        path, token = session
        self.redfish(bmc, "DELETE", path, headers={"X-Auth-Token": token})

    def session_lives(self, bmc, session):
        path = self.bmcs[bmc]["systems_uri"]
        return self.redfish(bmc, "GET", path, headers={"X-Auth-Token": session[1]})[0] == 200

    def restore(self, host, bmcs):
        """The host on, these BMCs well."""
        for bmc in bmcs:
            self.ctl("clear", bmc)
            self.ctl("start", bmc)
        self.ctl("power", host, "on")
        for bmc in bmcs:
            if self.bmcs[bmc]["kind"] == "sushy":
                self.sushy_on(bmc)
            until(f"{bmc} reads on", lambda bmc=bmc: self.answers(bmc) == "on", 60)

    def sushy_on(self, bmc):
        """The unmodified emulator keeps an idea of the power of its own: let it be On."""
        if until(f"{bmc} answers", lambda: self.answers(bmc)) != "on":
            self.sushy_reset(bmc, "On")

    def sushy_reset(self, bmc, kind):
        login = {"Authorization": "Basic YWRtaW46c2VjcmV0"}
        self.redfish(bmc, "POST", self.bmcs[bmc]["systems_uri"] + RESET, {"ResetType": kind}, login)
