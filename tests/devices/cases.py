"""The table: which simulator, what is wrong with it, what is asked of ours. What must come of a case stands in outcomes.golden, not here.

Here are the simulators of others and their faults; `cases_input.py` has what operators enter wrongly and agents, `cases_ours.py` what only our
own simulated BMCs can do, `cases_nonsense.py` services that answer nonsense.
"""

import cases_input
import cases_nonsense
import cases_ours
from case import Case

IPMI = ("ipmisim", "pyghmi", "pyghmi-stock")
ALL = (*IPMI, "redfish", "sushy")


def cases():
    table = []

    def add(kinds, fault, **more):
        kinds = kinds.split() if isinstance(kinds, str) else kinds
        table.extend(Case(kind, fault, **more) for kind in kinds)

    happy(add)
    accounts(add)
    deaf(add)
    disobedient(add)
    lost_answers(add)
    redfish(add)
    identity(add)
    networks(add)
    levels(add)
    checks(add)
    sessions(add)
    cases_input.add_all(add)
    cases_ours.add_all(add)
    cases_nonsense.add_all(add)
    return table


def happy(add):
    add(IPMI + ("redfish",), "none")
    # It obeys 1 to 11 s after each order, and a repeated order begins that anew: 15 s may not do.
    add("sushy", "none, 30 s", level_ms=30_000)
    add("pyghmi", "none, suite 3", device={"cipher": 3})
    add("pyghmi", "none, suite 17", device={"cipher": 17})
    add(ALL, "none", verb="read")
    add(ALL, "none", verb="check")
    add(ALL, "host is off", verb="on", before="off")
    add(IPMI + ("redfish",), "host is off", before="off")
    add(IPMI + ("redfish",), "host is off", verb="read", before="off")
    add("ipmisim redfish", "account of the operator", device={"username": "oper", "password": "operpw"})
    add("redfish", "gate closed", gate="the epoch is lost")


def accounts(add):
    add(ALL, "wrong password", device={"password": "wrong"})
    add(ALL, "unknown user", device={"username": "nobody"})
    add("ipmisim pyghmi-stock", "suite not offered", device={"cipher": 17})
    viewer = {"username": "viewer", "password": "viewpw"}
    add("pyghmi", "privilege too low", device=viewer)
    # OpenIPMI does not hold an account to its limit over RMCP+: the off is real.
    add("ipmisim", "privilege too low, not enforced", device=viewer)
    add("redfish", "privilege too low", faults={"http-reset": "403"})
    add("redfish", "no certificate to trust", device={"tls": None})
    add("redfish", "no Basic authentication", faults={"no-basic": ""})


def deaf(add):
    add(ALL, "hang", before="hang")
    add(IPMI + ("redfish",), "dead BMC", before="stop")
    add(IPMI + ("redfish",), "power lost, BMC too", before="power-loss")
    add("redfish", "garbage", faults={"garbage": ""})
    add("redfish", "hangs up", faults={"drop-all": ""})
    add("ipmisim pyghmi redfish", "state unreadable", faults={"fail-get": ""})
    add("redfish", "slow, 1 s a request", faults={"hold-http": "1"})


def disobedient(add):
    switched = IPMI + ("redfish",)
    add(switched, "slow off, 3 s", faults={"slow-off": "3"})
    add("pyghmi redfish", "slow off, 8 s", faults={"slow-off": "8"})
    add(switched, "accepts, stays on", faults={"ack-no-off": ""})
    add(switched, "reads off whatever is", faults={"lie-off": ""})
    add(switched, "reads on whatever is", faults={"lie-on": ""})
    add("pyghmi redfish", "accepts, stays on, reads off", faults={"ack-no-off": "", "lie-off": ""}, liar=True)
    # Before the second reading, and well after the first.
    add("ipmisim pyghmi redfish", "comes on again by itself", faults={"auto-on": "0.7"})
    add("ipmisim pyghmi redfish", "refuses off", faults={"fail-set": ""})
    add("pyghmi", "refuses off, not in this state", faults={"fail-set": "0xd5"})
    add("ipmisim pyghmi redfish", "answers off after 3 s", faults={"hold-set": "3"})
    add("pyghmi redfish", "accepts on, stays off", verb="on", before="off", faults={"ack-no-on": ""}, on_ms=6000)


def lost_answers(add):
    add("pyghmi", "answer to off always lost", faults={"drop-set": ""})
    add("pyghmi", "answer to off lost once", faults={"drop-set": ""}, meanwhile="heal")
    add("redfish", "answer to off lost once", faults={"drop-reset": ""}, meanwhile="heal", later=1)
    add("redfish", "answer to off always lost", faults={"drop-reset": ""})
    add("pyghmi", "answers to readings lost", faults={"drop-get": ""})
    add("pyghmi", "answer to on lost", verb="on", before="off", faults={"drop-set": ""}, meanwhile="heal", on_ms=8000)
    add("pyghmi redfish", "fencer killed after its order", faults={"slow-off": "2"}, meanwhile="kill")


