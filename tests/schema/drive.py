"""Schemathesis against both APIs: requests made from the descriptions the service itself serves, and answers judged by them.

The service runs without Keystone (`auth = "none"`: everybody is admin) beside a simulated cloud. Before the first request there are segments, hosts with
fence devices, a finished recovery with its moves, and a few reports, so that most routes have something to answer about.
"""

import collections
import datetime
import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

from cloud import Stage, call, end_on_signals, until

WORK = pathlib.Path(os.environ["SCHEMA_WORK"])
REPORTS = pathlib.Path(os.environ["SCHEMA_REPORTS"])
HERE = pathlib.Path(__file__).parent
HOSTS = 40

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"

APIS = {"v1": "/halberd/v1/openapi-v1.json", "halberd": "/halberd/v1/openapi.json"}

# Operations that never succeed here, each with its reason; every other must, or the run only looked at refusals.
ONLY_REFUSED = {
    "GET /agents/self/orders": "takes an agent's signature",
    "POST /agents/self/orders/{id}": "takes an agent's signature",
    "POST /agents/self/reports": "takes an agent's signature",
}


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat()


def furnish(stage):
    """What there is before the first request."""
    url = stage.halberd.url
    names = [it["name"] for it in stage.cloud.about["hosts"]]

    def segment(name, method):
        body = {"segment": {"name": name, "recovery_method": method, "service_type": "COMPUTE"}}
        return call(f"{url}/v1/segments", "POST", body)["segment"]["uuid"]

    def host(segment, name):
        body = {"host": {"name": name, "type": "COMPUTE", "control_attributes": "SSH"}}
        made = call(f"{url}/v1/segments/{segment}/hosts", "POST", body)["host"]
        levels = {"levels": [{"devices": [stage.cloud.bmc(name)]}]}
        devices = f"{url}/halberd/v1/hosts/{made['uuid']}/fence-devices"
        call(devices, "PUT", levels)
        call(f"{devices}/check", "POST")
        until(f"the fence device of {name} is checked", lambda: all(
            it["last_check"] for level in call(devices)["levels"] for it in level["devices"]
        ))  # fmt: skip
        return made["uuid"]

    def report(kind, name, **payload):
        body = {"type": kind, "hostname": name, "generated_time": now(), "payload": payload}
        return call(f"{url}/v1/notifications", "POST", {"notification": body})["notification"]["notification_uuid"]

    first = segment("first", "auto")
    second = segment("second", "rh_priority")
    segment("empty", "auto_priority")
    known = [host(first, name) for name in names[:4]] + [host(second, names[4])]
    stage.cloud.obey(f"kill {names[0]}")
    dead = report("COMPUTE_HOST", names[0], event="STOPPED", host_status="NORMAL", cluster_status="OFFLINE")
    report("PROCESS", names[1], event="STOPPED", process_name="ovs")
    guest = next(it["id"] for it in stage.cloud.about["guests"] if it["host"] == names[2])
    stage.cloud.obey(f"crash-guest {guest}")
    report("VM", names[2], instance_uuid=guest, event="LIFECYCLE", vir_domain_event="STOPPED_FAILED")
    until(
        "the first recovery is finished",
        lambda: call(f"{url}/v1/notifications/{dead}")["notification"]["status"] == "finished",
        120,
        0.5,
    )
    for it in known:
        call(f"{url}/halberd/v1/hosts/{it}/agent-key", "POST")
    # One that nobody can prove off: its recovery asks for a person and stays open. hooks.py reports it again when an operation closed that.
    body = {"host": {"name": names[5], "type": "COMPUTE", "control_attributes": "SSH"}}
    call(f"{url}/v1/segments/{second}/hosts", "POST", body)
    stage.cloud.obey(f"kill {names[5]}")
    report("COMPUTE_HOST", names[5], event="STOPPED", host_status="NORMAL", cluster_status="OFFLINE")
    return names[5], names[6:]


def attack(stage, name, unfenced, computes):
    """Schemathesis against one description; how many operations passed and failed."""
    path = APIS[name]
    document = call(stage.halberd.url + path)
    operations = [f"{verb.upper()} {path}" for path, verbs in document["paths"].items() for verb in verbs]
    wanted = [it for it in operations if it not in ONLY_REFUSED]
    failed, seen = set(), {it: collections.Counter() for it in operations}
    first = int(os.environ["SCHEMA_SEED"])
    # What is led where is partly chance; an operation that another seed reaches was only not reached.
    for seed in (first, first + 1_000):
        failed |= once(stage, name, path, seed, unfenced, computes, seen)
        refused = [it for it in wanted if not any(status.startswith("2") for status in seen[it])]
        if failed or not refused:
            break
    for operation in refused:
        print(f"{operation} never succeeded: {dict(seen[operation])}")
    failed.update(refused)
    calls = sum(sum(statuses.values()) for statuses in seen.values())
    print(f"{name}: {len(operations)} operations, {calls} requests, {len(failed)} operations with failures", flush=True)
    return max(len(operations) - len(failed), 0), len(failed)


def once(stage, name, path, seed, unfenced, computes, seen):
    """One run; the names of what failed. Counts answers by operation and status into `seen`."""
    junit, tally = REPORTS / f"{name}.xml", REPORTS / f"{name}-statuses.json"
    arguments = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml", "run", stage.halberd.url + path,
        "--checks", CHECKS, "--max-examples", os.environ["SCHEMA_EXAMPLES"], "--seed", seed,
        "--report", "junit", "--report-junit-path", junit,
    ]  # fmt: skip
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": "hooks",
        "SCHEMA_TALLY": str(tally),
        "SCHEMA_URL": stage.halberd.url,
        "SCHEMA_COMPUTES": " ".join(computes),
        "SCHEMA_UNFENCED": unfenced,
        "SCHEMA_BMC": json.dumps(stage.cloud.about["hosts"][1]["bmc"]),
    }
    run = subprocess.run([str(it) for it in arguments], cwd=WORK, env=environment)
    cases = {it.get("name"): it for it in xml.etree.ElementTree.parse(junit).getroot().iter("testcase")}
    failed = {it for it, case in cases.items() if case.find("failure") is not None or case.find("error") is not None}
    for operation, statuses in json.loads(tally.read_text()).items():
        if operation in seen:
            seen[operation].update(statuses)
    # Whatever else went wrong fails at least once.
    return failed or ({f"{name} as a whole"} if run.returncode else set())


def main():
    end_on_signals()
    passed = failed = 0
    with Stage(WORK, "none", "--hosts", HOSTS, "--guests", 2, "--rebuild-ms", 400) as stage:
        unfenced, computes = furnish(stage)
        for name in APIS:
            good, bad = attack(stage, name, unfenced, computes)
            passed, failed = passed + good, failed + bad
        log = stage.halberd.log.read_text()
        if stage.halberd.program.poll() is not None:
            failed += 1
            print(f"halberd serve ended with {stage.halberd.program.returncode}:\n{log[-3000:]}")
        if "panicked" in log:
            failed += 1
            print("a handler panicked; see the log")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
