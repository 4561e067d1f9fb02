"""The short answer, `bgpilot status`, as text: what a glance at a node should tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agent.cli.problems import problem_lines
from agent.cli.render import STAGES, Answer
from agent.cli.text import age, fact_lines, uptime
from agent.cli.unknown import is_known, without_causes


def status(answer: Answer) -> str:
    identity, picture, peers, routes, fib = (answer[it] for it in ("identity", "picture", "peers", "routes", "fib"))
    facts = [("Node", answer["node"]), ("Version", answer["version"])]
    facts.append(("Phase", answer["phase"] + (" (dry run)" if answer["dry_run"] else "")))
    facts += _health(answer)
    facts.append(("Up", uptime(answer["uptime_seconds"])))
    if (leaving := answer["leaving"]) is not None:
        said = f" ({leaving['text']})" if leaving["text"] else ""
        facts.append(("Leaving", f"{leaving['reason']}{said}: {STAGES[leaving['stage']]}"))
    if identity is not None:
        facts += [
            ("AS", str(identity["asn"]) + (f" (BGPInstance {identity['instance']})" if identity["instance"] else "")),
            ("Router id", f"{identity['router_id']} ({identity['router_id_source']})"),
            *([("Reflector", f"cluster id {identity['cluster_id']}")] if identity["cluster_id"] else []),
            ("Addresses", ", ".join(identity["addresses"]) or "-"),
            ("Pod CIDRs", (", ".join(identity["pod_cidrs"]) or "-") + f" (podRoutes {identity['pod_routes']})"),
        ]
    facts += _picture(picture)
    if is_known(answer):
        facts += [
            ("Peers", f"{peers['established']} of {peers['configured']} established" + _of_peers(peers)),
            ("Announced", ", ".join(_counts(routes, ["originated", "wanted", "told", "refused", "failing"]))),
            ("Heard", f"{routes['heard']} prefixes, {routes['not_admitted']} paths not admitted"),
            ("Kernel", ", ".join(_counts(fib, ["installed", "wanted", "failing", "conflicts"])) + _drift(fib["drift"])),
        ]
    else:
        facts.append(("Routing", "not known yet; `bgpilot fib` shows what the kernel has"))
    return "\n".join([*fact_lines(facts), *problem_lines(without_causes(answer["problems"]))])


def _health(answer: Answer) -> list[tuple[str, str]]:
    """The word, and each reason on a line of its own."""
    found = [f"{it['reason']}: {it['text']}" for it in answer["ailments"]]
    first = answer["health"] + (f": {found[0]}" if found else "")
    return [("Healthy", first), *(("", f"and {more}") for more in found[1:])]


def _picture(picture: Answer) -> list[tuple[str, str]]:
    """A quiet cluster is not an old picture; a watch that is broken is."""
    words = ["complete" if picture["complete"] else "incomplete"]
    if picture["heard_seconds"] is not None and not picture["broken"]:
        quietest = f", each within {age(picture['age_seconds'])}"
        words.append(f"watches alive (last heard {age(picture['heard_seconds'])} ago{quietest})")
    if picture["unchanged_seconds"] is not None:
        words.append(f"unchanged for {age(picture['unchanged_seconds'])}")
    return [("Picture", ", ".join(words)), *(("", line) for line in _broken(picture))]


def _broken(picture: Answer) -> list[str]:
    """Those that have the same reason together: without an API server it is all of them."""
    by_reason: dict[str, list[Answer]] = {}
    for watch in picture["broken"]:
        by_reason.setdefault(watch["reason"] or "", []).append(watch)
    return [
        f"not watched for {age(max(it['seconds'] or 0 for it in found))}{f' ({reason})' if reason else ''}: "
        f"{', '.join(it['watch'] for it in found)}{'; the last that was heard holds' if picture['complete'] else ''}"
        for reason, found in by_reason.items()
    ]


def _of_peers(peers: Answer) -> str:
    told = [f"mesh {peers['mesh_established']} of {peers['mesh_configured']}"]
    told += [f"{peers[what]} {words}" for what, words in _OF_PEERS if peers[what]]
    return f" ({', '.join(told)})"


_OF_PEERS: Final = (("held", "must have no session"), ("restarting", "restarting"), ("parting", "parting"))


def _drift(count: int) -> str:
    """It has been put right, as far as nothing else is said."""
    return f"; drift since the start: {count}" if count else ""


def _counts(answer: Answer, names: Sequence[str]) -> list[str]:
    return [f"{answer[name]} {name}" for name in names]
