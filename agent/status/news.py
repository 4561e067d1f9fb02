"""What of `Status` is worth a Kubernetes Event, and on which object: the one place that says so.

What only this node sees stands on its Node: its sessions with routers, what keeps it from announcing, drift. What many
nodes see alike stands on the object that is to be mended, and few of them write it (`agent.status.writers`).

No news, so that a cluster of a thousand nodes does not drown its API server: sessions between nodes and what goes over
them (their number grows with the square; metrics sum them up); that a node has no endpoint of a Service with traffic
policy Local, as most nodes have none; that a Service is announced, unless it was said that it is not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final

from agent.advertising import Advertisement
from agent.intent import ExternalPeer, Instance
from agent.model import Key, Kind, Node, Problem, Service, object_of
from agent.plan.identity import EXCLUDED
from agent.plan.picture import World
from agent.plan.services import split_what
from agent.plan.steps import Steps
from agent.status.bulletin import News, Topic
from agent.status.causes import cause, said
from agent.status.peers import MEANT, held_words
from agent.status.remedies import outward_remedy, remedy
from agent.status.silent import is_announced
from agent.status.status import Status
from agent.status.writers import Writers
from bgp.check import Reason
from bgp.model import Address, Peer, RouteKey

CONFIG_INVALID: Final = "ConfigInvalid"
FIB_DRIFT_REPAIRED: Final = "FIBDriftRepaired"
PEER_DOWN: Final = "BGPPeerDown"
PEER_ESTABLISHED: Final = "BGPPeerEstablished"
ROUTE_ADVERTISED: Final = "RouteAdvertised"
ROUTE_NOT_ADVERTISED: Final = "RouteNotAdvertised"
ROUTE_REFUSED: Final = "RouteRefused"

SETTLE_SECONDS: Final = 5.0
"""Objects that belong together come one after the other."""
FIRST_UP_SECONDS: Final = 30.0
"""How long a session that never was there may take."""
REFUSED_SECONDS: Final = 30.0
"""How long a route must be refused: while sessions come up, much is for a moment."""
REFUSED_LOOKED_AT: Final = 10_000
"""Refused routes of each direction that are looked at: whoever tells the whole Internet is refused for few words."""

OF_THE_NODE: Final = EXCLUDED | frozenset({"nodeDraining", "nodeDrained", "nodeDeleted", "agentUninstalled"})
"""Reason words of addresses that are not announced from here, whatever they are: the Node's Problem says it once."""
USUAL: Final = frozenset({"noLocalEndpoint", "headlessService", "externalName", "ipModeProxy", "hostnameOnly"})
"""What is said of a Service's addresses where all is as it should be."""
AS_WANTED: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "in": frozenset(
            {
                Reason.DEFAULT_ROUTE,
                "announcedHere",
                "answeredHere",
                "importNotAllowed",
                "notAPodCIDR",
                "podRoutesOff",
                "serviceRoutesOff",
            }
        ),
        "out": frozenset({Reason.FAMILY_NOT_SPOKEN}),
        "service": frozenset({"optedOut", "noAddressYet", "noEndpoint", "noLoadBalancer"}),
    }
)
"""What settings, or defaults, want so, or what passes: of type Normal. For all else somebody has to mend something."""
EXPECTED: Final = frozenset(
    {
        Reason.AS_LOOP,
        Reason.CLUSTER_LOOP,
        Reason.NEITHER_CLIENT,
        Reason.NEXT_HOP_IS_PEER,
        Reason.NEXT_HOP_IS_US,
        Reason.NO_ADVERTISE,
        Reason.NOT_TRANSIT,
        Reason.ORIGINATED_HERE,
        Reason.TOLD_BY_PEER,
        "peerUnknown",
    }
)
"""Routes are refused with these wherever BGP works as it should."""
_OF_SPEAKER: Final = frozenset({"speakerDown", "speakerSilent"})
"""Probes and metrics tell of these."""


