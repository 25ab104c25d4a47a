"""What only the BMCs of our simulated cloud can do: a restore policy that acts when the supply returns, a bare-metal service that switches hosts
on again, dates in Retry-After, accounts that may only look. And, so that they are known to misbehave like others, what the others do too.
"""

BOTH = ("sim-ipmi", "sim-redfish")
ON = {"restore-policy": "always-on"}


def add_all(add):
    like_others(add)
    restore_policy(add)
    add("sim-redfish", "the bare-metal service has it on record as on", before="enrolled", after="sync")
    add("sim-redfish", "its node is in maintenance", before="maintenance", after="sync")
    readiness(add)
    dates(add)


def like_others(add):
    for verb in ("off", "read", "check", "dry run"):
        add(BOTH, "none", verb=verb)
    add(BOTH, "host is off", before="off")
    add(BOTH, "host is off", verb="on", before="off")
    add(BOTH, "wrong password", faults={"wrong-password": ""})
    add(BOTH, "privilege too low", faults={"read-only": ""})
    add(BOTH, "hang", before="hang")
    add(BOTH, "dead BMC", before="stop")
    add(BOTH, "power lost, BMC too", before="power-loss")
    add(BOTH, "slow off, 3 s", faults={"slow-off": "3000"})
    add(BOTH, "accepts, stays on", faults={"ack-no-off": ""})
    add(BOTH, "reads off whatever is", faults={"lie-off": ""})
    add(BOTH, "reads on whatever is", faults={"lie-on": ""})
    add(BOTH, "comes on again at once", faults={"auto-on": "0"})
    add(BOTH, "answer to off lost once", faults={"drop-answer": ""}, meanwhile="heal")
    add(BOTH, "busy twice", faults={"busy": "2"})
    add(BOTH, "forgets its sessions after the order", meanwhile="forget")
    add(BOTH, "controls another machine", faults={"wrong-machine": "OTHER"})
    add("sim-redfish", "428 without If-Match", faults={"needs-if-match": ""})
    add("sim-redfish", "412 with any If-Match", faults={"refuses-if-match": ""})
    add(BOTH, "right serial on file", who="serial")
    add("sim-redfish", "wrong serial on file", who="wrong serial")


def restore_policy(add):
    """The supply of the fenced machine goes and comes back. `hold`: the engine has "always on" taken away while the host is fenced."""
    cut = {"after": "supply"}
    add(BOTH, "last state, then a power cut", faults={"restore-policy": "last-state"}, **cut)
    add(BOTH, "always on, then a power cut", faults=ON, **cut)
    add(BOTH, "always on, held, then a power cut", faults=ON, hold=True, **cut)
    add(BOTH, "last state, held, then a power cut", faults={"restore-policy": "last-state"}, hold=True, **cut)
    add(BOTH, "always on for good, held, then a power cut", faults={**ON, "fixed-restore-policy": ""}, hold=True, **cut)
    add(BOTH, "always on, not shown, held, then a power cut", faults={**ON, "no-restore-policy": ""}, hold=True, **cut)
    add(BOTH, "always on, slow answers, held, then a power cut", faults={**ON, "slow-answer": "500"}, hold=True, **cut)
    for word in ("needs", "refuses"):
        faults = {**ON, f"{word}-if-match": ""}
        add("sim-redfish", f"always on, held, {word} If-Match, then a power cut", faults=faults, hold=True, **cut)
    add(BOTH, "always on", verb="check", faults=ON)
    add(BOTH, "no restore policy", verb="check", faults={"no-restore-policy": ""})
    off, on = {"restore-policy": "always-off"}, "always_on"
    add(BOTH, "always off, put back to always on", verb="restore", faults=off, former=on)
    add(BOTH, "last state, somebody set it since", verb="restore", faults={"restore-policy": "last-state"}, former=on)
    add(BOTH, "takes no other", verb="restore", faults={**off, "fixed-restore-policy": ""}, former=on)
    add("sim-redfish", "another machine", verb="restore", faults=off, former=on, who="other")
    for word in ("needs", "refuses"):
        add("sim-redfish", f"{word} If-Match", verb="restore", faults={**off, f"{word}-if-match": ""}, former=on)


def readiness(add):
    add("sim-ipmi", "anonymous login", verb="check", faults={"anonymous-login": ""})
    add("sim-ipmi", "lists suite 0", verb="check", faults={"suite-zero": ""})
    add("sim-ipmi", "firmware is being updated", verb="check", faults={"updating": ""})
    add(BOTH, "privilege too low", verb="check", faults={"read-only": ""})
    add(BOTH, "controls another machine", verb="check", faults={"wrong-machine": "OTHER"})
    add(BOTH, "dead BMC", verb="check", before="stop")


def dates(add):
    dated = {"retry-after-date": "", "busy": "2"}
    add("sim-redfish", "503 twice, Retry-After a date", faults=dated)
    add("sim-redfish", "503 always, Retry-After a date", faults={"retry-after-date": "", "busy": "1000"})
