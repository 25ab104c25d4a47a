"""Others' fencing programs, unmodified, against the BMCs of our simulated cloud: so those are honest, and not only agreeable to our client.

What really became of a host is asked of the simulated world (command `hosts`), not of its BMC.
"""

import subprocess

from fronts import Certificates, Front
from ours import Cloud
from simulators import until


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
    port = Front(Certificates(work / "peers-tls"), "late", redfish["bmc"]["address"]).port
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
