"""One walk through masakari-dashboard, unmodified, in Horizon, in a browser, against Halberd.

Horizon logs in at the simulated cloud's Keystone and finds the API in its catalog, under an address with the project in it (the style of most
catalogs). The recovery shown at the end is a real one: a hypervisor of the simulated cloud loses power, a report says so, Halberd
fences it by its BMC and evacuates its guests.

Between Horizon and the API stands a recording proxy, so that a step is judged by the page and by what went over the wire.
"""

import json
import os
import pathlib
import sys
import traceback

from browser import Browser
from cloud import Stage, call, end_on_signals, free_port, start, stop, token, until
from wire import Wire

WORK = pathlib.Path(os.environ["DASHBOARD_WORK"])
PICTURES = pathlib.Path(os.environ["DASHBOARD_PICTURES"])
HOSTS, GUESTS = 4, 3


class Walk:
    def __init__(self, stage, wire, browser):
        self.cloud, self.api, self.wire, self.browser = stage.cloud, stage.halberd.url, wire, browser
        self.seen = 0

    def sent(self):
        """What went over the wire since the last time."""
        new, self.seen = self.wire.exchanges[self.seen :], len(self.wire.exchanges)
        return new

    def admin(self, path, method="GET", body=None):
        return call(self.api + path, method, body, X_Auth_Token=token(self.cloud, "admin"))

    def succeeded(self, *words):
        said = self.browser.said()
        assert any("alert-success" in kind and all(word in text for word in words) for kind, text in said), said
        assert not any("alert-danger" in kind for kind, _ in said), said

    def one(self, method, path):
        """The one exchange of this verb and path start."""
        found = [it for it in self.sent() if it.method == method and it.path.split("?")[0].endswith(path)]
        assert len(found) == 1, f"{method} {path}: {[str(it) for it in found]}"
        return found[0]

    def row(self, table, text):
        rows = self.browser.rows(table)
        found = [key for key, cells in rows.items() if text in cells]
        assert len(found) == 1, f"{text!r} in {rows}"
        return found[0]

    # ------------------------------------------------------------------------------------------------------- steps

    def log_in(self):
        page = self.browser
        page.go("/auth/login/?next=/masakaridashboard/segments/")
        page.fill(username="admin", password=self.cloud.user("admin")["password"])
        page.picture("login")
        page.click("#loginBtn")
        until("the segments panel", lambda: page.driver.current_url.endswith("/masakaridashboard/segments/"))
        page.loaded()
        page.picture("segments-empty")
        assert "Instance-ha" in page.text(), "the dashboard is in the navigation"
        assert page.rows("failover_segment") == {}
        # page_size + 1, no marker, and the newest microversion that segments know.
        [index] = [it for it in self.sent() if "/segments" in it.path]
        assert index.path.endswith("/segments?limit=3"), index
        assert index.version == "instance-ha 1.2", index

    def create_segments(self):
        page = self.browser
        for name, method, about in (
            ("walk", "auto", "made by a browser"),
            ("second", "rh_priority", ""),
            ("third", "auto_priority", ""),
        ):
            page.click("#failover_segment__action_create")
            page.one(".modal form")
            page.fill(name=name, description=about)
            page.choose("recovery_method", method)
            page.submit(f"segment-create-{name}")
            self.succeeded("created segment")
            made = self.one("POST", "/segments")
            body = json.loads(made.body)["segment"]
            assert made.status == 201, made
            assert body == {
                "name": name, "recovery_method": method, "service_type": "compute", "description": about, "enabled": True
            }, body
        page.picture("segments-first-page")
        rows = page.rows("failover_segment")
        assert [cells[1] for cells in rows.values()] == ["third", "second"], rows

    def duplicate_name(self):
        """Horizon calls every error of the SDK "Unauthorized", and answers its own form with 403; the plugin's sentence follows."""
        page = self.browser
        page.click("#failover_segment__action_create")
        page.one(".modal form")
        page.fill(name="walk")
        page.click(page.SUBMIT)
        until("the refusal", lambda: 'Segment with name "walk" already exists' in page.text())
        page.picture("segment-name-in-use")
        assert self.one("POST", "/segments").status == 409

    def second_page(self):
        page = self.browser
        page.go("/masakaridashboard/segments/")
        self.sent()
        page.click("table#failover_segment tfoot a")
        page.loaded()
        page.picture("segments-second-page")
        rows = page.rows("failover_segment")
        assert [cells[1] for cells in rows.values()] == ["walk"], rows
        self.walk_segment = next(iter(rows))
        index = [it for it in self.sent() if it.path.split("?")[0].endswith("/segments")]
        # The dashboard looks the uuid up and sends the number.
        assert index and any("marker=2" in it.path and "limit=3" in it.path for it in index), [str(it) for it in index]

    def filters(self):
        page = self.browser
        for word, expected in (("No", []), ("Yes", ["second", "third"])):
            page.go("/masakaridashboard/segments/")
            self.sent()
            page.choose("failover_segment__filter__q_field", "is_enabled")
            page.fill(failover_segment__filter__q=word)
            before = page.one("html")
            page.click("#failover_segment__action_filter")
            page.gone(before)
            page.picture(f"segments-enabled-{word.lower()}")
            names = sorted(cells[1] for cells in page.rows("failover_segment").values())
            assert names == expected, names
            assert any(f"enabled={word}" in it.path for it in self.sent())
        page.go("/masakaridashboard/segments/")
        page.fill(failover_segment__filter__q="")
        before = page.one("html")
        page.click("#failover_segment__action_filter")
        page.gone(before)

    def update_segment(self):
        page = self.browser
        segment = self.row("failover_segment", "second")
        page.act(segment, "update")
        page.one(".modal form")
        page.choose("recovery_method", "reserved_host")
        page.fill(description="", is_enabled=False)
        page.submit("segment-update")
        self.succeeded("updated segment")
        change = self.one("PUT", f"/segments/{segment}")
        assert change.status == 200, change
        # The name goes along unchanged, and the description is empty, not null.
        body = json.loads(change.body)["segment"]
        assert body["recovery_method"] == "reserved_host" and body["enabled"] is False, body
        page.picture("segment-updated")
        cells = page.rows("failover_segment")[segment]
        assert "reserved_host" in cells and "No" in cells, cells
        page.go(f"/masakaridashboard/segments/{segment}/detail")
        page.picture("segment-detail")
        assert all(word in page.text() for word in ("second", "reserved_host", "compute")), page.text()

    def delete_segment(self):
        page = self.browser
        page.go("/masakaridashboard/segments/")
        self.sent()
        segment = self.row("failover_segment", "second")
        page.delete(segment, "failover_segment", "segment-delete")
        page.picture("segment-deleted")
        self.succeeded("Deleted Segment")
        assert self.one("DELETE", f"/segments/{segment}").status == 204
        assert segment not in page.rows("failover_segment")
        assert {cells[1] for cells in page.rows("failover_segment").values()} == {"walk", "third"}

    def add_hosts(self):
        page = self.browser
        for name, reserved in (("cmp-01", "False"), ("cmp-02", "False"), ("cmp-03", "True")):
            page.go("/masakaridashboard/segments/")
            page.act(self.walk_segment, "add_host")
            page.one(".modal form")
            page.choose("name", name)
            page.choose("reserved", reserved)
            page.fill(type="COMPUTE", control_attributes="SSH")
            page.submit(f"host-add-{name}")
            self.succeeded("Host created")
            made = self.one("POST", f"/segments/{self.walk_segment}/hosts")
            assert made.status == 201 and json.loads(made.body)["host"]["reserved"] == reserved, made
        page.go(f"/masakaridashboard/segments/{self.walk_segment}/detail?tab=segment_details__host_tab")
        page.picture("segment-hosts")
        assert len(page.rows("host")) == 3
        page.go("/masakaridashboard/hosts/")
        page.picture("hosts")
        assert sorted(cells[1] for cells in page.rows("host").values()) == ["cmp-01", "cmp-02", "cmp-03"]

    def update_host(self):
        page = self.browser
        host = self.row("host", "cmp-03")
        page.act(host, "update")
        page.one(".modal form")
        page.choose("on_maintenance", "True")
        page.choose("reserved", "False")
        page.fill(type="SPARE", control_attributes="none")
        page.submit("host-update")
        self.succeeded("updated host")
        change = self.one("PUT", f"/hosts/{host.split(',')[0]}")
        assert change.status == 200, change
        page.picture("host-updated")
        cells = page.rows("host")[host]
        assert cells[3:7] == ["False", "SPARE", "none", "True"], cells
        page.go(f"/masakaridashboard/hosts/{host}/detail")
        page.picture("host-detail")
        assert "SPARE" in page.text()

    def filter_hosts(self):
        page = self.browser
        page.go("/masakaridashboard/hosts/")
        page.choose("host__filter__q_field", "on_maintenance")
        page.fill(host__filter__q="True")
        before = page.one("html")
        page.click("#host__action_filter")
        page.gone(before)
        page.picture("hosts-on-maintenance")
        assert [cells[1] for cells in page.rows("host").values()] == ["cmp-03"]
        page.fill(host__filter__q="")
        before = page.one("html")
        page.click("#host__action_filter")
        page.gone(before)

    def delete_host(self):
        page = self.browser
        page.go("/masakaridashboard/hosts/")
        self.sent()
        host = self.row("host", "cmp-03")
        page.delete(host, "host", "host-delete")
        self.succeeded("Deleted Host")
        assert self.one("DELETE", f"/hosts/{host.split(',')[0]}").status == 204
        page.picture("host-deleted")
        assert sorted(cells[1] for cells in page.rows("host").values()) == ["cmp-01", "cmp-02"]

    def recovery(self):
        """Not the dashboard's: it only reads what comes of a failure."""
        hosts = self.admin(f"/v1/segments/{self.walk_segment}/hosts")["hosts"]
        for host in hosts:
            device = self.cloud.bmc(host["name"])
            levels = {"levels": [{"devices": [device]}]}
            self.admin(f"/halberd/v1/hosts/{host['uuid']}/fence-devices", "PUT", levels)
        self.cloud.obey("kill cmp-01")
        report = {
            "type": "COMPUTE_HOST", "hostname": "cmp-01", "generated_time": "2026-11-21T10:20:30",
            "payload": {"event": "STOPPED", "host_status": "NORMAL", "cluster_status": "OFFLINE"},
        }
        process = {
            "type": "PROCESS", "hostname": "cmp-02", "generated_time": "2026-11-21T10:20:30",
            "payload": {"event": "STARTED", "process_name": "nova-compute"},
        }
        self.notification = self.admin("/v1/notifications", "POST", {"notification": report})["notification"]
        self.process = self.admin("/v1/notifications", "POST", {"notification": process})["notification"]
        self.uuid = self.notification["notification_uuid"]
        until(
            "the recovery is finished",
            lambda: self.admin(f"/v1/notifications/{self.uuid}")["notification"]["status"] == "finished",
            120,
            0.5,
        )
        self.sent()

    def notifications(self):
        page = self.browser
        page.go("/masakaridashboard/notifications/")
        page.picture("notifications")
        rows = page.rows("notifications")
        assert set(rows) == {self.uuid, self.process["notification_uuid"]}, rows
        assert "finished" in rows[self.uuid] and "COMPUTE_HOST" in rows[self.uuid]
        # The SDK fills a short page by asking once more.
        first, more = [it for it in self.sent() if "/notifications" in it.path]
        assert first.path.endswith("/notifications?limit=3") and first.version == "", first
        assert more.path.endswith(f"/notifications?marker={self.notification['id']}&limit=3"), more

    def notification_detail(self):
        page = self.browser
        before = page.driver.find_element("tag name", "html")
        page.click(f"a[href$='/{self.uuid}/detail']")
        page.gone(before)
        page.picture("notification")
        assert self.uuid in page.text() and "COMPUTE_HOST" in page.text()
        self.sent()
        page.click("a[href$='notification_details__notification_progress_details']")
        until("the progress", lambda: page.rows("notification_progress_details"))
        page.picture("notification-progress")
        actions = [cells[0] for cells in page.rows("notification_progress_details").values()]
        order = ["DisableComputeServiceTask", "PrepareHAEnabledInstancesTask", "EvacuateInstancesTask"]
        assert sorted(set(actions), key=actions.index) == order, actions
        # Once, or twice when the tab is clicked before the page's script is ready and the browser loads the whole page for it.
        asked = [it for it in self.sent() if it.version == "instance-ha 1.1"]
        assert asked and all(it.path.endswith(f"/notifications/{self.uuid}") for it in asked), asked
        asked = asked[-1]
        states = [task["state"] for task in json.loads(asked.answer)["notification"]["recovery_workflow_details"]]
        assert states == ["SUCCESS"] * 3, states
        page.click("a[href$='notification_details__vmove_tab']")
        until("the vmoves", lambda: page.rows("vmove"))
        page.picture("notification-vmoves")
        self.judge_vmoves(page.rows("vmove"))
        asked = [it for it in self.sent() if it.version == "instance-ha 1.3"]
        assert asked and all(it.path.endswith(f"/notifications/{self.uuid}/vmoves") for it in asked), asked

    def judge_vmoves(self, rows):
        assert len(rows) == GUESTS, rows
        for cells in rows.values():
            assert "cmp-01" in cells and "succeeded" in cells and "evacuation" in cells, cells
        guests = {guest["id"]: guest for guest in self.cloud.obey("guests")["guests"]}
        for cells in rows.values():
            [guest] = [it for it in cells if it in guests]
            assert guests[guest]["host"] in cells and guests[guest]["running_on"] == [guests[guest]["host"]], cells

    def notification_without_moves(self):
        page = self.browser
        page.go(f"/masakaridashboard/notifications/{self.process['notification_uuid']}/detail?tab=notification_details__vmove_tab")
        page.picture("notification-of-a-process")
        assert page.rows("vmove") == {} and not [kind for kind, _ in page.said() if "danger" in kind]

    def vmoves(self):
        page = self.browser
        self.sent()
        page.go("/masakaridashboard/vmoves/")
        page.picture("vmoves")
        rows = page.rows("vmove")
        self.judge_vmoves(rows)
        assert [it.version for it in self.sent() if it.path.endswith("/vmoves")] == ["instance-ha 1.3"]
        first = next(iter(rows.values()))
        guest = next(it for it in first if it in {guest["id"] for guest in self.cloud.about["guests"]})
        page.click("table#vmove tbody tr td a")
        page.loaded()
        page.picture("vmove")
        assert guest in page.text() and "succeeded" in page.text()

    def everything_answered(self):
        """Nothing of all this met an answer that a client of the original would not have met."""
        odd = [str(it) for it in self.wire.exchanges if it.status >= 400 and it.status != 409]
        assert odd == [], odd
        assert sum(it.status == 409 for it in self.wire.exchanges) == 1, "only the name in use"

    STEPS = [
        log_in, create_segments, duplicate_name, second_page, filters, update_segment, delete_segment, add_hosts, update_host,
        filter_hosts, delete_host, recovery, notifications, notification_detail, notification_without_moves, vmoves,
        everything_answered,
    ]


