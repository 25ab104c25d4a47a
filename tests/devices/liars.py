"""Services on loopback that answer nonsense, as a set of machines like `simulators.Machines`. They have no power that could be true.

Beside them listens the trap: another origin, to which some of them point. Whatever reaches it came from a client that can be led away.
"""

import http.server
import json
import random
import socket
import threading

ROOT = "/redfish/v1"
SYSTEM = f"{ROOT}/Systems/1"
RESET = f"{SYSTEM}/Actions/ComputerSystem.Reset"
SESSIONS = f"{ROOT}/SessionService/Sessions"
UUID = "11111111-2222-4333-8444-555555555555"
MEGABYTE = 1 << 20
# Moves a terminal, ends a line, and is long.
RUDE = "\x1b[2J\r\nnothing to see\x07" + "z" * 5_000

# What an HTTP one may be told to say, and how it differs from an honest service that reads On for ever.
HTTP = (
    "10 MB of JSON",
    "10 MB without a length",
    "a body without end",
    "a byte a second",
    "garbage",
    "an empty body",
    "a list",
    "a list 100000 deep",
    "words that move a terminal",
    "redirected elsewhere",
    "redirected in a circle",
    "the machine is elsewhere",
    "its action is elsewhere",
    "its sessions are elsewhere",
    "its task is elsewhere",
    "the reset is redirected elsewhere",
    "Off at once, without an order taken",
)
UDP = ("garbage", "an echo", "the beginning of an answer", "RMCP of another class", "an answer of 60 kB")


def padded(document):
    return {**document, "Oem": "x" * (10 * MEGABYTE)}


