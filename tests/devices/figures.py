"""Off and verified, in milliseconds, beside the field's own programs in the same run; and a hundred hosts at once.

Asserted are ratios and orders only: ours is no slower than the fastest of them plus its second reading (a second after the first; they make
none), and a hundred acts at once take a small part of what they take one after another. Times themselves are printed.
"""

import statistics
import time

from fencer import Fencer, is_off
from ours import Cloud
from peers import agent, run
from simulators import until

RUNS = 3
SECOND_READING_MS = 1000
# Tolerance: ours, less its second reading, may take so many times what the fastest takes, each by its best run. Measured were 0.5 to 0.8; the
# rest is for a machine that is busy with other things during all runs of ours and none of theirs.
SLACK = 2
# What a hundred hosts at once shall take on an idle machine. Printed, not asserted: no test knows what else runs.
PROMISE_S = 15
# So many times faster than one after another a hundred at once are at least.
AT_ONCE = 5


def ours(machines, bmc):
    levels = [{"devices": [machines.device(bmc)]}]
    request = {"verb": "off", "host": bmc, "devices": {"levels": levels}, "uuid": machines.uuid_of(bmc), "level_ms": 30_000}

    def off():
        with Fencer() as fencer:
            fencer.ask(**request)
            answer = fencer.answer()
            return "answer" in answer and is_off(answer["answer"], levels) == 1

    return off


def theirs(machines, bmc):
    """The field's programs for this BMC, by name; each returns whether it is satisfied."""
    known = machines.bmcs[bmc]
    account = {"username": known["username"], "password": known["password"]}
    if known["proto"] == "redfish":
        words = {"ip": known["address"], "ipport": known["port"], "systems_uri": known["systems_uri"], "ssl_insecure": 1}
        call = agent("fence_redfish", {**words, **account})
        return {"fence_redfish": lambda: call("off")[0] == 0}
    words = {"ip": known["address"], "ipport": known["port"], "lanplus": 1, "cipher": 3}
    call = agent("fence_ipmilan", {**words, **account})
    head = ["ipmitool", "-I", "lanplus", "-C", "3", "-H", known["address"], "-p", str(known["port"])]
    head += ["-U", known["username"], "-P", known["password"], "power"]

    def ipmitool():
        if run([*head, "off"])[0]:
            return False
        until("ipmitool reads off", lambda: "is off" in run([*head, "status"])[1], 30, 0.2)
        return True

    return {"ipmitool": ipmitool, "fence_ipmilan": lambda: call("off")[0] == 0}


def measure(machines, bmc, off):
    """Best and median in milliseconds; `None` if it failed or the host was not off."""
    host, times = machines.bmcs[bmc]["host"], []
    for _ in range(RUNS):
        machines.restore(host, [bmc])
        began = time.monotonic()
        satisfied = off()
        times.append((time.monotonic() - began) * 1000)
        if not satisfied or machines.truth(host) != "off":
            return None
    return min(times), statistics.median(times)


def part(sets):
    print(f"\noff and verified, best and median of {RUNS}, ms:")
    good = True
    for machines in sets:
        for kind in machines.kinds:
            bmc = f"{machines.hosts[0]}-{kind}"
            mine = measure(machines, bmc, ours(machines, bmc))
            others = {name: measure(machines, bmc, off) for name, off in theirs(machines, bmc).items()}
            cells = {"halberd": mine, **others}
            print(f"  {kind:13}" + "".join(f"{name} {shown(times)}".ljust(26) for name, times in cells.items()))
            good &= verdict(kind, mine, [times[0] for times in others.values() if times])
    return good & hundred()


def shown(times):
    return " / ".join(str(round(ms)) for ms in times) if times else "failed"


def verdict(kind, mine, others):
    if mine is None or not others:
        print(f"  {kind}: {'ours did not switch off' if mine is None else 'nobody else did'}")
        return False
    ratio = (mine[0] - SECOND_READING_MS) / min(others)
    print(f"  {'':13}without its second reading {ratio:.2f} times the fastest")
    # The unmodified emulator obeys after 1 to 11 s, by chance: nothing to compare.
    slow = kind != "sushy" and ratio > SLACK
    if slow:
        print(f"  {kind}: ours is slower than {SLACK} times the fastest plus the second reading")
    return not slow


def hundred(hosts=100):
    """All hosts of a simulated cloud at once, in one process of ours."""
    with Cloud(hosts) as cloud, Fencer() as fencer:
        began = time.monotonic()
        for host in cloud.hosts:
            levels = [{"devices": [host["bmc"]]}]
            fencer.ask(id=host["name"], verb="off", host=host["name"], devices={"levels": levels}, uuid=host["uuid"])
        answers = [fencer.answer() for _ in cloud.hosts]
        wall = time.monotonic() - began
        proved = sum("answer" in a and is_off(a["answer"], [{"devices": [0]}]) == 1 for a in answers)
        really = sum(power == "off" for power in cloud.power().values())
        slowest = max(answer["seconds"] for answer in answers)
        # One more, alone: switched on again by its button.
        host = cloud.hosts[0]
        cloud("power", host["name"], "on")
        until("it runs", lambda: cloud.seen(host["name"])["state"] == "running")
        fencer.ask(id="alone", verb="off", host=host["name"], devices={"levels": [{"devices": [host["bmc"]]}]}, uuid=host["uuid"])
        alone = fencer.answer()["seconds"]
    kept = "within" if wall <= PROMISE_S else "NOT within"
    print(f"  {hosts} hosts at once: {proved} proved off, {really} really, in {wall:.1f} s, {kept} the {PROMISE_S} s of an idle machine")
    print(f"  the slowest act took {slowest:.1f} s, one alone {alone:.1f} s")
    if wall * AT_ONCE > alone * hosts:
        print(f"  {hosts} at once take more than a {AT_ONCE}th of {hosts} one after another")
        return False
    return proved == really == hosts
