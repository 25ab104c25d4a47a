"""A recording proxy between the dashboard and the API: what the unmodified client really sends, and what it gets."""

import dataclasses
import http.client
import http.server
import threading

HOP = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade"}


@dataclasses.dataclass(frozen=True)
class Exchange:
    method: str
    path: str
    version: str
    body: str
    status: int
    answer: str

    def __str__(self):
        version = f" [{self.version}]" if self.version else ""
        body = f" {self.body}" if self.body else ""
        return f"{self.method} {self.path}{version}{body} -> {self.status}"


class Wire:
    """Listens on a loopback port of its own; `exchanges` grows while it is open."""

    def __init__(self, behind):
        self.exchanges = []
        wire, host = self, behind.removeprefix("http://")

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
                link = http.client.HTTPConnection(host, timeout=60)
                link.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in headers.items():
                    link.putheader(name, value)
                link.endheaders(body or None)
                answer = link.getresponse()
                text = answer.read()
                link.close()
                version = headers.get("OpenStack-API-Version", "")
                wire.exchanges.append(
                    Exchange(self.command, self.path, version, body.decode(), answer.status, text.decode())
                )
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in HOP | {"content-length"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = forward

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
