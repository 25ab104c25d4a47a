"""The program under test: `fence json`, the example of the fencing package, and what its answers amount to."""

import json
import os
import pathlib
import re
import subprocess

FENCE = os.environ["FENCE"]
# Empty, and to stay so: what a shell would make of metacharacters appears here.
NOWHERE = pathlib.Path(os.environ["DEVICES_WORK"]) / "nowhere"

# What an error says, after the device's name, up to its details: the kinds of FenceError, and the sentences of an act.
KINDS = {
    "not reachable": "unreachable",
    "no answer": "silent",
    "credentials refused": "credentials",
    "not enough privilege": "privilege",
    "refuses cipher suite": "suite refused",
    "busy": "busy",
    "does not support": "unsupported",
    "cannot be ordered": "not offered",
    "controls another machine": "wrong machine",
    "malformed answer": "malformed",
    "refused (": "refused",
    "TLS failed": "tls",
    "configuration:": "configuration",
    "request dropped": "dropped for another",
    "not confirmed in time": "not in time",
    "no order:": "gate closed",
    # Before what follows from it.
    "reset's task ended": "task failed",
    "and obeyed none": "obeyed none",
    "cannot fence": "cannot fence",
    "may not switch power": "privilege",
    "lacks ConfigureComponents": "privilege",
    "neither On nor Off": "state unclear",
    "has the session": "no such session",
    "no secret from": "no secret",
    "failed without a reason": "failed",
    "is not settable": "not settable",
}
WARNINGS = {
    "cipher suite 3": "suite 3",
    "no session service": "no sessions",
    "not proved": "identity not proved",
    "no serial or UUID": "nothing on file",
    "does not list its reset types": "types not listed",
    "any certificate": "any certificate",
    "restore policy is always": "always on",
    "password in clear": "in clear",
    "privilege stays": "privilege",
    "privilege request": "privilege",
    "anonymous logins": "anonymous login",
    "user without a name": "nameless user",
    "cipher suite 0": "lists suite 0",
    "updating its firmware": "updating",
    "certificate ends": "certificate ends soon",
    "certificate ended": "certificate ended",
    "stands on the operator's word": "machine stated",
    "options cannot be checked": "options unchecked",
    "does not know the option": "unknown option",
}
# A description that was refused: the key, where one is named.
ENTERED = re.compile(r"level \d+ device \d+: `(\w+)`|fence devices are not valid: (.*)")


def refused_as_entered(error):
    """What of the description was refused before anything was sent; `None` if nothing was."""
    found = ENTERED.match(error)
    if not found:
        return None
    way_out = re.search(r"[;,] \w+", error[found.end() if found[1] else 0 :])
    return (found[1] or "not a description") + ("" if way_out else ", no way out told")


def texts(value):
    """All texts of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def kind_of(error, kinds=None):
    for phrase, kind in (kinds or KINDS).items():
        if phrase in error:
            return kind
    raise AssertionError(f"an unknown kind of error: {error}")


class Fencer:
    """One process; requests may be asked of it side by side."""

    def __init__(self):
        pipe = subprocess.PIPE
        # It dies with the thread that started it, however that ends: an order of a forgotten process would hit the next run's machines.
        command = ["setpriv", "--pdeathsig", "KILL", FENCE, "json"]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=NOWHERE)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def seconds(duration):
    return duration["secs"] + duration["nanos"] / 1e9


def confirms(attempt):
    """What the engine's core demands of one device (`prove`): our order taken, and an unbroken run of Off over a second."""
    run = []
    for reading in reversed([r for r in attempt["readings"] if r["after_order"]]):
        if reading["state"] != "Off":
            break
        run.append(seconds(reading["at"]))
    taken = attempt["order"] in ("Accepted", "AlreadyOff")
    return attempt["identity_matches"] is not False and taken and len(run) > 1 and run[0] - run[-1] >= 1.0


def is_off(report, levels):
    """True if the report proves Off: every device of one level confirms."""
    for number, level in enumerate(levels, 1):
        confirmed = {a["device"] for a in report["attempts"] if a["level"] == number and confirms(a)}
        if level["devices"] and len(confirmed) >= len(level["devices"]):
            return number
    return 0


def is_on(report):
    return any(r["state"] == "On" and r["after_order"] for a in report["attempts"] for r in a["readings"])


def order_of(attempts):
    """What became of the orders: the surest answer of any attempt."""
    words = [a["order"] if isinstance(a["order"], str) else next(iter(a["order"])) for a in attempts]
    for word in ("Accepted", "AlreadyOff", "AlreadyOn", "Refused", "Unknown"):
        if word in words:
            return word
    return "NotSent"


def why_not(report):
    """Of each level, its last complaint."""
    last = {}
    for attempt in report["attempts"]:
        if attempt["error"]:
            last[attempt["level"]] = kind_of(attempt["error"])
        elif "no answer yet" in str(attempt["order"]):
            last[attempt["level"]] = "no answer to the order"
    return " / ".join(last[level] for level in sorted(last)) or "nothing said"
