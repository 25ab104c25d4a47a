"""What a case is: which simulator, what is wrong with it, what is asked of ours.

A case says what is wrong before (`faults`, `before`), what an operator entered (`device`, `who`, `then`), what changes while the act runs
(`meanwhile`: after the first power command that reached a BMC) and what happens once it is over (`after`). `random` marks cases in which
chance decides how often something is sent. What must come of a case stands in outcomes.golden.
"""

from dataclasses import dataclass, field


@dataclass
class Case:
    kind: str
    fault: str
    verb: str = "off"
    # Fault of the simulator to its argument, of the (first) BMC.
    faults: dict = field(default_factory=dict)
    # What the operator entered otherwise than right.
    device: dict = field(default_factory=dict)
    # A fence-agents program in the place of our own client.
    agent: str = ""
    # Whom the host's file names: its own machine, another one, nobody; by UUID, or by "serial" / "wrong serial".
    who: str = "own"
    # "hang", "stop": the (first) BMC; "power-loss": the host and all its BMCs; "off": the host is off already;
    # "enrolled", "maintenance": the host is a node of the bare-metal service, and left alone by it.
    before: str = ""
    # After the first power command and so many further requests: "heal" (clear faults), "kill" (the fencer, and a new one acts),
    # "forget" (the BMC forgets its sessions).
    meanwhile: str = ""
    later: int = 0
    # Once it is over: "supply" (it goes and comes back), "sync" (the bare-metal service looks after its nodes). The truth in the table is
    # what is so then.
    after: str = ""
    # Further levels, by kind of BMC.
    then: tuple = ()
    # Through the lossy proxy.
    proxied: bool = False
    # Behind TLS with a certificate that ends "soon" or has "ended".
    front: str = ""
    random: bool = False
    # Everything it says is false: nobody can tell from its answers alone.
    liar: bool = False
    # Redfish sessions somebody holds beforehand.
    held: int = 0
    gate: str = ""
    # Whether the engine lets a restore policy of "always on" be taken away while the host is fenced.
    hold: bool = False
    # Of `restore`: the policy to put back.
    former: str = ""
    # Other times than the package's own.
    level_ms: int = 0
    on_ms: int = 0
    # revoke: "open", "gone", "elsewhere".
    token: str = ""
