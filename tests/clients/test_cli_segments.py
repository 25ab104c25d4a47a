"""`openstack segment ...`: every command with every option, and every way of going wrong that an operator meets."""

import unittest

from clients import NOBODY, TIME, UUID, Case, at_least

METHODS = ["auto", "reserved_host", "auto_priority", "rh_priority"]
SHOWN = ["created_at", "updated_at", "uuid", "name", "description", "id", "service_type", "recovery_method"]
LISTED = ["uuid", "name", "description", "service_type", "recovery_method"]


class Segments(Case):
    def test_create_shows_all_fields(self):
        made = self.good("segment", "create", "plain", "auto", "COMPUTE")
        self.assertEqual(list(made), [*SHOWN, "is_enabled"])
        self.assertRegex(made["created_at"], TIME)
        self.assertRegex(made["uuid"], UUID)
        self.assertIsInstance(made["id"], int)
        rest = {key: made[key] for key in ["updated_at", "name", "description", "service_type", "recovery_method", "is_enabled"]}
        self.assertEqual(
            rest,
            {
                "updated_at": None,
                "name": "plain",
                "description": None,
                "service_type": "COMPUTE",
                "recovery_method": "auto",
                "is_enabled": True,
            },
        )
        row = self.api(f"/v1/segments/{made['uuid']}")["segment"]
        made["enabled"] = made.pop("is_enabled")
        self.assertEqual(row, {**made, "deleted": False, "deleted_at": None})

    def test_the_program_itself(self):
        made = self.openstack("segment", "create", "by the program", "auto", "COMPUTE", "-f", "value", "-c", "name", real=True)
        self.assertEqual((made.code, made.out), (0, "by the program\n"), made)
        missing = self.openstack("segment", "show", "nowhere", real=True)
        self.assertEqual((missing.code, missing.out), (1, ""), missing)

    def test_create_with_every_option_and_method(self):
        for method in METHODS:
            made = self.good("segment", "create", f"all {method}", method, "compute", "--description", "two\nlines", "--is_enabled", "no")
            self.assertEqual(
                (made["recovery_method"], made["service_type"], made["description"], made["is_enabled"]),
                (method, "compute", "two\nlines", False),
            )

    def test_show_by_name_and_by_uuid(self):
        made = self.good("segment", "create", "Gemüse 東京", "auto", "COMPUTE")
        self.assertEqual(self.good("segment", "show", "Gemüse 東京"), made)
        self.assertEqual(self.good("segment", "show", made["uuid"]), made)

    def test_update_every_field(self):
        uuid = self.good("segment", "create", "before", "auto", "COMPUTE")["uuid"]
        steps = [
            (("--name", "after"), "name", "after"),
            (("--description", "why"), "description", "why"),
            (("--description", ""), "description", ""),
            (("--recovery_method", "rh_priority"), "recovery_method", "rh_priority"),
            (("--service_type", "other"), "service_type", "other"),
            (("--is_enabled", "False"), "is_enabled", False),
            (("--name", "after"), "name", "after"),
        ]
        expected = self.good("segment", "show", uuid)
        for words, field, value in steps:
            known = expected["name"]
            shown = self.good("segment", "update", known, *words)
            expected[field] = value
            self.assertRegex(shown["updated_at"], TIME)
            expected["updated_at"] = shown["updated_at"]
            self.assertEqual(shown, expected)
        several = self.good("segment", "update", uuid, "--name", "last", "--is_enabled", "yes", "--service_type", "COMPUTE")
        self.assertEqual((several["name"], several["is_enabled"], several["service_type"]), ("last", True, "COMPUTE"))

    def test_delete_one_several_and_none(self):
        uuids = [self.good("segment", "create", f"gone {number}", "auto", "COMPUTE")["uuid"] for number in range(3)]
        self.assertEqual(self.said("segment", "delete", "gone 0"), "Segment deleted: gone 0\n")
        said = self.said("segment", "delete", uuids[1], NOBODY, "gone 2")
        self.assertIn(f"Segment deleted: {uuids[1]}\n", said)
        self.assertIn("Segment deleted: gone 2\n", said)
        self.assertRegex(said, f"No Segment found for {NOBODY}|404")
        self.assertEqual([name for name in self.names(self.good("segment", "list")) if name.startswith("gone")], [])
        # A deleted segment's name is free again.
        self.good("segment", "create", "gone 0", "auto", "COMPUTE")

    def test_not_found(self):
        self.bad("Segment is not found: nowhere", "segment", "show", "nowhere")
        self.bad(f"Segment is not found: {NOBODY}", "segment", "show", NOBODY)
        self.bad("No Segment found for nowhere", "segment", "update", "nowhere", "--name", "x")

    def test_refused_names(self):
        long = "n" * 256
        for name in ["with 🐦", "\U0001f426", " front", "back ", "", long, "tab\there", "bell\x07"]:
            with self.subTest(name=name):
                self.bad(400, "segment", "create", name, "auto", "COMPUTE")
        self.assertEqual(self.good("segment", "create", long[1:], "auto", "COMPUTE")["name"], long[1:])
        self.bad(400, "segment", "create", "fine", "auto", " COMPUTE")
        self.bad(400, "segment", "create", "fine", "auto", "COMPUTE", "--description", "bell\x07")

    def test_conflicts(self):
        self.good("segment", "create", "taken", "auto", "COMPUTE")
        self.bad(409, "segment", "create", "taken", "auto", "COMPUTE")
        self.good("segment", "create", "free", "auto", "COMPUTE")
        self.bad(409, "segment", "update", "free", "--name", "taken")
        self.assertEqual(self.good("segment", "update", "taken", "--name", "taken")["name"], "taken")

    def test_nothing_to_update(self):
        self.good("segment", "create", "still", "auto", "COMPUTE")
        # The SDK sends nothing when nothing is to be changed: no error of ours may come of it.
        self.assertEqual(self.good("segment", "update", "still")["name"], "still")

    def test_choices_and_booleans_are_the_clients_own(self):
        self.bad("invalid choice", "segment", "create", "x", "automatic", "COMPUTE")
        self.bad("(?i)unrecognized value", "segment", "create", "x", "auto", "COMPUTE", "--is_enabled", "perhaps")


