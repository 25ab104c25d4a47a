"""Reads what happened and says what must not have. Knows nothing of the product's code, only what it promises.

It sees (a) the simulated cloud's truth (who ran where, which host had power) and the calls that came there, each with the intents that stood
committed in the database at its arrival; (b) the database's tables by plain SQL, at the end and sampled meanwhile; (c) the client's journal of
acknowledged reports and listings. Order in time is that of one monotonic clock, this machine's; the product's own times are not believed.

`test_checker.py` breaks each rule once in a doctored history and sees it found.
"""

import dataclasses
import hashlib

ENDED = ("finished", "failed", "ignored")
CLOSED = ("finished", "failed", "cancelled")
# What must never be sent twice for one intention. The others say how things shall be, and may be said again.
ONCE = ("evacuate", "os-stop", "os-start")
GENESIS = "0" * 64


@dataclasses.dataclass
class History:
    """Everything that was seen of one scenario. Times are seconds of the monotonic clock."""

    calls: list = dataclasses.field(default_factory=list)  # recorder: n at deed effects guest|host from seen status answered
    places: list = dataclasses.field(default_factory=list)  # (at, {guest: (placed on, running on)}) at each change
    power: list = dataclasses.field(default_factory=list)  # (at, {host: (power, state, boots)}) at each change
    records: list = dataclasses.field(default_factory=list)  # Nova's evacuation records, oldest first: guest source dest status
    double_runs: int = 0  # as the simulated cloud counted them, at every instant
    samples: list = dataclasses.field(default_factory=list)  # (at, rows of recoveries)
    tables: dict = dataclasses.field(default_factory=dict)
    acks: list = dataclasses.field(default_factory=list)
    listings: list = dataclasses.field(default_factory=list)
    victims: list = dataclasses.field(default_factory=list)  # hosts that the scenario struck
    lost: list = dataclasses.field(default_factory=list)  # guests that cannot come back by the scenario's will
    # (kept, begun, done): the scenario rewound the database: what was written after the first may be missing from the second on.
    rewinds: list = dataclasses.field(default_factory=list)
    # (engine, since, until): cut off with a primary that commits nothing any more. What others were told since may be missing there.
    cut: list = dataclasses.field(default_factory=list)
    waiting: bool = False  # the scenario ends with a recovery that waits for a person
    recovered: bool = True  # the scenario ends with every guest of the victims running again


class Checker:
    def __init__(self, history):
        self.history = history
        self.found = []
        self.counts = {}

    def check(self):
        """All rules; what was violated, as (rule, words)."""
        for rule in RULES:
            self._rule = rule.__name__
            self.counts[self._rule] = rule(self)
        return self.found

    def say(self, words):
        self.found.append((self._rule, words))

    def _before(self, states, at):
        """What was true at that moment."""
        last = {}
        for when, state in states:
            if when > at:
                break
            last = state
        return last

    def _rewound(self, written, seen):
        return any(written > kept and seen >= begun for kept, begun, _ in self.history.rewinds)

    def _behind(self, written, listing):
        """Whether an engine that was cut off when it listed cannot know what was written then."""
        return any(listing["engine"] == engine and since < written and since < listing["began"] < until for engine, since, until in self.history.cut)


# --------------------------------------------------------------------------------------------------- the cloud's truth


def no_guest_twice(self):
    """I10. No guest runs on two hosts, at no instant."""
    if self.history.double_runs:
        self.say(f"the simulated cloud counted {self.history.double_runs} double runs")
    for at, guests in self.history.places:
        for guest, (_, running) in guests.items():
            if len(running) > 1:
                self.say(f"guest {guest} ran on {', '.join(running)} at {at:.2f}")
    return len(self.history.places)


def evacuated_only_when_off(self):
    """I1, I2. Force-down and evacuate only while the host has no power, evacuate only of guests that run nowhere."""
    count = 0
    for call in self.history.calls:
        if call["deed"] == "force down":
            power = self._before(self.history.power, call["at"]).get(call["host"], ("?",))[0]
            count += 1
            if power not in ("off", "dark"):
                self.say(f"call {call['n']}: {call['host']} was forced down while its power was {power}")
        if call["deed"] == "evacuate":
            count += 1
            placed, running = self._before(self.history.places, call["at"]).get(call["guest"], (None, ()))
            if running:
                self.say(f"call {call['n']}: evacuate of {call['guest']}, which ran on {', '.join(running)}")
            power = self._before(self.history.power, call["at"]).get(placed, ("?",))[0]
            if power not in ("off", "dark"):
                self.say(f"call {call['n']}: evacuate of {call['guest']} while the power of {placed} was {power}")
    return count