def find_news(status: Status, world: World, complained: Collection[Topic]) -> Steps[dict[Topic, News]]:
    """All that can be said now. `complained`: topics that were told as `ROUTE_NOT_ADVERTISED`."""
    writers = Writers(status.node, world)
    found = dict(_of_sessions(status, world))
    found.update(_of_drift(status, world))
    yield
    refused = yield from refused_news(status, world)
    for topic, one in (*_of_problems(status, world), *refused):
        if writers.is_ours(topic.about):
            found[topic] = one
        yield
    for (service, what), why in list(status.plan.not_advertised.items()):
        if why not in OF_THE_NODE | USUAL and writers.is_ours(service):
            found[Topic(service, what)] = _not_advertised(world, service, what, why)
        yield
    for topic in complained:
        if is_advertised(status, topic):
            found[topic] = _advertised(world, topic, f"{topic.detail} is announced")
        elif status.plan.not_advertised.get((topic.about, topic.detail)) == "noLocalEndpoint":
            found[topic] = _advertised(world, topic, f"{topic.detail} is announced from nodes with an endpoint")
    return found


def _of_sessions(status: Status, world: World) -> Iterator[tuple[Topic, News]]:
    node = Key(Kind.NODE, "", status.node)
    for peer in status.plan.peers.values():
        if not peer.mesh:
            yield Topic(node, f"peer {peer.address}"), _of_session(status, peer, uid_of(world, node))


def _of_session(status: Status, peer: Peer, uid: str) -> News:
    state = status.peer_state(peer.address)
    up, name = status.is_up(peer.address), f"{object_of(peer.name)} ({peer.address})"
    words = "the session is established" if up else _why_down(status, peer)
    held = status.held(peer)
    return News(
        reason=PEER_ESTABLISHED if up else PEER_DOWN,
        text=f"{name}: {words}",
        warning=not up and (held is None or held.reason not in MEANT),
        version=f"{up} {state.flaps} {'' if held is None or up else held.reason}",
        uid=uid,
        ours=True,
        since=state.since or None,
        settle_seconds=0.0 if state.since else FIRST_UP_SECONDS,
    )


def _why_down(status: Status, peer: Peer) -> str:
    held, state = status.held(peer), status.peer_state(peer.address)
    if held is not None:
        return f"no session may come up: {held.reason}: {held_words(status, peer, held) or remedy(held.reason)}"
    found = cause(peer, state)
    advice = "" if found is None else f" {found.fix}"
    words = found.text if found is not None else ""
    if state.last_error is not None and said(state.last_error) not in words:
        words = f"{said(state.last_error)}: {words}"
    return f"the session is down: {words}.{advice}"


def _of_drift(status: Status, world: World) -> Iterator[tuple[Topic, News]]:
    node, drift = Key(Kind.NODE, "", status.node), status.fib.drift
    if total := sum(drift.values()):
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(drift.items()))
        text = f"routes of this node were found other than it had left them, and put right: {kinds} since its start"
        yield (
            Topic(node, "drift"),
            News(reason=FIB_DRIFT_REPAIRED, text=text, version=str(total), uid=uid_of(world, node), ours=True),
        )


def _of_problems(status: Status, world: World) -> Iterator[tuple[Topic, News]]:
    """Watches that do not work are none: an API server that is away would hear of it from every node."""
    by_topic: dict[Topic, list[Problem]] = {}
    node = Key(Kind.NODE, "", status.node)
    for problem in status.problems:
        if not problem.subject.startswith("watch of ") and problem.reason not in _OF_SPEAKER:
            about = key_of(problem.subject) or node
            by_topic.setdefault(Topic(about, problem.reason), []).append(problem)
    for topic, problems in by_topic.items():
        first = min(problems, key=lambda problem: (problem.subject, problem.message))
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        of_node = first.reason in OF_THE_NODE
        yield (
            topic,
            News(
                reason=ROUTE_NOT_ADVERTISED if of_node else CONFIG_INVALID,
                text=f"{first.reason}: {first.message}{more}. {first.fix}".rstrip(),
                warning=not of_node,
                version=first.message if key_of(first.subject) else first.reason,
                uid=uid_of(world, topic.about),
                ours=topic.about == node,
                settle_seconds=SETTLE_SECONDS,
            ),
        )


