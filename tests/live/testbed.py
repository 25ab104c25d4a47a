"""The world: real Keystone and Nova, and BMCs. Asked directly, never through Halberd, so that it can contradict Halberd."""
import datetime
import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid

TESTBED = os.environ['HALBERD_LIVE_TESTBED']
BMC_SIM = os.environ['HALBERD_LIVE_BMC_SIM']
STATE = os.environ['HALBERD_LIVE_STATE']
OSTEST = os.environ['OSTEST_DIR']
CLOUDS = os.path.join(OSTEST, 'clouds.yaml')

# Proxies of the build machine have no business with loopback.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http(method, url, body=None, headers=None, timeout=70):
    """One request: (status, parsed JSON or text, headers). Refusals are answers too."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {'Content-Type': 'application/json', **(headers or {})}, method=method)
    try:
        with OPENER.open(request, timeout=timeout) as answer:
            status, text, seen = answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        status, text, seen = error.code, error.read(), error.headers
    try:
        return status, json.loads(text), seen
    except ValueError:
        return status, text.decode(errors='replace'), seen


def run(*argv, check=True):
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        raise SystemExit('%s: exit %d\n%s%s' % (' '.join(argv), done.returncode, done.stdout, done.stderr))
    return done


def host_sh(*argv, check=True):
    return run(os.path.join(TESTBED, 'host.sh'), *argv, check=check)


def ctl(*argv):
    return run(os.path.join(BMC_SIM, 'ctl.sh'), *argv).stdout


def epoch_of(text):
    """Seconds of an RFC 3339 time; Nova's have no zone and mean UTC."""
    at = datetime.datetime.fromisoformat(text.replace('Z', '+00:00'))
    return (at if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)).timestamp()


class Nova:
    """Nova as its administrator sees it."""

    def __init__(self):
        with open(os.path.join(OSTEST, 'testbed.json')) as file:
            bed = json.load(file)
        self.url = bed['compute_url']
        self.service_down_time = bed['service_down_time']
        self.report_interval = bed['report_interval']
        domain = {'name': 'Default'}
        user = {'name': 'admin', 'password': bed['password'], 'domain': domain}
        login = {'auth': {
            'identity': {'methods': ['password'], 'password': {'user': user}},
            'scope': {'project': {'name': 'admin', 'domain': domain}}}}
        status, answer, headers = http('POST', bed['auth_url'].rstrip('/') + '/auth/tokens', login)
        if status == 404:
            status, answer, headers = http('POST', bed['auth_url'].rstrip('/') + '/v3/auth/tokens', login)
        assert status == 201, answer
        self.token = headers['X-Subject-Token']

    def call(self, method, path, body=None):
        headers = {'X-Auth-Token': self.token, 'OpenStack-API-Version': 'compute 2.90'}
        return http(method, self.url + path, body, headers)

    def get(self, path):
        status, answer, _ = self.call('GET', path)
        assert status == 200, '%s: %s %s' % (path, status, answer)
        return answer

    def servers(self, prefix):
        listed = self.get('/servers/detail?all_tenants=1&limit=1000&name=' + prefix)['servers']
        return {server['id']: server for server in listed}

    def service(self, host):
        return self.get('/os-services?binary=nova-compute&host=' + host)['services'][0]

    def evacuations(self, source):
        """Evacuation records of a host: one for each call that Nova accepted."""
        return self.get('/os-migrations?migration_type=evacuation&source_compute=' + source)['migrations']

    def evacuate_actions(self, server):
        """Instance actions of the name: one for each call that Nova accepted."""
        actions = self.get('/servers/%s/os-instance-actions' % server)['instanceActions']
        return [action for action in actions if action['action'] == 'evacuate']

    def seed(self, prefix, host, count):
        run(os.path.join(OSTEST, 'venv/bin/python'), os.path.join(TESTBED, 'seed.py'), '--clouds', CLOUDS,
            '--servers', str(count), '--prefix', prefix, '--host', host)
        servers = self.servers(prefix)
        assert len(servers) == count, '%d servers instead of %d' % (len(servers), count)
        for server in servers.values():
            assert (server['status'], server['OS-EXT-SRV-ATTR:host']) == ('ACTIVE', host), server
        return servers

    def delete(self, servers):
        for server in servers:
            self.call('DELETE', '/servers/' + server)

    def has_moved(self, prefix, away_from):
        """How many are ACTIVE, idle and placed elsewhere. The status alone turns ACTIVE before the host changes."""
        return sum(
            server['status'] == 'ACTIVE' and server['OS-EXT-STS:task_state'] is None and
            server['OS-EXT-SRV-ATTR:host'] not in (None, away_from) for server in self.servers(prefix).values())


class Machine:
    """A hypervisor: nova-compute cmp-0N on the simulated machine hN, switched by BMCs that Halberd's authors did not write."""

    def __init__(self, number, kind):
        self.name, self.sim = 'cmp-%02d' % number, 'h%d' % number
        inventory = json.loads(ctl('inventory'))
        self.bmc = [bmc for bmc in inventory if bmc['host'] == self.sim and bmc['kind'] == kind][0]

    @property
    def uuid(self):
        """As its BMC tells: the Redfish system's UUID, or the GUID that ipmi_sim was configured with (md5 of the name)."""
        if self.bmc['proto'] == 'redfish':
            return self.bmc['systems_uri'].rsplit('/', 1)[1]
        return str(uuid.UUID(run('sh', '-c', 'printf %s "$1" | md5sum | cut -c1-32', 'sh', self.sim).stdout.strip()))

    def device(self):
        login = {'username': self.bmc['username'], 'password': self.bmc['password']}
        if self.bmc['proto'] == 'redfish':
            return {'type': 'redfish', 'address': self.bmc['url'], 'tls': {'ca_file': self.bmc['ca']}, **login}
        return {'type': 'ipmi', 'address': '%s:%d' % (self.bmc['address'], self.bmc['port']), **login}

    def lose_power(self):
        """Its power goes, its BMC stays: every process on it is killed, nova-compute, guests and agent alike."""
        ctl('power', self.sim, 'off')

    def switch_on(self):
        """Somebody presses the button: the machine boots, its agent (if any) and its nova-compute start."""
        ctl('power', self.sim, 'on')
        host_sh('start', self.name)

    def crash(self):
        """Its kernel dies with the power on: nova-compute and guests are gone, and the BMC still says On."""
        host_sh('kill', self.name)

    def powered_off_at(self):
        """When the machine really lost power, from the simulator's own log."""
        lines = [line.split() for line in ctl('events', self.sim).splitlines()]
        return [float(line[0]) for line in lines if line[2] == 'off'][-1]

    def bmc_requests(self):
        """(time, what) of every power request that reached its BMC, from the BMC's own log."""
        lines = ctl('requests', self.bmc['bmc']).splitlines()
        return [(float(line.split(' ', 1)[0]), line.split(' ', 3)[3]) for line in lines]


def until(what, condition, seconds, every=0.2):
    """Waits for a condition; the limit only ends a run that hangs, nothing is measured against it."""
    end = time.monotonic() + seconds
    while True:
        seen = condition()
        if seen:
            return seen
        if time.monotonic() > end:
            raise Fault('%s did not come within %d s' % (what, seconds))
        time.sleep(every)


class Fault(Exception):
    """What the test found wrong."""
