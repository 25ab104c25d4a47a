"""Runs the test files, each with the interpreter of its clients' environment, and adds up.

    drive.py ERA=ENVIRONMENT... -- [WORD...]

Two jobs at a time: each has a cloud of its own, and most wait for something most of the time. The closing line counts tests.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from cloud import LIBC, PR_SET_PDEATHSIG, dies_with_us

HERE = pathlib.Path(__file__).resolve().parent
AT_ONCE = 2
# The longest first. The failures that only the engine answers run once; what the clients show of a host's death runs with both eras.
JOBS = [
    ("monitors", "test_monitors"),
    ("current", "test_recovery"),
    ("2023", "test_recovery.HostFailure"),
    ("current", "test_endpoints"),
    ("2023", "test_endpoints"),
    ("current", "test_cli_notifications"),
    ("2023", "test_cli_notifications"),
    ("current", "test_cli_hosts"),
    ("2023", "test_cli_hosts"),
    ("current", "test_cli_segments"),
    ("2023", "test_cli_segments"),
    ("current", "test_sdk"),
    ("2023", "test_sdk"),
]
# No job needs so long; one that hangs must not hold everything.
LONGEST_S = 900


class Job:
    def __init__(self, era, environment, tests, directory):
        self.name = f"{tests} ({era})"
        self.began = time.monotonic()
        self.result = directory / f"{era}-{tests}.json"
        self.log = open(directory / f"{era}-{tests}.log", "w+")
        env = {**os.environ, "HALBERD_CLIENTS_ERA": era, "HALBERD_CLIENTS_RESULT": str(self.result), "PYTHONWARNINGS": "ignore"}
        command = [f"{environment}/bin/python", str(HERE / "runner.py"), tests]
        streams = {"stdin": subprocess.DEVNULL, "stdout": self.log, "stderr": self.log}
        self.process = subprocess.Popen(command, env=env, cwd=HERE, preexec_fn=dies_with_us, **streams)

    def ended(self):
        if self.process.poll() is None and time.monotonic() - self.began > LONGEST_S:
            self.process.kill()
            self.process.wait()
        return self.process.poll() is not None

    def report(self):
        """Prints what there is to say, and returns how many passed, failed, were skipped, and for want of something."""
        seconds = time.monotonic() - self.began
        try:
            found = json.loads(self.result.read_text())
        except (OSError, ValueError):
            found = {"passed": 0, "failed": 1, "skipped": []}
        self.log.seek(0)
        text = self.log.read()
        passed, failed, skipped = found["passed"], found["failed"], found["skipped"]
        print(f"{'FAILED' if failed else 'passed'} {self.name}: {passed} passed, {failed} failed, {len(skipped)} skipped, {seconds:.0f} s")
        if failed:
            print(text)
        for test, why in skipped:
            print(f"  skipped {test}: {why}")
        sys.stdout.flush()
        return passed, failed, len(skipped), sum(why.startswith("absent:") for _, why in skipped)


def main():
    split = sys.argv.index("--")
    environments = dict(argument.split("=", 1) for argument in sys.argv[1:split])
    words = sys.argv[split + 1 :]
    directory = pathlib.Path(os.environ["HALBERD_CLIENTS_KEEP"])
    directory.mkdir(parents=True, exist_ok=True)
    wanted = [(era, tests) for era, tests in JOBS if era in environments]
    if words:
        wanted = [job for job in wanted if any(word in f"{job[1]} ({job[0]})" for word in words)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    began, running, total = time.monotonic(), [], [0, 0, 0, 0]
    try:
        while wanted or running:
            while wanted and len(running) < AT_ONCE:
                era, tests = wanted.pop(0)
                running.append(Job(era, environments[era], tests, directory))
            for job in [job for job in running if job.ended()]:
                running.remove(job)
                total = [one + other for one, other in zip(total, job.report())]
            time.sleep(0.1)
    finally:
        for job in running:
            job.process.terminate()
        for job in running:
            try:
                job.process.wait(10)
            except subprocess.TimeoutExpired:
                job.process.kill()
    passed, failed, skipped, absent = total
    print(f"\n{time.monotonic() - began:.0f} s")
    if absent and os.environ.get("CI") == "true":
        print(f"{absent} tests lacked what they need: with CI=true that is a failure")
        failed += absent
    print(f"{skipped} skipped")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


main()
