"""Halberd as its users have it: the built programs, a configuration file, and REST."""
import os
import signal
import socket
import subprocess
import urllib.error

from testbed import CLOUDS, STATE, Fault, http, until

HALBERD = os.environ['HALBERD']


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


class Service:
    """`halberd serve` on SQLite: API and engine in one process."""

    def __init__(self, report_interval):
        self.port, self.beats = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
        self.url = 'http://127.0.0.1:%d' % self.port
        self.config = os.path.join(STATE, 'halberd.toml')
        self.log = os.path.join(STATE, 'halberd.log')
        self.process = None
        with open(self.config, 'w') as file:
            # No user land is probed: on loopback the build machine's own sshd would answer for a dead hypervisor.
            file.write('''[database]
url = "sqlite:%s/halberd.db"

[api]
listen = "127.0.0.1:%d"
auth = "none"

[openstack]
cloud = "ostest-ha"

[engine]
name = "live"
heartbeat_listen = ["127.0.0.1:%d"]
probe_ports = []

[policy]
nova_report_interval_ms = %d
''' % (STATE, self.port, self.beats, 1000 * report_interval))

    def start(self):
        environment = {**os.environ, 'OS_CLIENT_CONFIG_FILE': CLOUDS, 'RUST_LOG': os.environ.get('RUST_LOG', 'info')}
        with open(self.log, 'a') as log:
            # It dies with this test, however that ends.
            self.process = subprocess.Popen(
                ['setpriv', '--pdeathsig', 'KILL', HALBERD, 'serve', '--config', self.config], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        until('halberd serve', self.answers, 60, 0.05)

    def answers(self):
        if self.process.poll() is not None:
            raise Fault('halberd serve ended with %s; see %s' % (self.process.returncode, self.log))
        try:
            return http('GET', self.url + '/healthcheck', timeout=2)[0] == 200
        except (urllib.error.URLError, OSError):
            return False

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """A graceful stop; its exit status."""
        if self.process is None or self.process.poll() is not None:
            return None
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            return 'killed, it did not end by SIGTERM within 20 s'

    def call(self, method, path, body=None, wanted=(200, 201, 202, 204)):
        headers = {'OpenStack-API-Version': 'instance-ha 1.3'}
        status, answer, _ = http(method, self.url + path, body, headers)
        if status not in wanted:
            raise Fault('%s %s: %s %s' % (method, path, status, answer))
        return answer

    def get(self, path):
        return self.call('GET', path)

    def create_segment(self, name):
        body = {'segment': {'name': name, 'recovery_method': 'auto', 'service_type': 'COMPUTE'}}
        return self.call('POST', '/v1/segments', body)['segment']['uuid']

    def register(self, segment, machine):
        """A host with the machine's identity and its BMC; waits for the engine's word that the BMC could fence."""
        body = {'host': {'name': machine.name, 'type': 'COMPUTE', 'control_attributes': 'SSH'}}
        host = self.call('POST', '/v1/segments/%s/hosts' % segment, body)['host']['uuid']
        at = '/halberd/v1/hosts/%s' % host
        self.call('PUT', at + '/attributes', {'machine': machine.uuid})
        self.call('PUT', at + '/fence-devices', {'levels': [{'devices': [machine.device()]}]})
        wish = self.call('POST', at + '/fence-devices/check', {})
        until('the check of %s' % machine.bmc['bmc'], lambda: self.get('/halberd/v1/wishes/%s' % wish['id'])['answered_at'], 60)
        check = self.get(at + '/fence-devices')['levels'][0]['devices'][0]['last_check']
        if not (check and check['ready'] and check['power'] == 'on' and check['identity_matches']):
            raise Fault('%s is not ready to fence: %s' % (machine.bmc['bmc'], check))
        return host

    def enrol(self, host, machine, address):
        """Gives the machine's agent its key and configuration, which is what it waits for to start."""
        issued = self.call('POST', '/halberd/v1/hosts/%s/agent-key' % host)
        folder = os.path.join(STATE, 'agents')
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, machine.sim)
        with open(os.open(path + '.key', os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 'w') as file:
            file.write(issued['key_file'])
        with open(path + '.new', 'w') as file:
            file.write('''[agent]
key_file = "%s.key"
engines = ["127.0.0.1:%d"]
state_dir = "%s.state"
api_url = "%s"

[[networks]]
name = "management"
bind = "%s:0"
''' % (path, self.beats, path, self.url, address))
        os.rename(path + '.new', path + '.toml')

    def alive_agents(self):
        agents = self.get('/halberd/v1/agents')
        return {agent['host'] for agent in agents.get('items', agents) if agent['state'] == 'alive'}

    def recovery_of(self, host, kind='host'):
        """The newest recovery of a host's failure, or `return`, its way back; if there is one."""
        found = self.get('/halberd/v1/recoveries?kind=%s&host=%s' % (kind, host))['items']
        return found[0] if found else None

    def open_recoveries(self):
        """For a report of what went wrong, so an answer is not owed."""
        try:
            return self.get('/halberd/v1/recoveries?open=true')['items']
        except (OSError, Fault):
            return []

    def explain(self, recovery):
        return self.get('/halberd/v1/recoveries/%s/explain' % recovery)

    def vmoves(self, notification):
        return self.get('/v1/notifications/%s/vmoves' % notification)['vmoves']
