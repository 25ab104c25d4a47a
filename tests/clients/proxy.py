"""A reverse proxy as it stands before an API: takes a path prefix off, says so in X-Forwarded-* headers, keeps the Host header, and
writes each request's line to its standard error. Prints its port, then reads where to send requests from standard input, and ends with it.

    proxy.py PREFIX
"""

import http.client
import http.server
import os
import sys
import threading
import urllib.parse

PREFIX = sys.argv[1]
upstream = None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        sys.stderr.write(f"{self.command} {self.path}\n")
        sys.stderr.flush()
        if not self.path.startswith(PREFIX):
            self.send_error(404)
            return
        path = self.path[len(PREFIX) :] or "/"
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = dict(self.headers.items())
        headers |= {"X-Forwarded-Proto": "http", "X-Forwarded-Host": headers["Host"], "X-Forwarded-Prefix": PREFIX}
        connection = http.client.HTTPConnection(upstream)
        connection.request(self.command, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        connection.close()

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
upstream = urllib.parse.urlsplit(sys.stdin.readline().strip()).netloc
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)
