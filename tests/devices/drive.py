"""Runs the parts of tests/devices: outcomes, peers (others' programs against our simulated BMCs), figures."""

import difflib
import json
import os
import pathlib
import signal
import sys
import time

import cases
import figures
import outcomes
import peers
from fencer import NOWHERE
from fronts import Certificates
from liars import Liars
from ours import Cloud, Ours
from simulators import Machines

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE / "outcomes.golden"
HOSTS = int(os.environ.get("DEVICES_HOSTS", "8"))
# Hosts of our simulated cloud. Half of them have a BMC of each protocol, and the first of each half has no lane of its own.
SIMULATED = 14
PORTS = int(os.environ.get("DEVICES_PORT_BASE", "27100"))


def outcome_part(sets, words, logs):
    """The golden table; with words, only rows that hold one of them (compared with theirs in it)."""
    chosen = [c for c in cases.cases() if not words or any(w in f"{c.kind} {c.verb} {c.fault}" for w in words)]
    began = time.monotonic()
    rows, broken, details = outcomes.play_all(sets, chosen)
    if not os.environ.get("DEVICES_BLESS"):
        broken += second_look(sets, chosen, rows)
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "answers.json").write_text(json.dumps(details, indent=1))
    print(f"{len(rows)} cases in {time.monotonic() - began:.0f} s")
    found = [" | ".join(row) for row in rows]
    if os.environ.get("DEVICES_BLESS") and not words:
        GOLDEN.write_text(outcomes.table(rows))
        print(f"written: {GOLDEN.name}")
    golden = parse(GOLDEN.read_text() if GOLDEN.exists() else "")
    if words:
        keys = {tuple(row[:3]) for row in rows}
        golden = [row for row in golden if tuple(row[:3]) in keys]
    wanted = [" | ".join(row) for row in golden]
    differences = [] if words and not wanted else list(difflib.unified_diff(wanted, found, "outcomes.golden", "now", lineterm="", n=0))
    if words:
        print(outcomes.table(rows), end="")
    for line in [*differences, *broken]:
        print(line)
    if differences:
        print("DEVICES_BLESS=1 tests/devices/run outcomes takes the new table, if it is right")
    return not differences and not broken


def second_look(sets, chosen, rows):
    """Others' simulators answer in their own time, and what is in time on a machine of its own may not be beside other work. A case that
    came out otherwise than the table has it is played once more, nothing beside it; that counts, and is said. What was broken stays broken."""
    golden = {tuple(row[:3]): row for row in parse(GOLDEN.read_text() if GOLDEN.exists() else "")}
    known = [number for number, row in enumerate(rows) if tuple(row[:3]) in golden]
    broken = []
    for number in [number for number in known if golden[tuple(rows[number][:3])] != rows[number]]:
        first = rows[number]
        (rows[number],), faults, _ = outcomes.play_all(sets, [chosen[number]])
        broken += faults
        print(f"played again: {' | '.join(first)} -> {' | '.join(rows[number][3:])}")
    return broken


def parse(text):
    """Columns stand apart by two spaces or more; no word of ours holds two."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()[1:]]


def main():
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    parts = [w for w in sys.argv[1:] if w in ("outcomes", "peers", "figures")] or ["outcomes", "peers", "figures"]
    words = [w for w in sys.argv[1:] if w not in ("outcomes", "peers", "figures")]
    work, logs = pathlib.Path(os.environ["DEVICES_WORK"]), pathlib.Path(os.environ["DEVICES_LOGS"])
    NOWHERE.mkdir()
    good, sets, simulators = True, [], []
    try:
        if "outcomes" in parts or "figures" in parts:
            began = time.monotonic()
            kinds = ("ipmisim", "pyghmi", "pyghmi-stock", "redfish")
            simulators.append(Machines(work / "a", PORTS, kinds, HOSTS, "--proxy", "--decoy"))
            simulators[0].certificates = Certificates(work / "tls")
            # Its own host: the unmodified emulator keeps an idea of the power that no other BMC of the host changes.
            simulators.append(Machines(work / "b", PORTS + 1000, ("sushy",), 1))
            print(f"simulators up in {time.monotonic() - began:.0f} s")
        if "outcomes" in parts:
            # No power sync by itself within any run: cases ask for it.
            cloud = Cloud(SIMULATED, "--ironic-sync-ms=86400000")
            sets += [Ours(cloud, protocol) for protocol in ("ipmi", "redfish")]
            sets.append(Liars(HOSTS))
            sets += simulators
            good &= outcome_part(sets, words, logs)
        if "peers" in parts:
            good &= peers.part(work)
        if "figures" in parts:
            good &= figures.part(simulators)
    finally:
        for machines in {id(one): one for one in (*sets, *simulators)}.values():
            machines.stop()
    print("devices: " + ("all good" if good else "FAILED"))
    sys.exit(0 if good else 1)


main()
