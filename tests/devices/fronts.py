"""TLS in front of a Redfish service, with certificates that end when we like. fence_redfish speaks nothing else, our simulated BMCs speak HTTP;
and no simulator presents a certificate that is about to end.
"""

import datetime
import hashlib
import socket
import ssl
import subprocess
import threading
import urllib.parse

CONFIG = """
[ca]
default_ca = own
[own]
database = {work}/index.txt
new_certs_dir = {work}
serial = {work}/serial
default_md = sha256
policy = anyone
unique_subject = no
[anyone]
commonName = supplied
"""
# When a certificate ends, in days from now. 10: within every notion of "soon".
ENDS = {"soon": 10, "ended": -10, "late": 300}


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class Certificates:
    """An authority and one certificate of each kind."""

    def __init__(self, work):
        self.work = work
        work.mkdir()
        self.authority, self.key = work / "ca.pem", work / "front.key"
        (work / "index.txt").touch()
        (work / "serial").write_text("01\n")
        (work / "ca.cnf").write_text(CONFIG.format(work=work))
        (work / "ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        ca = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 400, "-subj", "/CN=authority", *ca,
                "-keyout", work / "ca.key", "-out", self.authority)
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=front", "-keyout", self.key, "-out", work / "csr")
        for kind, days in ENDS.items():
            self.issue(kind, datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days))

    def issue(self, kind, end):
        def stamp(when):
            return when.strftime("%Y%m%d%H%M%SZ")

        openssl("ca", "-batch", "-notext", "-config", self.work / "ca.cnf", "-cert", self.authority, "-keyfile", self.work / "ca.key",
                "-in", self.work / "csr", "-extfile", self.work / "ext", "-out", self.of(kind),
                "-startdate", stamp(end - datetime.timedelta(days=30)), "-enddate", stamp(end))

    def of(self, kind):
        return self.work / f"{kind}.pem"

    def fingerprint(self, kind):
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.of(kind).read_text())).hexdigest()


class Front:
    """Listens with a certificate of this kind until stopped, and passes on what it hears, to http or https."""

    def __init__(self, certificates, kind, url):
        parts = urllib.parse.urlsplit(url)
        self.behind = parts.hostname, parts.port
        self.inner = ssl._create_unverified_context() if parts.scheme == "https" else None
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificates.of(kind), certificates.key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.listen, daemon=True).start()

    def stop(self):
        self.listener.close()

    def listen(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return  # stopped
            threading.Thread(target=self.serve, args=(plain,), daemon=True).start()

    def serve(self, plain):
        try:
            with self.context.wrap_socket(plain, server_side=True) as near, self.connect() as far:
                back = threading.Thread(target=pump, args=(far, near), daemon=True)
                back.start()
                pump(near, far)
                back.join()
        except OSError:
            pass  # the client hung up: its own affair, and it says so

    def connect(self):
        far = socket.create_connection(self.behind)
        return self.inner.wrap_socket(far) if self.inner else far


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass
