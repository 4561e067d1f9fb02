"""What users want announced: BGPAdvertisement reduced to what planning needs, and what is said of a route with it.

Values only, frozen and comparable. Nothing here reads JSON (`agent.cluster.adverts`) or decides what comes of a wish
(`agent.plan.adverts`).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from agent.intent import EVERYTHING, Selector
from bgp.model import Community, Family, LargeCommunity, Prefix

OWN_LOAD_BALANCER_CLASS: Final = "bgpilot.io/bgp"
"""`spec.loadBalancerClass` of Services that name us."""


class ServiceAddress(enum.StrEnum):
    """Classes of service addresses an advertisement can choose."""

    CLUSTER_IP = "ClusterIP"
    EXTERNAL_IP = "ExternalIP"
    LOAD_BALANCER_IP = "LoadBalancerIP"


class WhenNoEndpoints(enum.StrEnum):
    """What becomes of an address under traffic policy Cluster when no endpoint anywhere can be used."""

    KEEP = "Keep"
    """The nodes answer with a refusal, and routers see no flap."""
    WITHDRAW = "Withdraw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is said of a route besides its prefix and next hop."""

    communities: frozenset[Community] = frozenset()
    large_communities: frozenset[LargeCommunity] = frozenset()
    local_pref: int | None = None
    """To peers of our own AS only (RFC 4271 5.1.5). None: the default, 100."""
    med: int | None = None
    prepend: int = 0
    """How often our AS is put before the AS_PATH once more; to peers of other ASes only."""


def overlapping(terms: Iterable[Terms]) -> Terms:
    """What several wishes for one route come to; one that does not say something leaves it to the others.

    Communities are joined; the highest local preference, the lowest MED and the longest prepend are taken.
    """
    every = tuple(terms)
    if len(every) == 1:
        return every[0]
    return Terms(
        communities=frozenset[Community]().union(*(one.communities for one in every)),
        large_communities=frozenset[LargeCommunity]().union(*(one.large_communities for one in every)),
        local_pref=max((one.local_pref for one in every if one.local_pref is not None), default=None),
        med=min((one.med for one in every if one.med is not None), default=None),
        prepend=max((one.prepend for one in every), default=0),
    )


class ToPeers(NamedTuple):
    """One wish that external peers be told of a route."""

    selector: Selector = EVERYTHING
    """By the labels of their BGPPeers."""
    terms: Terms = Terms()


TO_ALL_PEERS: Final = ToPeers()


class AdvertisementType(enum.StrEnum):
    POD_CIDR = "PodCIDR"
    SERVICE = "Service"
    PREFIX = "Prefix"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceChoice:
    """Which Services, and which of their addresses."""

    addresses: frozenset[ServiceAddress] = frozenset()
    on_request: frozenset[ServiceAddress] = frozenset()
    """Of those Services only that ask for them by annotation."""
    selector: Selector = EVERYTHING
    namespace_selector: Selector = EVERYTHING
    load_balancer_classes: frozenset[str] = frozenset()
    """Classes other than our own and none whose LoadBalancerIPs are announced as well."""
    when_no_endpoints: WhenNoEndpoints = WhenNoEndpoints.KEEP
    aggregation: tuple[tuple[Family, int], ...] = ()
    """The length of the prefix that is announced instead of each address of the family."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advertisement:
    """BGPAdvertisement: what of ours external peers are told. No object of type PodCIDR: pod CIDRs are told to all."""

    name: str
    uid: str = ""
    created: float = 0.0
    generation: int = 0
    """metadata.generation: which version of its spec this is."""
    type: AdvertisementType
    node_selector: Selector = EVERYTHING
    to_peers: ToPeers = TO_ALL_PEERS
    service: ServiceChoice = ServiceChoice()
    """Of type Service."""
    prefixes: tuple[Prefix, ...] = ()
    """Of type Prefix."""
