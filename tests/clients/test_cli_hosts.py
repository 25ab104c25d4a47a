"""`openstack segment host ...`: every command with every option, by name and by uuid."""

import unittest

from clients import NOBODY, TIME, UUID, Case

SHOWN = ["created_at", "updated_at", "uuid", "name", "type", "control_attributes", "reserved", "on_maintenance", "failover_segment_id"]
LISTED = ["uuid", "name", "type", "control_attributes", "reserved", "on_maintenance", "failover_segment_id"]


class Hosts(Case):
    SIM = {"hosts": 16, "guests": 0}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.segment, _ = cls.site.make_segment("segment one", [])
        cls.other, _ = cls.site.make_segment("other", [])
        cls.free = iter([host["name"] for host in cls.site.sim.info["hosts"]])

    def make(self, *words, segment="segment one", name=None):
        name = name or next(self.free)
        return self.good("segment", "host", "create", name, "COMPUTE", "SSH", segment, *words)

    def test_create_shows_all_fields(self):
        name = next(self.free)
        made = self.make(name=name)
        self.assertEqual(list(made), SHOWN)
        self.assertRegex(made["created_at"], TIME)
        self.assertRegex(made["uuid"], UUID)
        expected = {
            "updated_at": None,
            "name": name,
            "type": "COMPUTE",
            "control_attributes": "SSH",
            "reserved": False,
            "on_maintenance": False,
            "failover_segment_id": self.segment,
        }
        self.assertEqual({key: made[key] for key in expected}, expected)
        row = self.api(f"/v1/segments/{self.segment}/hosts/{made['uuid']}")["host"]
        self.assertIsInstance(row.pop("id"), int)
        self.assertEqual(row.pop("failover_segment"), self.api(f"/v1/segments/{self.segment}")["segment"])
        self.assertEqual(row, {**made, "deleted": False, "deleted_at": None})

    def test_create_with_booleans_as_words(self):
        made = self.make("--reserved", "True", "--on_maintenance", "True")
        self.assertEqual((made["reserved"], made["on_maintenance"]), (True, True))
        made = self.make("--reserved", "False", "--on_maintenance", "False")
        self.assertEqual((made["reserved"], made["on_maintenance"]), (False, False))

    def test_show_by_names_and_uuids(self):
        made = self.make()
        for segment in ["segment one", self.segment]:
            for host in [made["name"], made["uuid"]]:
                self.assertEqual(self.good("segment", "host", "show", segment, host), made, (segment, host))

    def test_update_every_field(self):
        expected, other = self.make(), next(self.free)
        steps = [
            ("--reserved", "True", "reserved", True),
            ("--on_maintenance", "True", "on_maintenance", True),
            ("--on_maintenance", "False", "on_maintenance", False),
            ("--reserved", "False", "reserved", False),
            ("--type", "KVM7", "type", "KVM7"),
            ("--type", "", "type", ""),
            ("--control_attributes", "any text\n", "control_attributes", "any text\n"),
            ("--name", expected["name"], "name", expected["name"]),
            ("--name", other, "name", other),
        ]
        for number, (option, word, field, value) in enumerate(steps):
            segment = ["segment one", self.segment][number % 2]
            host = [expected["name"], expected["uuid"]][number // 2 % 2]
            shown = self.good("segment", "host", "update", segment, host, option, word)
            expected[field] = value
            self.assertRegex(shown["updated_at"], TIME)
            expected["updated_at"] = shown["updated_at"]
            self.assertEqual(shown, expected)

    def test_delete(self):
        made = self.make()
        self.assertEqual(self.said("segment", "host", "delete", "segment one", made["name"]), f"Host deleted: {made['name']}\n")
        again = self.make(name=made["name"])
        self.said("segment", "host", "delete", self.segment, again["uuid"])
        self.bad(404, "segment", "host", "delete", self.segment, again["uuid"])

    def test_segments_die_with_their_hosts(self):
        name = next(self.free)
        self.site.make_segment("short-lived", [])
        self.make(name=name, segment="short-lived")
        self.said("segment", "delete", "short-lived")
        self.said("segment", "host", "delete", "segment one", self.make(name=name)["uuid"])

    def test_refused(self):
        create = ["segment", "host", "create"]
        self.bad(400, *create, "no-such-hypervisor", "COMPUTE", "SSH", "segment one")
        self.bad(400, *create, "cmp 🐦", "COMPUTE", "SSH", "segment one")
        self.bad(400, *create, " cmp-16", "COMPUTE", "SSH", "segment one")
        self.bad(400, *create, "cmp-16", "with blank", "SSH", "segment one")
        self.bad(400, *create, "cmp-16", "t" * 256, "SSH", "segment one")
        self.bad(400, *create, "cmp-16", "COMPUTE", "bell\x07", "segment one")
        self.bad("invalid choice", *create, "cmp-16", "COMPUTE", "SSH", "segment one", "--reserved", "perhaps")
        self.bad(404, *create, "cmp-16", "COMPUTE", "SSH", "no such segment")
        made = self.make()
        update = ["segment", "host", "update", "segment one", made["name"]]
        self.bad(400, *update, "--name", "no-such-hypervisor")
        self.bad(400, *update, "--type", "a-b")

    def test_names_are_unique_over_all_segments(self):
        first, second = self.make(), self.make()
        self.bad(409, "segment", "host", "create", first["name"], "COMPUTE", "SSH", "segment one")
        self.bad(409, "segment", "host", "create", first["name"], "COMPUTE", "SSH", "other")
        self.bad(409, "segment", "host", "update", "segment one", second["name"], "--name", first["name"])

    def test_not_found(self):
        made = self.make()
        self.bad("Segment host is not found: nowhere", "segment", "host", "show", "segment one", "nowhere")
        self.bad(f"Segment host is not found: {NOBODY}", "segment", "host", "show", "segment one", NOBODY)
        # It is there, in another segment.
        self.bad("Segment host is not found", "segment", "host", "show", "other", made["uuid"])
        self.bad(f"No Host found for {NOBODY}", "segment", "host", "update", "segment one", NOBODY, "--type", "x")
        self.bad(404, "segment", "host", "delete", "segment one", NOBODY)
        self.bad(404, "segment", "host", "list", NOBODY)


class Lists(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.segment, _ = cls.site.make_segment("s", [])
        cls.site.make_segment("empty", [])
        cls.ids = {}
        rows = [("cmp-01", "A", False, False), ("cmp-02", "A", True, False), ("cmp-03", "B", True, True), ("cmp-04", "B", False, True)]
        for name, kind, reserved, maintained in rows:
            host = {"name": name, "type": kind, "control_attributes": "SSH", "reserved": reserved, "on_maintenance": maintained}
            cls.ids[name] = cls.site.call("POST", f"/v1/segments/{cls.segment}/hosts", {"host": host})[2]["host"]["id"]

    def list(self, *words):
        return [int(name[-1]) for name in self.names(self.good("segment", "host", "list", "s", *words))]

    def test_columns_and_order(self):
        rows = self.good("segment", "host", "list", "s")
        self.assertEqual([list(row) for row in rows], [LISTED] * 4)
        self.assertEqual([row["name"] for row in rows], ["cmp-04", "cmp-03", "cmp-02", "cmp-01"])
        self.assertEqual([row["reserved"] for row in rows], [False, True, True, False])
        self.assertEqual({row["failover_segment_id"] for row in rows}, {self.segment})
        self.assertEqual(self.good("segment", "host", "list", self.segment), rows)
        self.assertEqual(self.good("segment", "host", "list", "empty"), [])

    def test_limit_and_marker(self):
        for limit in [1, 2, 3, 4, 9]:
            self.assertEqual(self.list("--limit", limit), [4, 3, 2, 1])
        self.assertEqual(self.list("--marker", self.ids["cmp-03"]), [2, 1])

    def test_sort(self):
        self.assertEqual(self.list("--sort", "name:asc"), [1, 2, 3, 4])
        self.assertEqual(self.list("--sort", "name"), [4, 3, 2, 1])
        self.assertEqual(self.list("--sort", "type:asc,name:desc"), [2, 1, 4, 3])
        self.assertEqual(self.list("--sort", "reserved:asc,name:asc", "--limit", 1), [1, 4, 2, 3])

    def test_filters(self):
        self.assertEqual(self.list("--filters", "type=A"), [2, 1])
        self.assertEqual(self.list("--filters", "on_maintenance=True"), [4, 3])
        self.assertEqual(self.list("--filters", "on_maintenance=no"), [2, 1])
        self.assertEqual(self.list("--filters", "reserved=1"), [3, 2])
        self.assertEqual(self.list("--filters", "reserved=true;on_maintenance=true"), [3])
        self.assertEqual(self.list("--filters", "type=A", "--filters", "reserved=False"), [1])
        self.assertEqual(self.list("--filters", f"failover_segment_id={NOBODY}"), [4, 3, 2, 1])
        self.assertEqual(self.list("--filters", "type=unheard"), [])

    def test_refused(self):
        self.bad(400, "segment", "host", "list", "s", "--filters", "reserved=perhaps")
        self.bad(400, "segment", "host", "list", "s", "--sort", "colour")
        self.bad(400, "segment", "host", "list", "s", "--limit", "-1")
        self.bad(400, "segment", "host", "list", "s", "--marker", "4711")


if __name__ == "__main__":
    unittest.main()
