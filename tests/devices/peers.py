"""Others' fencing programs, unmodified, against the BMCs of our simulated cloud: so those are honest, and not only agreeable to our client.

What really became of a host is asked of the simulated world (command `hosts`), not of its BMC.
"""

import json
import os
import socket
import ssl
import subprocess
import threading
import urllib.parse

from simulators import until

HALBERD_SIM = os.environ["HALBERD_SIM"]


class Cloud:
    """`halberd-sim`; ends when its input closes, so with us."""

    def __init__(self, hosts):
        pipe = subprocess.PIPE
        command = [HALBERD_SIM, f"--hosts={hosts}", "--guests=0", "--boot-ms=200"]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.hosts = json.loads(self.process.stdout.readline())["hosts"]

    def __call__(self, *words):
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer.pop("ok"), (words, answer)
        return answer

    def power(self):
        return {host["name"]: host["power"] for host in self("hosts")["hosts"]}

    def of(self, kind):
        return next(host for host in self.hosts if host["bmc"]["type"] == kind)

    def stop(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Tls:
    """TLS in front of a plain HTTP service: fence_redfish speaks nothing else, our simulated BMCs speak HTTP."""

    def __init__(self, work, url):
        parts = urllib.parse.urlsplit(url)
        self.behind = parts.hostname, parts.port
        key, certificate = work / "front.key", work / "front.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=front"]
        subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            plain, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(plain,), daemon=True).start()

    def serve(self, plain):
        try:
            with self.context.wrap_socket(plain, server_side=True) as near, socket.create_connection(self.behind) as far:
                back = threading.Thread(target=pump, args=(far, near), daemon=True)
                back.start()
                pump(near, far)
                back.join()
        except OSError:
            pass  # the client hung up: its own affair, and it says so


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def run(command, text=None):
    done = subprocess.run(command, input=text or "", capture_output=True, text=True, timeout=90)
    return done.returncode, (done.stdout + done.stderr).strip()


def ipmitool(bmc, suite):
    host, port = bmc["address"].rsplit(":", 1)
    login = ["-U", bmc["username"], "-P", bmc["password"]]
    head = ["ipmitool", "-I", "lanplus", "-C", str(suite), "-H", host, "-p", port, *login, "-L", "OPERATOR"]
    return lambda verb: run([*head, "power", verb])


def fence_ipmilan(bmc):
    host, port = bmc["address"].rsplit(":", 1)
    words = {"ip": host, "ipport": port, "lanplus": 1, "cipher": 3, "privlvl": "operator", "power_wait": 0}
    return agent("fence_ipmilan", {**words, **account(bmc)})


def fence_redfish(bmc, port):
    words = {"ip": "127.0.0.1", "ipport": port, "systems_uri": "/redfish/v1/Systems/1", "ssl_insecure": 1}
    return agent("fence_redfish", {**words, **account(bmc)})


def account(bmc):
    return {"username": bmc["username"], "password": bmc["password"]}


def agent(program, words):
    """A fence agent over its standard input, as Pacemaker calls it."""

    def call(verb):
        pairs = {**words, "action": verb}
        return run([program], "".join(f"{key}={value}\n" for key, value in pairs.items()))

    return call


def clients(cloud, work):
    """Each program: name, its host, how it is called, how it says on and off, and the same with a wrong password."""
    ipmi, redfish = cloud.of("ipmi"), cloud.of("redfish")
    wrong = {**ipmi["bmc"], "password": "wrong"}, {**redfish["bmc"], "password": "wrong"}
    port = Tls(work, redfish["bmc"]["address"]).port
    said, status = ("is on", "is off"), ("Status: ON", "Status: OFF")
    yield "ipmitool -C 3", ipmi, ipmitool(ipmi["bmc"], 3), said, ipmitool(wrong[0], 3)
    yield "ipmitool -C 17", ipmi, ipmitool(ipmi["bmc"], 17), said, ipmitool(wrong[0], 17)
    yield "fence_ipmilan", ipmi, fence_ipmilan(ipmi["bmc"]), status, fence_ipmilan(wrong[0])
    yield "fence_redfish", redfish, fence_redfish(redfish["bmc"], port), status, fence_redfish(wrong[1], port)


def walk(cloud, host, call, said, wrong):
    """Status, off, status, on, status; the world agrees after each. Says what is not so."""

    def expect(verb, words, power):
        code, text = call(verb)
        if words and words.lower() not in text.lower():
            yield f"{verb} says {text!r} (exit code {code}), wanted {words!r}"
        if not words and code:
            yield f"{verb} ends with {code}: {text!r}"
        # A BMC that says done obeys a little later, ours like real ones.
        try:
            until(f"after {verb} the host is {power}", lambda: cloud.power()[host["name"]] == power, 10, 0.05)
        except AssertionError as late:
            yield str(late)

    yield from expect("status", said[0], "on")
    code, text = wrong("off")
    if code == 0 or cloud.power()[host["name"]] != "on":
        yield f"off with a wrong password ends with {code}: {text!r}"
    yield from expect("off", None, "off")
    yield from expect("status", said[1], "off")
    yield from expect("on", None, "on")
    yield from expect("status", said[0], "on")


def part(work):
    good = True
    with Cloud(2) as cloud:
        for name, host, call, said, wrong in clients(cloud, work):
            until(f"{host['name']} runs", lambda host=host: cloud.power()[host["name"]] == "on")
            faults = list(walk(cloud, host, call, said, wrong))
            print(f"{name:16} {'status, off and on of our simulated BMC' if not faults else '; '.join(faults)}")
            good &= not faults
    return good
