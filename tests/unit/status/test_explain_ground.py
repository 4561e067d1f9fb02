"""Explain, of what no route of BGP leads to: it says what that is, and on which interface."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from agent.model import FibRoute, Interface, Key, Kind, NextHop, Node
from agent.status.explain import explain
from bgp.check import MARTIANS
from tests.unit.status.scene import OWN_PODS, TOR, Scene


def interface(index, name, *addresses, up=True):
    return Interface(index, name, up, tuple(map(ip_interface, addresses)))


INTERFACES = (
    interface(1, "lo", "127.0.0.1/8", "::1/128"),
    interface(2, "eth0", "192.0.2.1/24", "fe80::1/64"),
    interface(3, "cni0", "10.244.1.1/24"),
    interface(4, "eth1", "198.18.0.1/24", up=False),
    interface(5, "kube-ipvs0", "10.96.0.10/32", up=False),
)
OWN, CONNECTED, MARTIAN = "ownAddress", "connectedSubnet", "martianPrefix"


@pytest.fixture(params=["nothing around", "a default route"])
def scene(request):
    scene = Scene()
    if request.param == "a default route":
        for default in map(ip_network, ("0.0.0.0/0", "::/0")):
            scene.hear(TOR, default)
            scene.want_in_kernel(FibRoute(default, (NextHop(TOR),)))
    return scene


def hops(scene, subject, **fields):
    return explain(scene.status(interfaces=INTERFACES, **fields), subject)["hops"]


@pytest.mark.parametrize(
    ("subject", "reason", "text", "named"),
    [
        ("192.0.2.1", OWN, "192.0.2.1 is an address of this node, on eth0: what is for it ends here", "eth0"),
        ("192.0.2.1/32", OWN, "192.0.2.1 is an address of this node, on eth0: what is for it ends here", "eth0"),
        ("fe80::1", OWN, "fe80::1 is an address of this node, on eth0: what is for it ends here", "eth0"),
        ("192.0.2.0/24", CONNECTED, "192.0.2.0/24 is connected on eth0", "eth0"),
        ("192.0.2.77", CONNECTED, "192.0.2.77 is in 192.0.2.0/24, which is connected on eth0", "eth0"),
        ("192.0.2.128/25", CONNECTED, "192.0.2.128/25 is in 192.0.2.0/24, which is connected on eth0", "eth0"),
        ("198.18.0.9", CONNECTED, "198.18.0.9 is in 198.18.0.0/24, which is connected on eth1, which is down", "eth1"),
        ("127.0.0.1", MARTIAN, "127.0.0.1 is loopback, each machine's own", "127.0.0.0/8"),
        ("169.254.7.7", MARTIAN, "169.254.7.7 is link-local, known on its own link only", "169.254.0.0/16"),
        ("224.0.0.5", MARTIAN, "224.0.0.5 is multicast, a group's and no host's", "224.0.0.0/4"),
        ("0.0.0.0", MARTIAN, "0.0.0.0 is unspecified, no host's address", "0.0.0.0/8"),
        ("255.255.255.255", MARTIAN, "255.255.255.255 is the broadcast address of each link", "255.255.255.255/32"),
        ("::", MARTIAN, ":: is the unspecified address or loopback", "::/127"),
        ("::1", MARTIAN, "::1 is the unspecified address or loopback", "::/127"),
        ("::ffff:192.0.2.1", MARTIAN, "is IPv4 written as IPv6, never on a wire", "::ffff:0:0/96"),
        ("fe80::2", MARTIAN, "fe80::2 is link-local, known on its own link only", "fe80::/10"),
        ("ff02::1", MARTIAN, "ff02::1 is multicast, a group's and no host's", "ff00::/8"),
    ],
)
def test_what_no_route_leads_to_is_said_to_be_what_it_is(scene, subject, reason, text, named):
    (hop,) = hops(scene, subject)

    assert (hop["place"], hop["ok"], hop["reason"]) == ("node worker-1", False, reason)
    assert text in hop["text"]
    assert named in hop["fix"]


def test_each_block_that_is_never_routed_is_told_from_the_others(scene):
    texts = {hops(scene, str(block))[0]["text"] for block in MARTIANS}

    assert len(texts) == len(MARTIANS)


def test_a_zone_and_blanks_around_are_no_part_of_an_address(scene):
    assert hops(scene, "fe80::2%eth0") == hops(scene, " fe80::2 ") == hops(scene, "fe80::2")
    assert [hop["reason"] for hop in hops(scene, f" {OWN_PODS} ")] == [None] * 4


@pytest.mark.parametrize("subject", ["10.0.0.1%eth0", "fe80::/64%eth0", "fe80::1%"])
def test_what_cannot_have_a_zone_is_no_address(scene, subject):
    view = explain(scene.status(), subject)

    assert view is None or view["kind"] == "service"


def test_an_address_of_the_node_that_is_on_no_interface_is_its_own(scene):
    node = Node(name="worker-1", addresses=(ip_address("203.0.114.1"),))
    (hop,) = hops(scene, "203.0.114.1", nodes={Key(Kind.NODE, "", "worker-1"): node})

    assert (hop["reason"], hop["text"]) == (OWN, "203.0.114.1 is an address of this node: what is for it ends here")
    assert "Node worker-1" in hop["fix"]


def test_an_address_of_the_node_among_its_pods_is_reached_as_they_are(scene):
    first, *others = hops(scene, "10.244.1.1")

    assert (first["reason"], first["neutral"]) == (OWN, True)
    assert others == hops(scene, str(OWN_PODS))


def test_service_addresses_that_kube_proxy_sets_aside_are_not_the_nodes_own(scene):
    assert OWN not in {hop["reason"] for hop in hops(scene, "10.96.0.10")}


def test_a_peer_that_announces_the_nodes_own_subnet_is_named(scene):
    scene.hear(TOR, ip_network("192.0.2.0/24"), reason=CONNECTED)
    (hop,) = hops(scene, "192.0.2.77")

    assert (hop["place"], hop["reason"]) == ("peer 192.0.2.254 (BGPPeer/tor-a)", CONNECTED)
    assert "Stop the peer" in hop["fix"]
