"""Services that answer nonsense, or lead away: a typed error in bounded time, nothing sent to another origin, no off that was not read."""

from liars import HTTP, UDP


def add_all(add):
    for fault in HTTP:
        add("liar", fault, faults={"say": fault})
    add("liar", "none", verb="read", faults={"say": "none"})
    for fault in ("10 MB of JSON", "redirected elsewhere", "garbage"):
        add("liar", fault, verb="check", faults={"say": fault})
    for fault in UDP:
        add("liar-ipmi", fault, faults={"say": fault})
