"""The speaker's routes against a real ExaBGP and real routers: told, replaced, withdrawn, heard."""

from ipaddress import ip_address, ip_network

import pytest

from bgp.model import Community, EndOfRib, Family, LargeCommunity, PathsHeard, RouteKey, SessionUp
from tests.lab.frr import Frr
from tests.lab.neighbor import Neighbor
from tests.lab.speaking import NODE_ASN, Speaking, peer, route
from tests.lab.topology import DUAL_STACK, Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001


def tor(net: Lab, *announce: str) -> Frr:
    neighbor = Neighbor(str(net.node(1).address()), NODE_ASN)
    return Frr(net.router, asn=TOR_ASN, router_id="192.0.2.1", neighbors=[neighbor], announce=announce)


async def test_routes_of_both_families_are_announced_replaced_and_withdrawn(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router, node = tor(net), net.node(1)
    ours = {family: str(node.address(family)) for family in DUAL_STACK}
    async with Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        key = speaking.add_route(one, route("10.1.0.0/24", ours["ipv4"]))
        speaking.add_route(one, route("fd01::/64", ours["ipv6"]))
        await speaking.tell()
        await eventually(lambda: router.routes("ipv4") == {"10.1.0.0/24": [ours["ipv4"]]})
        await eventually(lambda: router.routes("ipv6") == {"fd01::/64": [ours["ipv6"]]})

        communities = {
            "communities": frozenset({Community(64512, 7)}),
            "large_communities": frozenset({LargeCommunity(4200000001, 1, 2)}),
        }
        speaking.add_route(one, route("10.1.0.0/24", ours["ipv4"], med=77, **communities))
        await speaking.tell()
        (path,) = await eventually(lambda: [path for path in router.paths("10.1.0.0/24") if path.get("metric") == 77])

        assert path["community"]["string"] == "64512:7"
        assert path["largeCommunity"]["string"] == "4200000001:1:2"

        del speaking.routes[key]
        await speaking.tell()
        await eventually(lambda: router.routes("ipv4") == {})

        assert router.times_established(str(node.address())) == 1
        assert not speaking.speaker.problems


async def test_end_of_rib_of_each_family_comes_once_and_after_all_routes(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        for number in range(200):
            speaking.add_route(one, route(f"10.1.{number}.0/24", node.address("ipv4")))
            speaking.add_route(one, route(f"fd01:0:0:{number:x}::/64", node.address("ipv6")))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)

        announced = [prefix for sent in wire.session.of("announce") for prefix in sent.prefixes]
        assert len(set(announced)) == 400
        assert [sent.what for sent in wire.session.heard[-2:]] == ["end-of-rib", "end-of-rib"]
        assert {sent.family for sent in wire.session.heard[-2:]} == set(DUAL_STACK)


async def test_what_takes_the_place_of_others_is_on_the_wire_before_they_are_gone(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    aggregates = ["10.1.0.0/16", "fd01::/64"]
    members = [prefix for n in range(100) for prefix in (f"10.1.{n}.1/32", f"fd01::{n:x}/128")]
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))

        def want(prefixes: list[str]) -> list[RouteKey]:
            hops = {prefix: node.address("ipv6" if ":" in prefix else "ipv4") for prefix in prefixes}
            return [speaking.add_route(one, route(prefix, hop)) for prefix, hop in hops.items()]

        keys = want(members)
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)

        for wanted in (aggregates, members):
            wire.session.heard.clear()
            speaking.routes.clear()
            keys = [*keys, *want(wanted)]
            await speaking.apply(peers_changed=False, dirty=keys)
            await eventually(lambda: sum(len(sent.prefixes) for sent in wire.session.heard) == 202)

            kinds = [sent.what for sent in wire.session.heard]
            assert kinds == sorted(kinds), "`announce` stands before `withdraw`"
            assert set(kinds) == {"announce", "withdraw"}
            keys = list(speaking.routes)


