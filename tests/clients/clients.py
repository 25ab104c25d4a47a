"""What the tests of all clients share: one cloud for each test file, the `openstack` program, and how its answers are read.

`openstack` needs a second to load its several hundred modules, and there are hundreds of calls. So they are loaded once, and each call
is a fork of that state which runs the program's own entry point with arguments, environment and output of its own. `real=True` starts
the program itself; each era does that too.
"""

import functools
import importlib.metadata
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import traceback
import unittest

import cloud

# Which clients this interpreter's environment holds: "current", "2023" or "monitors".
ERA = os.environ.get("HALBERD_CLIENTS_ERA", "current")
OPENSTACK = pathlib.Path(sys.executable).parent / "openstack"

TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}$"
UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
NOBODY = "00000000-0000-4000-8000-000000000000"


class Outcome:
    """How a command ended."""

    def __init__(self, words, code, out, err):
        self.command = "openstack " + " ".join(words)
        self.code, self.out, self.err = code, out, err

    def __str__(self):
        return f"{self.command}\nexit {self.code}\n{self.out}{self.err}"


@functools.cache
def shell():
    """The entry point of the `openstack` program, with every plugin's modules loaded."""
    groups = importlib.metadata.entry_points()
    for entry in (entry for group in groups.groups if group.startswith("openstack.") for entry in groups.select(group=group)):
        try:
            entry.load()
        except ImportError:
            pass  # a command that needs what is not installed; the program itself passes over it
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="openstack")
    return script.load()


def forked(main, words, env, seconds=120):
    """Calls `main` in a child of its own: exit status, standard output, standard error."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                signal.alarm(seconds)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                os.environ.clear()
                os.environ.update(env)
                sys.argv = ["openstack", *words]
                try:
                    code = main(words) or 0
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else int(end.code is not None)
                except BaseException:
                    traceback.print_exc()
                    code = 1
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(), err.read().decode()


class Case(unittest.TestCase):
    """A test against the file's cloud. `SIM` and `API` are what that cloud is made of."""

    SIM = {"hosts": 8, "guests": 1}
    API = {}
    POLICY = {}
    maxDiff = None
    site = None

    @classmethod
    def setUpClass(cls):
        cls.site = cloud.Cloud(api=cls.API, policy=cls.POLICY, **cls.SIM)
        cls.addClassCleanup(cls.site.stop)

    def openstack(self, *words, user="admin", version=None, env=None, real=False):
        """Runs the unmodified `openstack` program as an operator's shell would."""
        words = [str(word) for word in words]
        if version:
            words = ["--os-ha-api-version", version, *words]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
        env = {**clean, **self.site.login(user), **(env or {}), "PYTHONWARNINGS": "ignore"}
        if real:
            done = subprocess.run([OPENSTACK, *words], env=env, capture_output=True, text=True, timeout=120)
            return Outcome(words, done.returncode, done.stdout, done.stderr)
        return Outcome(words, *forked(shell(), words, env))

    def good(self, *words, **options):
        """Runs it with JSON as its output, and returns that. Anything but success fails."""
        done = self.openstack(*words, "-f", "json", **options)
        self.assertEqual(done.code, 0, done)
        return json.loads(done.out)

    def said(self, *words, **options):
        """The same for commands that print plain text."""
        done = self.openstack(*words, **options)
        self.assertEqual(done.code, 0, done)
        return done.out

    def bad(self, says, *words, **options):
        """Must fail, and say this on standard error: an HTTP status of ours, or a regular expression."""
        if isinstance(says, int):
            says = rf"\b{says}: Client Error|\(HTTP {says}\)"
        done = self.openstack(*words, **options)
        self.assertNotEqual(done.code, 0, done)
        self.assertRegex(done.err, says, done)
        self.assertNotRegex(done.err, "Traceback|50[0-9]:", done)

    def api(self, path, **options):
        """What our API really answers, to compare with."""
        status, _, answer = self.site.call("GET", path, **options)
        self.assertEqual(status, 200, answer)
        return answer

    def names(self, rows):
        return [row["name"] for row in rows]


def at_least(version):
    """For tests of what this era's packages can do at all."""
    newest = {"2023": (1, 2)}.get(ERA, (1, 3))
    wanted = tuple(int(part) for part in version.split("."))
    return unittest.skipUnless(newest >= wanted, f"the clients of {ERA} know no microversion {version}")
