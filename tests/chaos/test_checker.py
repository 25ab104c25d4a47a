"""The checker against doctored histories: each rule is broken in a few ways, and must be the one that says so. A sound history breaks none."""

import copy
import unittest

import checker
from checker import GENESIS, Checker, History, record_hash

GUEST, OTHER = "guest-1", "guest-2"


def chain(name, count, epoch=0):
    rows, before = [], GENESIS
    for sequence in range(1, count + 1):
        row = {"chain": name, "sequence": sequence, "before_hash": before, "at": 5 * sequence, "epoch": epoch, "what": "done", "text": "é", "detail": '{"a":1}'}
        row["hash"] = before = record_hash(row)
        rows.append(row)
    return rows


def call(n, deed, effects, intents, at=None, status=200, **whom):
    return {"n": n, "at": at or 10 + n, "answered": (at or 10 + n) + 0.1, "deed": deed, "effects": effects, "from": "e", "status": status,
            "seen": {"intents": [{"id": intent, "recovery": "r1", "epoch": 1} for intent in intents]}, **whom}


def sound():
    """A host is struck, switched off, forced down, and its guest evacuated; a second report asked for nothing."""
    recovery = {"id": "r1", "kind": "host", "subject": "host:h1", "state": "finished", "owner": "e1", "epoch": 1, "version": 9,
                "event_sequence": 2, "closed_at": 99}
    opened = {**recovery, "state": "evacuating", "version": 3, "closed_at": None}
    audit = chain("r1", 3, 1) + chain("engine:e1", 2)
    return History(
        calls=[
            call(1, "power ForceOff", ["power_off"], ["i1"], host="cmp-01"),
            call(2, "force down", ["mark_down"], ["i2"], host="cmp-01"),
            call(3, "evacuate", ["evacuate"], ["i3"], guest=GUEST),
        ],
        places=[
            (0, {GUEST: ("cmp-01", ("cmp-01",)), OTHER: ("cmp-02", ("cmp-02",))}),
            (5, {GUEST: ("cmp-01", ()), OTHER: ("cmp-02", ("cmp-02",))}),
            (14, {GUEST: ("cmp-02", ("cmp-02",)), OTHER: ("cmp-02", ("cmp-02",))}),
        ],
        power=[(0, {"cmp-01": ("on", "running", 1), "cmp-02": ("on", "running", 1)}), (11.5, {"cmp-01": ("off", "running", 1), "cmp-02": ("on", "running", 1)})],
        samples=[(8, [opened]), (20, [recovery])],
        tables={
            "recoveries": [recovery],
            "intents": [{"id": f"i{n}", "recovery": "r1", "effect": effect, "epoch": 1, "resolved_at": 50} for n, effect in ((1, "power_off"), (2, "mark_down"), (3, "evacuate"))],
            "events": [{"id": "v1", "recovery": "r1", "sequence": 1}, {"id": "v2", "recovery": "r1", "sequence": 2}, {"id": "v3", "recovery": None, "sequence": None}],
            "audit": audit,
            "audit_heads": [{"chain": name, "sequence": len(rows), "hash": rows[-1]["hash"]} for name, rows in (("r1", audit[:3]), ("engine:e1", audit[3:]))],
        },
        acks=[{"id": "n1", "at": 6, "engine": "e1", "kind": "COMPUTE_HOST", "host": "cmp-01"}, {"id": "n2", "at": 7, "engine": "e2", "kind": "PROCESS", "host": "cmp-02"}],
        listings=[
            {"began": 6.5, "at": 6.6, "engine": "e1", "seen": {"n1": "new"}},
            {"began": 9, "at": 9.1, "engine": "e2", "seen": {"n1": "running", "n2": "ignored"}},
            {"began": 21, "at": 21.1, "engine": "e1", "seen": {"n1": "finished", "n2": "ignored"}},
        ],
        victims=["cmp-01"],
    )


def set_audit(history, at, **changes):
    history.tables["audit"][at].update(changes)