class Lists(Case):
    """A fixed set of segments, so that whole lists can be compared."""

    ROWS = [("a", "auto", "COMPUTE"), ("b", "auto", "other"), ("c", "rh_priority", "COMPUTE"), ("d", "reserved_host", "other")]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.ids = {}
        for name, method, service in cls.ROWS:
            body = {"segment": {"name": name, "recovery_method": method, "service_type": service}}
            cls.ids[name] = cls.site.call("POST", "/v1/segments", body)[2]["segment"]["id"]

    def list(self, *words, **options):
        return self.names(self.good("segment", "list", *words, **options))

    def test_columns_and_order(self):
        rows = self.good("segment", "list")
        self.assertEqual([list(row) for row in rows], [[*LISTED, "is_enabled"]] * 4)
        self.assertEqual(self.names(rows), ["d", "c", "b", "a"])
        first = {"name": "a", "description": None, "service_type": "COMPUTE", "recovery_method": "auto", "is_enabled": True}
        self.assertEqual(rows[3] | {"uuid": None}, {"uuid": None, **first})

    def test_limit_walks_every_page(self):
        for limit in [1, 2, 3, 4, 100]:
            self.assertEqual(self.list("--limit", limit), ["d", "c", "b", "a"], limit)

    def test_marker(self):
        self.assertEqual(self.list("--marker", self.ids["c"]), ["b", "a"])
        self.assertEqual(self.list("--marker", self.ids["c"], "--limit", 1), ["b", "a"])
        self.assertEqual(self.list("--marker", self.ids["a"]), [])

    def test_sort(self):
        self.assertEqual(self.list("--sort", "name:asc"), ["a", "b", "c", "d"])
        self.assertEqual(self.list("--sort", "name"), ["d", "c", "b", "a"])
        self.assertEqual(self.list("--sort", "created_at:asc"), ["a", "b", "c", "d"])
        self.assertEqual(self.list("--sort", "updated_at:asc,name:desc"), ["d", "c", "b", "a"])
        self.assertEqual(self.list("--sort", "service_type:asc,name:desc"), ["c", "a", "d", "b"])
        self.assertEqual(self.list("--sort", "recovery_method:desc,name:asc", "--limit", 1), ["c", "d", "a", "b"])

    def test_filters(self):
        self.assertEqual(self.list("--filters", "recovery_method=auto"), ["b", "a"])
        self.assertEqual(self.list("--filters", "recovery_method=auto;service_type=other"), ["b"])
        self.assertEqual(self.list("--filters", "recovery_method=auto", "--filters", "service_type=COMPUTE"), ["a"])
        self.assertEqual(self.list("--filters", "recovery_method=auto", "--limit", 1, "--sort", "name:asc"), ["a", "b"])
        self.assertEqual(self.list("--filters", "recovery_method=unheard_of"), [])

    def test_refused(self):
        self.bad(400, "segment", "list", "--limit", "-1")
        self.bad(400, "segment", "list", "--limit", "many")
        self.bad(400, "segment", "list", "--marker", "4711")
        self.bad(400, "segment", "list", "--sort", "colour:asc")
        self.bad("Unknown sort direction: sideways", "segment", "list", "--sort", "name:sideways")