def only_victims_are_shot(self):
    """No order to switch a machine off that the scenario has not struck."""
    orders = [call for call in self.history.calls if call["deed"] in ("power ForceOff", "force down")]
    for call in orders:
        if call["host"] not in self.history.victims:
            self.say(f"call {call['n']}: {call['deed']} of {call['host']}, which is well")
    return len(orders)


def guests_are_back(self):
    """L1. In the end every guest of the victims runs, on one host that lives."""
    if not self.history.recovered or not self.history.places:
        return 0
    at, now = self.history.places[-1]
    first = self.history.places[0][1]
    theirs = [guest for guest, (host, _) in first.items() if host in self.history.victims and guest not in self.history.lost]
    for guest in theirs:
        placed, running = now.get(guest, (None, ()))
        if list(running) != [placed]:
            self.say(f"guest {guest} of {first[guest][0]} ended placed on {placed}, running on {', '.join(running) or 'none'}")
    return len(theirs)


# ---------------------------------------------------------------------------------------------------- intent and deed


def intent_before_deed(self):
    """I7. When a deed arrives, its intent stands committed and unresolved. Where nobody could look then, it stands there afterwards."""
    rows = self.history.tables.get("intents", [])
    for call in self.history.calls:
        if not call["effects"]:
            self.say(f"call {call['n']}: {call['deed']}, which no intent can mean")
        elif "intents" in call["seen"]:
            if not call["seen"]["intents"]:
                self.say(f"call {call['n']}: {call['deed']} of {call.get('guest') or call['host']} without an open intent")
        elif not any(row["effect"] in call["effects"] for row in rows) and not self.history.rewinds:
            self.say(f"call {call['n']}: {call['deed']} was seen by nobody, and no such intent was ever written")
    return len(self.history.calls)


def once_for_each_intent(self):
    """I8. A guest has one open evacuation at most, and no intent sends its call twice."""
    sent, count = {}, 0
    for call in self.history.calls:
        if call["deed"] not in ONCE:
            continue
        count += 1
        intents = [intent["id"] for intent in call["seen"].get("intents", ())]
        if call["deed"] == "evacuate" and len(intents) > 1:
            self.say(f"call {call['n']}: guest {call['guest']} has {len(intents)} open evacuations: {', '.join(intents)}")
        for intent in intents:
            if intent in sent:
                self.say(f"calls {sent[intent]} and {call['n']}: {call['deed']} of {call['guest']} was sent twice for intent {intent}")
            sent[intent] = call["n"]
    return count


def no_second_evacuation(self):
    """I9. A second accepted evacuation of a guest only after it was somewhere else in between, or where Nova's record of the first says that
    it failed, or that it went to a host that had no power any more when the second was sent."""
    accepted, records = {}, {}
    for call in self.history.calls:
        if call["deed"] == "evacuate" and 200 <= call.get("status", 0) < 300:
            accepted.setdefault(call["guest"], []).append(call)
    for record in self.history.records:
        records.setdefault(record["guest"], []).append(record)
    for guest, calls in accepted.items():
        for at, (one, two) in enumerate(zip(calls, calls[1:])):
            before = self._before(self.history.places, one["at"]).get(guest, (None,))[0]
            between = self._before(self.history.places, two["at"]).get(guest, (None,))[0]
            # Each accepted call made one record.
            record = records.get(guest, [])[at] if len(records.get(guest, [])) == len(calls) else {}
            power = self._before(self.history.power, two["at"]).get(record.get("dest"), ("?",))[0]
            failed = record.get("status") in ("failed", "error") or power in ("off", "dark")
            if before == between and not failed:
                self.say(f"calls {one['n']} and {two['n']}: guest {guest} was evacuated twice from {before}")
    return len(accepted)


