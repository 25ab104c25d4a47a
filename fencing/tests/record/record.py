#!/usr/bin/env python3
"""Records what ipmitool and a BMC say to each other, for the known-answer tests of fencing/src/ipmi.

    record.py [DIRECTORY]     records both sessions anew into ../vectors, or there:
                              ipmi_sim (Debian's openipmi), cipher suite 3, and halberd-sim, cipher suite 17

With HALBERD_VECTORS=DIRECTORY the tests of halberd-fencing take their recordings from there.

A UDP relay stands between the two and writes down every datagram. Keys are then derived a second time with Python's hmac,
codes are compared, and messages decrypted with the openssl program: none of it is the product's code, so the tests compare
ours with two programs that nobody here wrote. Needs ipmitool, ipmi_sim, openssl, and halberd-sim (HALBERD_SIM, or
`cargo build -p halberd-sim` first). The sessions are of simulators: the passwords in the vectors protect nothing.
"""

import contextlib
import hashlib
import hmac
import json
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
VECTORS = HERE.parent / "vectors"
ROOT = HERE.parents[2]
GUID = "8839d356f7874a0b8010d454645c55f8"
# What a fence asks, and a few more.
COMMANDS = "mc info\nmc guid\nchassis power status\nchassis power off\nchassis power status\nchassis status\n"


class Relay:
    """Passes datagrams on between one console and one BMC and keeps them in order."""

    def __init__(self, bmc):
        self.front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.front.bind(("127.0.0.1", 0))
        self.back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.back.connect(bmc)
        self.port = self.front.getsockname()[1]
        self.datagrams, self.console, self.over = [], None, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over.is_set():
            for ready in select.select([self.front, self.back], [], [], 0.1)[0]:
                if ready is self.front:
                    data, self.console = self.front.recvfrom(4096)
                    self.datagrams.append(("console", data))
                    self.back.send(data)
                else:
                    data = self.back.recv(4096)
                    self.datagrams.append(("bmc", data))
                    self.front.sendto(data, self.console)

    def end(self):
        self.over.set()
        self.thread.join()
        return self.datagrams


def ipmitool(port, suite, username, password, words):
    return subprocess.run(
        ["ipmitool", "-I", "lanplus", "-C", str(suite), "-L", "OPERATOR", "-N", "5", "-H", "127.0.0.1", "-p", str(port), "-U", username, "-E", *words],
        env={**os.environ, "IPMI_PASSWORD": password}, capture_output=True, text=True, timeout=120,
    )


def session(bmc, suite, username, password):
    relay = Relay(bmc)
    with tempfile.NamedTemporaryFile("w", suffix=".ipmi") as script:
        script.write(COMMANDS)
        script.flush()
        done = ipmitool(relay.port, suite, username, password, ["exec", script.name])
    datagrams = relay.end()
    if "Chassis Power is" not in done.stdout:
        raise SystemExit(f"ipmitool failed: {done.stdout}{done.stderr}")
    return datagrams


