"""What must hold on a node, each with what is wrong with it and the fix: what `bgpilot check` prints.

All is worked out from the agent's own answers (status, peers, diff): it asks nobody else and has no opinion of its own.
Whatever makes the node unwell (`agent.status.health`) fails here too, under the check that it belongs to or `other`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from agent.cli.present import Answer
from agent.cli.problems import said_of
from agent.cli.render import as_it_should_be, last_error
from agent.cli.unknown import INCOMPLETE, why_unknown

Answers: TypeAlias = Mapping[str, Answer]
"""By question: status, peers, diff."""
FAULTS_MAX: Final = 20
"""Lines of one check; the rest of them is counted."""
SETTLED: Final = "IN_SYNC"
SERVICES: Final = "services"
UNSERVED: Final = frozenset({"endpointsExcluded", "noEndpoint"})
"""Reason words of an address that no node can announce."""
OF_THE_NODE: Final = frozenset(
    {"agentUninstalled", "controlPlaneExcluded", "nodeDeleted", "nodeDrained", "nodeDraining", "nodeExcluded"}
)
"""Reason words of a node that announces no address of any Service, and so does not look for endpoints."""
LATELY_SECONDS: Final = 30.0
"""For so long it is told that the kernel's routes had been changed."""


class Fault(NamedTuple):
    text: str
    fix: str
    reason: str = ""
    """The word, where the agent has one."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    good: str
    """What is so when nothing is wrong."""
    faults: tuple[Fault, ...]
    notes: tuple[Fault, ...] = ()
    """What is as somebody wants it, or might be better: nothing fails because of it."""
    looked_at: bool = True
    """False: nobody can know yet, and `good` says so."""


def checks(answers: Answers) -> list[Check]:
    """In the order in which one thing needs the other."""
    if (why := why_unknown(answers["diff"])) is not None:
        return list(_unknown(answers["status"], why))
    status = answers["status"]
    found = [make(answers) for make in (_picture, _node, _exabgp, _sessions, _kernel, _services, _objects)]
    said = {fault.reason for one in found for fault in one.faults}
    left = tuple(
        Fault(it["text"], _SAY_MORE, it["reason"])
        for it in status["ailments"]
        if it["reason"] not in said and not (it["reason"] in _SEEN and any(one.faults for one in found))
    )
    return [*found, Check("other", "nothing else is wrong", left)]


def _unknown(status: Answer, why: Mapping[str, Any]) -> Iterator[Check]:
    """Without a picture of the cluster: that, and what is wrong whatever is in it."""
    yield Check("picture", "", (Fault(why["message"], why["fix"], why["reason"]),))
    for name in ("node", "plan told", "sessions", "kernel", SERVICES, "objects"):
        yield Check(name, _NOT_LOOKED_AT, (), looked_at=False)
    left = tuple(
        Fault(it["text"], _SAY_MORE, it["reason"])
        for it in status["ailments"]
        if it["reason"] not in {INCOMPLETE, *_SEEN} and it["text"] not in why["message"]
    )
    yield Check("other", "" if left else _NOT_LOOKED_AT, left, looked_at=bool(left))


_NOT_LOOKED_AT: Final = "not looked at: there is no picture of the cluster"
_SAY_MORE: Final = "`bgpilot status` and the log say more"
_SEEN: Final = frozenset({"noSession", "sessionDown", "watchBroken", "kernelRefused", "kernelConflict"})
"""Ailments that sum up what the lines above say one by one."""


def _picture(answers: Answers) -> Check:
    picture = answers["status"]["picture"]
    good = f"complete, each watch heard of within {picture['age_seconds'] or 0:.0f} s"
    return Check("picture", good, tuple(_unheard(picture["broken"])))


def _unheard(broken: Iterable[Mapping[str, Any]]) -> Iterator[Fault]:
    """Watches that break for the same reason are one fault: an API server that is away breaks all."""
    alike = defaultdict[tuple[str, str, str], list[str]](list)
    for one in broken:
        why = (one["text"] or one["reason"] or "no answer").removeprefix(f"cannot watch all {one['watch']} objects: ")
        alike[why.rstrip("."), one["fix"] or "see if the API server can be reached", one["reason"] or ""].append(
            one["watch"]
        )
    for (why, fix, reason), watches in alike.items():
        text = f"changes of {', '.join(watches)} are not heard, the last that was holds: {why}"
        yield Fault(text, fix, reason)


def _node(answers: Answers) -> Check:
    status = answers["status"]
    identity, leaving = status["identity"], status["leaving"]
    if identity is None:
        fatal = {it["reason"]: it["text"] for it in status["ailments"] if it["fatal"]}
        fixes = [it["fix"] for it in status["problems"] if it["reason"] in fatal and it["fix"]]
        fix = fixes[0] if fixes else "look at the Node object and at the BGPInstance that selects it"
        why = "".join(f": {text.rstrip('.')}" for text in [*fatal.values()][:1])
        return Check("node", "", (Fault(f"this node is nothing in BGP{why}", fix, "nodeNotPlanned"),))
    good = f"AS {identity['asn']}, router id {identity['router_id']}"
    return Check("node", good + (f"; leaving: {leaving['reason']}" if leaving else ""), ())


def _exabgp(answers: Answers) -> Check:
    status = answers["status"]
    faults = []
    if count := status["routes"]["failing"]:
        faults.append(Fault(f"ExaBGP does not take {count} routes", "the log names them", "speakerRefused"))
    elif status["phase"] != SETTLED and not status["dry_run"] and not _kernel(answers).faults:
        faults.append(Fault(f"the plan is not carried out yet (phase {status['phase']})", "wait a moment"))
    return Check("plan told", f"{status['routes']['told']} routes told", tuple(faults))


def _sessions(answers: Answers) -> Check:
    peers = answers["peers"]["peers"]
    faults = []
    for address, peer in peers.items():
        if as_it_should_be(peer):
            continue
        cause = peer["cause"] or {}
        text = cause.get("text") or peer["reason_text"] or peer["reason"] or last_error(peer["last_error"])
        fix = cause.get("fix") or "`bgpilot explain " + address + "` says what to do"
        faults.append(Fault(f"{peer['name']} ({address}): {text or 'not established'}", fix, peer["reason"] or ""))
    up = sum(peer["is_up"] for peer in peers.values())
    return Check("sessions", f"{up} of {len(peers)} established, the others as asked for", tuple(faults))


def _kernel(answers: Answers) -> Check:
    """All of them: `fib` would show the first 5000."""
    diff = answers["diff"]
    faults = tuple(
        Fault(f"{row['prefix']}: {row['state']}" + (f" ({row['text']})" if row["text"] else ""), row["fix"] or _WAIT)
        for row in diff["rows"]
        if row["where"] == "kernel" and not row["waiting"]
    )
    differing = sum(it["routes"] for it in diff["counts"] if it["where"] == "kernel" and not it["waiting"])
    if (more := differing - min(len(faults), FAULTS_MAX)) > 0:
        faults = (*faults[:FAULTS_MAX], Fault(f"{more} routes more", "see `bgpilot diff`"))
    fib = answers["status"]["fib"]
    return Check("kernel", f"{fib['installed']} routes, as planned", (*_drifted(fib["last_drift"]), *faults))


def _drifted(drift: Mapping[str, Any] | None) -> Iterator[Fault]:
    """It is put right before anybody can ask, and packets were lost meanwhile."""
    if drift is None or drift["seconds"] > LATELY_SECONDS:
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in drift.items() if kind != "seconds" and count)
    text = f"routes of this node were found other than it had left them {drift['seconds']:.0f} s ago, and put right"
    yield Fault(f"{text}: {kinds}", _WHO_CHANGES)


_WHO_CHANGES: Final = (
    "if no link went down, find out who changes them: `ip monitor route` shows when; a network manager may remove what "
    "it does not know (systemd-networkd: ManageForeignRoutes=no)"
)


_WAIT: Final = "it is tried again by itself"


def _services(answers: Answers) -> Check:
    """That a node leaves an address to other nodes is as it should be, and counted; that no node has it is not."""
    silent = answers["status"]["not_advertised"]
    counts = ", ".join(f"{it['reason']} {it['services']}" for it in silent)
    if any(it["reason"] in OF_THE_NODE for it in silent):
        return Check(SERVICES, f"not looked at: this node announces none ({counts})", (), looked_at=False)
    nowhere = [it for it in silent if it["reason"] in UNSERVED]
    faults = [
        Fault(f"{it['service']}: {it['what']} is not announced for it: {one['text']}", one["fix"], one["reason"])
        for one in nowhere
        for it in one["first"]
    ]
    if (more := sum(it["services"] for it in nowhere) - len(faults)) > 0:
        faults.append(Fault(f"{more} Services more", _ALL_OF_THEM, nowhere[0]["reason"]))
    good = "none unannounced for want of an endpoint" + (f"; not announced from here: {counts}" if counts else "")
    return Check(SERVICES, good, tuple(faults))


_ALL_OF_THEM: Final = (
    "see `kubectl get events -A --field-selector reason=RouteNotAdvertised`, where they come one by one, and of any "
    "`bgpilot explain NAMESPACE/SERVICE`"
)


def _objects(answers: Answers) -> Check:
    status = answers["status"]
    broken = {one["reason"] for one in status["picture"]["broken"]}
    faults, notes = list[Fault](), list[Fault]()
    for it in status["problems"]:
        reason = it["reason"]
        fault = Fault(said_of(it).rstrip("."), it["fix"], reason)
        if reason in _IDLE or (reason in status["degraded"] and reason not in _SEEN):
            faults.append(fault)
        elif reason not in status["degraded"] and reason not in broken:
            notes.append(fault)
    return Check("objects", "no fault in them", tuple(faults), tuple(notes))


_IDLE: Final = frozenset(
    {"advertisementSelectsNothing", "nodeExcluded", "nodeSelectorSelectsNothing", "peerSelectorSelectsNothing"}
)
"""No node is unwell for an object that does nothing, or by a label; but who asks what is wrong hears of it."""
