"""Faults of the session with a router."""

from __future__ import annotations

from collections.abc import Mapping

from tests.lab import harms
from tests.lab.fault import PEERS, Fault
from tests.lab.harms import SECRET

_UP = r'bgpilot_bgp_peer_up\{peer="172\.18\.0\.1",.*'
_PROBLEM = r'bgpilot_problems\{{reason="{}"\}}'
_ROUTER_DOWN = ("BgpilotPeerDown router",)
_REFUSED = ("BgpilotNotificationReceived", *_ROUTER_DOWN)

SESSION_FAULTS: Mapping[str, Fault] = {
    "wrong peer AS": Fault(
        lambda ward: ward.asked(asn=64999),
        "is in another AS than the one configured here",
        PEERS,
        r"AS 64999\): ASN in OPEN \(64600\)",
        "Correct `asn` of BGPPeer tor",
        r'bgpilot_bgp_peer_up\{peer="172\.18\.0\.1",peer_as="64999"\}',
        _ROUTER_DOWN,
    ),
    "wrong password": Fault(
        lambda ward: ward.told(f"neighbor {ward.us} password swordfish"),
        r"BGPPeer/tor .*: 172\.18\.0\.1 (has ended the session|does not answer)",
        PEERS,
        r"172\.18\.0\.1 (has ended the session|does not answer)",
        "password and TTL security (must be|are) the same on both sides .here: without a password",
        _UP,
        _ROUTER_DOWN,
    ),
    "missing Secret": Fault(
        lambda ward: ward.asked(passwordSecretRef=SECRET),
        "names Secret tor, which cannot be read",
        PEERS,
        "has no Secret tor",
        "Create Secret tor with key md5",
        _PROBLEM.format("secretMissing"),
        _ROUTER_DOWN,
    ),
    "missing key in it": Fault(
        harms.key_missing,
        "Secret tor has no key md5",
        PEERS,
        "Secret tor has no key md5",
        "Add key md5 to Secret tor",
        _PROBLEM.format("secretKeyMissing"),
        _ROUTER_DOWN,
    ),
    "TTL security mismatch": Fault(
        lambda ward: ward.told(f"neighbor {ward.us} ttl-security hops 1"),
        "172.18.0.1 (has ended|has been silent|takes the connection)",
        PEERS,
        "172.18.0.1 (has ended|has been silent|takes the connection)",
        "`ttlSecurityHops` of BGPPeer tor is not set here",
        _UP,
        _ROUTER_DOWN,
    ),
    "port closed": Fault(
        harms.port_closed,
        "refuses connections on TCP port 1179",
        PEERS,
        "refuses connections on TCP port 1179",
        "correct `port` of BGPPeer tor",
        _UP,
        _ROUTER_DOWN,
    ),
    "no route to peer": Fault(
        harms.no_route,
        "this node has no route to 198.51.100.1",
        PEERS,
        "this node has no route to 198.51.100.1",
        "ip route get 198.51.100.1",
        r'bgpilot_bgp_peer_up\{peer="198\.51\.100\.1",.*',
        _ROUTER_DOWN,
    ),
    "peer silently gone": Fault(
        harms.silently_gone,
        "172.18.0.1 has been silent for the hold time",
        PEERS,
        "172.18.0.1 has been silent for the hold time",
        "See if it is there and not overloaded",
        _UP,
        _ROUTER_DOWN,
    ),
    "hold time refused": Fault(
        harms.hold_time_refused,
        "172.18.0.1 refuses the hold time",
        PEERS,
        "ours is 12 s",
        "Change `holdSeconds` of BGPPeer tor",
        _UP,
        _REFUSED,
    ),
    "no common family": Fault(
        harms.no_common_family,
        "no address family in common",
        PEERS,
        "offered here: ipv4",
        "Activate ipv4 in the router's neighbor statement for 172.18.0.12",
        _UP,
        _REFUSED,
    ),
    "router's maximum-prefix": Fault(
        harms.told_too_much,
        "told more prefixes than it allows",
        PEERS,
        "its maximum-prefix",
        "Raise the limit",
        _UP,
        _REFUSED,
    ),
    "router's administrative shutdown": Fault(
        lambda ward: ward.told(f"neighbor {ward.us} shutdown message rack 7 is moved"),
        "shut down by its administrator",
        PEERS,
        'who says "rack 7 is moved"',
        "Ask there",
        _UP,
        _ROUTER_DOWN,
    ),
    "collision with a second speaker": Fault(
        harms.second_speaker,
        "keeps another connection that it has with 172.18.0.12",
        PEERS,
        "keeps another connection that it has with 172.18.0.12",
        "something else on this node speaks BGP with it",
        r'bgpilot_bgp_notifications_total\{.*code="6",.*subcode="7"\}',
        _ROUTER_DOWN,
    ),
}
