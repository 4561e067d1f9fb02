"""Conditions, in the manner of Kubernetes, of the BGPInstances, BGPPeers and BGPAdvertisements that mean this node.

`Accepted`: the object makes sense here, and no other one stands over it. `ResolvedRefs`: what it refers to is there (a
Secret, a value on the Node, an interface, what its selectors select). `Programmed`: ExaBGP has been told what comes of
it. `Ready`: that works. The first that is not true says why, with the reason word of the Problem; those after it have
the same word and no text.

Each is what this node sees: another may see it otherwise, and no node sums it up. Pure; when a condition last changed
is in `agent.status.standing`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from agent.advertising import Advertisement, AdvertisementType
from agent.intent import ExternalPeer, Instance
from agent.model import Key, Kind, Node, Problem
from agent.plan import leaving
from agent.plan.identity import EXCLUDED
from agent.plan.picture import World, every, one
from agent.plan.steps import Steps
from agent.status.causes import cause
from agent.status.health import NOT_PLANNED, SPEAKER, Ailment, why_no_bgp
from agent.status.peers import View, held_words, is_parting
from agent.status.status import Status
from agent.status.weights import Weight, weight_of
from bgp.check import Reason
from bgp.model import Peer

TEXT_MAX: Final = 256
"""Characters of a text; the schema takes no more."""
RESOURCES_MAX: Final = 600
MALFORMED: Final = "malformedObject"
NOT_ESTABLISHED: Final = "notEstablished"
NO_SESSION: Final = "noSession"
LEAVING: Final = frozenset(map(str, leaving.Cause))
KINDS: Final = (Kind.INSTANCE, Kind.PEER, Kind.ADVERTISEMENT)

_Object: TypeAlias = Instance | ExternalPeer | Advertisement


class Type(enum.StrEnum):
    """In the order in which an object comes into effect."""

    ACCEPTED = "Accepted"
    RESOLVED_REFS = "ResolvedRefs"
    PROGRAMMED = "Programmed"
    READY = "Ready"


_WORDS: Final[Mapping[Type, frozenset[str]]] = MappingProxyType(
    {
        Type.ACCEPTED: frozenset(
            {
                MALFORMED,
                "clusterIDShared",
                "instanceConflicted",
                "linkLocalPassive",
                "linkLocalWithoutInterface",
                "noAddressOfFamily",
                "peerAddressConflict",
                "peerIsThisNode",
                "prefixInUse",
                "sourceAddressFamily",
            }
        ),
        Type.RESOLVED_REFS: frozenset(
            {
                "advertisementSelectsNothing",
                "asnInvalid",
                "asnMissing",
                "defaultGatewayMissing",
                "gatewayLinkLocal",
                "noLinkLocalAddress",
                "passwordTooLong",
                "peerAddressInvalid",
                "peerAddressMissing",
                "peerSelectorSelectsNothing",
                "reflectorsMissing",
                "routerIDInvalid",
                "secretKeyMissing",
                "secretMissing",
                "sourceAddressNotHere",
                "sourceInterfaceMissing",
                "sourceInterfaceOffLink",
            }
        ),
        Type.PROGRAMMED: frozenset({"configurationRefused", "peerRefused"}),
        Type.READY: frozenset({"noPeer"}),
    }
)
_TYPES: Final[Mapping[str, Type]] = {word: of for of, words in _WORDS.items() for word in words}


def type_of(problem: Problem) -> Type | None:
    """Which condition it makes untrue, of the object that it is about; None: it is a hint."""
    if (known := _TYPES.get(problem.reason)) is not None:
        return known
    match weight_of(problem.reason):
        case Weight.SPEAKER:
            return Type.PROGRAMMED
        case Weight.NOTE:
            return None
        case _:
            return Type.READY


class No(NamedTuple):
    """Why a condition is not true."""

    type: Type
    reason: str
    text: str = ""


def resources(status: Status, world: World, found: Sequence[Ailment]) -> Steps[list[View]]:
    """Object by object; `found` is `agent.status.health.ailments`."""
    look = _Look(status, world, found)
    told: list[View] = []
    for kind in KINDS:
        for name, record in look.objects(kind):
            nos = look.problems_of(f"{kind} {name}")
            if record is not None:
                nos += look.seen_of(record)
            told.append(_view(kind, name, record, nos))
            yield
    return told


def _view(kind: Kind, name: str, record: _Object | None, nos: Sequence[No]) -> View:
    order = tuple(Type)
    first = min(nos, key=lambda no: order.index(no.type), default=None)
    # The version that cannot be read is another than the one that the record is of.
    unread = first is not None and first.reason == MALFORMED
    version = {} if unread or record is None or not record.generation else {"observedGeneration": record.generation}
    conditions = []
    for each in order:
        if first is None or order.index(each) < order.index(first.type):
            conditions.append({"type": str(each), "status": "True", "reason": str(each), "message": "", **version})
        else:
            text = bounded(first.text) if each is first.type else ""
            conditions.append(
                {"type": str(each), "status": "False", "reason": first.reason, "message": text, **version}
            )
    return {"kind": str(kind), "name": name, "conditions": conditions}


def bounded(text: str) -> str:
    return text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 1]}…"


class _Look:
    """One look at all of them."""

    def __init__(self, status: Status, world: World, found: Sequence[Ailment]) -> None:
        self._status = status
        self._world = world
        self._fatal = next((it for it in found if it.fatal), None)
        self._nothing = next(iter(why_no_bgp(status)), None)
        self._problems: dict[str, list[Problem]] = {}
        for problem in sorted(status.problems, key=lambda it: (it.subject, it.reason, it.message)):
            self._problems.setdefault(problem.subject, []).append(problem)
        self._peers: dict[str, list[Peer]] = {}
        for peer in status.plan.peers.values():
            self._peers.setdefault(peer.name, []).append(peer)
        own = one(world, Key(Kind.NODE, "", status.node), Node)
        self._labels = dict(own.labels) if own is not None else {}

    def objects(self, kind: Kind) -> Iterator[tuple[str, _Object | None]]:
        """Those that select this node, and those that nobody can read, by name."""
        found: dict[str, _Object | None] = {
            record.name: record
            for _, record in every(self._world, kind, _RECORDS[kind])
            if record.node_selector.matches(self._labels)
        }
        for subject, problems in self._problems.items():
            name = subject.removeprefix(f"{kind} ")
            unread = name != subject and self._world.get(Key(kind, "", name)) is None
            if unread and any(problem.reason == MALFORMED for problem in problems):
                found[name] = None
        return iter(sorted(found.items()))

    def problems_of(self, subject: str) -> list[No]:
        return [
            No(of, problem.reason, f"{problem.message}. {problem.fix}".strip())
            for problem in self._problems.get(subject, ())
            if (of := type_of(problem)) is not None and self._counts(problem)
        ]

    def _counts(self, problem: Problem) -> bool:
        if problem.reason != Reason.NEXT_HOP_NOT_NEGOTIATED:
            return True
        of = self._peers.get(problem.subject.replace(" ", "/", 1), ())
        return any(map(self._status.needs_next_hops, of))

    def seen_of(self, record: _Object) -> list[No]:
        nos = [No(Type.PROGRAMMED, it.reason, it.message) for it in self._problems.get(SPEAKER, ())]
        if self._nothing is not None:
            nos.append(No(Type.PROGRAMMED, self._nothing.reason, self._nothing.message))
        match record:
            case Instance():
                nos += self._of_instance(record)
            case ExternalPeer():
                nos += self._of_peer(record)
            case Advertisement():
                nos += self._of_advertisement(record)
        return nos

    def _of_instance(self, record: Instance) -> Iterator[No]:
        identity = self._status.plan.identity
        if identity is not None and identity.instance != record.name:
            yield No(Type.PROGRAMMED, NOT_PLANNED, "another one is in force on this node")
            return
        for problem in self._problems.get(f"Node {self._status.node}", ()):
            if problem.reason in _WORDS[Type.RESOLVED_REFS]:
                yield No(Type.RESOLVED_REFS, problem.reason, problem.message)
        if self._fatal is not None:
            yield No(Type.READY, self._fatal.reason, self._fatal.text)

    def _of_peer(self, record: ExternalPeer) -> Iterator[No]:
        peers = self._peers.get(f"{Kind.PEER}/{record.name}", ())
        if not peers and self._nothing is None:
            yield No(Type.PROGRAMMED, NOT_PLANNED, "no session comes of it on this node")
        for peer in peers:
            if (no := session_no(self._status, peer)) is not None:
                yield No(Type.READY, *no)

    def _of_advertisement(self, record: Advertisement) -> Iterator[No]:
        status = self._status
        for problem in self._problems.get(f"Node {status.node}", ()):
            excluded = problem.reason in EXCLUDED and record.type is AdvertisementType.SERVICE
            if excluded or problem.reason in LEAVING:
                yield No(Type.PROGRAMMED, problem.reason, problem.message)
        meant = [peer for it in self._routers(record) for peer in self._peers.get(f"{Kind.PEER}/{it.name}", ())]
        if meant and not any(status.is_up(peer.address) for peer in meant):
            yield No(
                Type.READY, NO_SESSION, f"none of {len(meant)} sessions with the routers that are told of it is up"
            )

    def _routers(self, record: Advertisement) -> Iterator[ExternalPeer]:
        for _, router in every(self._world, Kind.PEER, ExternalPeer):
            if record.to_peers.selector.matches(dict(router.labels)):
                yield router


_RECORDS: Final[Mapping[Kind, type[_Object]]] = {
    Kind.INSTANCE: Instance,
    Kind.PEER: ExternalPeer,
    Kind.ADVERTISEMENT: Advertisement,
}


def session_no(status: Status, peer: Peer) -> tuple[str, str] | None:
    """Reason word and text why there is no session; None: there is one."""
    if (held := status.held(peer)) is not None:
        return held.reason, held_words(status, peer, held)
    if status.is_up(peer.address):
        return None
    if is_parting(status, peer):
        return "parting", ""
    why = cause(peer, status.peer_state(peer.address))
    return NOT_ESTABLISHED, "" if why is None else f"{why.text}. {why.fix}"