class Handler(http.server.BaseHTTPRequestHandler):
    """An honest service, but for what it was told to say."""

    def log_message(self, *_):
        pass

    def says(self, *words):
        return self.server.says in words

    def document(self, path):
        trap = self.server.trap.url
        session = (trap if self.says("its sessions are elsewhere") else "") + SESSIONS
        action = (trap if self.says("its action is elsewhere") else "") + RESET
        member = (trap if self.says("the machine is elsewhere") else "") + SYSTEM
        power = "Off" if self.says("Off at once, without an order taken") else "On"
        return {
            ROOT: {"RedfishVersion": "1.8.0", "Systems": {"@odata.id": f"{ROOT}/Systems"}, "Links": {"Sessions": {"@odata.id": session}}},
            f"{ROOT}/Systems": {"Members": [{"@odata.id": member}]},
            SYSTEM: {"UUID": UUID, "SerialNumber": "S1", "PowerState": power, "Actions": {"#ComputerSystem.Reset": {"target": action}}},
        }.get(path.rstrip("/"))

    def answer(self, code, body=None, headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in (("Content-Length", str(len(data))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def endless(self, data, pause=0.0):
        """Until the client hangs up, or we end."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while not self.server.over.wait(pause):
            self.wfile.write(data)

    def do_GET(self):
        document = self.document(self.path)
        if document is None:
            return self.answer(404, {})
        if self.path.rstrip("/") == ROOT:
            # So far an honest one: what follows is said to somebody who has logged in.
            return self.answer(200, document)
        if self.says("10 MB of JSON"):
            return self.answer(200, padded(document))
        if self.says("10 MB without a length"):
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            return self.wfile.write(json.dumps(padded(document)).encode())
        if self.says("a body without end"):
            return self.endless(b"[" * 4096)
        if self.says("a byte a second"):
            return self.endless(b" ", 1.0)
        if self.says("garbage"):
            return self.answer(200, random.Random(7).randbytes(5_000))
        if self.says("an empty body"):
            return self.answer(200, b"")
        if self.says("a list"):
            return self.answer(200, [document])
        if self.says("a list 100000 deep"):
            return self.answer(200, b"[" * 100_000 + b"]" * 100_000)
        if self.says("words that move a terminal"):
            return self.answer(500, {"error": {"code": RUDE, "message": RUDE}})
        if self.says("redirected elsewhere"):
            return self.answer(302, {}, [("Location", self.server.trap.url + self.path)])
        if self.says("redirected in a circle"):
            return self.answer(302, {}, [("Location", self.path)])
        return self.answer(200, document)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.rstrip("/") == SESSIONS:
            return self.answer(201, {}, [("X-Auth-Token", "abc"), ("Location", f"{SESSIONS}/1")])
        if self.path != RESET:
            return self.answer(404, {})
        with self.server.lock:
            self.server.orders += 1
        if self.says("its task is elsewhere"):
            return self.answer(202, {}, [("Location", f"{self.server.trap.url}/task")])
        if self.says("the reset is redirected elsewhere"):
            return self.answer(307, {}, [("Location", self.server.trap.url + RESET)])
        if self.says("Off at once, without an order taken"):
            return self.answer(400, {"error": {"code": "Base.1.0.GeneralError", "message": "no"}})
        return self.answer(204, b"")

    def do_DELETE(self):
        self.answer(204, b"")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, trap):
        super().__init__(("127.0.0.1", 0), Handler)
        self.trap, self.says, self.orders = trap, "none", 0
        self.lock, self.over = threading.Lock(), threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def handle_error(self, *_):
        pass  # the client has hung up, as it should

    def stop(self):
        self.over.set()
        self.shutdown()
        self.server_close()


class Datagrams:
    """A UDP service that answers each datagram with nonsense."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.says, self.orders, self.chance = "none", 0, random.Random(7)
        threading.Thread(target=self.serve, daemon=True).start()

    def answer(self, asked):
        return {
            "none": b"",
            "garbage": self.chance.randbytes(self.chance.randrange(1, 200)),
            "an echo": asked,
            "the beginning of an answer": asked[: self.chance.randrange(1, 20)],
            "RMCP of another class": b"\x06\x00\xff\x06" + asked[4:],
            "an answer of 60 kB": asked + bytes(60_000),
        }[self.says]

    def serve(self):
        while True:
            try:
                asked, peer = self.socket.recvfrom(65_536)
            except OSError:
                return  # stopped
            if asked:
                self.socket.sendto(self.answer(asked), peer)

    def stop(self):
        # A blocked receive does not notice a closed socket; a datagram wakes it.
        address = self.socket.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", address)
        self.socket.close()


class Trap:
    """Another origin: whoever connects was led away."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.caught = []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            try:
                caller, _ = self.listener.accept()
            except OSError:
                return  # stopped
            caller.settimeout(2)
            try:
                self.caught.append(caller.recv(200))
            except OSError:
                self.caught.append(b"")
            caller.close()

    def stop(self):
        self.listener.close()


class Liars:
    """Lanes with one service of either protocol each."""

    def __init__(self, lanes):
        self.trap = Trap()
        self.kinds = ("liar", "liar-ipmi")
        self.hosts = [f"nobody{number + 1}" for number in range(lanes)]
        self.bmcs = {f"{host}-{kind}": Datagrams() if kind == "liar-ipmi" else Server(self.trap) for host in self.hosts for kind in self.kinds}

    def server(self, bmc):
        return self.bmcs[bmc]

    def stop(self):
        for server in self.bmcs.values():
            server.stop()
        self.trap.stop()

    def ctl(self, verb, bmc, *words):
        if verb == "fault":
            self.server(bmc).says = " ".join(words[1:])

    def restore(self, _host, bmcs):
        for bmc in bmcs:
            self.server(bmc).says = "none"

    def mark(self):
        return {bmc: self.server(bmc).orders for bmc in self.bmcs}

    def orders(self, mark, bmcs):
        return sum(self.server(bmc).orders - mark[bmc] for bmc in bmcs)

    def truth(self, _host):
        return "-"

    def pending(self, _host):
        return False

    def strays(self):
        return [f"led to another origin: {caught!r}" for caught in self.trap.caught]

    def uuid_of(self, _bmc):
        return UUID

    def secrets(self, _bmc):
        return ["not-to-be-told"]

    def device(self, bmc, /, **changes):
        server = self.server(bmc)
        if bmc.endswith("liar"):
            device = {"type": "redfish", "address": f"http://127.0.0.1:{server.server_address[1]}"}
        else:
            device = {"type": "ipmi", "address": f"127.0.0.1:{server.socket.getsockname()[1]}"}
        device |= {"username": "admin", "password": "not-to-be-told", **changes}
        return {key: value for key, value in device.items() if value is not None}