def drop(rows, at):
    del rows[at]


def again(history, records):
    """The guest is evacuated once more before it has arrived."""
    history.calls.append(call(4, "evacuate", ["evacuate"], ["i4"], guest=GUEST, at=13.5))
    history.records = [{"guest": GUEST, "source": "cmp-01", "dest": dest, "status": status} for dest, status in records]


# Rule, and what to do to a sound history so that it must speak.
BROKEN = [
    ("no_guest_twice", lambda h: setattr(h, "double_runs", 1)),
    ("no_guest_twice", lambda h: h.places.append((15, {GUEST: ("cmp-02", ("cmp-01", "cmp-02"))}))),
    ("evacuated_only_when_off", lambda h: h.power.pop()),
    ("evacuated_only_when_off", lambda h: drop(h.places, 1)),
    ("evacuated_only_when_off", lambda h: h.power.append((12.5, {"cmp-01": ("on", "running", 2), "cmp-02": ("on", "running", 1)}))),
    ("only_victims_are_shot", lambda h: h.calls.append(call(4, "power ForceOff", ["power_off"], ["i1"], host="cmp-02"))),
    ("guests_are_back", lambda h: h.places.append((30, {GUEST: ("cmp-02", ())}))),
    ("guests_are_back", lambda h: h.places.append((30, {GUEST: ("cmp-02", ("cmp-03",))}))),
    ("intent_before_deed", lambda h: h.calls[2]["seen"].update(intents=[])),
    ("intent_before_deed", lambda h: h.calls.append(call(4, "DELETE /servers/x", [], []))),
    ("intent_before_deed", lambda h: h.calls.append({**call(4, "lock", ["lock"], [], guest=GUEST), "seen": {"blind": "away"}})),
    ("once_for_each_intent", lambda h: h.calls.append(call(4, "evacuate", ["evacuate"], ["i3"], status=409, guest=GUEST, at=13.1))),
    ("once_for_each_intent", lambda h: h.calls[2]["seen"]["intents"].append({"id": "i9"})),
    ("no_second_evacuation", lambda h: h.calls.append(call(4, "evacuate", ["evacuate"], ["i4"], guest=GUEST, at=13.5))),
    # Its destination lives; the records do not tell which one it was.
    ("no_second_evacuation", lambda h: again(h, [("cmp-02", "accepted"), ("cmp-03", "done")])),
    ("no_second_evacuation", lambda h: again(h, [("cmp-01", "accepted")])),
    ("no_intent_left_over", lambda h: h.tables["intents"][2].update(resolved_at=None)),
    ("one_open_recovery", lambda h: h.samples[0][1].append({**h.samples[0][1][0], "id": "r2", "owner": None})),
    ("epochs_grow", lambda h: h.samples.append((22, [{**h.samples[1][1][0], "epoch": 0, "owner": None}]))),
    ("epochs_grow", lambda h: h.samples.append((22, [{**h.samples[1][1][0], "version": 1}]))),
    ("epochs_grow", lambda h: h.samples.append((22, [{**h.samples[1][1][0], "closed_at": None}]))),
    ("epochs_grow", lambda h: h.samples.append((22, [{**h.samples[1][1][0], "owner": "e2"}]))),
    ("epochs_grow", lambda h: h.samples.append((22, []))),
    ("epochs_grow", lambda h: h.tables["intents"][0].update(epoch=2)),
    ("epochs_jump_after_a_rewind", lambda h: h.rewinds.append((7, 9, 10))),
    ("no_acknowledged_report_lost", lambda h: h.listings[1]["seen"].pop("n1")),
    ("no_acknowledged_report_lost", lambda h: h.listings[2]["seen"].update(n1="running")),
    ("no_acknowledged_report_lost", lambda h: h.listings.clear()),
    ("ended_stays_ended", lambda h: h.listings.append({"began": 23, "at": 23, "engine": "e1", "seen": {"n1": "finished", "n2": "failed"}})),
    ("events_without_gaps", lambda h: h.tables["events"][1].update(sequence=3)),
    ("events_without_gaps", lambda h: h.tables["events"][1].update(id="v1")),
    ("events_without_gaps", lambda h: drop(h.tables["events"], 1)),
    ("audit_is_whole", lambda h: set_audit(h, 1, text="other")),
    ("audit_is_whole", lambda h: set_audit(h, 1, detail='{"a":2}')),
    ("audit_is_whole", lambda h: drop(h.tables["audit"], 1)),
    ("audit_is_whole", lambda h: drop(h.tables["audit"], 2)),
    ("audit_is_whole", lambda h: drop(h.tables["audit_heads"], 0)),
    ("audit_is_whole", lambda h: h.tables["audit_heads"].append({"chain": "r9", "sequence": 1, "hash": "x"})),
]


