"""One source: made by the original's own migrations, filled, imported twice, compared through the API's answers.

drive.py KIND OWNER_URL READER_URL HALBERD MASAKARI_MANAGE, in an empty directory. Every failed comparison ends it with what differed.
"""

import datetime
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid

import sqlalchemy as sa

KIND, OWNER, READER, HALBERD, MANAGE = sys.argv[1:6]
START = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901 if KIND != "mariadb" else 0)
TABLES = ["failover_segments", "hosts", "notifications", "vmoves"]


def said(text):
    print(f"[{KIND}] {text}", flush=True)


def equal(what, found, wanted):
    if found != wanted:
        sys.exit(f"[{KIND}] {what}: {found!r} is not {wanted!r}")


def wait_for(what, done):
    for _ in range(600):
        try:
            return done()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is said at the end
            last = error
            time.sleep(0.1)
    sys.exit(f"[{KIND}] {what} did not come up in a minute: {last}")


def minutes(n):
    return START + datetime.timedelta(minutes=n)


def rows():
    """Two segments (one deleted), six hosts (one deleted), 700 notifications (two batches and a bit), some of them open, moves."""
    made = {name: [] for name in TABLES}
    segments = [str(uuid.uuid4()) for _ in range(2)]
    for i, (segment, deleted) in enumerate(zip(segments, (0, 12))):
        made["failover_segments"].append(dict(
            id=11 + i, uuid=segment, name=f"Segment {i} äß世界", service_type="COMPUTE", enabled=i == 0,
            description=None if i else "with a\nline", recovery_method=("auto", "rh_priority")[i],
            created_at=minutes(i), updated_at=None, deleted_at=minutes(9) if deleted else None, deleted=deleted))
    hosts = [str(uuid.uuid4()) for _ in range(6)]
    for i, host in enumerate(hosts):
        deleted = 0 if i < 5 else 30 + i
        made["hosts"].append(dict(
            id=30 + i, uuid=host, name=f"cmp-{i}", reserved=i == 1, type="COMPUTE", control_attributes="SSH",
            failover_segment_id=segments[1 if deleted else 0], on_maintenance=i == 2,
            created_at=minutes(i), updated_at=minutes(20), deleted_at=minutes(30) if deleted else None, deleted=deleted))
    states = ["finished"] * 694 + ["ignored", "failed", "error", "running", "new", "finished"]
    for i, status in enumerate(states):
        about_host = i >= 690
        payload = ({"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "NORMAL"} if about_host else
                   {"event": "LIFECYCLE", "instance_uuid": str(uuid.uuid4()), "vir_domain_event": "STOPPED_FAILED"})
        made["notifications"].append(dict(
            id=100 + i, notification_uuid=str(uuid.uuid4()), generated_time=minutes(i), source_host_uuid=hosts[i % 6],
            type="COMPUTE_HOST" if about_host else "VM", payload=json.dumps(payload), status=status,
            failover_segment_uuid=None if i % 2 else segments[1 if i % 6 == 5 else 0], message="said" if i == 5 else None,
            created_at=minutes(i), updated_at=minutes(i + 1) if i % 3 else None, deleted_at=None, deleted=0))
    for i in range(40):
        of = made["notifications"][690 + i % 10]
        status = ["succeeded", "failed", "ongoing", "pending"][i % 4]
        made["vmoves"].append(dict(
            id=5000 + i, uuid=str(uuid.uuid4()), notification_uuid=of["notification_uuid"], instance_uuid=str(uuid.uuid4()),
            instance_name=f"guest-{i}", source_host="cmp-0", dest_host="cmp-1" if status == "succeeded" else None,
            start_time=minutes(700), end_time=minutes(701) if i % 4 < 2 else None, type="evacuation", status=status,
            message=None, created_at=minutes(700), updated_at=None, deleted_at=None, deleted=0))
    return made


def fingerprint(engine):
    """Everything in the source: every row of every table, and for a file its bytes and its neighbours."""
    digest = hashlib.sha256()
    if KIND == "sqlite":
        path = OWNER.removeprefix("sqlite:///")
        folder = os.path.dirname(path)
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), "rb") as file:
                digest.update(name.encode() + file.read())
        stat = os.stat(path)
        digest.update(str((stat.st_mtime_ns, stat.st_size)).encode())
        return digest.hexdigest()
    with engine.connect() as on:
        for table in sorted(sa.inspect(on).get_table_names()):
            for row in sorted(map(repr, on.execute(sa.text(f"SELECT * FROM {table}")))):
                digest.update(f"{table}{row}".encode())
    return digest.hexdigest()