def redfish(add):
    add("redfish", "503 twice, Retry-After 2", faults={"http-reset": "503 2 2"})
    add("redfish", "503 always", faults={"http-reset": "503"})
    add("redfish", "500 to everything", faults={"http-all": "500"})
    add("redfish", "404 to the reset", faults={"http-reset": "404"})
    add("redfish", "409 already off", faults={"already-409": ""}, before="off")
    add("redfish", "409 while on", faults={"http-reset": "409"})
    add("redfish", "409 once while on", faults={"http-reset": "409 1"})
    add("redfish", "428 without If-Match", faults={"etag": ""})
    add("redfish", "412 once", faults={"http-reset": "412 1"})
    add("redfish", "412 always", faults={"http-reset": "412"})
    add("redfish", "task of 2 s", faults={"async": "2"})
    add("redfish", "task fails", faults={"async": "1", "async-fail": ""})
    for word in ("null", "absent", "PoweringOff", "Paused"):
        add("redfish", f"PowerState {word}", faults={"powerstate": word})
    add("redfish", "PoweringOff at first", faults={"powerstate": "PoweringOff"}, meanwhile="heal", later=2)
    add("redfish", "ForceOff not offered", faults={"no-forceoff": ""})
    add("redfish", "reset types not listed", faults={"no-allowable": ""})
    add("redfish", "On refused for 5 s", verb="on", before="off", faults={"settle": "5"})


def identity(add):
    add(ALL, "another machine", who="other")
    add("ipmisim pyghmi redfish", "nothing on file", who="nobody")
    # Two systems stand behind the service.
    add("redfish", "two systems, chosen by UUID", device={"system": None})
    add("redfish", "two systems, none chosen", device={"system": None}, who="nobody")
    add("redfish", "two systems, neither is it", device={"system": None}, who="other")
    add("redfish", "two systems, the wrong one entered", device={"system": "DECOY"})


def networks(add):
    # ipmitool, FreeIPMI and pyghmi's own client all fail where every datagram comes twice (bmc-sim README). A level of 60 s, so that chance
    # does not decide the outcome: at 20 % lost each way an act is not always through within 15 s.
    bad = {
        "20 % lost": {"net-loss": "20"},
        "20 % doubled": {"net-dup": "20"},
        "all doubled": {"net-dup": "100"},
        "late duplicates": {"net-dup": "100", "net-delay": "120"},
        "10 % damaged": {"net-corrupt": "10"},
    }
    for fault, faults in bad.items():
        add("ipmisim pyghmi", fault, proxied=True, random=True, faults=faults, level_ms=60_000)
    add("ipmisim pyghmi", "network cut", proxied=True, faults={"net-black": ""})


def levels(add):
    add("redfish", "first level hangs", before="hang", then=("pyghmi",))
    add("redfish", "first level hangs, one controller", before="hang", then=("pyghmi",), device={"bmc": "shared"})
    add("redfish", "first level: wrong password", device={"password": "wrong"}, then=("pyghmi-stock",))
    add("pyghmi", "first level obeys nothing", faults={"ack-no-off": ""}, then=("redfish",))
    add("redfish", "first level: another machine", device={"system": "DECOY"}, then=("pyghmi",))
    add("redfish", "first level refuses for ever", faults={"http-reset": "503"}, then=("pyghmi",))
    add("redfish", "power lost, both BMCs too", before="power-loss", then=("pyghmi",))


def checks(add):
    add(ALL, "wrong password", verb="check", device={"password": "wrong"})
    add("pyghmi-stock redfish", "unknown user", verb="check", device={"username": "nobody"})
    add("ipmisim pyghmi-stock", "suite not offered", verb="check", device={"cipher": 17})
    add("pyghmi", "privilege too low", verb="check", device={"username": "viewer", "password": "viewpw"})
    add(IPMI + ("redfish",), "hang", verb="check", before="hang")
    add("ipmisim redfish", "dead BMC", verb="check", before="stop")
    add("redfish", "garbage", verb="check", faults={"garbage": ""})
    add("redfish", "ForceOff not offered", verb="check", faults={"no-forceoff": ""})
    add("redfish", "reset types not listed", verb="check", faults={"no-allowable": ""})
    add("redfish", "PowerState null", verb="check", faults={"powerstate": "null"})
    add("redfish", "any certificate", verb="check", device={"tls": {"insecure": True}})
    add("ipmisim pyghmi redfish", "another machine", verb="check", who="other")
    add("ipmisim redfish", "nothing on file", verb="check", who="nobody")
    add("redfish", "another machine", verb="read", who="other")
    add("redfish", "PowerState PoweringOff", verb="read", faults={"powerstate": "PoweringOff"})
    add("redfish", "503 to everything", verb="read", faults={"http-all": "503"})


def sessions(add):
    add("redfish", "session table full", faults={"session-limit": "1"}, held=1)
    add("redfish", "a former owner's session", verb="revoke", token="open", held=1)
    add("redfish", "a session that is gone", verb="revoke", token="gone", held=1)
    add("redfish", "a session of another service", verb="revoke", token="elsewhere")
    add("redfish", "wrong password", verb="revoke", token="open", held=1, device={"password": "wrong"})
    add("pyghmi", "IPMI has none", verb="revoke", token="elsewhere")