def no_intent_left_over(self):
    """An intent of a recovery that is closed has an answer."""
    closed = {row["id"] for row in self.history.tables.get("recoveries", ()) if row["state"] in CLOSED}
    rows = self.history.tables.get("intents", [])
    for row in rows:
        if row["recovery"] in closed and row["resolved_at"] is None:
            self.say(f"intent {row['id']} ({row['effect']}) is open, and its recovery {row['recovery']} is closed")
    return len(rows)


# ------------------------------------------------------------------------------------------------- recoveries, epochs


def one_open_recovery(self):
    """I4. A subject has one open recovery at most, at every look."""
    for at, rows in [*self.history.samples, (0, self.history.tables.get("recoveries", []))]:
        open_ones = {}
        for row in rows:
            if row["closed_at"] is None:
                key = (row["kind"], row["subject"])
                if key in open_ones:
                    self.say(f"{row['kind']} {row['subject']} has open recoveries {open_ones[key]} and {row['id']} at {at:.2f}")
                open_ones[key] = row["id"]
    return len(self.history.samples)


def epochs_grow(self):
    """I5, I6. Epoch and version of a recovery never fall, an epoch has one owner for ever, and what is closed stays so."""
    last, owners, before = {}, {}, None
    for at, rows in self.history.samples:
        rewound = before is not None and any(before < done and at >= begun for _, begun, done in self.history.rewinds)
        for row in rows:
            former = last.get(row["id"])
            if former and not rewound:
                for what in ("epoch", "version"):
                    if row[what] < former[what]:
                        self.say(f"recovery {row['id']}: its {what} fell from {former[what]} to {row[what]} at {at:.2f}")
                if former["closed_at"] is not None and row["closed_at"] is None:
                    self.say(f"recovery {row['id']} was closed and is open again at {at:.2f}")
            if row["owner"]:
                owner = owners.setdefault((row["id"], row["epoch"]), row["owner"])
                if owner != row["owner"]:
                    self.say(f"recovery {row['id']}: epoch {row['epoch']} is of {owner} and of {row['owner']}")
        if not rewound and before is not None:
            gone = set(last) - {row["id"] for row in rows}
            if gone:
                self.say(f"recoveries are gone at {at:.2f}: {', '.join(sorted(gone))}")
        last, before = {row["id"]: row for row in rows}, at
    epochs = {row["id"]: row["epoch"] for row in self.history.tables.get("recoveries", ())}
    for row in self.history.tables.get("intents", ()):
        if row["recovery"] in epochs and row["epoch"] > epochs[row["recovery"]]:
            self.say(f"intent {row['id']} has epoch {row['epoch']}, its recovery {epochs[row['recovery']]}")
    return len(owners)


def epochs_jump_after_a_rewind(self):
    """I6. What is done after a rewind is done under an epoch higher than any that was ever seen of that recovery before."""
    count = 0
    for _, begun, done in self.history.rewinds:
        highest = {}
        for at, rows in self.history.samples:
            for row in rows if at < begun else ():
                highest[row["id"]] = max(row["epoch"], highest.get(row["id"], 0))
        for call in self.history.calls:
            for intent in call["seen"].get("intents", ()) if call["at"] > done else ():
                count += 1
                if intent["epoch"] <= highest.get(intent["recovery"], 0):
                    self.say(f"call {call['n']}: {call['deed']} for intent {intent['id']} of epoch {intent['epoch']}, which recovery {intent['recovery']} had before the rewind")
    return count


# ------------------------------------------------------------------------------------------------------ reports


def no_acknowledged_report_lost(self):
    """I27. What was answered 202 is in every listing that began later, from whichever engine, and ends. An engine that is cut off with the former
    primary lists what was there before the cut, all of it."""
    for ack in self.history.acks:
        for listing in self.history.listings:
            excused = self._rewound(ack["at"], listing["at"]) or self._behind(ack["at"], listing)
            if listing["began"] > ack["at"] and ack["id"] not in listing["seen"] and not excused:
                self.say(f"report {ack['id']} was acknowledged by {ack['engine']} at {ack['at']:.2f} and is not in the listing of "
                         f"{listing['engine']} at {listing['began']:.2f}")
                break
    if self.history.acks and not self.history.listings:
        self.say("nothing was ever listed")
    if self.history.listings:
        last = max(self.history.listings, key=lambda listing: listing["began"])
        allowed = ENDED + (("error", "running", "new") if self.history.waiting else ())
        for ack in self.history.acks:
            status = last["seen"].get(ack["id"])
            if status is not None and status not in allowed:
                self.say(f"report {ack['id']} ({ack['kind']} {ack['host']}) is still {status} at the end")
    return len(self.history.acks)


