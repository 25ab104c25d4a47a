"""Machines that can be hurt one by one: a network namespace each on one bridge, processes on them, discs of their own, a clock of one's own.

All of it lies in the private namespaces that `run` has made, so nothing here cleans up after a crash: the kernel does. Traffic is cut
where it leaves: the sender keeps a wrong hardware address for the other, so that packets vanish in silence as with a pulled cable, for one
direction or both, established connections included. That needs no firewall in the kernel.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
STATE = pathlib.Path("/run/chaos")
BRIDGE = "chaos"
NET = "10.99"
HARNESS = f"{NET}.0.1"
NOBODY = "02:00:00:00:00:fe"  # a hardware address that no machine has
# What is waited for comes in seconds on an idle machine. A loaded one is slow, and not wrong: it gets this many times as long.
PATIENCE = float(os.environ.get("CHAOS_PATIENCE", "3"))


class Fault(AssertionError):
    """Something that had to be is not."""


class Absent(Exception):
    """What a scenario needs is not on this machine."""


def until(what, look, seconds=60.0, pause=0.1):
    """Looks until there is something to see, and returns it. `what` is said when it does not come in `seconds`, which are those of an idle
    machine (`PATIENCE`)."""
    seconds *= PATIENCE
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise Fault(f"not seen within {seconds:.0f} s: {what}; last: {seen!r}")
        time.sleep(pause)


def ip(*words, check=True):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if check and done.returncode:
        raise Fault(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def tree(pid):
    """The process and all below it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                text = pathlib.Path("/proc", entry, "stat").read_text()
                children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(entry))
    found = [pid]
    for one in found:
        found.extend(children.get(one, ()))
    return found


class Process:
    """A program on a machine, with its log."""

    def __init__(self, name, process, log):
        self.name, self.process, self.log = name, process, log
        self.frozen = False

    @property
    def pid(self):
        return self.process.pid

    def lives(self):
        return self.process.poll() is None

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def tail(self, lines=40):
        return "\n".join(self.text().splitlines()[-lines:])

    def send(self, number):
        """To the program and all it started, first the program: as if the machine did it."""
        for pid in tree(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self):
        """SIGKILL, no time to say anything."""
        self.send(signal.SIGKILL)
        self.process.wait()

    def freeze(self):
        self.send(signal.SIGSTOP)
        self.frozen = True

    def thaw(self):
        # Those it waits for first.
        for pid in reversed(tree(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.frozen = False

    def stop(self, seconds=30, number=signal.SIGTERM):
        """Asks it to end; its exit status, or None when it had to be killed."""
        if self.frozen:
            self.thaw()
        if self.lives():
            os.kill(self.pid, number)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
                return None
        return self.process.returncode

    def memory(self):
        """MiB that are its own or its share, with all it started."""
        total = 0
        for pid in tree(self.pid):
            with contextlib.suppress(OSError):
                for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        return total / 1024


class Disk:
    """A disc of a given size: a tmpfs, which can be full."""

    def __init__(self, path, mib, owner=None):
        self.path = pathlib.Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "chaos", self.path], check=True)
        if owner:
            shutil.chown(self.path, owner, owner)
        self._filler = self.path / "filler"

    def fill(self, leave=0):
        """Not a byte is free any more, but `leave` of them."""
        with open(self._filler, "ab", buffering=0) as file:
            room = os.statvfs(self.path)
            free = room.f_bavail * room.f_frsize - leave
            with contextlib.suppress(OSError):
                if free > 0:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, free)
            if not leave:
                with contextlib.suppress(OSError):
                    while file.write(b"\0" * 4096):
                        pass

    def free(self):
        self._filler.unlink(missing_ok=True)

    def remove(self):
        subprocess.run(["umount", "-l", self.path], check=False)


class Clock:
    """The wall clock of those who get `environment`."""

    _library = None

    def __init__(self, name):
        self._path = STATE / f"clock-{name}"
        self.set(0)

    def set(self, seconds):
        # In place: it is mapped by those who look at it.
        with open(os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644), "wb") as file:
            file.write(int(seconds).to_bytes(8, "little", signed=True))

    def environment(self):
        return {"LD_PRELOAD": str(self._built()), "CHAOS_CLOCK": str(self._path)}

    @classmethod
    def _built(cls):
        if cls._library is None:
            if not shutil.which("cc"):
                raise Absent("cc (gcc, libc6-dev): no clock can be moved")
            library = STATE / "clock.so"
            subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, HERE / "clock.c", "-ldl"], check=True)
            cls._library = library
        return cls._library


