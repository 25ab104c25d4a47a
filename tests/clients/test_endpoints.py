"""Catalog entries in every style of the field, straight and behind a proxy that mounts the API under a path: clients follow the entry.

Every request passes a proxy that writes it down, so that the tests see which way the clients really went.
"""

import json
import pathlib
import subprocess
import sys
import unittest

import cloud
from clients import Case
from test_sdk import connect

STYLES = {"root": "", "v1": "/v1", "project": "/v1/$(project_id)s"}
VM = {"event": "LIFECYCLE", "vir_domain_event": "STOPPED_DESTROYED"}


class Through(Case):
    """Behind a proxy. Subclasses say which; this one is not run."""

    SIM = {"hosts": 12, "guests": 0}
    PREFIX = ""
    FIXED_LINKS = False

    @classmethod
    def setUpClass(cls):
        here = pathlib.Path(__file__).resolve().parent
        directory = cloud.tempfile.mkdtemp(prefix="halberd-clients-proxy-")
        cls.addClassCleanup(cloud.shutil.rmtree, directory, ignore_errors=True)
        command = [sys.executable, here / "proxy.py", cls.PREFIX]
        cls.proxy = cloud.Child("proxy", command, directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        cls.addClassCleanup(cls.proxy.stop)
        cls.public = f"http://127.0.0.1:{int(cls.proxy.process.stdout.readline())}{cls.PREFIX}"
        if cls.FIXED_LINKS:
            cls.API = {"link_prefix": cls.public}
        super().setUpClass()
        cls.proxy.process.stdin.write(f"{cls.site.url}\n".encode())
        cls.proxy.process.stdin.flush()
        cls.free = iter([host["name"] for host in cls.site.sim.info["hosts"]])

    def at(self, style):
        """Puts the entry into the catalog. Returns how paths of resources must begin."""
        self.site.sim("register", "instance-ha", "masakari", self.public + STYLES[style])
        self.seen = len(self.requests())
        project = self.site.sim.info["users"]["admin"]["project_id"]
        return self.PREFIX + ("/v1/" + project if style == "project" else "/v1")

    def requests(self):
        return [line.split()[1] for line in self.proxy.text().splitlines() if line.split()[0] in ("GET", "POST", "PUT", "DELETE")]

    def check_way(self, start, words):
        """All of the clients' requests came this way: discovery, then resources as the entry says."""
        seen = self.requests()[self.seen :]
        resources = [path for path in seen if any(f"/{word}" in path for word in words)]
        self.assertTrue(resources)
        for path in resources:
            self.assertRegex(path, rf"^{start}/({'|'.join(words)})\b")
        for path in set(seen) - set(resources):
            self.assertIn(path, [self.PREFIX or "/", self.PREFIX + "/", self.PREFIX + "/v1", self.PREFIX + "/v1/"], "discovery")

    def cli(self, style):
        start, host, name = self.at(style), next(self.free), f"cli {style}"
        made = self.good("segment", "create", name, "auto", "COMPUTE")
        self.assertEqual(self.good("segment", "show", name), made)
        self.assertIn(name, self.names(self.good("segment", "list", "--limit", 1)))
        self.good("segment", "host", "create", host, "COMPUTE", "SSH", name)
        self.assertEqual(self.names(self.good("segment", "host", "list", name)), [host])
        self.assertTrue(self.good("segment", "host", "update", name, host, "--reserved", "True")["reserved"])
        payload = {**VM, "instance_uuid": made["uuid"]}
        report = self.good("notification", "create", "VM", host, "2026-01-01", json.dumps(payload))
        self.assertEqual(self.good("notification", "show", report["notification_uuid"], version="1.0")["payload"], payload)
        self.assertIn(report["notification_uuid"], [row["notification_uuid"] for row in self.good("notification", "list")])
        self.said("segment", "host", "delete", name, host)
        self.assertEqual(self.said("segment", "delete", name), f"Segment deleted: {name}\n")
        self.bad(f"Segment is not found: {name}", "segment", "show", name)
        self.check_way(start, ["segments", "notifications"])

    def sdk(self, style):
        start, host = self.at(style), next(self.free)
        with connect(self.site) as conn:
            ha = conn.instance_ha
            segment = ha.create_segment(name=f"sdk {style}", recovery_method="auto", service_type="COMPUTE", is_enabled=True)
            self.assertEqual(ha.update_segment(segment.uuid, description="x").description, "x")
            made = ha.create_host(segment.uuid, name=host, type="COMPUTE", control_attributes="SSH")
            self.assertEqual([it.uuid for it in ha.hosts(segment.uuid, limit=1)], [made.uuid])
            report = ha.create_notification(type="VM", hostname=host, generated_time="2026-01-01", payload={**VM, "instance_uuid": made.uuid})
            self.assertEqual(ha.get_notification(report.notification_uuid).source_host_uuid, made.uuid)
            self.assertIn(report.id, [it.id for it in ha.notifications(limit=1)])
            ha.delete_host(made.uuid, segment.uuid, ignore_missing=False)
            ha.delete_segment(segment.uuid, ignore_missing=False)
        self.check_way(start, ["segments", "notifications"])

    def wrong_project(self):
        other = self.site.sim.info["projects"]["blue"]
        self.site.sim("register", "instance-ha", "masakari", f"{self.public}/v1/{other}")
        self.bad(400, "segment", "list")


def walks(kind):
    """One test for each style and client."""
    for style in STYLES:
        setattr(kind, f"test_cli_{style}", lambda self, style=style: self.cli(style))
        setattr(kind, f"test_sdk_{style}", lambda self, style=style: self.sdk(style))
    kind.test_another_project_in_the_address_is_refused = lambda self: self.wrong_project()
    return kind


@walks
class Straight(Through):
    """Links come from the Host header."""


@walks
class ForwardedHeaders(Through):
    """Mounted under a path, and the proxy's headers are believed."""

    PREFIX = "/instance-ha"
    API = {"proxy_headers": True}


@walks
class FixedLinks(Through):
    """Mounted under a path that the configuration names."""

    PREFIX = "/ha/instance-ha"
    FIXED_LINKS = True


del Through

if __name__ == "__main__":
    unittest.main()