def refused_news(status: Status, world: World) -> Steps[list[tuple[Topic, News]]]:
    """Of each router and each reason word the first route; what it tells us of our own AS back is nothing to mend."""
    routers = {peer.address: peer for peer in status.plan.peers.values() if not peer.mesh}
    found = []
    for way, refused in (("in", status.plan.refused_in), ("out", status.plan.refused_out)):
        seen = set[tuple[Address, str]]()
        for key, why in list(islice(refused.items(), REFUSED_LOOKED_AT)):
            yield
            peer = routers.get(key.peer)
            if peer is None or why in EXPECTED or (key.peer, why) in seen or (way == "in" and _is_ours(status, key)):
                continue
            seen.add((key.peer, why))
            if (about := key_of(object_of(peer.name))) is not None:
                found.append((Topic(about, f"{way} {why}"), _refused(status, uid_of(world, about), way, key, why)))
    return found


def _is_ours(status: Status, key: RouteKey) -> bool:
    """Our AS is in the path: it came from us, or from another node by way of the router."""
    path, identity = status.rib.paths(key.prefix).get(key.peer), status.plan.identity
    if path is None or identity is None:
        return True  # gone meanwhile
    return any(
        identity.asn in part if isinstance(part, frozenset) else identity.asn == part
        for part in path.attributes.as_path
    )


def _refused(status: Status, uid: str, way: str, key: RouteKey, why: str) -> News:
    words = "a route it announces is not used" if way == "in" else "a route is not announced to it"
    fix = remedy(why) if way == "in" else outward_remedy(why)
    return News(
        reason=ROUTE_REFUSED,
        text=f"{why}: {words}, such as {key.prefix} on node {status.node}. {fix}".rstrip(),
        warning=why not in AS_WANTED[way],
        version=why,
        uid=uid,
        settle_seconds=REFUSED_SECONDS,
    )


def _not_advertised(world: World, service: Key, what: str, why: str) -> News:
    return News(
        reason=ROUTE_NOT_ADVERTISED,
        text=f"{why}: {what} is not announced. {outward_remedy(why)}".rstrip(),
        warning=why not in AS_WANTED["service"],
        version=why,
        uid=uid_of(world, service),
        settle_seconds=SETTLE_SECONDS,
    )


def _advertised(world: World, topic: Topic, text: str) -> News:
    return News(
        reason=ROUTE_ADVERTISED,
        text=text,
        warning=False,
        version="",
        uid=uid_of(world, topic.about),
        settle_seconds=SETTLE_SECONDS,
    )


def is_advertised(status: Status, topic: Topic) -> bool:
    """The address is announced by itself or in an aggregate; and the Service still has it."""
    service = status.services.get(topic.about)
    if not isinstance(service, Service) or (topic.about, topic.detail) in status.plan.not_advertised:
        return False
    has = (*service.cluster_ips, *service.external_ips, *service.load_balancer_ips)
    address = next((address for address in has if str(address) == split_what(topic.detail)[0]), None)
    return address is not None and is_announced(status, topic.about, address)


def key_of(subject: str) -> Key | None:
    """The object that a Problem is about; None: it is about no object."""
    kind, _, name = subject.partition(" ")
    if kind not in list(Kind) or not name:
        return None
    namespace, _, name = name.rpartition("/")
    return Key(Kind(kind), namespace, name)


def uid_of(world: World, about: Key) -> str:
    found = world.get(about)
    return found.uid if isinstance(found, Node | Service | Instance | ExternalPeer | Advertisement) else ""