async def test_what_peers_announce_and_withdraw_is_handed_over_in_order(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        await speaking.tell()
        await speaking.established(one)
        wire.announce(["10.50.0.0/24", "10.51.0.0/24"], next_hop="172.18.0.1", as_path=(TOR_ASN, 4200000001))
        wire.announce(["fd50::/64"], next_hop="fd18::1")
        wire.withdraw(["10.50.0.0/24"])
        wire.end_of_rib()
        await eventually(lambda: len(speaking.heard(EndOfRib)) == 2)

        (up,) = speaking.heard(SessionUp)
        first, second, third = speaking.heard(PathsHeard)
        ((path, prefixes),) = first.announced
        assert prefixes == (ip_network("10.50.0.0/24"), ip_network("10.51.0.0/24"))
        assert path.next_hop == ip_address("172.18.0.1")
        assert path.attributes.as_path == (TOR_ASN, 4200000001)
        assert second.announced[0][0].next_hop == ip_address("fd18::1")
        assert third.withdrawn == (ip_network("10.50.0.0/24"),)
        assert up.families == frozenset(Family)
        assert up.restart_seconds == 120
        assert speaking.speaker.states[one.address].synced == frozenset(Family)


async def test_frr_s_table_of_both_families_is_heard(lab: LabFactory) -> None:
    net = lab(nodes=1)
    tor(net, "10.50.0.0/24", "fd50::/64")
    node = net.node(1)
    async with Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        await speaking.tell()
        await eventually(lambda: speaking.speaker.states[one.address].synced == frozenset(Family))

        heard = {prefix for event in speaking.heard(PathsHeard) for _, found in event.announced for prefix in found}
        assert heard == {ip_network("10.50.0.0/24"), ip_network("fd50::/64")}


async def test_a_thousand_routes_are_told(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router, node = tor(net), net.node(1)
    async with Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        await speaking.tell()
        await speaking.established(one)
        for number in range(1000):
            speaking.add_route(one, route(f"10.{100 + number // 256}.{number % 256}.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(router.routes("ipv4")) == 1000)


async def test_a_route_held_back_is_told_when_it_is_released(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        early = speaking.add_route(one, route("10.1.0.0/24", node.address()))
        late = speaking.add_route(one, route("10.2.0.0/24", node.address()))
        await speaking.apply(hold_back=lambda key: key == late)
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)

        assert [sent.prefixes for sent in wire.session.of("announce")] == [(str(early.prefix),)]
        assert not speaking.speaker.in_sync
        assert speaking.speaker.may_hold(early.prefix)
        assert not speaking.speaker.may_hold(late.prefix)

        await speaking.apply(peers_changed=False, dirty=())
        await eventually(lambda: [sent.prefixes for sent in wire.session.of("announce")][1:] == [(str(late.prefix),)])
        await eventually(lambda: speaking.speaker.in_sync)


async def test_only_dirty_keys_are_looked_at(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router, node = tor(net), net.node(1)
    async with Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        await speaking.tell()
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        dirty = speaking.add_route(one, route("10.2.0.0/24", node.address()))
        await speaking.apply(peers_changed=False, dirty=[dirty])
        await eventually(lambda: router.routes("ipv4"))

        assert list(router.routes("ipv4")) == ["10.2.0.0/24"]


async def test_the_audit_gives_back_what_exabgp_has_lost(lab: LabFactory) -> None:
    net = lab(nodes=1)
    router, node = tor(net), net.node(1)
    async with Speaking(node, audit_seconds=2.0) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: router.routes("ipv4"))
        upkeep = speaking.speaker._upkeep
        async with upkeep.telling._alone():
            await upkeep.link.ask(f"neighbor {one.address} withdraw route 10.1.0.0/24")
            await upkeep.link.ask(f"neighbor {one.address} announce route 10.66.0.0/24 next-hop 172.18.0.66")
        await eventually(lambda: speaking.speaker.audit_corrected == 2)

        await eventually(lambda: list(router.routes("ipv4")) == ["10.1.0.0/24"])
        await eventually(lambda: speaking.speaker.in_sync)


async def test_a_peer_gets_its_own_routes_only_and_a_new_one_disturbs_nobody(lab: LabFactory) -> None:
    net = lab(nodes=1, routers=2)
    node = net.node(1)
    async with (
        WirePeer(net.routers[0], asn=TOR_ASN) as first,
        WirePeer(net.routers[1], asn=TOR_ASN) as second,
        Speaking(node) as speaking,
    ):
        one = speaking.add_peer(peer(node, net.routers[0].address(), asn=TOR_ASN))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(first.session.of("end-of-rib")) == 2)
        other = speaking.add_peer(peer(node, net.routers[1].address(), asn=TOR_ASN))
        speaking.add_route(other, route("10.2.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(second.session.of("end-of-rib")) == 2)

        assert [sent.prefixes for sent in second.session.of("announce")] == [("10.2.0.0/24",)]
        assert [sent.prefixes for sent in first.session.of("announce")] == [("10.1.0.0/24",)]
        assert len(first.sessions) == 1


async def test_a_peer_that_is_removed_forgets_our_routes_at_once(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        for number in range(100):
            speaking.add_route(one, route(f"10.1.{number}.0/24", node.address("ipv4")))
            speaking.add_route(one, route(f"fd01:0:0:{number:x}::/64", node.address("ipv6")))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)
        speaking.peers.clear()
        speaking.routes.clear()
        await speaking.tell()
        await eventually(lambda: wire.session.ended)

        assert len({prefix for sent in wire.session.of("withdraw") for prefix in sent.prefixes}) == 200
        assert one.address not in speaking.speaker.states
        assert not speaking.speaker.may_hold(RouteKey(one.address, ip_network("10.1.1.0/24")).prefix)