class Rules(unittest.TestCase):
    def test_a_sound_history_breaks_no_rule(self):
        self.assertEqual(Checker(sound()).check(), [])

    def test_each_rule_sees_what_breaks_it(self):
        for at, (rule, doctor) in enumerate(BROKEN):
            with self.subTest(rule=rule, case=at):
                history = sound()
                doctor(history)
                self.assertIn(rule, {found for found, _ in Checker(history).check()})

    def test_no_rule_is_untried(self):
        self.assertEqual({rule.__name__ for rule in checker.RULES}, {rule for rule, _ in BROKEN})

    def test_a_rewind_takes_away_what_was_written_after_it_and_nothing_else(self):
        history = sound()
        history.rewinds = [(6.5, 20.5, 20.6)]  # after all deeds
        history.listings[2]["seen"].pop("n2")
        self.assertEqual(Checker(history).check(), [])
        older = copy.deepcopy(history)
        older.listings[2]["seen"].pop("n1")
        self.assertIn("no_acknowledged_report_lost", {found for found, _ in Checker(older).check()})
        before = copy.deepcopy(history)
        before.listings[1]["seen"].pop("n2")
        self.assertIn("no_acknowledged_report_lost", {found for found, _ in Checker(before).check()})

    def test_an_engine_that_is_cut_off_may_lack_what_came_after_the_cut_and_nothing_else(self):
        history = sound()
        listing = history.listings[1]
        ended = [ack["at"] for ack in history.acks if ack["id"] in listing["seen"]]
        history.cut = [(listing["engine"], min(ended) - 0.5, listing["began"] + 0.5)]
        listing["seen"].clear()
        self.assertEqual(Checker(history).check(), [])
        for cut in (("another", *history.cut[0][1:]), (listing["engine"], max(ended) + 0.1, listing["began"] + 0.5), (listing["engine"], 0, listing["began"] - 0.1)):
            other = copy.deepcopy(history)
            other.cut = [cut]
            self.assertIn("no_acknowledged_report_lost", {found for found, _ in Checker(other).check()}, cut)

    def test_an_epoch_is_not_used_again_after_a_rewind(self):
        history = sound()
        history.rewinds = [(7, 9, 10)]
        history.samples[1] = (20, [{**history.samples[1][1][0], "owner": "e2"}])
        self.assertIn("epochs_grow", {found for found, _ in Checker(history).check()})

    def test_a_guest_moves_once_more_when_its_destination_died_or_its_move_failed(self):
        for died in (True, False):
            history = sound()
            again(history, [("cmp-02", "accepted" if died else "error"), ("cmp-03", "done")])
            if died:
                history.power.append((13.2, {"cmp-01": ("off", "running", 1), "cmp-02": ("off", "running", 1)}))
            self.assertEqual(Checker(history).check(), [])

    def test_where_nobody_could_look_the_intent_must_be_there_afterwards(self):
        history = sound()
        history.calls[2]["seen"] = {"blind": "away"}
        self.assertEqual(Checker(history).check(), [])


if __name__ == "__main__":
    unittest.main()
