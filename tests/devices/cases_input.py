"""What operators enter wrongly, and metacharacters wherever a text may stand: refused before anything is sent, or sent as they are. Besides,
programs of fence-agents as devices, which cannot name their machine, and what would make the engine run anything else.
"""

# Whoever lets a shell see it makes a file `c` in the working directory. 15 bytes: an IPMI user may have 16.
META = "`>c`$(>c);>c|'\""
LONG = "x" * 5_000

# Of an IPMI device: key to what is entered.
IPMI_INPUT = {
    "an address that is none": {"address": "no such place"},
    "an address with a scheme": {"address": "https://127.0.0.1"},
    "an empty address": {"address": ""},
    "a name that nobody has": {"address": "bmc.invalid"},
    "metacharacters in the address": {"address": META},
    "port 0": {"port": 0},
    "port 65536": {"port": 65_536},
    "a port that is a word": {"port": "ipmi"},
    "cipher 0": {"cipher": 0},
    "cipher 2": {"cipher": 2},
    "privilege user": {"privlvl": "user"},
    "metacharacters as privilege": {"privlvl": META},
    "an empty password": {"password": ""},
    "no password": {"password": None},
    "a password of 21 bytes": {"password": "p" * 21},
    "metacharacters as password": {"password": META},
    "a line break in the password": {"password": "secret\nport=1"},
    "an empty username": {"username": ""},
    "metacharacters as username": {"username": META},
    "a username of 17 bytes": {"username": "u" * 17},
    "metacharacters as kg": {"kg": META},
    "kg that is no hex": {"kg": "0xzz"},
    "metacharacters as serial": {"serial": META},
    "a key that there is not": {"pasword": "secret"},
    "a key of another kind": {"system": "1"},
    "a serial of 5000 characters": {"serial": LONG},
}

REDFISH_INPUT = {
    "an address that is none": {"address": "bmc"},
    "an address of another scheme": {"address": "ftp://127.0.0.1/"},
    "an address with a password": {"address": "https://admin:secret@127.0.0.1"},
    "an address with a path": {"address": "https://127.0.0.1/login"},
    "a name that nobody has": {"address": "https://bmc.invalid"},
    "metacharacters in the address": {"address": f"https://{META}"},
    "port 0": {"port": 0},
    "metacharacters as username": {"username": META},
    "metacharacters as password": {"password": META},
    "an empty password": {"password": ""},
    "metacharacters as system": {"system": META},
    "a system elsewhere": {"system": "https://192.0.2.1/redfish/v1/Systems/1"},
    "a system up the path": {"system": "../../../../etc/passwd"},
    "metacharacters as serial": {"serial": META},
    "metacharacters as fingerprint": {"tls": {"fingerprint": META}},
    "a CA file that is not there": {"tls": {"ca_file": META}},
    "two ways to trust": {"tls": {"insecure": True, "fingerprint": "00" * 32}},
    "another certificate's fingerprint": {"tls": {"fingerprint": "00" * 32}},
    "a reference to no file": {"password": "file:/no/such/file"},
    "a reference to nothing": {"password": "env:"},
}

IPMILAN = {"agent": "fence_ipmilan"}


def add_all(add):
    for fault, device in IPMI_INPUT.items():
        add("pyghmi", fault, device=device)
    for fault, device in REDFISH_INPUT.items():
        add("redfish", fault, device=device)
    certificates(add)
    agents(add)
    dry_runs(add)
    serials(add)


def certificates(add):
    for front, fault in (("soon", "certificate ends in days"), ("ended", "certificate ended")):
        add("redfish", f"{fault}, pinned", verb="check", front=front)
        add("redfish", f"{fault}, by its authority", verb="check", front=front, device={"tls": "authority"})
    add("redfish", "certificate ended, pinned", front="ended")
    add("redfish", "certificate ended, by its authority", front="ended", device={"tls": "authority"})


def agents(add):
    for program, kind in (("fence_ipmilan", "ipmisim"), ("fence_redfish", "redfish")):
        own = {"agent": program}
        add(kind, program, **own)
        add(kind, f"{program}, serial stated", **own, who="serial", device={"serial": "S1"})
        add(kind, f"{program}, another serial stated", **own, who="serial", device={"serial": "S2"})
        add(kind, program, **own, verb="read")
        add(kind, program, **own, verb="check")
        add(kind, f"{program}, serial stated", **own, verb="check", who="serial", device={"serial": "S1"})
        add(kind, f"{program}, another serial stated", **own, verb="check", who="serial", device={"serial": "S2"})
        add(kind, program, **own, verb="on", before="off")
        add(kind, f"{program}, wrong password", **own, device={"password": "wrong"})
        add(kind, f"{program}, wrong password", **own, verb="check", device={"password": "wrong"})
        add(kind, f"{program}, dead BMC", **own, before="stop")
        # How often it is run within the level's time is chance; on a busy machine a level's 15 s are not even enough for once.
        add(kind, f"{program}, accepts, stays on", **own, faults={"ack-no-off": ""}, random=True, level_ms=30_000)
    add("redfish", "fence_redfish, hang", agent="fence_redfish", before="hang")
    wrong = {
        "a program that is not there": {"program": "fence_nothing"},
        "a program of another kind": {"program": "/bin/sh"},
        "a program of another kind, the way up": {"program": "/usr/sbin/../bin/fence_sh"},
        "metacharacters as program": {"program": META},
        "an option it has not": {"options": {"bogus": "1"}},
        "metacharacters as an option": {"options": {META: "1"}},
        "metacharacters as an option's value": {"options": {"lanplus": "1", "cipher": "3", "plug": META}},
        "a line break in an option's value": {"options": {"lanplus": "1\naction=off"}},
        "metacharacters as password": {"password": META},
        "an action of its own": {"options": {"action": "on"}},
        "a script for the password": {"options": {"passwd_script": META}},
        "another program to run": {"options": {"ipmitool_path": "/bin/sh"}},
        "options for ssh": {"options": {"ssh_options": "-oProxyCommand=sh"}},
        "a username that is an option": {"username": "-oProxyCommand=sh"},
    }
    for fault, device in wrong.items():
        add("ipmisim", f"fence_ipmilan, {fault}", **IPMILAN, device=device)


def dry_runs(add):
    add("ipmisim pyghmi redfish sushy", "none", verb="dry run")
    add("pyghmi", "none, suite 3", verb="dry run", device={"cipher": 3, "privlvl": "administrator"})
    add("redfish", "ForceOff not offered", verb="dry run", faults={"no-forceoff": ""})
    add("ipmisim redfish", "wrong password", verb="dry run", device={"password": "wrong"})
    add("pyghmi", "privilege too low", verb="dry run", device={"username": "viewer", "password": "viewpw"})
    add("ipmisim", "another machine", verb="dry run", who="other")
    add("ipmisim", "fence_ipmilan", verb="dry run", **IPMILAN)


def serials(add):
    """These show none, so there is nothing to compare; our own do (`cases_ours.py`)."""
    add("ipmisim redfish", "a serial on file, it shows none", who="serial")
    add("ipmisim redfish", "a serial on file, it shows none", verb="check", who="serial")
    add("redfish", "another serial stated than is on file", who="serial", device={"serial": "S2"})
    add("redfish", "another serial stated than is on file", verb="check", who="serial", device={"serial": "S2"})
