"""Leads Schemathesis to what exists.

A generated uuid names nothing, a generated host is unknown to Nova, and the answer would be 404 or 400 for ever. So before each call most of the
well-formed ids and names are exchanged for existing ones, chosen by the generated value and the number of the choice, so that a seed still
repeats its run. One in so many is left as it is, and what is malformed always is.

And nothing leaves this machine: a fence device's address is that of a simulated BMC.
"""

import atexit
import collections
import datetime
import json
import os
import pathlib
import urllib.error
import uuid
import zlib

import schemathesis

from cloud import call

URL = os.environ["SCHEMA_URL"]
COMPUTES = os.environ["SCHEMA_COMPUTES"].split()
UNFENCED = os.environ["SCHEMA_UNFENCED"]
BMC = json.loads(os.environ["SCHEMA_BMC"])
# How many calls one look at the lists serves.
LOOK_EVERY = 20
PROJECT = "0f9e"


class Known:
    """Ids that exist now, by the names they have in paths; pairs where one stands under another."""

    def __init__(self):
        self.calls, self.choices, self.wishes = 0, 0, []

    def look(self):
        self.calls += 1
        if self.calls % LOOK_EVERY != 1:
            return
        # The oldest: what the stage was set with, and so what has a history.
        order = "sort_key=id&sort_dir=asc&limit=10"
        segments = call(f"{URL}/v1/segments?{order}")["segments"]
        self.segments = [it["uuid"] for it in segments]
        hosts = [
            it for segment in self.segments for it in call(f"{URL}/v1/segments/{segment}/hosts?{order}")["hosts"]
        ]
        self.hosts = [(it["failover_segment_id"], it["uuid"]) for it in hosts]
        self.host_names = [it["name"] for it in hosts]
        notifications = call(f"{URL}/v1/notifications?{order}")["notifications"]
        self.notifications = [it["notification_uuid"] for it in notifications]
        self.vmoves = [
            (it["notification_uuid"], move["uuid"])
            for it in notifications
            if it["type"] == "COMPUTE_HOST"
            for move in call(f"{URL}/v1/notifications/{it['notification_uuid']}/vmoves?limit=3")["vmoves"]
        ]
        recoveries = call(f"{URL}/halberd/v1/recoveries?limit=10")["items"]
        asking = [it["id"] for it in recoveries if it["state"] in ("confirming", "held", "needs_operator")]
        if not asking:
            self.report_unfenced()
        # What may be cancelled and released is chosen as often as all the others.
        self.recoveries = [it["id"] for it in recoveries] + asking * len(recoveries)

    def report_unfenced(self):
        payload = {"event": "STOPPED", "host_status": "NORMAL", "cluster_status": "OFFLINE"}
        when = datetime.datetime.now(datetime.timezone.utc).isoformat()
        body = {"type": "COMPUTE_HOST", "hostname": UNFENCED, "generated_time": when, "payload": payload}
        try:
            call(f"{URL}/v1/notifications", "POST", {"notification": body})
        except urllib.error.HTTPError as refused:
            # A generated request may have put it on maintenance, or deleted it.
            print(f"{UNFENCED} was not reported again: {refused}")


KNOWN = Known()


def choose(value, among):
    """One of `among`, or None: then the value stays. Another one at each call, as generated ids are often the same few."""
    KNOWN.choices += 1
    place = zlib.crc32(f"{KNOWN.choices} {value}".encode()) % (len(among) + 1)
    return among[place] if place < len(among) else None


def is_uuid(value):
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


def lead_path(path, case):
    """The first of everything keeps its fence device and is never deleted, so that others find it."""
    found = case.path_parameters
    first = 1 if case.method == "DELETE" or (case.method == "PUT" and path.endswith("/fence-devices")) else 0

    def one(name, among):
        if is_uuid(found.get(name)) and (chosen := choose(found[name], among)):
            found[name] = chosen

    def pair(first, second, among):
        if is_uuid(found.get(first)) and is_uuid(found.get(second)) and (chosen := choose(found[second], among)):
            found[first], found[second] = chosen

    if "{host}" in path:
        pair("segment", "host", KNOWN.hosts[first:])
    elif "{vmove}" in path:
        pair("notification", "vmove", KNOWN.vmoves)
    elif path.endswith(("/fence-devices/check", "/fence-test", "/power-on")):
        one("uuid", [host for _, host in KNOWN.hosts[:1]])
    elif path.startswith("/hosts/"):
        one("uuid", [host for _, host in KNOWN.hosts[first:]])
    elif path.startswith("/segments/{uuid}"):
        one("uuid", KNOWN.segments)
    elif path.startswith("/recoveries/"):
        one("id", KNOWN.recoveries)
    elif path.startswith("/wishes/"):
        one("id", KNOWN.wishes)
    else:
        one("segment", KNOWN.segments[first:])
        # Only a host's notification has moves; others are as many by then.
        moved = [notification for notification, _ in KNOWN.vmoves] if path.endswith("/vmoves") else []
        one("notification", KNOWN.notifications + moved * len(KNOWN.notifications))


def lead_body(body):
    inner = body.get("host") or body.get("notification") if isinstance(body, dict) else None
    if isinstance(inner, dict):
        for key, among in (("name", COMPUTES), ("hostname", KNOWN.host_names)):
            if isinstance(inner.get(key), str) and (chosen := choose(inner[key], among)):
                inner[key] = chosen


def stay_here(value):
    """Addresses anywhere in a body become that of a simulated BMC."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("address", "bmc") and isinstance(inner, str):
                value[key] = BMC["address"]
            else:
                stay_here(inner)
    elif isinstance(value, list):
        for inner in value:
            stay_here(inner)


def under_a_project(case):
    """One in eight goes to the same path under a project's id, which is the same there."""
    if case.path.startswith("/v1/") and case.path != "/v1/" and zlib.crc32(case.id.encode()) % 8 == 0:
        case.path = case.path.replace("/v1/", f"/v1/{PROJECT}/", 1)
        case.headers["X-Project-Id"] = PROJECT


@schemathesis.hook
def before_call(context, case, **_):
    KNOWN.look()
    lead_path(case.path, case)
    if case.path == "/events" and case.query.get("format", "sse") == "sse":
        # A stream never ends; the API's own tests read it. Here it is asked for its page of JSON.
        case.query["format"] = "json"
    lead_body(case.body)
    stay_here(case.body)
    under_a_project(case)


TALLY = collections.defaultdict(collections.Counter)


@schemathesis.hook
def after_call(context, case, response):
    own = case.method.upper() == case.operation.method.upper()
    if own:
        TALLY[case.operation.label][response.status_code] += 1
    if f"/v1/{PROJECT}/" in response.request.url:
        TALLY["under a project's id"][response.status_code] += 1
    if response.status_code == 202 and "/halberd/v1/" in response.request.url:
        found = json.loads(response.content)
        if is_uuid(found.get("id")):
            KNOWN.wishes = [found["id"], *KNOWN.wishes][:5]


@atexit.register
def tell():
    pathlib.Path(os.environ["SCHEMA_TALLY"]).write_text(json.dumps(TALLY, indent=1, sort_keys=True))
