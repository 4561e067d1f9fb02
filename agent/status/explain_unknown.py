"""What is explained while there is no picture: that nothing is known of it yet, and why; and what the kernel has.

Else the question is handed on to `agent.status.explain`. It refuses to conclude that something does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.model import DISCARD_METRIC, LEARNED_METRIC, FibKey, Kind, Problem
from agent.plan.prefixes import supernets
from agent.plan.steps import Steps, finish
from agent.status.explain import explain_steps
from agent.status.hops import Hop, as_plain, parse_prefix, via
from agent.status.peers import View
from agent.status.picture import no_picture
from agent.status.status import Status
from agent.status.views import answer
from bgp.model import Prefix


def explained(status: Status, subject: str, now: float) -> View | None:
    return finish(explained_steps(status, subject, now))


def explained_steps(status: Status, subject: str, now: float) -> Steps[View | None]:
    """As `explain` says it, if there is a picture. None: the subject is nothing that could be explained."""
    if (none := no_picture(status, now)) is None:
        return (yield from explain_steps(status, subject))
    return _unknown(status, subject.strip(), none)


def _unknown(status: Status, subject: str, none: Problem) -> View:
    prefix = parse_prefix(subject)
    hops = [
        *(() if prefix is None else _in_kernel(status, prefix)),
        Hop(f"node {status.node}", none.message, ok=False, reason=none.reason, fix=none.fix),
    ]
    kind = "route" if prefix is not None else _kind(status, subject)
    return answer(
        status, "explain", {"subject": subject, "kind": kind, "ok": False, "hops": [as_plain(hop) for hop in hops]}
    )


def _kind(status: Status, subject: str) -> str:
    """As far as the subject itself says it: a name may be a node's or a peer's."""
    if subject.startswith((f"{Kind.PEER}/", f"{Kind.PEER} ")):
        return "peer"
    if subject in {status.node, f"{Kind.NODE} {status.node}"}:
        return "node"
    return "service" if "/" in subject else "name"


def _in_kernel(status: Status, asked: Prefix) -> Iterator[Hop]:
    """The route of ours that stands there for the prefix, as it was found."""
    for around in supernets(asked):
        for metric in (LEARNED_METRIC, DISCARD_METRIC):
            if (route := status.fib.actual.get(FibKey(around, metric))) is not None:
                hops = ", ".join(via(around, next_hop.gateway) for next_hop in route.next_hops)
                what = f"{around} via {hops}" if hops else f"{route.type} {around} metric {metric}"
                yield Hop("kernel", f"{what} is there, and stays until there is a plan")
                return