def free_port():
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def version(words):
    done = subprocess.run(words, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().splitlines()[0] if done.stdout or done.stderr else words[0]


def with_ipmi_sim():
    """A BMC of Debian's openipmi whose power is a file."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="halberd-record."))
    port, power = free_port(), directory / "power"
    power.write_text("1")
    (directory / "state").mkdir()
    hook = directory / "chassis.sh"
    hook.write_text(
        f'case "$1 $2" in "get power") echo "power:$(cat {power})" ;; "set power") echo "$3" >{power} ;; esac\nexit 0\n'
    )
    (directory / "lan.conf").write_text(f"""name "record"
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid {GUID}
  endlan
  chassis_control "sh {hook}"
  user 1 true "" "nobody" user 10 none md2 md5 straight
  user 2 true "admin" "secret" admin 10 none md2 md5 straight
""")
    (directory / "sim.emu").write_text("mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nsel_enable 0x20 1000 0x0a\nmc_enable 0x20\n")
    simulator = subprocess.Popen(
        ["ipmi_sim", "-n", "-c", directory / "lan.conf", "-f", directory / "sim.emu", "-s", directory / "state"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(50):
            if ipmitool(port, 3, "admin", "secret", ["chassis", "power", "status"]).returncode == 0:
                break
            time.sleep(0.1)
        return session(("127.0.0.1", port), 3, "admin", "secret"), "admin", "secret", "ipmi_sim of Debian's openipmi"
    finally:
        simulator.kill()
        simulator.wait()
        shutil.rmtree(directory)


def with_halberd_sim():
    """Our own simulated BMC, which ipmitool judges in tests/sim."""
    program = os.environ.get("HALBERD_SIM") or pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/halberd-sim"
    simulator = subprocess.Popen([program, "--hosts", "4"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        world = json.loads(simulator.stdout.readline())
        bmc = next(host["bmc"] for host in world["hosts"] if host["bmc"] and host["bmc"]["type"] == "ipmi")
        address, port = bmc["address"].rsplit(":", 1)
        username, password = bmc["username"], bmc["password"]
        return session((address, int(port)), 17, username, password), username, password, "halberd-sim"
    finally:
        simulator.stdin.close()
        simulator.wait()


def derived(datagrams, suite, username, password):
    """Keys by Python's hmac; dies when a code in the recording is not the one they give."""
    payload = lambda kind: next(d[16:] for _, d in datagrams if d[4] == 6 and d[5] == kind)
    digest, cut = (hashlib.sha1, 12) if suite == 3 else (hashlib.sha256, 16)
    mac = lambda key, data: hmac.new(key, data, digest).digest()
    rakp1, rakp2, rakp3, rakp4 = payload(0x12), payload(0x13), payload(0x14), payload(0x15)
    console_id, bmc_id, role, name = rakp2[4:8], rakp1[4:8], rakp1[24:25], rakp1[28:]
    console_random, bmc_random, guid = rakp1[8:24], rakp2[8:24], rakp2[24:40]
    key, tail = password.encode(), role + bytes([len(name)]) + name
    assert name == username.encode()
    assert mac(key, console_id + bmc_id + console_random + bmc_random + guid + tail) == rakp2[40:], "RAKP 2"
    assert mac(key, bmc_random + console_id + tail) == rakp3[8:], "RAKP 3"
    sik = mac(key, console_random + bmc_random + tail)
    assert mac(sik, console_random + bmc_id + guid)[:cut] == rakp4[8:], "RAKP 4"
    k1, k2 = mac(sik, b"\1" * 20), mac(sik, b"\2" * 20)
    return {"sik": sik, "k1": k1, "k2": k2}, (lambda datagram: mac(k1, datagram[4:-cut])[:cut] == datagram[-cut:])


def decrypted(datagram, k2):
    length = int.from_bytes(datagram[14:16], "little")
    vector, secret = datagram[16:32], datagram[32 : 16 + length]
    words = ["openssl", "enc", "-d", "-aes-128-cbc", "-nopad", "-K", k2[:16].hex(), "-iv", vector.hex()]
    plain = subprocess.run(words, input=secret, capture_output=True, check=True).stdout
    return plain[: len(plain) - 1 - plain[-1]]


def record(directory, name, suite, source):
    datagrams, username, password, bmc = source()
    keys, authentic = derived(datagrams, suite, username, password)
    out = []
    for sender, datagram in datagrams:
        entry = {"from": sender, "bytes": datagram.hex()}
        if datagram[5] == 0xC0:
            assert authentic(datagram), "trailer code"
            entry["message"] = decrypted(datagram, keys["k2"]).hex()
        out.append(entry)
    recording = {
        "note": "Recorded by fencing/tests/record/record.py. Hex; ids in wire order. Keys and messages as Python's hmac and openssl give them.",
        "console": version(["ipmitool", "-V"]), "bmc": bmc, "cipher_suite": suite, "username": username, "password": password,
        **{key: value.hex() for key, value in keys.items()}, "datagrams": out,
    }
    path = directory / f"{name}.json"
    path.write_text(json.dumps(recording, indent=1) + "\n")
    print(f"{path}: {len(out)} datagrams, {sum('message' in d for d in out)} of them sealed")


if __name__ == "__main__":
    if len(sys.argv) > 2 or any(word.startswith("-") for word in sys.argv[1:]):
        raise SystemExit(__doc__)
    vectors = pathlib.Path(sys.argv[1]) if sys.argv[1:] else VECTORS
    vectors.mkdir(parents=True, exist_ok=True)
    record(vectors, "ipmi_sim-suite3", 3, with_ipmi_sim)
    record(vectors, "halberd-sim-suite17", 17, with_halberd_sim)
