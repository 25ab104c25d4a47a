"""Real failures, reported and watched with the original's clients: a host dies, a guest dies, nova-compute dies.

The simulated hosts have no agent of ours, so they are judged as those of a cloud that still runs the original's monitors.
"""

import json
import unittest

import cloud
from clients import ERA, NOBODY, TIME, UUID, Case, at_least
from test_cli_notifications import now

STOPPED = {"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "NORMAL"}
STAMP = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}$"
# What a status may turn into: it never goes back.
ORDER = ["new", "running", "finished"]


class Recovery(Case):
    METHOD = "auto"
    RESERVED = None
    # A host that returns waits for the lifetime of the last command that was sent about it.
    POLICY = {"request_lifetime_ms": 5000}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        hosts = [host["name"] for host in cls.site.sim.info["hosts"]]
        cls.segment, cls.hosts = cls.site.make_segment("s", hosts, cls.METHOD)
        if cls.RESERVED:
            body = {"host": {"reserved": True}}
            status, _, made = cls.site.call("PUT", f"/v1/segments/{cls.segment}/hosts/{cls.hosts[cls.RESERVED]}", body)
            assert status == 200, made

    def report(self, kind, host, payload):
        return self.good("notification", "create", kind, host, now(), json.dumps(payload))

    def show(self, uuid):
        return self.good("notification", "show", uuid)

    def host(self, name):
        return self.good("segment", "host", "show", "s", name)

    def watch(self, made, seconds=90):
        """Shows a notification until it ends. What was shown last; its statuses must have come in order."""
        uuid, seen = made["notification_uuid"], [made["status"]]

        def look():
            shown = self.show(uuid)
            if shown["status"] != seen[-1]:
                seen.append(shown["status"])
            return shown if shown["status"] not in ("new", "running") else None

        shown = cloud.until(f"the end of {uuid}", look, seconds, 0.2)
        self.assertEqual(seen, [status for status in ORDER if status in seen], shown)
        return shown

    def check_details(self, details, names):
        """The tasks that the original's users know, all well, in its shape."""
        self.assertEqual([task["name"] for task in details], names)
        for task in details:
            self.assertLessEqual({"name", "state", "progress", "progress_details"}, set(task))
            self.assertEqual((task["state"], task["progress"]), ("SUCCESS", 1.0), task)
            self.assertTrue(task["progress_details"], task)
            for line in task["progress_details"]:
                self.assertRegex(line["timestamp"], STAMP)
                self.assertRegex(str(line["progress"]), r"^[01]\.\d+$")
                self.assertTrue(line["message"])
            self.assertEqual(float(task["progress_details"][-1]["progress"]), 1.0)

    def check_raw_details(self, uuid):
        """The same without a client between: the SDK of today adds keys of its own."""
        headers = {"OpenStack-API-Version": "instance-ha 1.3"}
        details = self.api(f"/v1/notifications/{uuid}", headers=headers)["notification"]["recovery_workflow_details"]
        for task in details:
            self.assertEqual(set(task), {"name", "state", "progress", "progress_details"})
            for line in task["progress_details"]:
                self.assertEqual(set(line), {"timestamp", "progress", "message"})
                self.assertIsInstance(line["progress"], str)


HOST_TASKS = ["DisableComputeServiceTask", "PrepareHAEnabledInstancesTask", "EvacuateInstancesTask"]


