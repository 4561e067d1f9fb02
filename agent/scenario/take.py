"""A running agent's picture as a scenario, in JSON: all that its plan is made of, and how far that was carried out.

What is told of all this is the state at the first step; then it is written down bit by bit, so that the event loop has
its turns: 5,000 nodes take some hundred milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from agent.model import Interface, Key, Kind, Problem, Secret
from agent.plan.leaving import Departure
from agent.plan.model import NodePlan
from agent.plan.picture import Picture
from agent.plan.sessions import SessionClaim
from agent.plan.steps import Steps
from agent.scenario.form import SCHEMA
from agent.scenario.objects import Writer
from agent.scenario.sessions import about_session, routes_of
from agent.scenario.standing import standing_steps
from agent.status.status import Status
from bgp.model import Address, Path, Prefix
from bgp.rib import Rib

HEARD_MAX: Final = 200_000
"""Prefixes heard that are written, of all peers together; the others are counted."""
KINDS: Final = tuple(kind for kind in Kind if kind is not Kind.DAEMON_SET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that a snapshot is taken of."""

    picture: Picture
    """With what the plan remembers of the one before: of itself, that is."""
    rib: Rib
    unread: Mapping[Key, Problem]
    status: Status
    settings: Mapping[str, str]
    now: float


def scenario_steps(seen: Seen) -> Steps[bytes]:
    picture, status = seen.picture, seen.status
    world = picture.world
    records = [record for kind in KINDS for record in world.records(kind).values()]
    writer, unread = Writer(world), dict(seen.unread)
    heard, left = _heard(seen.rib)
    document = {
        "schema": SCHEMA,
        "version": status.version,
        "node": status.node,
        "settings": dict(seen.settings),
        "interfaces": list(map(_interface, picture.interfaces)),
        "gateways": [
            {"family": str(it.family), "address": str(it.address), "interface": it.interface} for it in picture.gateways
        ],
        "writtenBefore": {name: str(address) for name, address in picture.written.items()},
        "before": _before(status.plan, picture.departure),
        "missingSecrets": [_missing(it) for it in records if isinstance(it, Secret) and not it.found],
        "notRead": [_not_read(key, problem) for key, problem in unread.items()],
    }
    standing = standing_steps(status, seen.now)
    next(standing)  # what it copies, it copies now
    written = [_members(document)]
    yield
    objects = [b""]
    for record in records:
        if (found := writer.write(record)) is not None:
            objects.append(msgspec.json.encode(found))
        yield
    written.append(_list("cluster", objects))
    yield
    told = [b""]
    for peer in heard:
        routes = []
        for route in routes_of(peer.paths, peer.kept):
            if route:
                routes.append(route)
            yield
        told.append(msgspec.json.encode({"peer": str(peer.address), "session": peer.session, "routes": routes}))
    written.append(_list("heard", told))
    yield
    part, more = yield from standing
    yield
    written.append(_members({"standing": part, "leftOut": {**left, **more}}))
    yield
    return b"{\n" + b",\n".join(written) + b"\n}\n"


def _members(document: Mapping[str, Any]) -> bytes:
    """Each on a line of its own."""
    return b",\n".join(msgspec.json.encode(name) + b": " + msgspec.json.encode(it) for name, it in document.items())


def _list(name: str, items: list[bytes]) -> bytes:
    return msgspec.json.encode(name) + b": [" + b"\n,".join(items[1:]) + b"]"


@dataclass(frozen=True, slots=True)
class _Heard:
    address: Address
    session: dict[str, Any]
    paths: list[tuple[Prefix, Path]]
    kept: frozenset[Prefix]


def _heard(rib: Rib) -> tuple[list[_Heard], dict[str, int]]:
    found, room, left = list[_Heard](), HEARD_MAX, 0
    for peer in list(rib.peers()):
        paths = list(rib.heard_from(peer).items())
        left += max(len(paths) - room, 0)
        del paths[room:]
        room -= len(paths)
        found.append(_Heard(peer, about_session(rib, peer), paths, rib.kept(peer)))
    return found, {"heardPrefixes": left} if left else {}


def _interface(it: Interface) -> dict[str, Any]:
    return {
        "index": it.index,
        "name": it.name,
        "up": it.up,
        "addresses": list(map(str, it.addresses)),
        "ends": list(map(str, it.ends)),
    }


def _missing(secret: Secret) -> dict[str, str]:
    return {"name": secret.name, **({"why": secret.why} if secret.why else {})}


def _not_read(key: Key, problem: Problem) -> dict[str, str]:
    return {
        "kind": str(key.kind),
        "namespace": key.namespace,
        "name": key.name,
        "reason": str(problem.reason),
        "message": problem.message,
        "fix": problem.fix,
    }


def _before(plan: NodePlan, departure: Departure) -> dict[str, Any]:
    """What the next plan would be handed of this one: sessions that are on their way out, and who we were."""
    left = plan.parting | plan.former_clients
    own = plan.identity is not None and plan.identity.node in plan.parting
    return {
        "small": [{"asn": area.asn, "instance": area.instance} for area in sorted(plan.standpoint.small)],
        "sessions": [_claim(name, claim) for name, claim in plan.mesh.items() if name in left],
        **({"asn": plan.identity.asn} if own and plan.identity is not None else {}),
        **_departure(departure),
    }


def _departure(departure: Departure) -> dict[str, Any]:
    said = {
        "ordered": departure.ordered,
        "deleted": departure.deleted or None,
        "ending": departure.ending or None,
        "uninstalled": departure.uninstalled or None,
    }
    return {
        "departure": {
            **{name: value for name, value in said.items() if value is not None},
            "progress": int(departure.progress),
        }
    }


def _claim(name: str, claim: SessionClaim) -> dict[str, Any]:
    peer = claim.peer
    return {
        "node": name,
        "created": int(claim.created),
        "address": str(peer.address),
        "localAddress": str(peer.local_address),
        "asn": peer.local_asn,
        "routerID": str(peer.router_id),
        "families": sorted(map(str, peer.families)),
        "passive": peer.passive,
        "port": peer.port,
        "listenPort": peer.listen_port,
        "holdSeconds": peer.hold_seconds,
        "password": peer.password is not None,
        "client": peer.client,
    }
