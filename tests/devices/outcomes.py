"""Plays each case and writes down what came of it: one line, no times in it."""

import json
import queue
import re
import sys
import threading
import traceback
import uuid

from fencer import NOWHERE, WARNINGS, Fencer, is_off, is_on, kind_of, order_of, refused_as_entered, texts, why_not
from fronts import Front
from simulators import until

HEAD = ("BMC", "what is wrong", "verb", "outcome", "order", "commands", "truth")
OTHER = str(uuid.UUID(int=0x5EED_0000_4000_8000_0000_0000_0000_0001))
# Verbs of the table that are looks at another one's answer.
ASKED = {"dry run": "check"}
WIDEST = 56
# Longest text that may come of a device's own words, an operator's included.
LONGEST = 1_500
# Differs from host to host.
PORT = re.compile(r"(?<=port=)\d+")


class Play:
    """One case on one host."""

    def __init__(self, machines, host, case):
        self.machines, self.host, self.case = machines, host, case
        self.first = f"{host}-{case.kind}"
        self.bmcs = [self.first, *(f"{host}-{kind}" for kind in case.then)]
        self.sessions, self.levels, self.front = [], [], None

    def play(self):
        machines, case = self.machines, self.case
        machines.restore(self.host, self.bmcs)
        try:
            self.prepare()
            mark = machines.mark()
            answer = self.act(mark)
            if "auto-on" in case.faults:
                until("the last off is undone", lambda: machines.truth(self.host) == "on", 30)
            truth = machines.truth(self.host)
            broken = self.broken(answer, truth)
            row = [case.kind, case.fault, case.verb, *self.read(answer), self.count(mark)]
            if case.after:
                truth = self.aftermath()
            return [*row, truth], broken, answer
        finally:
            self.leave()

    def prepare(self):
        machines, case = self.machines, self.case
        if case.front:
            self.front = Front(machines.certificates, case.front, machines.bmcs[self.first]["url"])
        self.levels = [{"devices": [self.device(bmc)]} for bmc in self.bmcs]
        self.sessions = [machines.log_in(self.first) for _ in range(case.held)]
        if case.token == "gone":
            machines.log_out(self.first, self.sessions[0])
        for name, argument in case.faults.items():
            machines.ctl("fault", self.first, name, *argument.split())
        if case.before == "off":
            machines.ctl("power", self.host, "off")
            if case.kind == "sushy":
                machines.sushy_reset(self.first, "ForceOff")
                until("sushy reads off", lambda: machines.answers(self.first) == "off")
        elif case.before == "power-loss":
            machines.ctl("power-loss", self.host)
        elif case.before in ("enrolled", "maintenance"):
            machines.enroll(self.host, case.before == "maintenance")
        elif case.before:
            machines.ctl(case.before, self.first)

    def device(self, bmc):
        changes = dict(self.case.device) if bmc == self.first else {}
        if "bmc" in self.case.device:
            changes["bmc"] = self.case.device["bmc"]
        if changes.get("system") == "DECOY":
            changes["system"] = self.machines.decoy_system(bmc)
        if self.case.proxied:
            changes["address"] = self.machines.proxied(bmc)
        if self.front:
            changes = {"address": f"https://127.0.0.1:{self.front.port}", **changes, "tls": self.trust(changes)}
        if self.case.agent and bmc == self.first:
            return self.machines.agent(bmc, self.case.agent, **changes)
        return self.machines.device(bmc, **changes)

    def trust(self, changes):
        certificates = self.machines.certificates
        if changes.get("tls") == "authority":
            return {"ca_file": str(certificates.authority)}
        return {"fingerprint": certificates.fingerprint(self.case.front)}

    def machine(self):
        """Who the host's file says that its machine is."""
        who = self.case.who
        if who == "serial":
            return {"serial": self.machines.serial_of(self.first)}
        if who == "wrong serial":
            return {"serial": "WRONG"}
        if who == "nobody":
            return {}
        return {"uuid": OTHER if who == "other" else self.machines.uuid_of(self.first)}

    def request(self):
        case = self.case
        verb = ASKED.get(case.verb, case.verb)
        request = {"id": 1, "verb": verb, "host": self.host, "devices": {"levels": self.levels}, **self.machine()}
        if case.gate:
            request["gate"] = case.gate
        if case.hold:
            request["hold"] = True
        if case.former:
            request |= {"former": case.former, "device": self.name()}
        for key in ("level_ms", "on_ms"):
            if getattr(case, key):
                request[key] = getattr(case, key)
        if case.token == "elsewhere":
            request["token"] = "https://192.0.2.1/redfish/v1/SessionService/Sessions/1"
        elif case.token:
            request["token"] = self.machines.bmcs[self.first]["url"] + self.sessions[0][0]
        return request

    def name(self):
        """Of the first device, as the package names it in its reports."""
        device = self.levels[0]["devices"][0]
        return f"{device['type']} {device['address']}"

    def act(self, mark):
        machines, case, request = self.machines, self.case, self.request()
        with Fencer() as fencer:
            fencer.ask(**request)
            if not case.meanwhile:
                return fencer.answer()
            until("a power command", lambda: machines.requests_after_order(mark, self.first) > case.later, 30, 0.02)
            if case.meanwhile in ("heal", "forget"):
                if case.meanwhile == "heal":
                    machines.ctl("clear", self.first)
                else:
                    machines.ctl("fault", self.first, "forget-sessions")
                return fencer.answer()
        with Fencer() as heir:
            heir.ask(**request)
            return heir.answer()

    def read(self, answer):
        """Outcome and order."""
        case = self.case
        if "error" in answer:
            entered = refused_as_entered(answer["error"])
            return (f"not accepted: {entered}" if entered else kind_of(answer["error"])), "-"
        answer = answer["answer"]
        if case.verb == "revoke":
            lives = self.machines.session_lives(self.first, self.sessions[0])
            return ("REVOKED, LIVES" if lives else "revoked"), "-"
        if case.verb == "read":
            return " / ".join(self.sight(sight) for sight in answer), "-"
        if case.verb == "dry run":
            return " / ".join(self.would(check) for check in answer), "-"
        if case.verb == "restore":
            return f"policy is {self.machines.policy(self.host)}", "-"
        if case.verb == "check":
            return " / ".join(self.checked(check) for check in answer), "-"
        if case.verb == "on":
            return ("on" if is_on(answer) else "not on: " + why_not(answer)), order_of(answer["attempts"])
        level = is_off(answer, self.levels)
        if not level:
            return "not off: " + why_not(answer), order_of(answer["attempts"])
        confirming = [attempt for attempt in answer["attempts"] if attempt["level"] == level]
        outcome = "off" if len(self.levels) == 1 else f"off by level {level}"
        if any(attempt.get("stated") for attempt in confirming):
            outcome += ", machine stated"
        if case.hold:
            outcome += f", policy is {self.machines.policy(self.host)}"
            told = any("restore policy was always on" in note for attempt in confirming for note in attempt.get("notes", ()))
            outcome += ", told" if told else ""
        return outcome, order_of(confirming)

    def would(self, check):
        """What an off would send, without what is the machine's own."""
        if not check["would"]:
            return "nothing"
        shown = check["would"]
        device = self.levels[0]["devices"][0]
        for own, word in ((device.get("system"), "/SYSTEM"), (device["address"], "ADDRESS")):
            shown = shown.replace(own, word) if own else shown
        return " ".join(PORT.sub("PORT", shown).split())

    def aftermath(self):
        """What happens once the act is over, and the truth then."""
        machines = self.machines
        if self.case.after == "supply":
            machines.cut_supply(self.host)
        else:
            machines.sync(self.host)
        return machines.truth(self.host)

    @staticmethod
    def sight(sight):
        state = sight["state"]
        if "Err" in state:
            return kind_of(state["Err"])
        word = state["Ok"] if isinstance(state["Ok"], str) else "neither"
        return f"reads {word}{'' if sight['identity_matches'] else ', machine not proved'}"

    @staticmethod
    def checked(check):
        if check["error"]:
            return "not ready: " + kind_of(check["error"])
        warnings = sorted({kind_of(warning, WARNINGS) for warning in check["warnings"]})
        return "ready" + (f" ({', '.join(warnings)})" if warnings else "")

    def count(self, mark):
        number = self.machines.orders(mark, self.bmcs)
        if self.case.random:
            return "some" if number else "0"
        return str(number) if number < 4 else "4+"

    def broken(self, answer, truth):
        """Invariants that this act broke."""
        found = [f"{self.case}: unfit to be shown: {text!r}" for text in texts(answer) if unfit(text)]
        secrets = self.machines.secrets(self.first)
        found += [f"{self.case} tells the password" for secret in secrets if secret in json.dumps(answer)]
        return found + self.lies(answer, truth)

    def lies(self, answer, truth):
        if self.case.verb != "off" or "error" in answer or self.case.liar:
            return []
        level = is_off(answer["answer"], self.levels)
        return [f"{self.case} was reported off and is {truth}"] if level and truth != "off" else []

    def leave(self):
        """BMCs that were frozen or killed begin afresh, without the backlog in their sockets."""
        machines, bmcs = self.machines, self.bmcs
        if self.front:
            self.front.stop()
        if self.case.before in ("enrolled", "maintenance"):
            machines.withdraw(self.host)
        if self.case.before == "power-loss":
            machines.ctl("power-back", self.host)
        elif self.case.before == "hang":
            machines.ctl("stop", self.first)
        machines.ctl("clear", self.first)
        until("nothing is pending", lambda: not machines.pending(self.host), 30)
        for bmc in bmcs:
            machines.ctl("start", bmc)
        for session in self.sessions:
            machines.log_out(self.first, session)