def horizon(cloud):
    """Horizon, served; its address and its process."""
    port = free_port()
    os.environ.update(DASHBOARD_KEYSTONE=cloud.about["auth_url"], DASHBOARD_STATE=str(WORK / "horizon"))
    (WORK / "horizon").mkdir()
    log = WORK / "horizon.log"
    arguments = ["-W", "ignore", "-m", "django", "runserver", "--insecure", "--noreload", f"127.0.0.1:{port}"]
    program = start([sys.executable, *arguments, "--settings", "openstack_dashboard.settings"], log, stdout=open(log, "ab"))
    url = f"http://127.0.0.1:{port}"

    def answers():
        assert program.poll() is None, log.read_text()[-3000:]
        try:
            return call(f"{url}/auth/login/", raw=True)
        except OSError:
            return None

    try:
        until("Horizon answers", answers, 120)
    except BaseException:
        stop(program)
        raise
    return url, program


def main():
    end_on_signals()
    passed = failed = 0
    with Stage(WORK, "keystone", "--hosts", HOSTS, "--guests", GUESTS, "--rebuild-ms", 400) as stage:
        wire = Wire(stage.halberd.url)
        stage.cloud.obey(f"register instance-ha masakari {wire.url}/v1/$(project_id)s")
        url, program = horizon(stage.cloud)
        browser = None
        try:
            browser = Browser(WORK, PICTURES, url)
            walk = Walk(stage, wire, browser)
            for step in Walk.STEPS:
                try:
                    step(walk)
                    passed += 1
                    print(f"passed: {step.__name__}", flush=True)
                except Exception:
                    # The steps stand on each other.
                    traceback.print_exc()
                    print(f"FAILED: {step.__name__} on {browser.driver.current_url}: {browser.said()}", flush=True)
                    browser.picture(f"failed-{step.__name__}")
                    failed += len(Walk.STEPS) - passed
                    break
        finally:
            (PICTURES / "traffic.txt").write_text("".join(f"{it}\n" for it in wire.exchanges))
            if browser:
                browser.close()
            stop(program)
            wire.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
