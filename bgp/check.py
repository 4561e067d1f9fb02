"""Why a route must not be sent, or must not be believed: every "no" of the BGP side, with its reason word.

Decides on single routes and paths by what BGP itself demands. What this node may announce or install by policy (pod
CIDRs, service ranges, default routes, allow-lists) is the planner's to decide.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from ipaddress import IPv4Address, ip_network
from typing import Final, Self

from bgp.model import Address, AsPath, Attributes, Family, Path, Peer, Prefix, Route, SessionUp, zone_of

MESSAGE_MAX_BYTES: Final = 4096
"""RFC 4271 4.1, without the Extended Message capability."""
_MESSAGE_FIXED_BYTES: Final = 19 + 2 + 2
"""Header and the two lengths of an UPDATE (RFC 4271 4.3)."""
_MP_REACH_MAX_BYTES: Final = 4 + 2 + 1 + 1 + 32 + 1 + 17
"""One IPv6 prefix with a global and a link-local next hop (RFC 4760 3, RFC 2545 3); more than IPv4 needs."""


class Reason(enum.StrEnum):
    """A reason word and what it means, in one line for people."""

    meaning: str

    def __new__(cls, word: str, meaning: str) -> Self:
        reason = str.__new__(cls, word)
        reason._value_ = word
        reason.meaning = meaning
        return reason

    FAMILY_NOT_SPOKEN = "familyNotSpoken", "the session does not carry this address family"
    NEXT_HOP_FAMILY = "nextHopFamily", "prefix and next hop are of different families, which needs RFC 8950"
    NEXT_HOP_NOT_NEGOTIATED = "nextHopNotNegotiated", "the peer has not agreed to IPv6 next hops of IPv4 (RFC 8950)"
    NEXT_HOP_IS_PEER = "nextHopIsPeer", "the next hop is the peer itself (RFC 4271 5.1.3)"
    NEXT_HOP_IS_US = "nextHopIsUs", "the next hop is an address of this node"
    NEXT_HOP_UNUSABLE = "nextHopUnusable", "nothing can be sent to this next hop: unspecified, loopback, or the like"
    DEFAULT_ROUTE = "defaultRoute", "a default route is never announced"
    MARTIAN_PREFIX = "martianPrefix", "loopback, link-local, multicast and unspecified addresses are never routed"
    INTERNAL_ATTRIBUTE = "internalAttribute", "LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST never leave the AS"
    AS_PATH_NOT_OURS = "asPathNotOurs", "the AS path sent to another AS must begin with our AS (RFC 4271 5.1.2)"
    MESSAGE_TOO_LONG = "messageTooLong", "the attributes do not fit into one BGP message of 4096 bytes"
    AS_LOOP = "asLoop", "our AS is in the AS path already, more often than allowASIn says (RFC 4271 9.1.2)"
    ORIGINATED_HERE = "originatedHere", "ORIGINATOR_ID is this node: its own route came back (RFC 4456 8)"
    CLUSTER_LOOP = "clusterLoop", "CLUSTER_LIST has our cluster id: a reflector of our cluster sent it (RFC 4456 8)"
    NO_ADVERTISE = "noAdvertise", "it carries the community NO_ADVERTISE: it is for us alone (RFC 1997)"
    NOT_TRANSIT = "notTransit", "what one router is told by another passes through no node"
    TOLD_BY_PEER = "toldByPeer", "the peer itself told us"
    NEITHER_CLIENT = "neitherClient", "neither who told us nor this peer is our client (RFC 4456 6)"
    ORIGINATOR_UNKNOWN = "originatorUnknown", "the router id of who told us is not known: there is no ORIGINATOR_ID"
    SPEAKER_REFUSED = "speakerRefused", "ExaBGP answered `error` to the command; its log says why"


MARTIANS: Final = {
    ip_network(text): what
    for text, what in (
        ("0.0.0.0/8", "unspecified, no host's address (RFC 1122)"),
        ("127.0.0.0/8", "loopback, each machine's own (RFC 1122)"),
        ("169.254.0.0/16", "link-local, known on its own link only (RFC 3927)"),
        ("224.0.0.0/4", "multicast, a group's and no host's (RFC 5771)"),
        ("255.255.255.255/32", "the broadcast address of each link (RFC 919)"),
        ("::/127", "the unspecified address or loopback (RFC 4291)"),
        ("::ffff:0:0/96", "IPv4 written as IPv6, never on a wire (RFC 4291)"),
        ("fe80::/10", "link-local, known on its own link only (RFC 4291)"),
        ("ff00::/8", "multicast, a group's and no host's (RFC 4291)"),
    )
}
"""RFC 6890: never forwarded, with what they are. 240.0.0.0/4 is not among them (`reserved`), since clusters use it for
pods."""
_MARTIAN_BITS: Final = {
    version: tuple(
        (it.prefixlen, it.max_prefixlen - it.prefixlen, int(it.network_address) >> it.max_prefixlen - it.prefixlen)
        for it in MARTIANS
        if it.version == version
    )
    for version in (4, 6)
}
"""Per IP version: length, bits to the right of it, and the value left of them."""


def refusal(peer: Peer, route: Route) -> Reason | None:
    """Why this route must not be sent on this session, None if it may.

    ExaBGP 5.0.15 accepts each of these; the peer then answers with NOTIFICATION and the session flaps without end, or
    drops the route in silence.
    """
    attributes = route.attributes
    if Family.of(route.prefix) not in peer.families:
        return Reason.FAMILY_NOT_SPOKEN
    if route.prefix.prefixlen == 0:
        return Reason.DEFAULT_ROUTE
    if martian(route.prefix):
        return Reason.MARTIAN_PREFIX
    if not next_hop_fits(peer, route.prefix, route.next_hop.version):
        return Reason.NEXT_HOP_FAMILY
    if route.next_hop == peer.address:
        return Reason.NEXT_HOP_IS_PEER
    if _unusable(route.next_hop):
        return Reason.NEXT_HOP_UNUSABLE
    if not peer.internal and _leaves_the_as_wrongly(attributes):
        return Reason.INTERNAL_ATTRIBUTE
    if not peer.internal and attributes.as_path and attributes.as_path[0] != peer.local_asn:
        return Reason.AS_PATH_NOT_OURS
    if _update_bytes(attributes) > MESSAGE_MAX_BYTES:
        return Reason.MESSAGE_TOO_LONG
    return None


def next_hop_fits(peer: Peer, prefix: Prefix, version: int) -> bool:
    """Whether a next hop of this version of IP is legal in either direction, by what is configured.

    IPv6 for IPv4 is a matter of RFC 8950, and IPv4 for IPv6 of none. Here it is enough that we offer it; what came of
    the offer is `session_refusal`'s.
    """
    return version == prefix.version or (prefix.version == 4 and peer.extended_next_hop)


def session_refusal(session: SessionUp, route: Route) -> Reason | None:
    """Why a route that this peer may be sent stays with us for as long as this session lasts, None if it does not.

    ExaBGP as we run it holds such a route, leaves it out (`bgp.inside.reactor.as_negotiated` for the next hop), and
    sends it by itself on a session that has what it needs: so it is told, and only does not count as sent.
    """
    if not carries(session, Family.of(route.prefix)):
        return Reason.FAMILY_NOT_SPOKEN
    if route.prefix.version != route.next_hop.version and not carries_extended_next_hops(session):
        return Reason.NEXT_HOP_NOT_NEGOTIATED
    return None


def carries(session: SessionUp, family: Family) -> bool:
    """Both sides have it; or nobody knows, when the OPENs have been forgotten (`bgp.sessions`)."""
    return session.router_id is None or family in session.families


def carries_extended_next_hops(session: SessionUp) -> bool:
    """As `carries`."""
    return session.router_id is None or session.extended_next_hop


def path_refusal(
    path: Path,
    *,
    own_asn: int,
    own_router_id: IPv4Address,
    own_addresses: Collection[Address],
    own_cluster_id: IPv4Address | None = None,
    local_asn: int | None = None,
    allowas_in: int = 0,
) -> Reason | None:
    """Why nothing may be reached by this path, whatever the prefix: asked once for all prefixes of an UPDATE.

    `own_cluster_id` None: we are no route reflector. `local_asn` is what we are on this session, where that is not
    `own_asn`; either of the two may be in the path `allowas_in` times.
    """
    for asn in {own_asn, own_asn if local_asn is None else local_asn}:
        if _occurrences(path.attributes.as_path, asn) > allowas_in:
            return Reason.AS_LOOP
    if path.attributes.originator_id == own_router_id:
        return Reason.ORIGINATED_HERE
    if own_cluster_id in path.attributes.cluster_list:
        return Reason.CLUSTER_LOOP
    if path.next_hop in own_addresses:
        return Reason.NEXT_HOP_IS_US
    if _unusable(path.next_hop) and not zone_of(path.next_hop):
        return Reason.NEXT_HOP_UNUSABLE
    return None


def martian(prefix: Prefix) -> bool:
    return _inside_martian(prefix.version, int(prefix.network_address), prefix.prefixlen)


def reserved(prefix: Prefix) -> bool:
    """In 240.0.0.0/4 (RFC 1112): nobody's in the internet, and good for the pods of a cluster only."""
    return prefix.version == 4 and prefix.prefixlen >= 4 and int(prefix.network_address) >> 28 == 0xF


