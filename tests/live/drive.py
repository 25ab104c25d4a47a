#!/usr/bin/env python3
"""Two deaths on a real Nova; started by ./run, which brings up what they need.

Times are printed and never asserted. Asserted are counts and order, against Nova's and the BMCs' own records.
"""
import json
import os
import sys
import time

from service import Service
from testbed import STATE, Fault, Machine, Nova, ctl, epoch_of, host_sh, until

GUESTS = 20
# The engine is killed once it knows of so many accepted evacuations; others are under way then, and others not sent.
KILL_FROM, KILL_TO = 5, 15
# Calls in flight in that run. An engine that knew of 4 a moment ago knows of 12 at most, so the window cannot be jumped over; with
# the default of 16, which the first run has, it could.
IN_FLIGHT = 8
# Only ends a run that hangs. A call cut off by the kill is repeated after its lifetime of 30 s at the earliest.
PATIENCE = 150

BEGAN = time.monotonic()
WRONG = []


def say(text):
    print('[%5.1f] %s' % (time.monotonic() - BEGAN, text), flush=True)


def check(good, what, seen=None):
    say('%s %s' % ('ok  ' if good else 'FAIL', what if good or seen is None else '%s; seen: %s' % (what, seen)))
    if not good:
        WRONG.append(what)