def ended_stays_ended(self):
    """A report that has ended is never shown as anything else."""
    ended = {}
    for listing in sorted(self.history.listings, key=lambda listing: listing["began"]):
        for report, status in listing["seen"].items():
            if report in ended:
                at, former = ended[report]
                excused = self._rewound(at, listing["at"]) or self._behind(at, listing)
                if at < listing["began"] and status != former and not excused:
                    self.say(f"report {report} was {former} at {at:.2f} and is {status} at {listing['began']:.2f}")
            elif status in ENDED:
                ended[report] = (listing["at"], status)
    return len(ended)


# ------------------------------------------------------------------------------------------------- events and audit


def events_without_gaps(self):
    """I30. Ids are unique; the sequence of each recovery begins with 1, has no gap, and ends where the recovery says."""
    rows = self.history.tables.get("events", [])
    ids, sequences = set(), {}
    for row in rows:
        if row["id"] in ids:
            self.say(f"event {row['id']} is there twice")
        ids.add(row["id"])
        if row["recovery"]:
            sequences.setdefault(row["recovery"], []).append(row["sequence"])
    for recovery, seen in sequences.items():
        if sorted(seen) != list(range(1, len(seen) + 1)):
            self.say(f"recovery {recovery}: event sequences {sorted(seen)}")
    for row in self.history.tables.get("recoveries", ()):
        if row["event_sequence"] != len(sequences.get(row["id"], ())):
            self.say(f"recovery {row['id']} counts {row['event_sequence']} events, and has {len(sequences.get(row['id'], ()))}")
    return len(rows)


def record_hash(row):
    """SHA-256 over chain, sequence, hash before, time, epoch, word, text and detail, each with its length (8 bytes, little-endian) before it."""
    digest = hashlib.sha256()
    for part in (row["chain"], row["sequence"], row["before_hash"], row["at"], row["epoch"], row["what"], row["text"], row["detail"]):
        data = str(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def audit_is_whole(self):
    """I31. Every chain leads from its first record to its head, and its epochs never fall."""
    chains = {}
    for row in self.history.tables.get("audit", ()):
        chains.setdefault(row["chain"], []).append(row)
    heads = {row["chain"]: (row["sequence"], row["hash"]) for row in self.history.tables.get("audit_heads", ())}
    for chain, rows in chains.items():
        before, epoch = GENESIS, None
        for expected, row in enumerate(sorted(rows, key=lambda row: row["sequence"]), 1):
            if row["sequence"] != expected:
                self.say(f"chain {chain}: record {expected} is missing")
                break
            if row["before_hash"] != before or record_hash(row) != row["hash"]:
                self.say(f"chain {chain}: record {expected} was changed, or the one before it")
                break
            if epoch is not None and row["epoch"] < epoch:
                self.say(f"chain {chain}: record {expected} is of epoch {row['epoch']}, after {epoch}")
            before, epoch = row["hash"], row["epoch"]
        else:
            if heads.get(chain) != (len(rows), before):
                self.say(f"chain {chain} ends at {len(rows)}, its head says {heads.get(chain, ('nothing',))[0]}")
    for chain in set(heads) - set(chains):
        self.say(f"chain {chain} is gone, its head says {heads[chain][0]}")
    return len(chains)


RULES = [
    no_guest_twice, evacuated_only_when_off, only_victims_are_shot, guests_are_back,
    intent_before_deed, once_for_each_intent, no_second_evacuation, no_intent_left_over,
    one_open_recovery, epochs_grow, epochs_jump_after_a_rewind,
    no_acknowledged_report_lost, ended_stays_ended,
    events_without_gaps, audit_is_whole,
]