class HostFailure(Recovery):
    SIM = {"hosts": 5, "guests": 4, "boot_ms": 1000}

    def test_a_host_dies_and_returns(self):
        site, dead = self.site, "cmp-02"
        guests = {guest["id"]: guest["name"] for guest in site.sim.guests_of(dead)}
        self.assertEqual(len(guests), 4)
        site.sim("kill", dead)
        made = self.report("COMPUTE_HOST", dead, STOPPED)
        self.assertIn(made["status"], ["new", "running"])
        # While it is under recovery: the same report again, and changes of this host, are refused.
        self.bad(409, "notification", "create", "COMPUTE_HOST", dead, now(), json.dumps(STOPPED))
        self.bad(409, "segment", "host", "update", "s", dead, "--type", "x")
        shown = self.watch(made)
        self.assertEqual(shown["status"], "finished")
        self.assertEqual((shown["payload"], shown["source_host_uuid"]), (STOPPED, self.hosts[dead]))
        self.check_details(shown["recovery_workflow_details"], HOST_TASKS)
        self.check_raw_details(made["notification_uuid"])
        text = json.dumps(shown["recovery_workflow_details"][2])
        for guest in guests:
            self.assertIn(guest, text)
        with self.subTest("guests"):
            placed = {guest["id"]: guest for guest in site.sim("guests")["guests"]}
            for guest in guests:
                self.assertNotEqual(placed[guest]["host"], dead)
                self.assertEqual(placed[guest]["running_on"], [placed[guest]["host"]])
            self.assertEqual(site.sim("double-runs")["double_runs"], 0)
        with self.subTest("vmoves"):
            self.check_vmoves(made["notification_uuid"], dead, guests, placed)
        with self.subTest("the host is out"):
            self.assertTrue(self.host(dead)["on_maintenance"])
            self.bad(409, "notification", "create", "COMPUTE_HOST", dead, now(), json.dumps(STOPPED))
            service = self.compute_service(dead)
            self.assertEqual((service["Status"], service["State"]), ("disabled", "down"))
        with self.subTest("the host returns"):
            site.sim("revive", dead)
            back = cloud.until("the host is in again", lambda: not self.host(dead)["on_maintenance"], 90, 0.3)
            self.assertTrue(back)
            service = self.compute_service(dead)
            self.assertEqual((service["Status"], service["State"]), ("enabled", "up"))
            self.assertEqual(site.sim("double-runs")["double_runs"], 0)
        with self.subTest("what happened is still there to see"):
            self.assertEqual(self.show(made["notification_uuid"]), shown)
            self.said("segment", "host", "delete", "s", dead)
            self.assertEqual(self.show(made["notification_uuid"])["recovery_workflow_details"], shown["recovery_workflow_details"])

    def compute_service(self, host):
        """Nova as its own client shows it."""
        (row,) = self.good("compute", "service", "list", "--service", "nova-compute", "--host", host)
        return row

    def check_vmoves(self, uuid, dead, guests, placed):
        rows = self.api(f"/v1/notifications/{uuid}/vmoves")["vmoves"]
        self.assertEqual({row["instance_uuid"]: row["instance_name"] for row in rows}, guests)
        for row in rows:
            self.assertEqual(
                (row["source_host"], row["dest_host"], row["type"], row["status"], row["notification_uuid"], row["message"]),
                (dead, placed[row["instance_uuid"]]["host"], "evacuation", "succeeded", uuid, row["message"]),
            )
            self.assertRegex(row["start_time"], TIME)
            self.assertRegex(row["end_time"], TIME)
            self.assertLessEqual(row["start_time"], row["end_time"])
        if ERA == "2023":
            return
        listed = self.good("notification", "vmove", "list", uuid)
        columns = ["uuid", "server_id", "server_name", "source_host", "dest_host", "start_time", "end_time", "type", "status"]
        self.assertEqual([list(row) for row in listed], [columns] * len(guests))
        by_id = {row["uuid"]: row for row in rows}
        for row in listed:
            same = by_id[row["uuid"]]
            expected = {column: same[{"server_id": "instance_uuid", "server_name": "instance_name"}.get(column, column)] for column in columns}
            self.assertEqual(row, expected)
            shown = self.good("notification", "vmove", "show", uuid, row["uuid"])
            self.assertRegex(shown["created_at"], TIME)
            self.assertLessEqual({key: value for key, value in row.items()}.items(), shown.items())

        def ids(*words):
            return [row["uuid"] for row in self.good("notification", "vmove", "list", uuid, *words)]

        everyone = [row["uuid"] for row in listed]
        self.assertEqual(ids("--limit", "1"), everyone)
        self.assertEqual(ids("--filters", "status=succeeded"), everyone)
        self.assertEqual(ids("--filters", "status=failed"), [])
        self.assertEqual(ids("--filters", "type=evacuation", "--limit", "2"), everyone)
        self.assertEqual(ids("--sort", "created_at:asc"), everyone[::-1])
        self.assertEqual(ids("--marker", rows[1]["id"]), everyone[2:])
        starts = [by_id[id]["start_time"] for id in ids("--sort", "start_time:asc")]
        self.assertEqual(starts, sorted(starts))
        self.bad(f"VMove {NOBODY} is not found", "notification", "vmove", "show", uuid, NOBODY)
        self.bad(400, "notification", "vmove", "list", uuid, "--sort", "colour")
        self.check_sdk_vmoves(uuid, listed)

    def check_sdk_vmoves(self, uuid, listed):
        from test_sdk import connect

        for version in [None, "1.3"]:
            with connect(self.site, **({"ha_api_version": version} if version else {})) as conn:
                ha = conn.instance_ha
                seen = list(ha.vmoves(uuid, limit=1))
                self.assertEqual([move.uuid for move in seen], [row["uuid"] for row in listed])
                self.assertEqual([move.server_id for move in seen], [row["server_id"] for row in listed])
                self.assertEqual(list(ha.vmoves(uuid, status="failed")), [])
                self.assertEqual(len(list(ha.vmoves(uuid, type="evacuation", status="succeeded"))), len(listed))
                one = ha.get_vmove(seen[0].uuid, uuid)
                self.assertEqual((one.uuid, one.server_name, one.status), (seen[0].uuid, seen[0].server_name, "succeeded"))
                details = ha.get_notification(uuid).recovery_workflow_details
                self.assertEqual([task.name for task in details or []], HOST_TASKS if version else [])
                if details:
                    self.assertEqual({task.state for task in details}, {"SUCCESS"})
                    self.assertEqual(details[0].progress_details[-1].progress, "1.0")


