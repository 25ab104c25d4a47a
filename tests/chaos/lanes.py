"""Plays scenarios in several lanes side by side, each in namespaces of its own, and prints one table.

A lane uses its database's machines for all its scenarios of that kind, as a cluster takes longer to come up than many a story to be told. Most
of a scenario is waiting (for leases, for rebuilds), so lanes cost little beside each other.
"""

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import tell
import scenarios  # noqa: F401  (fills tell.ALL)

HERE = pathlib.Path(__file__).resolve().parent
LANES = int(os.environ.get("CHAOS_LANES", "4"))
# So many that failed are played once more.
AGAIN = 3
# The shell inside is the first process of its namespace: it takes in orphans, and when it ends the kernel ends all others.
INSIDE = """
mount -t tmpfs -o size=6g,mode=755 chaos /run && mount -t tmpfs -o size=512m chaos /dev/shm && ip link set lo up || exit 1
mkdir -p /run/netns
python3 "$@" &
driver=$!
trap "kill -s TERM $driver" TERM INT
wait $driver; code=$?
[[ $code -le 128 ]] || { wait $driver; code=$?; }
exit $code
"""
PRIVATE = ["--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation", "private"]


def inside(*words):
    """The command that runs a Python program of this folder in namespaces of its own, which end with us."""
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *PRIVATE, "bash", "-c", INSIDE, "bash", *map(str, words)]


def packed(chosen, count):
    """Lanes of about the same length: databases are not mixed where that can be helped, as each must be brought up."""
    lanes = [[] for _ in range(min(count, len(chosen)))]
    up = {"galera": 12, "postgres": 3, "sqlite": 0}

    def kind(one):
        return one.database.removesuffix("-async")

    def load(lane):
        return sum(one.seconds for one in lane) + sum(up[word] for word in {kind(one) for one in lane})

    for one in sorted(chosen, key=lambda one: -one.seconds):
        def after(lane):
            return load([*lane, one])

        min(lanes, key=after).append(one)
    # Those of one database behind each other, and in the order in which they are told.
    return [sorted(lane, key=lambda one: (kind(one), tell.ALL.index(one))) for lane in lanes]


def play(lanes):
    """Runs the lanes; each scenario's words are printed when it has ended. Outcomes by name."""
    outcomes, readers, programs = {}, [], []

    def read(lines):
        words = []
        for line in lines:
            if line.startswith("-- "):
                said = json.loads(line[3:])
                outcomes[said["name"]] = said
                print("".join(words), end="", flush=True)
                words = []
            else:
                words.append(line)
        print("".join(words), end="", flush=True)

    # Started by this thread: with the thread that started them they would end.
    for lane in lanes:
        command = inside(HERE / "drive.py", *(one.name for one in lane))
        programs.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        readers.append(threading.Thread(target=read, args=(programs[-1].stdout,), daemon=True))
        readers[-1].start()
    for program, reader in zip(programs, readers):
        program.wait()
        reader.join()
    for one in (one for lane in lanes for one in lane):
        outcomes.setdefault(one.name, {"outcome": "failed", "seconds": 0.0, "seen": {}})  # its lane died
    return outcomes


def table(chosen, outcomes):
    columns = ("calls", "guests", "looks", "reports", "events")
    print(f"\n{'scenario':26} {'fault':5} {'database':14} {'outcome':8} {'s':>4}" + "".join(f"{word:>8}" for word in columns))
    for one in chosen:
        said = outcomes[one.name]
        figures = "".join(f"{said['seen'].get(word, ''):>8}" for word in columns)
        print(f"{one.name:26} {one.fault:5} {one.database:14} {said['outcome']:8} {said['seconds']:4.0f}{figures}")


def choose(words):
    if not words:
        return [one for one in tell.ALL if not one.long]
    if words == ["--all"]:
        return tell.ALL
    return [one for one in tell.ALL if any(word in (one.fault, one.database) or word in one.name for word in words)]


def main(words):
    if words == ["--list"]:
        for one in tell.ALL:
            print(f"{one.name:26} {one.fault:4} {one.database:14} {'long' if one.long else '':5}{one.expected}")
        return 0
    if words == ["--bench"]:
        return subprocess.run(inside(HERE / "drive.py", "--bench")).returncode
    if words[:1] == ["--takeovers"]:
        return subprocess.run(inside(HERE / "takeovers.py", *words[1:])).returncode
    if words == ["--all"]:
        os.environ["CHAOS_LONG"] = "1"
    chosen = choose(words)
    if not chosen:
        print(f"no scenario has any of: {' '.join(words)}")
        return 2
    began = time.monotonic()
    outcomes = play(packed(chosen, LANES))
    unsure = [one for one in chosen if outcomes[one.name]["outcome"] == "failed"]
    # A machine that is busy with other work breaks a story now and then; what the product breaks, breaks again. Both are told.
    if 0 < len(unsure) <= AGAIN:
        print(f"once more, by themselves: {' '.join(one.name for one in unsure)}", flush=True)
        outcomes.update(play([unsure]))
    table(chosen, outcomes)
    by = {word: [name for name, said in outcomes.items() if said["outcome"] == word] for word in ("passed", "failed", "skipped")}
    print(", ".join(f"{len(names)} {word}" for word, names in by.items()) + f", {time.monotonic() - began:.0f} s; faults: "
          + " ".join(sorted({one.fault for one in chosen if one.name in by["passed"]})))
    second = [one.name for one in unsure if one.name in by["passed"]]
    if second:
        print(f"passed only when played again, see above what broke first: {' '.join(second)}")
    for word in ("skipped", "failed"):
        if by[word]:
            print(f"{word}: {' '.join(by[word])}")
    if by["failed"]:
        print(f"logs: {os.environ.get('HALBERD_CHAOS_KEPT')}")
        return 1
    return 0 if by["passed"] else 77


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
