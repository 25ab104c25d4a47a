"""Stands before the simulated cloud, on its machine: passes everything on, and writes down each call that would change something.

The simulated cloud listens on loopback; here it gets an address that engines on other machines reach, and the addresses that it names in its
answers are changed to that one. Before a call goes on, the harness is asked what the database says at that very moment (`witness`): so that
an intent was committed before its deed is seen and not computed from anybody's clock.

    recorder.py SPEC    a JSON file: own address, doors (port, kind, host), where to write, the witness's socket
"""

import http.client
import json
import re
import select
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "upgrade"}
# Nova's words for actions on a server, and the effects that may stand behind each.
ACTIONS = {
    "evacuate": ["evacuate"],
    "lock": ["lock"],
    "unlock": ["unlock"],
    "os-resetState": ["reset_to_error", "reset_to_active"],
    "os-stop": ["stop"],
    "os-start": ["start"],
}
# Resets of a machine.
RESETS = {"ForceOff": ["power_off"], "On": ["power_on"]}


def deed_of(kind, host, method, path, body, services):
    """What a call would do: its word, the effects that may have meant it, guest or host. None for what changes nothing outside."""
    try:
        said = json.loads(body) if body else {}
    except ValueError:
        said = {}
    if kind == "redfish":
        if method == "POST" and path.endswith("ComputerSystem.Reset"):
            word = said.get("ResetType", "?")
            return {"deed": f"power {word}", "effects": RESETS.get(word, []), "host": host}
        if method == "PATCH":
            return {"deed": "restore policy", "effects": ["power_off", "restore_policy"], "host": host}
        return None
    action = re.search(r"/servers/([0-9a-f-]{36})/action$", path)
    if method == "POST" and action:
        word = next(iter(said), "?")
        return {"deed": word, "effects": ACTIONS.get(word, []), "guest": action[1]}
    service = re.search(r"/os-services/([^/]+)$", path)
    if method == "PUT" and service:
        name = services.get(service[1])
        if said.get("forced_down") is True:
            return {"deed": "force down", "effects": ["mark_down"], "host": name}
        if said.get("forced_down") is False:
            return {"deed": "force up", "effects": ["force_up"], "host": name}
        if said.get("status") == "disabled":
            return {"deed": "disable", "effects": ["disable", "mark_down"], "host": name}
        return {"deed": "enable", "effects": ["enable", "prepare_reserved"], "host": name}
    if method not in ("GET", "HEAD", "OPTIONS") and "/compute" in path:
        return {"deed": f"{method} {path}", "effects": [], "host": None}
    return None


class Book:
    """The history: a line for each deed when it comes, and one when it was answered."""

    def __init__(self, path, witness):
        self._file = open(path, "a", buffering=1)
        self._witness = witness
        self._lock = threading.Lock()
        self._count = 0

    def arrived(self, deed):
        with self._lock:
            self._count += 1
            number = self._count
        deed = {"n": number, "at": time.monotonic(), **deed, "seen": self._ask(deed)}
        self._write({"arrived": deed})
        return number

    def answered(self, number, status, text):
        self._write({"answered": {"n": number, "at": time.monotonic(), "status": status, "text": text[:300]}})

    def _write(self, line):
        with self._lock:
            self._file.write(json.dumps(line) + "\n")

    def _ask(self, deed):
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(6)
                line.connect(self._witness)
                line.sendall(json.dumps(deed).encode() + b"\n")
                return json.loads(line.makefile().readline())
        except (OSError, ValueError) as error:
            return {"blind": str(error)}


def handler(door, address, book, services):
    port, kind, host = door["port"], door["kind"], door.get("host")
    loopback, outside = re.compile(rb"127\.0\.0\.1:"), f"{address}:".encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_):
            pass

        def _pass(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            deed = deed_of(kind, host, self.command, self.path.split("?")[0], body, services)
            number = None
            if deed:
                said = body.decode(errors="replace")
                number = book.arrived({**deed, "from": self.client_address[0], "id": self.headers.get("X-OpenStack-Request-ID"), "said": said})
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
            upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
            try:
                upstream.request(self.command, self.path, body or None, headers)
                answer = upstream.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                if number:
                    book.answered(number, 0, str(error))
                self.close_connection = True
                return
            finally:
                upstream.close()
            if number:
                book.answered(number, answer.status, data.decode(errors="replace"))
            if "/os-services" in self.path and answer.status == 200:
                self._learn(data)
            data = loopback.sub(outside, data)
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, loopback.sub(outside, value.encode()).decode())
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def _learn(self, data):
            try:
                for row in json.loads(data).get("services", ()):
                    services[str(row["id"])] = row["host"]
            except (ValueError, KeyError, AttributeError):
                pass

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _pass

    return Handler


class Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """Callers are killed and frozen here; that they went away is no news."""


def datagrams(address, port):
    """Passes an IPMI door's datagrams on: a socket of its own for each caller."""
    door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    door.bind((address, port))
    callers, whose = {}, {}
    while True:
        for ready in select.select([door, *whose], [], [])[0]:
            try:
                if ready is door:
                    data, caller = door.recvfrom(65535)
                    if caller not in callers:
                        callers[caller] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        callers[caller].connect(("127.0.0.1", port))
                        whose[callers[caller]] = caller
                    callers[caller].send(data)
                else:
                    door.sendto(ready.recv(65535), whose[ready])
            except OSError:
                pass


def main():
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    book, services = Book(spec["history"], spec["witness"]), {}
    for door in spec["doors"]:
        if door["kind"] == "ipmi":
            work = threading.Thread(target=datagrams, args=(spec["address"], door["port"]), daemon=True)
        else:
            server = Quiet((spec["address"], door["port"]), handler(door, spec["address"], book, services))
            work = threading.Thread(target=server.serve_forever, daemon=True)
        work.start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
