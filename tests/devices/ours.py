"""Our own simulated cloud, `halberd-sim`, as a set of machines: the same questions as of the simulators of others (`simulators.py`)."""

import json
import os
import subprocess
import threading

from simulators import until

HALBERD_SIM = os.environ["HALBERD_SIM"]


class Cloud:
    """The program; ends when its input closes, so with us. Commands may come from several threads."""

    def __init__(self, hosts, *options):
        pipe = subprocess.PIPE
        command = [HALBERD_SIM, f"--hosts={hosts}", "--guests=0", "--boot-ms=200", *options]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.lock = threading.Lock()
        self.hosts = json.loads(self.process.stdout.readline())["hosts"]

    def __call__(self, *words):
        with self.lock:
            self.process.stdin.write(" ".join(words) + "\n")
            self.process.stdin.flush()
            answer = json.loads(self.process.stdout.readline())
        assert answer.pop("ok"), (words, answer)
        return answer

    def seen(self, host):
        return next(row for row in self("hosts")["hosts"] if row["name"] == host)

    def power(self):
        return {host["name"]: host["power"] for host in self("hosts")["hosts"]}

    def of(self, kind):
        return next(host for host in self.hosts if host["bmc"]["type"] == kind)

    def stop(self):
        if not self.process.stdout.closed:
            self.process.stdin.close()
            self.process.wait(30)
            self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Ours:
    """The hosts of a cloud whose BMCs speak one protocol. The first of them is nobody's lane: it is the machine behind a wrong cable."""

    def __init__(self, cloud, protocol):
        self.cloud = cloud
        kind = f"sim-{protocol}"
        self.kinds = (kind,)
        mine = [host for host in cloud.hosts if host["bmc"]["type"] == protocol]
        self.other, *mine = mine
        self.known = {host["name"]: host for host in mine}
        self.hosts = list(self.known)
        self.bmcs = {f"{name}-{kind}": host for name, host in self.known.items()}

    def stop(self):
        self.cloud.stop()

    def host_of(self, bmc):
        return self.bmcs[bmc]["name"]

    def ctl(self, verb, target, *words):
        if verb == "fault":
            return self.fault(self.host_of(target), *words)
        if verb == "clear":
            return self.heal(self.host_of(target))
        if verb in ("hang", "stop", "start"):
            word = {"hang": "hang", "stop": "dead", "start": "healed"}[verb]
            return self.cloud("bmc", self.host_of(target), word)
        if verb == "power-loss":
            return self.cloud("supply-lost", target)
        if verb == "power-back":
            self.cloud("supply-back", target)
            return self.cloud("power", target, "on")
        return self.cloud(verb, target, *words)

    def fault(self, host, name, *words):
        if name == "restore-policy":
            return self.cloud("restore-policy", host, *words)
        words = [self.other["name"] if word == "OTHER" else word for word in words]
        return self.cloud("bmc", host, name, *words)

    def heal(self, host):
        self.cloud("bmc", host, "healed")

    def truth(self, host):
        return "on" if self.cloud.power()[host] == "on" else "off"

    def policy(self, host):
        return self.cloud.seen(host)["restore_policy"]

    def mark(self):
        return {name: self.cloud("orders", name)["orders"] for name in self.hosts}

    def orders(self, mark, bmcs):
        return sum(self.cloud("orders", self.host_of(bmc))["orders"] - mark[self.host_of(bmc)] for bmc in bmcs)

    def requests_after_order(self, mark, bmc):
        return self.orders(mark, [bmc])

    def pending(self, _host):
        return False

    def strays(self):
        orders = self.cloud("orders", self.other["name"])["orders"]
        on = self.cloud.power()[self.other["name"]] == "on"
        return [] if on and not orders else [f"{self.other['name']}: {orders} orders, {'on' if on else 'OFF'}"]

    def uuid_of(self, bmc):
        return self.bmcs[bmc]["uuid"]

    def serial_of(self, bmc):
        return self.bmcs[bmc]["serial"]

    def device(self, bmc, /, **changes):
        device = {**self.bmcs[bmc]["bmc"], **changes}
        return {key: value for key, value in device.items() if value is not None}

    def secrets(self, bmc):
        return [self.bmcs[bmc]["bmc"]["password"]]

    def enroll(self, host, maintenance):
        self.cloud("ironic", "enroll", host)
        if maintenance:
            self.cloud("ironic", "maintenance", host, "on")

    def withdraw(self, host):
        self.cloud("ironic", "withdraw", host)

    def sync(self, host):
        """The bare-metal service looks after this node, and its order lands."""
        self.cloud("ironic", "sync", host)
        node = next(node for node in self.cloud("ironic", "nodes")["nodes"] if node["host"] == host)
        if not node["maintenance"]:
            until("the power sync has landed", lambda: self.truth(host) == ("on" if node["power"] else "off"), 10)

    def cut_supply(self, host):
        self.cloud("supply-lost", host)
        self.cloud("supply-back", host)

    def restore(self, host, _bmcs):
        self.heal(host)
        self.cloud("restore-policy", host, "last-state")
        # Boots, or goes, by itself if an order of the last act is still to land.
        self.cloud("supply-back", host)
        self.cloud("power", host, "on")
        until(f"{host} runs", lambda: self.cloud.seen(host)["state"] == "running" and self.truth(host) == "on")
