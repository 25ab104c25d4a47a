"""`openstack notification ...` for reports on which nothing is to be done; what follows a real failure is test_recovery's."""

import datetime
import itertools
import json
import unittest

import cloud
from clients import NOBODY, TIME, UUID, Case, at_least

SHOWN = ["created_at", "updated_at", "notification_uuid", "type", "status", "source_host_uuid", "generated_time", "payload"]
LISTED = ["notification_uuid", "generated_time", "status", "type", "source_host_uuid", "payload"]
# Reported by libvirt for every stop that a user wished: nothing is done about it.
WISHED = {"event": "LIFECYCLE", "vir_domain_event": "STOPPED_DESTROYED"}
NUMBERS = itertools.count(1)


def now(seconds=0):
    moment = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")


def guest():
    return f"00000000-0000-4000-8000-{next(NUMBERS):012}"


class Notifications(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.segment, cls.hosts = cls.site.make_segment("s", ["cmp-01", "cmp-02", "cmp-03", "cmp-04"])

    def report(self, kind, host, payload, at=None, **options):
        return self.good("notification", "create", kind, host, at or now(), json.dumps(payload), **options)

    def refused(self, says, kind, host, payload, at=None, **options):
        text = payload if isinstance(payload, str) else json.dumps(payload)
        self.bad(says, "notification", "create", kind, host, at or now(), text, **options)

    def test_create_shows_all_fields(self):
        payload = {**WISHED, "instance_uuid": guest()}
        made = self.report("VM", "cmp-01", payload, at="2026-01-01T01:00:00.000", version="1.0")
        self.assertEqual(list(made), SHOWN)
        self.assertRegex(made["created_at"], TIME)
        self.assertRegex(made["notification_uuid"], UUID)
        self.assertIn(made["status"], ["new", "running", "ignored"])
        self.assertEqual(made["generated_time"], "2026-01-01T01:00:00.000000")
        self.assertEqual((made["type"], made["source_host_uuid"], made["payload"]), ("VM", self.hosts["cmp-01"], payload))

    def test_what_needs_nothing_ends_ignored(self):
        made = self.report("VM", "cmp-01", {**WISHED, "instance_uuid": guest()})
        shown = self.ended(made["notification_uuid"])
        self.assertEqual((shown["status"], shown["recovery_workflow_details"]), ("ignored", []))
        made = self.report("COMPUTE_HOST", "cmp-01", {"event": "STOPPED", "host_status": "UNKNOWN", "cluster_status": "OFFLINE"})
        self.assertEqual(self.ended(made["notification_uuid"])["status"], "ignored")
        made = self.report("COMPUTE_HOST", "cmp-01", {"event": "STARTED", "host_status": "NORMAL"})
        self.assertEqual(self.ended(made["notification_uuid"])["status"], "finished")
        made = self.report("PROCESS", "cmp-01", {"event": "STARTED", "process_name": "nova-compute"})
        self.assertEqual(self.ended(made["notification_uuid"])["status"], "finished")

    def ended(self, uuid):
        def look():
            shown = self.good("notification", "show", uuid)
            return shown if shown["status"] not in ("new", "running") else None

        return cloud.until(f"{uuid} ends", look, 30)

    def test_columns_by_version(self):
        uuid = self.report("VM", "cmp-01", {**WISHED, "instance_uuid": guest()})["notification_uuid"]
        self.ended(uuid)
        for version, details in [("1", False), ("1.0", False), ("1.1", True), ("1.2", True), (None, True)]:
            with self.subTest(version=version):
                shown = self.good("notification", "show", uuid, version=version)
                self.assertEqual(list(shown), [*SHOWN, "recovery_workflow_details"] if details else SHOWN)

    @at_least("1.3")
    def test_columns_at_1_3(self):
        uuid = self.report("VM", "cmp-01", {**WISHED, "instance_uuid": guest()}, version="1.3")["notification_uuid"]
        self.assertEqual(list(self.good("notification", "show", uuid, version="1.3")), [*SHOWN, "recovery_workflow_details"])

    def test_not_found(self):
        self.bad(f"Notification not found: {NOBODY}", "notification", "show", NOBODY)
        self.bad("Notification not found: nowhere", "notification", "show", "nowhere")

    def test_duplicates(self):
        payload = {**WISHED, "instance_uuid": guest()}
        before = len(self.api("/v1/notifications")["notifications"])
        self.report("VM", "cmp-01", payload)
        self.refused(409, "VM", "cmp-01", payload)
        self.refused(409, "VM", "cmp-01", payload, at=now(170))
        self.refused(409, "VM", "cmp-01", payload, at="2020-01-01T00:00:00")
        self.report("VM", "cmp-02", payload)
        self.report("VM", "cmp-01", {**payload, "instance_uuid": guest()})
        self.assertEqual(len(self.api("/v1/notifications")["notifications"]), before + 3)

    def test_maintenance(self):
        self.good("segment", "host", "update", "s", "cmp-03", "--on_maintenance", "True")
        vm = {**WISHED, "instance_uuid": guest()}
        stopped = {"event": "STOPPED", "host_status": "NORMAL", "cluster_status": "OFFLINE"}
        self.refused(409, "VM", "cmp-03", vm)
        self.refused(409, "COMPUTE_HOST", "cmp-03", stopped)
        self.refused(409, "COMPUTE_HOST", "cmp-03", {**stopped, "event": "STARTED"})
        self.refused(409, "PROCESS", "cmp-03", {"event": "STOPPED", "process_name": "x"})
        self.good("segment", "host", "update", "s", "cmp-03", "--on_maintenance", "False")
        self.report("VM", "cmp-03", vm)

    def test_refused_payloads(self):
        vm = {**WISHED, "instance_uuid": guest()}
        table = [
            ("VM", {}),
            ("VM", {**vm, "instance_uuid": "no uuid"}),
            ("VM", {**vm, "more": "x"}),
            ("VM", {**vm, "event": ""}),
            ("VM", {**vm, "event": "e" * 256}),
            ("VM", {**vm, "event": 7}),
            ("VM", {"event": "LIFECYCLE", "instance_uuid": guest()}),
            ("COMPUTE_HOST", {}),
            ("COMPUTE_HOST", {"event": "stopped", "host_status": "NORMAL"}),
            ("COMPUTE_HOST", {"event": "STOPPED", "host_status": "DEAD"}),
            ("COMPUTE_HOST", {"event": "STOPPED", "cluster_status": "AWAY"}),
            ("PROCESS", {"event": "STOPPED"}),
            ("PROCESS", {"event": "KILLED", "process_name": "x"}),
            ("PROCESS", {"event": "STOPPED", "process_name": "p" * 256}),
            ("PROCESS", ["STOPPED"]),
        ]
        for kind, payload in table:
            with self.subTest(kind=kind, payload=payload):
                self.refused(400, kind, "cmp-01", payload)

    def test_refused_reports(self):
        vm = {**WISHED, "instance_uuid": guest()}
        self.refused(400, "VM", "no-such-host", vm)
        self.refused(400, "VM", "cmp-05", vm)  # Nova knows it, no segment does
        self.refused(400, "VM", "cmp 01", vm)
        self.refused(400, "VM", "cmp-01 🐦", vm)
        for at in ["yesterday", "2026-13-01T00:00:00", "1700000000"]:
            with self.subTest(at=at):
                self.refused(400, "VM", "cmp-01", vm, at=at)
        self.refused("invalid choice", "HOST", "cmp-01", vm)
        self.refused("(?i)expecting|json", "VM", "cmp-01", "{no json")

    def test_times_are_taken_as_the_original_takes_them(self):
        table = [
            ("2026-01-02", "2026-01-02T00:00:00.000000"),
            ("2026-01-02 03:04:05", "2026-01-02T03:04:05.000000"),
            ("2026-01-02T03:04:05.25", "2026-01-02T03:04:05.250000"),
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000"),
            ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05.000000"),
        ]
        for given, shown in table:
            with self.subTest(given=given):
                made = self.report("VM", "cmp-01", {**WISHED, "instance_uuid": guest()}, at=given)
                self.assertEqual(made["generated_time"], shown)

    def test_who_may(self):
        vm = {**WISHED, "instance_uuid": guest()}
        self.refused(403, "VM", "cmp-01", vm, user="tenant")
        self.bad(403, "notification", "list", user="auditor")
        self.report("VM", "cmp-01", vm, user="monitor")

    def test_no_vmoves_here(self):
        uuid = self.report("VM", "cmp-01", {**WISHED, "instance_uuid": guest()})["notification_uuid"]
        for path, status in [
            (f"/v1/notifications/{uuid}/vmoves", 400),
            (f"/v1/notifications/{NOBODY}/vmoves", 404),
            (f"/v1/notifications/{NOBODY}/vmoves/{NOBODY}", 404),
        ]:
            self.assertEqual(self.site.call("GET", path)[0], status, path)

    @at_least("1.3")
    def test_vmove_commands_without_vmoves(self):
        uuid = self.report("VM", "cmp-01", {**WISHED, "instance_uuid": guest()})["notification_uuid"]
        self.bad(400, "notification", "vmove", "list", uuid)
        self.bad(404, "notification", "vmove", "list", NOBODY)
        self.bad(f"VMove {NOBODY} is not found|404", "notification", "vmove", "show", NOBODY, NOBODY)


class Lists(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.segment, cls.hosts = cls.site.make_segment("s", ["cmp-01", "cmp-02"])
        rows = [
            ("VM", "cmp-01", "2026-01-01T00:00:00", {**WISHED, "instance_uuid": guest()}),
            ("VM", "cmp-02", "2026-01-02T00:00:00", {**WISHED, "instance_uuid": guest()}),
            ("PROCESS", "cmp-01", "2026-01-03T00:00:00", {"event": "STARTED", "process_name": "x"}),
            ("COMPUTE_HOST", "cmp-02", "2026-01-04T00:00:00", {"event": "STARTED", "host_status": "NORMAL"}),
        ]
        cls.ids, cls.numbers = [], {}
        for number, (kind, host, at, payload) in enumerate(rows, 1):
            body = {"notification": {"type": kind, "hostname": host, "generated_time": at, "payload": payload}}
            status, _, made = cls.site.call("POST", "/v1/notifications", body)
            assert status == 202, made
            cls.ids.append(made["notification"]["id"])
            cls.numbers[made["notification"]["notification_uuid"]] = number
        cloud.until("all are ended", lambda: all(row["status"] not in ("new", "running") for row in cls.site.notifications()))

    def list(self, *words):
        return [self.numbers[row["notification_uuid"]] for row in self.good("notification", "list", *words)]

    def test_columns_and_order(self):
        rows = self.good("notification", "list")
        self.assertEqual([list(row) for row in rows], [LISTED] * 4)
        self.assertEqual([self.numbers[row["notification_uuid"]] for row in rows], [4, 3, 2, 1])
        self.assertEqual([row["status"] for row in rows], ["finished", "finished", "ignored", "ignored"])
        self.assertEqual(rows[0]["payload"], {"event": "STARTED", "host_status": "NORMAL"})

    def test_limit_and_marker(self):
        for limit in [1, 2, 3, 4, 9]:
            self.assertEqual(self.list("--limit", limit), [4, 3, 2, 1])
        self.assertEqual(self.list("--marker", self.ids[2]), [2, 1])

    def test_sort(self):
        self.assertEqual(self.list("--sort", "generated_time:asc"), [1, 2, 3, 4])
        self.assertEqual(self.list("--sort", "type:asc,created_at:desc"), [4, 3, 2, 1])
        self.assertEqual(self.list("--sort", "status:desc,generated_time:asc", "--limit", 1), [1, 2, 3, 4])

    def test_filters(self):
        self.assertEqual(self.list("--filters", "type=VM"), [2, 1])
        self.assertEqual(self.list("--filters", "status=finished"), [4, 3])
        self.assertEqual(self.list("--filters", f"source_host_uuid={self.hosts['cmp-01']}"), [3, 1])
        self.assertEqual(self.list("--filters", f"source_host_uuid={self.hosts['cmp-01']};type=VM"), [1])
        self.assertEqual(self.list("--filters", "generated-since=2026-01-03"), [4, 3])
        self.assertEqual(self.list("--filters", "generated-since=2026-01-02T00:00:01", "--filters", "type=PROCESS"), [3])
        self.assertEqual(self.list("--filters", "status=unheard"), [])
        self.assertEqual(self.list("--filters", f"source_host_uuid={NOBODY}"), [])

    def test_refused(self):
        self.bad(400, "notification", "list", "--filters", "generated-since=yesterday")
        self.bad(400, "notification", "list", "--sort", "colour")
        self.bad(400, "notification", "list", "--limit", "-1")
        self.bad(400, "notification", "list", "--marker", "4711")


if __name__ == "__main__":
    unittest.main()
