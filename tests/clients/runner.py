"""Runs one test file, or one class of it, and writes down how it went: unittest's own words are for people only."""

import json
import os
import signal
import sys
import time
import unittest


class Result(unittest.TextTestResult):
    """One line for each test, with its time."""

    def __init__(self, *words, **options):
        super().__init__(*words, **options)
        self.bad = set()

    def startTest(self, test):
        self.began = time.monotonic()
        unittest.TestResult.startTest(self, test)

    def stopTest(self, test):
        word = "FAILED" if test.id() in self.bad else "ok"
        if any(test is skipped for skipped, _ in self.skipped):
            word = "skipped"
        self.stream.writeln(f"{word:8}{test.id()} {time.monotonic() - self.began:.1f} s")
        self.stream.flush()
        super().stopTest(test)

    def note(self, test):
        self.bad.add(getattr(test, "test_case", test).id())

    def addSuccess(self, test):
        unittest.TestResult.addSuccess(self, test)

    def addSkip(self, test, reason):
        unittest.TestResult.addSkip(self, test, reason)

    def addError(self, test, error):
        unittest.TestResult.addError(self, test, error)
        self.note(test)

    def addFailure(self, test, error):
        unittest.TestResult.addFailure(self, test, error)
        self.note(test)

    def addSubTest(self, test, subtest, error):
        unittest.TestResult.addSubTest(self, test, subtest, error)
        if error:
            self.note(test)


def interrupted(*_):
    raise KeyboardInterrupt  # unittest takes any other exception for a failed test and goes on


signal.signal(signal.SIGTERM, interrupted)
suite = unittest.defaultTestLoader.loadTestsFromName(sys.argv[1])
result = unittest.TextTestRunner(resultclass=Result, stream=sys.stdout).run(suite)
failed, skipped = len(result.bad), [(str(test), why) for test, why in result.skipped]
whole_classes = sum(test.startswith("setUpClass") for test, _ in skipped)
found = {
    "passed": max(0, result.testsRun - failed - (len(skipped) - whole_classes)),
    "failed": failed + (0 if result.testsRun or skipped else 1),
    "skipped": skipped,
}
with open(os.environ["HALBERD_CLIENTS_RESULT"], "w") as file:
    json.dump(found, file)
sys.exit(1 if found["failed"] else 0)