class Death:
    """One death and what came of it."""

    def __init__(self, nova, service, machine, prefix):
        self.nova, self.service, self.machine, self.prefix = nova, service, machine, prefix
        self.servers = nova.seed(prefix, machine.name, GUESTS)
        self.at = None
        self.all_active = None
        say('%d guests ACTIVE on %s' % (GUESTS, machine.name))

    def begin(self, how, die):
        self.at = time.time()
        die()
        say('%s: %s' % (self.machine.name, how))

    def recovery(self):
        """The machine's recovery, if it is open by now; one that came to a stop is a fault, with its own words."""
        recovery = self.service.recovery_of(self.machine.name)
        if recovery and recovery['state'] in ('needs_operator', 'failed', 'cancelled'):
            raise Fault('the recovery of %s is %s: %s' % (self.machine.name, recovery['state'], recovery['message']))
        return recovery

    def accepted(self):
        """How many evacuations the engine knows to be accepted, by its audit: the word of one that was committed."""
        recovery = self.recovery()
        records = recovery and self.service.get('/halberd/v1/audit?limit=1000&chain=' + recovery['id'])['items'] or []
        return sum(record['what'] == 'evacuation_accepted' for record in records)

    def see_it_through(self):
        def moved():
            self.recovery()
            return self.nova.has_moved(self.prefix, self.machine.name) == GUESTS
        until('%d guests ACTIVE elsewhere' % GUESTS, moved, PATIENCE)
        self.all_active = time.time()
        say('%d guests ACTIVE elsewhere, says Nova' % GUESTS)

        def closed():
            recovery = self.service.recovery_of(self.machine.name)
            return recovery if recovery and recovery['closed_at'] else None
        recovery = until('the end of the recovery', closed, PATIENCE)
        check(recovery['state'] == 'finished', 'the recovery is finished', recovery)
        return recovery

    def judge(self):
        """Everything that is asserted of one death."""
        recovery = self.see_it_through()
        story = self.service.explain(recovery['id'])
        with open(os.path.join(STATE, 'explain-%s.json' % self.machine.name), 'w') as file:
            json.dump(story, file, indent=1)
        detail = self.service.get('/halberd/v1/recoveries/' + recovery['id'])
        self.judge_nova()
        self.judge_moves(detail, story)
        self.judge_order(story)
        check(story['replay']['chain_intact'], 'the audit chain verifies')
        split = host_sh('check', check=False)
        check(split.returncode == 0, 'no guest on two hosts', split.stdout)
        self.print_times(detail, story)

    def judge_nova(self):
        machine = self.machine
        actions = {server: self.nova.evacuate_actions(server) for server in self.servers}
        counts = sorted(len(found) for found in actions.values())
        check(counts == [1] * GUESTS, 'one accepted evacuate for each of %d guests (instance actions)' % GUESTS, counts)
        records = self.nova.evacuations(machine.name)
        moved = sorted(record['instance_uuid'] for record in records)
        check(moved == sorted(self.servers), 'one evacuation record for each guest', moved)
        check({record['status'] for record in records} == {'done'}, 'every record is done', records)
        # Nova writes whole seconds.
        off = int(machine.powered_off_at())
        first = min(epoch_of(action['start_time']) for found in actions.values() for action in found)
        check(first >= off, 'Nova was asked for the first evacuation after the machine was off', (first, off))
        now = self.nova.servers(self.prefix).values()
        check(not any(server['locked'] for server in now), 'no guest is left locked')
        row = self.nova.service(machine.name)
        seen = (row['state'], row['status'], row['forced_down'])
        check(seen == ('down', 'disabled', True), 'Nova holds the host forced down and disabled', row)

    def judge_moves(self, detail, story):
        notification = detail['notifications'][0]
        said = self.service.get('/v1/notifications/' + notification)['notification']
        check(said['status'] == 'finished', 'its notification is finished', said)
        moves = self.service.vmoves(notification)
        seen = sorted({move['status'] for move in moves})
        check((len(moves), seen) == (GUESTS, ['succeeded']), '%d moves, all succeeded' % GUESTS, (len(moves), seen))
        tries = sorted(guest['attempts'] for guest in story['guests'])
        check(tries == [1] * GUESTS, 'each evacuate was sent once, by the intents', tries)
        placed = {server: found['OS-EXT-SRV-ATTR:host'] for server, found in self.nova.servers(self.prefix).items()}
        told = {move['instance_uuid']: move['dest_host'] for move in moves}
        check(placed == told, 'each guest is where its move says', (placed, told))

    def judge_order(self, story):
        """Off before force-down before evacuate, by Halberd's intents; and off twice before force-down, by the BMC's own log."""
        def calls(effect):
            return [call for call in story['calls'] if call['effect'] == effect]
        offs, downs, evacuates = calls('power_off'), calls('mark_down'), calls('evacuate')
        check(offs and downs and len(evacuates) == GUESTS, 'off, force-down and evacuate were written down before they were done')
        if not (offs and downs and evacuates):
            return
        off_done = max(epoch_of(call['resolved_at']) for call in offs)
        down_sent, down_done = epoch_of(downs[0]['written_at']), max(epoch_of(call['resolved_at']) for call in downs)
        first = min(epoch_of(call['written_at']) for call in evacuates)
        check(off_done <= down_sent < down_done <= first, 'off before force-down before the first evacuate', (off_done, down_sent, down_done, first))
        requests = self.machine.bmc_requests()
        orders = [at for at, what in requests if what.startswith('set off') and what.endswith('done')]
        others = [what for _, what in requests if what.startswith('set') and not what.startswith('set off')]
        check(bool(orders) and not others, 'the BMC was ordered off, and nothing else', requests)
        read = [at for at, what in requests if what.startswith('get') and what.endswith('off') and orders and orders[0] < at]
        twice = [at for at in read if at <= down_sent]
        spaced = len(twice) >= 2 and twice[-1] - twice[0] >= 1
        check(spaced, 'the BMC was read Off at least twice, a second apart, between the order and force-down', (orders, read, down_sent))
        again = [at for at in read if down_done <= at <= first]
        check(bool(again), 'and once more between force-down and the first evacuate', (read, down_done, first))

    def print_times(self, detail, story):
        accepted = [epoch_of(entry['at']) for entry in story['timeline'] if entry['what'] in ('evacuation_accepted', 'evacuation_adopted')]
        judged = [epoch_of(entry['at']) for entry in story['timeline'] if entry['what'] == 'host_judged']
        since = {
            'verdict': min(judged, default=None),
            'fence proof': detail['proof'] and detail['proof']['at'] and epoch_of(detail['proof']['at']),
            'all %d accepted' % GUESTS: max(accepted, default=None),
            'all %d ACTIVE' % GUESTS: self.all_active,
        }
        words = ['%s %s' % (what, '?' if at is None else '%.1f s' % (at - self.at)) for what, at in since.items()]
        say('SECONDS from the death of %s: %s' % (self.machine.name, ', '.join(words)))


def power_lost(nova, service, machine):
    """The machine loses power, its BMC lives. Nobody reports it: its agent's silence and the BMC's word are the evidence."""
    say('== %s loses power, found out by its missing heartbeats, fenced by Redfish' % machine.name)
    death = Death(nova, service, machine, 'a-')
    death.begin('power lost', machine.lose_power)
    death.judge()
    return death