def _unusable(next_hop: Address) -> bool:
    """Link-local too: without an interface it names nobody."""
    return _inside_martian(next_hop.version, int(next_hop), next_hop.max_prefixlen)


def _inside_martian(version: int, bits: int, length: int) -> bool:
    """In plain numbers, because it is asked for each prefix that is heard: `subnet_of` takes ten times as long."""
    for least, shift, top in _MARTIAN_BITS[version]:  # noqa: SIM110  # a generator costs more than the comparisons
        if bits >> shift == top and length >= least:
            return True
    return False


def _leaves_the_as_wrongly(attributes: Attributes) -> bool:
    return attributes.local_pref is not None or attributes.originator_id is not None or bool(attributes.cluster_list)


def _occurrences(as_path: AsPath, asn: int) -> int:
    return sum(asn == it if isinstance(it, int) else asn in it for it in as_path)


def _update_bytes(attributes: Attributes) -> int:
    """At most this long is an UPDATE with one prefix and these attributes (RFC 4271 4.3, RFC 6793 4, RFC 8092 3)."""
    as_numbers = sum(1 if isinstance(it, int) else len(it) for it in attributes.as_path)
    as_segments = sum(not isinstance(it, int) for it in attributes.as_path) * 2 + 1 + as_numbers // 255
    small = 4 + 7 + 7 + 7 + 7  # ORIGIN, NEXT_HOP, MULTI_EXIT_DISC, LOCAL_PREF, ORIGINATOR_ID with their headers
    return (
        _MESSAGE_FIXED_BYTES
        + _MP_REACH_MAX_BYTES
        + small
        + (4 + 2 * as_segments + 4 * as_numbers)
        + (4 + 4 * len(attributes.communities))
        + (4 + 12 * len(attributes.large_communities))
        + (4 + 4 * len(attributes.cluster_list))
    )
