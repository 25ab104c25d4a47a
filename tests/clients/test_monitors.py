"""masakari-monitors' daemons, unmodified, as a hypervisor runs them: what they see reaches Halberd, and Halberd acts.

They log in as the user `monitor`, who has the role `service` and nothing else. Seen through libvirt's test driver, in a libvirtd of our
own, are only the ends that a user wished; for the others, and for a guest's silent agent, the daemons' own code is called
(monitors_send.py): the driver has no guest agent, so the introspective monitor never sees one answer, and never one fall silent.
"""

import http.server
import importlib.util
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
import uuid

import cloud
from clients import TIME, Case

HERE = pathlib.Path(__file__).resolve().parent
BIN = pathlib.Path(sys.executable).parent
US = socket.gethostname()  # hosts that some of the daemons report, whatever they are told
STOPPED = {"event": "STOPPED", "cluster_status": "OFFLINE", "host_status": "NORMAL"}


class ConsulAgent:
    """What hostmonitor asks a Consul agent: GET /v1/agent/members."""

    def __init__(self, names):
        self.status = dict.fromkeys(names, 1)
        self.asked = 0
        agent = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                members = [{"Name": name, "Addr": "127.0.0.1", "Port": 8301, "Status": status} for name, status in agent.status.items()]
                known = self.path.split("?")[0] == "/v1/agent/members"
                body = json.dumps(members).encode() if known else b""
                self.send_response(200 if known else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                agent.asked += known

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Monitors(Case):
    SIM = {"hosts": 6, "guests": 2, "ha_enabled_every": 1, "host_names": US}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.names = [host["name"] for host in cls.site.sim.info["hosts"]]
        assert cls.names[0] == US
        cls.segment, cls.hosts = cls.site.make_segment("s", cls.names)

    def start(self, daemon, **sections):
        """Starts one of the daemons with short intervals."""
        child = cloud.Child(daemon, [BIN / f"masakari-{daemon}", "--config-file", self.config(**sections)], self.site.directory)
        self.addCleanup(child.stop)
        return child

    def config(self, hostname=US, **sections):
        login = self.site.login("monitor")
        api = {name[3:].lower(): value for name, value in login.items() if name != "OS_IDENTITY_API_VERSION"}
        sections = {
            "DEFAULT": {"hostname": hostname, "debug": True, "state_path": self.site.directory, "lock_path": self.site.directory},
            "api": {"auth_type": "password", "region": "RegionOne", "api_interface": "public", **api},
            "oslo_concurrency": {"lock_path": self.site.directory},
            **sections,
        }
        lines = []
        for section, keys in sections.items():
            lines += [f"[{section}]", *(f"{key} = {value}" for key, value in keys.items())]
        path = self.site.directory / f"monitors-{uuid.uuid4().hex}.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    def arrives(self, daemon, host, kind, payload, seconds=40):
        """Waits for the report, which must be exactly this, and returns it."""

        def look():
            if daemon is not None and not daemon.lives():
                raise AssertionError(f"the daemon ended: {daemon.text()[-3000:]}")
            rows = self.site.notifications(source_host_uuid=self.hosts[host])
            return [row for row in rows if row["payload"] == payload]

        try:
            (row,) = cloud.until(f"{payload} of {host}", look, seconds, 0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{daemon.text()[-3000:] if daemon else ''}") from None
        self.assertEqual(row["type"], kind)
        self.assertRegex(row["generated_time"], TIME)
        return row

    def ends(self, row, status, seconds=60):
        def look():
            now = self.site.call("GET", f"/v1/notifications/{row['notification_uuid']}")[2]["notification"]
            return now if now["status"] not in ("new", "running") else None

        self.assertEqual(cloud.until(f"{row['payload']} ends", look, seconds, 0.2)["status"], status)

    def said(self, child, text, seconds=40):
        def look():
            if not child.lives():
                raise AssertionError(f"the daemon ended: {child.text()[-3000:]}")
            return text in child.text()

        cloud.until(f"{child.name} says {text!r}", look, seconds, 0.2)


class Host(Monitors):
    def test_hostmonitor_with_consul(self):
        agents = [ConsulAgent(self.names) for _ in range(3)]
        for agent in agents:
            self.addCleanup(agent.stop)
        addresses = dict(zip(["agent_manage", "agent_tenant", "agent_storage"], [agent.address for agent in agents]))
        host = {"monitoring_driver": "consul", "monitoring_interval": 1, "monitoring_samples": 1, "api_retry_max": 3, "api_retry_interval": 1}
        daemon = self.start("hostmonitor", host=host, consul=addresses)
        # The first sight of a host is only kept, so it must have looked before anything happens.
        cloud.until("hostmonitor has looked twice", lambda: all(agent.asked >= 2 for agent in agents), 60, 0.2)
        # Without management alone nothing is reported.
        agents[0].status["cmp-02"] = 4
        seen = agents[2].asked
        cloud.until("it has looked again", lambda: agents[2].asked >= seen + 2, 30, 0.2)
        self.assertEqual(self.site.notifications(), [])
        agents[0].status["cmp-02"] = 1
        seen = agents[2].asked
        cloud.until("it has looked again", lambda: agents[2].asked >= seen + 2, 30, 0.2)
        started = {"event": "STARTED", "cluster_status": "ONLINE", "host_status": "NORMAL"}
        self.ends(self.arrives(daemon, "cmp-02", "COMPUTE_HOST", started), "finished")
        # Now the host really dies.
        guests = [guest["id"] for guest in self.site.sim.guests_of("cmp-02")]
        self.site.sim("kill", "cmp-02")
        for agent in agents:
            agent.status["cmp-02"] = 4
        row = self.arrives(daemon, "cmp-02", "COMPUTE_HOST", STOPPED)
        self.ends(row, "finished", 90)
        placed = {guest["id"]: guest for guest in self.site.sim("guests")["guests"]}
        for guest in guests:
            self.assertNotEqual(placed[guest]["host"], "cmp-02")
            self.assertEqual(placed[guest]["running_on"], [placed[guest]["host"]])
        self.assertEqual(self.site.sim("double-runs")["double_runs"], 0)
        self.said(daemon, "Response: ")


class Process(Monitors):
    def test_processmonitor_and_the_host_stays_protected(self):
        # Its presence is a substring of `ps -ef`, so it must be written nowhere on a command line.
        place = f"/nowhere/{uuid.uuid4().hex}"
        processes = []
        for name in ["nova-compute", "neutron-agent"]:
            words = {"process_name": f"{place}/{name}", "start_command": "true", "restart_command": "false", "run_as_root": False}
            empty = ["pre_start_command", "post_start_command", "pre_restart_command", "post_restart_command"]
            processes.append({**words, **dict.fromkeys(empty, "")})
        path = self.site.directory / "process_list.yaml"
        path.write_text(json.dumps(processes))  # JSON is YAML
        intervals = {"check_interval": 1, "restart_retries": 1, "restart_interval": 1}
        process = {"process_list_path": path, "api_retry_max": 3, "api_retry_interval": 1, **intervals}
        daemon = self.start("processmonitor", process=process)
        row = self.arrives(daemon, US, "PROCESS", {"event": "STOPPED", "process_name": "nova-compute"})
        self.ends(row, "finished")
        row = self.arrives(daemon, US, "PROCESS", {"event": "STOPPED", "process_name": "neutron-agent"})
        self.ends(row, "finished")
        # The original refuses everything about this host from now on. A host that dies later must still be recovered.
        guests = [guest["id"] for guest in self.site.sim.guests_of(US)]
        self.site.sim("kill", US)
        report = {"type": "COMPUTE_HOST", "hostname": US, "generated_time": "2026-01-01T00:00:00", "payload": STOPPED}
        status, _, made = self.site.call("POST", "/v1/notifications", {"notification": report}, user="monitor")
        self.assertEqual(status, 202, made)
        self.ends(made["notification"], "finished", 90)
        placed = {guest["id"]: guest["host"] for guest in self.site.sim("guests")["guests"]}
        self.assertEqual([guest for guest in guests if placed[guest] == US], [])


class Libvirtd:
    """A daemon of our own with libvirt's test driver, as nobody."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="halberd-clients-libvirt-"))
        sockets = self.directory / "s"
        sockets.mkdir()
        settings = [f'unix_sock_dir = "{sockets}"', 'auth_unix_rw = "none"', 'auth_unix_ro = "none"', "listen_tls = 0", "listen_tcp = 0"]
        (self.directory / "conf").write_text("\n".join(settings) + "\n")
        nobody = {}
        if os.geteuid() == 0:
            nobody = {"user": 65534, "group": 65534, "extra_groups": []}
            for path in [self.directory, sockets]:
                os.chown(path, 65534, 65534)
        home = dict.fromkeys(["HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"], str(self.directory))
        command = [shutil.which("libvirtd") or "/usr/sbin/libvirtd", "-f", self.directory / "conf", "-p", self.directory / "pid"]
        self.child = cloud.Child("libvirtd", command, self.directory, env={**os.environ, **home}, cwd=self.directory, **nobody)
        self.socket = sockets / "libvirt-sock"
        self.uri = f"test+unix:///default?socket={self.socket}"

    def answers(self):
        if not self.child.lives():
            raise AssertionError(f"libvirtd ended: {self.child.text()}")
        with socket.socket(socket.AF_UNIX) as there:
            return there.connect_ex(str(self.socket)) == 0

    def stop(self):
        self.child.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


DOMAIN = """<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os>
<on_reboot>restart</on_reboot><devices><channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/org.qemu.guest_agent.0.{name}.sock'/>
<target type='virtio' name='org.qemu.guest_agent.0'/></channel></devices></domain>"""

LIBVIRT = importlib.util.find_spec("libvirt") and (shutil.which("libvirtd") or os.path.exists("/usr/sbin/libvirtd"))


@unittest.skipUnless(LIBVIRT, "absent: python3-libvirt or libvirtd (apt-get install python3-libvirt libvirt-daemon)")
class Instance(Monitors):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.libvirtd = Libvirtd()
        cls.addClassCleanup(cls.libvirtd.stop)
        cloud.until("libvirtd answers", cls.libvirtd.answers, 30)
        import libvirt

        cls.libvirt = libvirt
        cls.connection = libvirt.open(cls.libvirtd.uri)
        cls.addClassCleanup(cls.connection.close)

    def monitored(self, host):
        return {
            "hostname": host,
            "libvirt": {"connection_uri": self.libvirtd.uri},
            "callback": {"retry_max": 3, "retry_interval": 1},
            "introspectiveinstancemonitor": {"guest_monitoring_interval": 1, "guest_monitoring_timeout": 1, "guest_monitoring_failure_threshold": 1},
        }

    def run_domain(self, guest):
        return self.connection.createXML(DOMAIN.format(name="instance-" + guest["id"][:8], uuid=guest["id"]), 0)

    def send(self, host, *words):
        config = self.config(**self.monitored(host))
        done = subprocess.run([sys.executable, HERE / "monitors_send.py", config, *words], capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done)

    def test_instancemonitor_sees_what_users_wish(self):
        first, second = self.site.sim.guests_of("cmp-03")
        domains = [self.run_domain(first), self.run_domain(second)]
        daemon = self.start("instancemonitor", **self.monitored("cmp-03"))
        # Nothing tells when it listens, so guests nobody knows end until one is reported.
        listened = []

        def listens():
            listened.append(str(uuid.uuid4()))
            self.run_domain({"id": listened[-1]}).destroy()
            rows = self.site.notifications(source_host_uuid=self.hosts["cmp-03"])
            return [row for row in rows if row["payload"]["instance_uuid"] in listened]

        try:
            cloud.until("instancemonitor reports", listens, 60, 0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{daemon.text()[-3000:]}") from None
        domains[0].destroy()
        destroyed = {"event": "LIFECYCLE", "instance_uuid": first["id"], "vir_domain_event": "STOPPED_DESTROYED"}
        self.ends(self.arrives(daemon, "cmp-03", "VM", destroyed), "ignored")
        domains[1].shutdown()
        shutdown = {"event": "LIFECYCLE", "instance_uuid": second["id"], "vir_domain_event": "STOPPED_SHUTDOWN"}
        self.ends(self.arrives(daemon, "cmp-03", "VM", shutdown), "ignored")

    def test_instancemonitor_code_for_a_guest_that_died(self):
        guest = self.site.sim.guests_of("cmp-04")[0]
        self.site.sim("crash-guest", guest["id"])
        self.send("cmp-04", "libvirt", guest["id"], "ID_LIFECYCLE,STOPPED,STOPPED_FAILED")
        failed = {"event": "LIFECYCLE", "instance_uuid": guest["id"], "vir_domain_event": "STOPPED_FAILED"}
        self.ends(self.arrives(None, "cmp-04", "VM", failed), "finished")
        again = next(it for it in self.site.sim("guests")["guests"] if it["id"] == guest["id"])
        self.assertEqual(again["running_on"], ["cmp-04"])

    def test_instancemonitor_code_for_every_other_event(self):
        guest = self.site.sim.guests_of("cmp-05")[0]
        table = [
            ("ID_LIFECYCLE SUSPENDED SUSPENDED_IOERROR", "LIFECYCLE", "SUSPENDED_IOERROR", "ignored"),
            ("ID_LIFECYCLE SUSPENDED SUSPENDED_WATCHDOG", "LIFECYCLE", "SUSPENDED_WATCHDOG", "ignored"),
            ("ID_LIFECYCLE SHUTDOWN SHUTDOWN_FINISHED", "LIFECYCLE", "SHUTDOWN_FINISHED", "ignored"),
            ("ID_WATCHDOG WATCHDOG_RESET -", "WATCHDOG", "WATCHDOG_RESET", "ignored"),
            ("ID_IO_ERROR IO_ERROR_PAUSE -", "IO_ERROR", "IO_ERROR_PAUSE", "ignored"),
            ("ID_IO_ERROR_REASON - -", "IO_ERROR_REASON", "UNKNOWN", "ignored"),
            ("ID_CONTROL_ERROR - -", "CONTROL_ERROR", "UNKNOWN", "ignored"),
            ("ID_IO_ERROR IO_ERROR_REPORT -", "IO_ERROR", "IO_ERROR_REPORT", "finished"),
        ]
        self.send("cmp-05", "libvirt", guest["id"], *(words.replace(" ", ",") for words, _, _, _ in table))
        for _, event, detail, end in table:
            with self.subTest(event=event, detail=detail):
                payload = {"event": event, "instance_uuid": guest["id"], "vir_domain_event": detail}
                self.ends(self.arrives(None, "cmp-05", "VM", payload), end)

    def test_introspectiveinstancemonitor(self):
        guest = self.site.sim.guests_of(US)[0]
        self.run_domain(guest)
        daemon = self.start("introspectiveinstancemonitor", **self.monitored(US))
        # It asks, and as the driver knows no guest agent, the guest was never seen well: that is no failure.
        self.said(daemon, "guest-ping is not responding")
        self.assertEqual(self.site.notifications(source_host_uuid=self.hosts[US]), [])
        self.send(US, "guest-agent", guest["id"])
        silent = {"event": "QEMU_GUEST_AGENT_ERROR", "instance_uuid": guest["id"], "vir_domain_event": "STOPPED_FAILED"}
        self.ends(self.arrives(daemon, US, "VM", silent), "finished")


del Monitors

if __name__ == "__main__":
    unittest.main()