class Versions(Case):
    """`--os-ha-api-version` decides which columns there are and whether `enabled` is sent."""

    def check(self, version, knows_enabled):
        name = f"at {version}"
        made = self.good("segment", "create", name, "auto", "COMPUTE", "--is_enabled", "False", version=version)
        self.assertEqual("is_enabled" in made, knows_enabled)
        # A client that knows no `enabled` sends none, and the segment is enabled.
        uuid = made["uuid"]
        self.assertEqual(self.api(f"/v1/segments/{uuid}")["segment"]["enabled"], not knows_enabled)
        columns = [*LISTED, "is_enabled"] if knows_enabled else LISTED
        self.assertEqual(list(self.good("segment", "list", version=version)[0]), columns)
        self.assertEqual(self.good("segment", "update", name, "--description", "x", version=version)["description"], "x")

    def test_1(self):
        self.check("1", False)

    def test_1_0(self):
        self.check("1.0", False)

    def test_1_1(self):
        self.check("1.1", False)

    def test_1_2(self):
        self.check("1.2", True)

    @at_least("1.3")
    def test_1_3(self):
        self.check("1.3", True)

    def test_default(self):
        self.check(None, True)

    def test_by_the_environment(self):
        self.good("segment", "create", "by the environment", "auto", "COMPUTE")
        self.assertEqual(list(self.good("segment", "list", env={"OS_HA_API_VERSION": "1.1"})[0]), LISTED)

    def test_unknown_is_refused_before_any_call(self):
        self.bad("(?i)version", "segment", "list", version="2.0")


class Callers(Case):
    """Who may: an administrator everything, a tenant nothing, whoever cannot log in even less."""

    def test_tenants_are_forbidden(self):
        for user in ["tenant", "auditor"]:
            with self.subTest(user=user):
                self.bad(403, "segment", "list", user=user)
                self.bad(403, "segment", "create", "mine", "auto", "COMPUTE", user=user)

    def test_wrong_password(self):
        self.bad(401, "segment", "list", env={"OS_PASSWORD": "wrong"})

    def test_a_service_user_reads(self):
        self.assertEqual(self.good("segment", "list", user="monitor"), [])
        self.bad(403, "segment", "create", "mine", "auto", "COMPUTE", user="monitor")

    def test_application_credential(self):
        account = self.site.sim.info["users"]["admin"]
        env = {
            "OS_AUTH_TYPE": "v3applicationcredential",
            "OS_APPLICATION_CREDENTIAL_ID": account["application_credential_id"],
            "OS_APPLICATION_CREDENTIAL_SECRET": account["application_credential_secret"],
        }
        empty = {key: "" for key in ["OS_USERNAME", "OS_PASSWORD", "OS_PROJECT_NAME", "OS_USER_DOMAIN_NAME", "OS_PROJECT_DOMAIN_NAME"]}
        self.assertEqual(self.good("segment", "list", env={**empty, **env}), [])

    def test_token(self):
        token = self.site.token()
        empty = {key: "" for key in ["OS_USERNAME", "OS_PASSWORD", "OS_USER_DOMAIN_NAME"]}
        self.assertEqual(self.good("segment", "list", env={**empty, "OS_AUTH_TYPE": "v3token", "OS_TOKEN": token}), [])


if __name__ == "__main__":
    unittest.main()
