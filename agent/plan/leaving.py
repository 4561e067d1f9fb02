"""Why this node is about to go, and what of it is still told meanwhile: the stages of a drain.

    ASKED      all as a last resort: GRACEFUL_SHUTDOWN and LOCAL_PREF 0 (RFC 8326), so that others are chosen first
    SERVICES   service addresses and static prefixes are withdrawn
    PODS       pod CIDRs too
    OVER       every session ends with Cease, Administrative Shutdown and a text (RFC 9003)

Whoever is asked to go, whose Node is deleted, or whose agent is uninstalled, goes through all of them. A taint says
that somebody is about to take the machine away, and pods may run on it for as long as that takes: its pod CIDRs and
sessions stay until the agent is stopped, and go then, or routers that do graceful restart would keep the routes of a
machine that is no more.

How long each stage takes is not known here (`agent.departing`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from agent.intent import Instance
from agent.model import Node, Problem

DRAIN_ANNOTATION: Final = "bgpilot.io/drain"
"""Of Nodes; its value is the text that routers are told."""
TEXT_MAX: Final = 255
"""Octets of a Shutdown Communication (RFC 9003 2)."""


class Cause(enum.StrEnum):
    """Reason words."""

    DRAINED = "nodeDrained"
    DELETED = "nodeDeleted"
    TAINTED = "nodeDraining"
    UNINSTALLED = "agentUninstalled"


@dataclass(frozen=True, slots=True)
class Leave:
    cause: Cause
    what: str = ""
    """The text of who asked, or the taint."""


class Progress(enum.IntEnum):
    ASKED = 0
    SERVICES = 1
    PODS = 2
    OVER = 3


class Telling(enum.Enum):
    USUAL = enum.auto()
    LAST_RESORT = enum.auto()
    NOTHING = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """What of leaving is not in the cluster's objects."""

    ordered: str | None = None
    """`bgpilot drain` was said on this node, with this text."""
    deleted: bool = False
    """The own Node is no more; what is left of it in the picture is how it was last."""
    ending: bool = False
    """The agent is about to end."""
    uninstalled: bool = False
    """And there will be no other: what it has made goes with it."""
    progress: Progress = Progress.OVER
    """How far it has come if there is a reason to leave. At a start: what was withdrawn before is not told again."""


HERE: Final = Departure()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    services: Telling = Telling.USUAL
    """Of service addresses and static prefixes."""
    pods: Telling = Telling.USUAL
    farewell: str | None = None
    """With which all sessions end."""

    def of(self, *, pods: bool) -> Telling:
        return self.pods if pods else self.services


STAYING: Final = Leaving()


def is_leaving(node: Node, instance: Instance) -> bool:
    """As every node can see: the drain annotation, or a taint of nodes that are about to go."""
    return reason_to_leave(node, instance, HERE) is not None


def reason_to_leave(node: Node, instance: Instance, departure: Departure) -> Leave | None:
    asked = departure.ordered
    if asked is None:
        asked = dict(node.annotations).get(DRAIN_ANNOTATION)
    if asked is not None:
        return Leave(Cause.DRAINED, asked)
    if departure.deleted:
        return Leave(Cause.DELETED)
    if departure.uninstalled:
        return Leave(Cause.UNINSTALLED)
    taint = next((taint for taint in node.taints if taint in instance.drain_on_taints), None)
    return None if taint is None else Leave(Cause.TAINTED, taint)


def leaving(name: str, leave: Leave | None, departure: Departure) -> Leaving:
    """`name` of the node, for the farewell."""
    if leave is None:
        return STAYING
    progress = departure.progress
    services = Telling.LAST_RESORT if progress < Progress.SERVICES else Telling.NOTHING
    if leave.cause is Cause.TAINTED and not departure.ending:
        return Leaving(services=services)
    return Leaving(
        services=services,
        pods=Telling.LAST_RESORT if progress < Progress.PODS else Telling.NOTHING,
        farewell=farewell(name, leave) if progress is Progress.OVER else None,
    )


def farewell(name: str, leave: Leave) -> str:
    """At most 255 octets, cut between two characters."""
    match leave.cause:
        case Cause.DRAINED:
            text = f"drained: {leave.what}" if leave.what else "drained"
        case Cause.DELETED:
            text = f"Node {name} is deleted"
        case Cause.UNINSTALLED:
            text = f"bgpilot is uninstalled from Node {name}"
        case Cause.TAINTED:
            text = f"Node {name} has taint {leave.what}"
    return text.encode()[:TEXT_MAX].decode(errors="ignore")


def problem_of(name: str, leave: Leave) -> Problem:
    match leave.cause:
        case Cause.DRAINED:
            said = f" ({leave.what})" if leave.what else ""
            message = f"Node {name} is drained{said}: it takes itself out of all routing"
            fix = (
                "When it shall come back: `bgpilot undrain` on the node, and `kubectl annotate node "
                f"{name} {DRAIN_ANNOTATION}-` if the Node has the annotation."
            )
        case Cause.DELETED:
            message = f"Node {name} is deleted: it takes itself out of all routing"
            fix = "Nothing to do if the machine goes; else restart its kubelet, which makes the Node again."
        case Cause.UNINSTALLED:
            message = f"the DaemonSet of the agent on Node {name} is deleted: the agent leaves nothing behind"
            fix = "Nothing to do; to have it back, deploy it again."
        case Cause.TAINTED:
            message = f"Node {name} has the taint {leave.what}: it announces no service address and no static prefix"
            fix = (
                "Nothing to do if the node is about to go; else remove the taint, or name others in drain.onTaints of "
                "the BGPInstance."
            )
    return Problem(leave.cause.value, f"Node {name}", message, fix)