def halberd(*arguments, expect=0):
    done = subprocess.run([HALBERD, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != expect:
        sys.exit(f"[{KIND}] halberd {arguments} ended with {done.returncode}: {done.stderr}{done.stdout}")
    for secret in ("p@ss", "p%40ss", "owner-password"):
        if secret in done.stdout + done.stderr:
            sys.exit(f"[{KIND}] a password is shown: {done.stdout}{done.stderr}")
    return done.stdout if expect == 0 else done.stderr


def take(*more):
    return json.loads(halberd("db", "import-masakari", "masakari.conf", "--config", "halberd.toml", "--format", "json", *more))


def shown(at):
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f") if at else None


class Api:
    def __init__(self, port):
        self.base = f"http://127.0.0.1:{port}/v1"

    def get(self, path):
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self.base + path, timeout=30) as answer:
            return json.load(answer)

    def walk(self, path, key, sep="?"):
        """Page by page, with the integer id as the marker, as the SDK does."""
        found, marker = [], ""
        while True:
            page = self.get(f"{path}{sep}limit=97&sort_key=id&sort_dir=asc{marker}")[key]
            if not page:
                return found
            found += page
            marker = f"&marker={page[-1]['id']}"


def compare(api, made):
    living = [row for row in made["failover_segments"] if not row["deleted"]]
    for found, row in zip(api.walk("/segments", "segments"), living, strict=True):
        for key in ("id", "uuid", "name", "service_type", "enabled", "description", "recovery_method"):
            equal(f"segment {key}", found[key], row[key])
        equal("segment created_at", found["created_at"], shown(row["created_at"]))
        hosts = [host for host in made["hosts"] if host["failover_segment_id"] == row["uuid"]]
        for host, wanted in zip(api.walk(f"/segments/{row['uuid']}/hosts", "hosts"), hosts, strict=True):
            for key in ("id", "uuid", "name", "reserved", "type", "control_attributes", "failover_segment_id", "on_maintenance"):
                equal(f"host {key}", host[key], wanted[key])
            equal("host updated_at", host["updated_at"], shown(wanted["updated_at"]))
    for found, row in zip(api.walk("/notifications", "notifications"), made["notifications"], strict=True):
        for key in ("id", "notification_uuid", "source_host_uuid", "type"):
            equal(f"notification {key}", found[key], row[key])
        equal("payload", found["payload"], json.loads(row["payload"]))
        equal("generated_time", found["generated_time"], shown(row["generated_time"]))
        equal("updated_at", found["updated_at"], shown(row["updated_at"]))
        if row["status"] in ("new", "running", "error"):
            equal("status of an open one", found["status"], "failed")
            assert "No recovery was started" in found["message"], found
        else:
            equal("status", found["status"], row["status"])
            equal("message", found["message"], row["message"])
        host = next(host for host in made["hosts"] if host["uuid"] == row["source_host_uuid"])
        equal("failover_segment_uuid", found["failover_segment_uuid"], host["failover_segment_id"])
        if row["type"] != "COMPUTE_HOST":
            continue
        under = f"/notifications/{row['notification_uuid']}"
        wanted = [vmove for vmove in made["vmoves"] if vmove["notification_uuid"] == row["notification_uuid"]]
        for vmove, of in zip(api.walk(f"{under}/vmoves", "vmoves"), wanted, strict=True):
            for key in ("id", "uuid", "instance_uuid", "instance_name", "source_host", "dest_host", "type"):
                equal(f"vmove {key}", vmove[key], of[key])
            open_here = of["status"] in ("pending", "ongoing")
            equal("vmove status", vmove["status"], "failed" if open_here else of["status"])
            equal("vmove item", api.get(f"{under}/vmoves/{of['uuid']}")["vmove"]["id"], of["id"])
            equal("vmove start_time", vmove["start_time"], shown(of["start_time"]))


def serve():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open("halberd.toml", "w", encoding="utf-8") as file:
        file.write(f'[api]\nauth = "none"\nlisten = "127.0.0.1:{port}"\n[database]\nurl = "sqlite:halberd.db"\n')
    with open("serve.log", "w", encoding="utf-8") as log:
        running = subprocess.Popen([HALBERD, "serve", "--config", "halberd.toml"], stderr=log)
    api = Api(port)
    wait_for("halberd serve", lambda: api.get("/segments"))
    return running, api


def main():
    engine = sa.create_engine(OWNER)
    wait_for("the source's server", lambda: engine.connect().close())
    conf = "[DEFAULT]\nlog_file = manage.log\n[database]\nconnection = {0}\n[taskflow]\nconnection = {0}\n"
    with open("owner.conf", "w", encoding="utf-8") as file:
        file.write(conf.format(OWNER))
    with open("masakari.conf", "w", encoding="utf-8") as file:
        file.write(conf.format(READER))
    done = subprocess.run([MANAGE, "--config-file", "owner.conf", "db", "sync"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"[{KIND}] masakari-manage db sync: {done.stderr}{done.stdout}")
    made = rows()
    meta = sa.MetaData()
    meta.reflect(engine, only=TABLES)
    with engine.begin() as on:
        if KIND == "postgresql":
            on.execute(sa.text("CREATE ROLE reader LOGIN PASSWORD 'p@ss/w%rd'"))
            on.execute(sa.text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"))
        for name in TABLES:
            on.execute(sa.insert(meta.tables[name]), made[name])
    before = fingerprint(engine)

    with open("halberd.toml", "w", encoding="utf-8") as file:
        file.write('[api]\nauth = "none"\n[database]\nurl = "sqlite:halberd.db"\n')
    rehearsal = take("--dry-run")
    equal("a database after a rehearsal", os.path.exists("halberd.db"), False)
    running, api = serve()
    try:
        began = time.monotonic()
        report = take()
        said(f"imported beside a running halberd in {time.monotonic() - began:.2f} s")
        equal("rehearsal and import", {**rehearsal, "dry_run": False}, report)
        equal("left", report["left"], [])
        equal("taken", [report[name]["taken"] for name in ("segments", "hosts", "notifications", "vmoves")], [2, 6, 700, 40])
        equal("unfinished", [row["status"] for row in report["unfinished"]], ["error", "running", "new"])
        equal("on maintenance", [row["host"] for row in report["on_maintenance"]], ["cmp-2"])
        compare(api, made)
        again = take()
        equal("taken twice", [again[name]["taken"] + again[name]["changed"] for name in ("segments", "hosts", "notifications", "vmoves")], [0] * 4)
        equal("the source after three readings", fingerprint(engine), before)

        # Masakari goes on: a report ends, a host leaves maintenance, a segment is renamed.
        with engine.begin() as on:
            on.execute(sa.text("UPDATE notifications SET status = 'finished' WHERE id = 797"))
            on.execute(sa.text("UPDATE hosts SET on_maintenance = :off WHERE id = 32"), {"off": False})
            on.execute(sa.text("UPDATE failover_segments SET name = 'renamed' WHERE id = 11"))
        for table, key, value, number in [("notifications", "status", "finished", 797), ("hosts", "on_maintenance", False, 32),
                                          ("failover_segments", "name", "renamed", 11)]:
            next(row for row in made[table] if row["id"] == number)[key] = value
        changed = take()
        equal("changed", [changed[name]["changed"] for name in ("segments", "hosts", "notifications")], [1, 1, 1])
        compare(api, made)
        # A month of the half day that is there is all; nothing is older than a long time.
        equal("older", take("--since", "36500")["older"], 0)
        if KIND != "sqlite":
            wrong = READER.replace("p%40ss", "wrong")
            error = halberd("db", "import-masakari", wrong, "--config", "halberd.toml", expect=1)
            assert "refuses us" in error and "wrong%2F" not in error, error
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(30)
    equal("audit", "verify" in halberd("db", "check", "--config", "halberd.toml"), True)
    said("passed")


main()
