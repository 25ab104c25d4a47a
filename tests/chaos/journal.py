"""The client: reports failures as Masakari's monitors do and keeps a journal of what was acknowledged; and lists, all the time, what is there."""

import json
import threading
import time
import uuid

from machines import Fault, until

STOPPED = {"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "NORMAL"}


class Journal:
    """Reports with their answers, listings with what they showed."""

    def __init__(self, site):
        self.site = site
        self.acks, self.refusals, self.listings = [], [], []
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._lister = None

    def send(self, engine, kind, host, payload, seconds=20):
        """One report to one engine; the id when it was acknowledged, else None."""
        body = {"notification": {"type": kind, "hostname": host, "generated_time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()), "payload": payload}}
        began = time.monotonic()
        try:
            status, answer = engine.call("POST", "/v1/notifications", body, seconds=seconds)
        except OSError as error:
            status, answer = 0, str(error)
        entry = {"began": began, "at": time.monotonic(), "engine": engine.name, "kind": kind, "host": host, "status": status}
        with self._lock:
            if status == 202:
                entry["id"] = answer["notification"]["notification_uuid"]
                self.acks.append(entry)
                return entry["id"]
            self.refusals.append({**entry, "text": str(answer)[:300]})
        return None

    def report_host(self, host, seconds=60, engines=None):
        """Reports a dead host until somebody acknowledges it, as a monitor does; a 409 means that somebody has."""
        end = time.monotonic() + seconds
        while True:
            for engine in engines or self.site.engines:
                if engine.process is None or not engine.process.lives():
                    continue
                found = self.send(engine, "COMPUTE_HOST", host, STOPPED, 10)
                if found:
                    return found
                if self.refusals[-1]["status"] == 409 and self.refusals[-1]["host"] == host:
                    return None
            if time.monotonic() > end:
                raise Fault(f"nobody took the report about {host}: {self.refusals[-3:]}")
            time.sleep(0.3)

    def chatter(self, count=20, host=None, engines=None):
        """Reports that ask for nothing: a process that runs again. Each is one more that must not be lost. How many were acknowledged."""
        host, taken = host or self.site.cloud.hosts()[-1], 0
        for at in range(count):
            crowd = [engine for engine in engines or self.site.engines if engine.process.lives()]
            if crowd:
                payload = {"event": "STARTED", "process_name": f"p-{uuid.uuid4().hex[:12]}"}
                taken += self.send(crowd[at % len(crowd)], "PROCESS", host, payload, 5) is not None
        return taken

    # ----------------------------------------------------------------------------------------------------- listings

    def list_once(self, engine, seconds=10):
        began, found, marker = time.monotonic(), {}, ""
        try:
            while True:
                status, answer = engine.call("GET", f"/v1/notifications?limit=500{marker}", seconds=seconds)
                if status != 200:
                    return None
                page = answer["notifications"]
                found.update((row["notification_uuid"], row["status"]) for row in page)
                if len(page) < 500:
                    break
                marker = f"&marker={page[-1]['notification_uuid']}"
        except (OSError, KeyError, TypeError):
            return None
        listing = {"began": began, "at": time.monotonic(), "engine": engine.name, "seen": found}
        with self._lock:
            self.listings.append(listing)
        return listing

    def start(self):
        def work():
            while not self._stop.wait(0.5):
                for engine in list(self.site.engines):
                    if engine.process and engine.process.lives() and not engine.process.frozen and engine.role != "engine":
                        self.list_once(engine, 3)

        self._lister = threading.Thread(target=work, daemon=True)
        self._lister.start()

    def stop(self):
        self._stop.set()
        if self._lister:
            self._lister.join()

    def quiet(self, seconds=60, well=("finished", "ignored", "failed")):
        """Waits until all that was acknowledged has ended, as some engine lists it; the last listing."""
        def look():
            for engine in self.site.engines:
                if engine.process and engine.process.lives() and not engine.process.frozen:
                    listing = self.list_once(engine)
                    if listing:
                        waiting = [ack for ack in self.acks if not ack.get("lost") and listing["seen"].get(ack["id"]) not in well]
                        return listing if not waiting else None
            return None

        try:
            return until("every acknowledged report has ended", look, seconds, 0.5)
        except Fault:
            last = self.listings[-1]["seen"] if self.listings else {}
            left = {ack["id"]: (ack["kind"], ack["host"], last.get(ack["id"])) for ack in self.acks if last.get(ack["id"]) not in well}
            raise Fault(f"reports that have not ended after {seconds} s: {json.dumps(left)}") from None