def engine_killed(nova, service, machine):
    """The machine crashes with its power on and has no agent: reported as Masakari's monitors report. The engine dies half way."""
    say('== %s crashes, reported by a monitor, fenced by IPMI; the engine is killed half way' % machine.name)
    death = Death(nova, service, machine, 'b-')
    death.begin('crashed, its power is on', machine.crash)
    report = {'notification': {
        'type': 'COMPUTE_HOST', 'hostname': machine.name, 'generated_time': time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime()),
        'payload': {'event': 'STOPPED', 'cluster_status': 'OFFLINE', 'host_status': 'NORMAL'}}}
    service.call('POST', '/v1/notifications', report, wanted=(202,))
    count = until('%d accepted evacuations' % KILL_FROM, lambda: (known := death.accepted()) >= KILL_FROM and known, PATIENCE, 0.02)
    service.kill()
    recorded = len(nova.evacuations(machine.name))
    say('engine killed (SIGKILL) when it knew of %d accepted evacuations; Nova has records of %d' % (count, recorded))
    check(count <= KILL_TO and recorded < GUESTS, 'it was killed half way', (count, recorded))
    service.start()
    say('engine started again')
    death.judge()
    return death


def hosts_return(nova, service, deaths):
    """Both machines are switched on: nova-compute cleans up, then Halberd lets them in, and undoes what it set and nothing else."""
    say('== both hosts are switched on again')
    for death in deaths:
        death.machine.switch_on()
        row = nova.service(death.machine.name)
        check((row['status'], row['forced_down']) == ('disabled', True), '%s is kept out while nova-compute cleans up' % death.machine.name, row)
    for death in deaths:
        name = death.machine.name

        def is_in():
            recovery = service.recovery_of(name, 'return')
            return recovery and recovery['closed_at'] and recovery
        recovery = until('the return of %s' % name, is_in, PATIENCE)
        check(recovery['state'] == 'finished', '%s is in again' % name, recovery)
        row = until('%s up' % name, lambda: (row := nova.service(name))['state'] == 'up' and row, 30)
        check((row['status'], row['forced_down']) == ('enabled', False), '%s is enabled and not forced down' % name, row)
        left = [record for record in nova.evacuations(name) if record['status'] != 'completed']
        check(not left, 'its evacuation records are completed', left)
        check(nova.has_moved(death.prefix, name) == len(nova.servers(death.prefix)), 'its former guests are ACTIVE where they went')
    split = host_sh('check', check=False)
    check(split.returncode == 0, 'no guest on two hosts', split.stdout)


def main():
    nova = Nova()
    service = Service(nova.report_interval)
    # Two by Redfish (sushy-tools), two by IPMI (OpenIPMI's ipmi_sim); cmp-02 has no agent.
    machines = [Machine(number, 'ipmisim' if number % 2 == 0 else 'redfish') for number in (1, 2, 3, 4)]
    try:
        service.start()
        segment = service.create_segment('live')
        hosts = [service.register(segment, machine) for machine in machines]
        say('%d hosts registered, each BMC checked' % len(hosts))
        enrolled = set()
        for number, (host, machine) in enumerate(zip(hosts, machines), 1):
            if number != 2:
                service.enrol(host, machine, '127.77.0.%d' % number)
                enrolled.add(machine.name)
        until('beats of %s' % enrolled, lambda: service.alive_agents() == enrolled, 60)
        say('agents beat: %s' % ' '.join(sorted(enrolled)))

        first = power_lost(nova, service, machines[0])
        nova.delete(first.servers)
        until('clean hosts', lambda: not nova.servers('a-'), 60)
        service.call('PUT', '/halberd/v1/segments/%s/policy' % segment, {'evacuations_in_flight': IN_FLIGHT})
        second = engine_killed(nova, service, machines[1])
        if '--return' in sys.argv[1:]:
            hosts_return(nova, service, (first, second))
            agents = until('beats of %s' % enrolled, lambda: service.alive_agents() == enrolled, 60)
            check(agents, 'every agent is alive again')

        verified = service.get('/halberd/v1/audit/verify')
        check(verified['intact'], 'every audit chain verifies', verified)
        stopped = service.stop()
        check(stopped == 0, 'halberd serve ends by SIGTERM with 0', stopped)
    except Fault as fault:
        check(False, str(fault))
        for recovery in service.open_recoveries():
            say('open: %s of %s is %s: %s' % (recovery['kind'], recovery['subject']['name'], recovery['state'], recovery['message']))
    finally:
        service.stop()
    if WRONG:
        for machine in machines[:2]:
            print('-- %s power: %s' % (machine.name, ctl('events', machine.sim)))
        print('-- end of halberd.log')
        with open(service.log) as log:
            print(''.join(log.readlines()[-40:]))
        print('%d wrong: %s' % (len(WRONG), '; '.join(WRONG)))
    return 1 if WRONG else 0


if __name__ == '__main__':
    sys.exit(main())
