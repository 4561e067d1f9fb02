"""The router that the speaker's tests speak with."""

from ipaddress import IPv4Address, ip_address

from bgp.model import Family, Peer

TOR = Peer(
    address=ip_address("192.0.2.1"),
    name="BGPPeer/tor",
    local_address=ip_address("192.0.2.9"),
    local_asn=64512,
    peer_asn=65001,
    router_id=IPv4Address("192.0.2.9"),
    families=frozenset(Family),
)