class ReservedHost(Recovery):
    SIM = {"hosts": 3, "guests": 2}
    METHOD = "reserved_host"
    RESERVED = "cmp-03"

    def test_the_reserved_host_takes_all(self):
        guests = [guest["id"] for guest in self.site.sim.guests_of("cmp-01")]
        self.site.sim("kill", "cmp-01")
        shown = self.watch(self.report("COMPUTE_HOST", "cmp-01", STOPPED))
        self.assertEqual(shown["status"], "finished")
        placed = {guest["id"]: guest["host"] for guest in self.site.sim("guests")["guests"]}
        self.assertEqual({placed[guest] for guest in guests}, {"cmp-03"})
        self.assertFalse(self.host("cmp-03")["reserved"])


class GuestFailure(Recovery):
    SIM = {"hosts": 2, "guests": 3, "ha_enabled_every": 2}

    def vm(self, guest, event="LIFECYCLE", detail="STOPPED_FAILED"):
        return {"instance_uuid": guest["id"], "event": event, "vir_domain_event": detail}

    def test_a_guest_that_is_marked_is_started_again(self):
        guest = next(guest for guest in self.site.sim.guests_of("cmp-01") if guest["ha_enabled"])
        self.site.sim("crash-guest", guest["id"])
        shown = self.watch(self.report("VM", "cmp-01", self.vm(guest)))
        self.assertEqual(shown["status"], "finished")
        self.check_details(shown["recovery_workflow_details"], ["StopInstanceTask", "StartInstanceTask", "ConfirmInstanceActiveTask"])
        self.check_raw_details(shown["notification_uuid"])
        now_at = next(it for it in self.site.sim("guests")["guests"] if it["id"] == guest["id"])
        self.assertEqual(now_at["running_on"], ["cmp-01"])
        self.assertFalse(self.host("cmp-01")["on_maintenance"])

    def test_a_guest_that_is_not_marked_is_left(self):
        guest = next(guest for guest in self.site.sim.guests_of("cmp-02") if not guest["ha_enabled"])
        self.site.sim("crash-guest", guest["id"])
        shown = self.watch(self.report("VM", "cmp-02", self.vm(guest, "QEMU_GUEST_AGENT_ERROR")))
        self.assertEqual(shown["status"], "finished")
        now_at = next(it for it in self.site.sim("guests")["guests"] if it["id"] == guest["id"])
        self.assertEqual(now_at["running_on"], [])


class ProcessFailure(Recovery):
    SIM = {"hosts": 4, "guests": 1}

    def test_nova_compute_dies_and_the_host_stays_protected(self):
        self.site.sim("stop-compute", "cmp-01")
        shown = self.watch(self.report("PROCESS", "cmp-01", {"event": "STOPPED", "process_name": "nova-compute"}))
        self.assertEqual(shown["status"], "finished")
        self.check_details(shown["recovery_workflow_details"], ["DisableComputeNodeTask", "ConfirmComputeNodeDisabledTask"])
        self.check_raw_details(shown["notification_uuid"])
        row = next(row for row in self.good("compute", "service", "list") if row["Host"] == "cmp-01")
        self.assertEqual(row["Status"], "disabled")
        # The original would answer 409 from now on, and the death of the host would go unseen.
        self.site.sim("kill", "cmp-01")
        shown = self.watch(self.report("COMPUTE_HOST", "cmp-01", STOPPED))
        self.assertEqual(shown["status"], "finished")
        self.assertEqual(self.site.sim.guests_of("cmp-01"), [])

    def test_another_process_changes_nothing_at_nova(self):
        shown = self.watch(self.report("PROCESS", "cmp-02", {"event": "STOPPED", "process_name": "neutron-agent"}))
        self.assertEqual(shown["status"], "finished")
        row = next(row for row in self.good("compute", "service", "list") if row["Host"] == "cmp-02")
        self.assertEqual(row["Status"], "enabled")


class Disabled(Recovery):
    SIM = {"hosts": 2, "guests": 1}

    def test_a_disabled_segment_ignores(self):
        self.good("segment", "update", "s", "--is_enabled", "False")
        self.site.sim("kill", "cmp-01")
        made = self.report("COMPUTE_HOST", "cmp-01", STOPPED)

        def ended():
            shown = self.show(made["notification_uuid"])
            return shown if shown["status"] not in ("new", "running") else None

        self.assertEqual(cloud.until("the report is ignored", ended, 30)["status"], "ignored")
        row = self.api(f"/v1/notifications/{made['notification_uuid']}")["notification"]
        self.assertTrue(row["message"])
        self.assertEqual(len(self.site.sim.guests_of("cmp-01")), 1)
        self.assertFalse(self.host("cmp-01")["on_maintenance"])


del Recovery

if __name__ == "__main__":
    unittest.main()