def unfit(text):
    """For a log or a terminal."""
    return len(text) > LONGEST or any(ord(sign) < 32 or 127 <= ord(sign) < 160 for sign in text)


def play_all(sets, cases):
    """Plays the cases, each host of each set its own lane. Rows in the order of the table, and what was broken."""
    rows, broken, details = {}, [], {}
    lanes = []
    for machines in sets:
        mine = queue.SimpleQueue()
        # The long ones first, so that no lane is left alone with them at the end.
        wanted = [(n, case) for n, case in enumerate(cases) if case.kind in machines.kinds]
        for number, case in sorted(wanted, key=lambda item: not item[1].before and not item[1].faults):
            mine.put((number, case))
        lanes += [threading.Thread(target=lane, args=(machines, host, mine, rows, broken, details), daemon=True) for host in machines.hosts]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    broken += [f"a shell has seen metacharacters: {made.name}" for made in NOWHERE.iterdir()]
    for machines in sets:
        broken += [f"a command to somebody else's machine: {stray}" for stray in machines.strays()]
        for host in machines.hosts:
            if any(kind == "redfish" for kind in machines.kinds) and machines.truth(f"{host}-decoy") != "on":
                broken.append(f"{host}-decoy is off: the wrong machine was killed")
    return [rows[number] for number in sorted(rows)], broken, [details[number] for number in sorted(details)]


def lane(machines, host, cases, rows, broken, details):
    while True:
        try:
            number, case = cases.get_nowait()
        except queue.Empty:
            return
        try:
            rows[number], faults, details[number] = Play(machines, host, case).play()
            broken += faults
        except Exception as error:  # a case that cannot be played is a failure of its own, the others go on
            traceback.print_exc(file=sys.stderr)
            rows[number] = [case.kind, case.fault, case.verb, "NOT PLAYED", "-", "-", "-"]
            broken.append(f"{case} could not be played: {error}")


def table(rows):
    rows = [HEAD, *rows]
    # A longer cell sticks out of its row; it does not move all others.
    widths = [min(WIDEST, max(len(row[column]) for row in rows)) for column in range(len(HEAD))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"