class Machine:
    """A network namespace with an address."""

    def __init__(self, net, name, address):
        self.net, self.name, self.address = net, name, address
        self.addresses = [address]
        self.processes = []
        self.blocked = set()
        self.folder = STATE / name
        self.folder.mkdir(parents=True, exist_ok=True)
        ip("netns", "add", name)
        self._port = f"v-{name}"[:15]
        # By its address, so that others who knew a machine of this address reach the one that came in its place.
        hardware = ":".join(["02", "00", *(f"{int(part):02x}" for part in address.split("."))])
        ip("link", "add", self._port, "type", "veth", "peer", "name", "eth0", "address", hardware, "netns", name)
        ip("link", "set", self._port, "master", BRIDGE, "up")
        self._ip("link", "set", "lo", "up")
        self._ip("addr", "add", f"{address}/16", "dev", "eth0")
        self._ip("link", "set", "eth0", "up")

    def _ip(self, *words, check=True):
        return ip("-n", self.name, *words, check=check)

    def start(self, name, command, env=None, user=None, cwd=None, **options):
        """Runs a program here. It is the very process: nothing stands between."""
        words = ["nsenter", f"--net=/run/netns/{self.name}", "--"]
        if user:
            words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]
        log = self.folder / f"{name}.log"
        options = {"stdin": subprocess.DEVNULL, **options}
        with open(log, "ab") as file:
            process = subprocess.Popen(
                [str(word) for word in [*words, *command]],
                env={**os.environ, **(env or {})},
                cwd=cwd or self.folder,
                stderr=file,
                start_new_session=True,
                **{"stdout": file, **options},
            )
        started = Process(name, process, log)
        self.processes.append(started)
        return started

    def run(self, command, user=None, env=None, seconds=400, check=True):
        """Runs a program here to its end; its output."""
        words = ["nsenter", f"--net=/run/netns/{self.name}", "--"]
        if user:
            words += ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"]
        words = [str(word) for word in [*words, *command]]
        done = subprocess.run(words, env={**os.environ, **(env or {})}, cwd=self.folder, capture_output=True, text=True, timeout=seconds)
        if check and done.returncode:
            raise Fault(f"{self.name}: {' '.join(map(str, command))} ended with {done.returncode}: {done.stderr[-2000:]}{done.stdout[-500:]}")
        return done

    def memory(self):
        return sum(process.memory() for process in self.processes if process.lives())

    # ------------------------------------------------------------------------------------------------------ network

    def block(self, other):
        """What this machine sends to the other does not arrive. The other way is as it was."""
        self.blocked.add(other)
        for address in other.addresses:
            if any(address in third.addresses for third in self.net.machines.values() if third is not other and third not in self.blocked):
                continue  # somebody else has it too, and may be reached
            self._ip("neigh", "replace", address, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")

    def unblock(self, other):
        self.blocked.discard(other)
        for address in other.addresses:
            self._ip("neigh", "del", address, "dev", "eth0", check=False)

    def unplug(self):
        ip("link", "set", self._port, "down")

    def plug(self):
        ip("link", "set", self._port, "up")

    def take(self, address, others_keep=False):
        """A floating address is here from now on; whoever had it has lost it, unless nobody could tell him."""
        for machine in self.net.machines.values():
            if address in machine.addresses and not others_keep:
                machine.addresses.remove(address)
                machine._ip("addr", "del", f"{address}/16", "dev", "eth0", check=False)
        self._ip("addr", "add", f"{address}/16", "dev", "eth0")
        self.addresses.append(address)
        # As a gratuitous ARP would: all forget who had it.
        for machine in self.net.machines.values():
            if self not in machine.blocked and others_keep:
                machine._ip("neigh", "replace", address, "lladdr", self.hardware(), "dev", "eth0", "nud", "permanent")
            elif self not in machine.blocked:
                machine._ip("neigh", "del", address, "dev", "eth0", check=False)
        words = ["replace", address, "lladdr", self.hardware(), "nud", "permanent"] if others_keep else ["del", address]
        ip("neigh", *words, "dev", BRIDGE, check=False)

    def hardware(self):
        return re.search(r"link/ether (\S+)", self._ip("link", "show", "eth0"))[1]

    def slow(self, milliseconds, loss_percent=0):
        """Delays what this machine sends; not every kernel can."""
        done = subprocess.run(
            ["tc", "-n", self.name, "qdisc", "replace", "dev", "eth0", "root", "netem", "delay", f"{milliseconds}ms", "loss", f"{loss_percent}%"],
            capture_output=True,
        )
        if done.returncode:
            raise Absent("netem in this kernel: no line can be made slow")


class Net:
    """The bridge with all machines, and the harness at its end."""

    def __init__(self):
        self.machines = {}
        STATE.mkdir(parents=True, exist_ok=True)
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("addr", "add", f"{HARNESS}/16", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")

    def machine(self, name, address):
        """By name; `address` is the part behind the network's."""
        if name not in self.machines:
            self.machines[name] = Machine(self, name, f"{NET}.{address}")
        return self.machines[name]

    def part(self, here, there):
        """Nothing goes between the two groups any more."""
        for one in here:
            for other in there:
                one.block(other)
                other.block(one)

    def heal(self):
        for machine in self.machines.values():
            machine.plug()
            machine.blocked.clear()
            machine._ip("neigh", "flush", "dev", "eth0", "nud", "permanent", check=False)

    def clear(self, keep=()):
        """Ends all that runs and takes the machines away, but those that are kept."""
        gone = [machine for machine in self.machines.values() if machine not in keep]
        for machine in gone:
            for process in machine.processes:
                if process.lives():
                    process.kill()
        mounts = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        for machine in gone:
            ip("netns", "del", machine.name, check=False)
            ip("link", "del", machine._port, check=False)
            for path in mounts:
                if path.startswith(f"{machine.folder}/"):
                    subprocess.run(["umount", "-l", path], check=False)
            shutil.rmtree(machine.folder, ignore_errors=True)
            del self.machines[machine.name]
        for machine in keep:
            machine.processes = [process for process in machine.processes if process.lives()]

    def close(self):
        """So that what comes begins with nothing."""
        self.clear()
        ip("link", "del", BRIDGE, check=False)
        shutil.rmtree(STATE, ignore_errors=True)
        Clock._library = None
