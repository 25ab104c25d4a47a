"""The program under test: `fence json`, the example of the fencing package, and what its answers amount to."""

import json
import os
import subprocess

FENCE = os.environ["FENCE"]

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
    "and obeyed none": "obeyed none",
    "not confirmed in time": "not in time",
    "no order:": "gate closed",
    "reset's task ended": "task failed",
    "cannot fence": "cannot fence",
    "may not switch power": "privilege",
    "neither On nor Off": "state unclear",
    "has the session": "no such session",
}
WARNINGS = {
    "cipher suite 3": "suite 3",
    "no session service": "no sessions",
    "not proved": "identity not proved",
    "no serial or UUID": "nothing on file",
    "does not list its reset types": "types not listed",
    "any certificate": "any certificate",
    "restore policy is unknown": "restore policy unknown",
    "restore policy is always": "always on",
    "privilege stays": "privilege",
    "privilege request": "privilege",
}


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
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)

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
    return " / ".join(last[level] for level in sorted(last)) or "nothing said"
