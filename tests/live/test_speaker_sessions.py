"""Sessions as the speaker makes and reports them: passwords, who dials, families, errors, what cannot be."""

import json
from dataclasses import replace
from ipaddress import ip_address

import pytest

from bgp.endings import describe
from bgp.model import Direction, Family, Held, Password, PathsHeard, SessionDown, SessionState
from bgp.speaker import SpeakerMode
from tests.lab.frr import Frr
from tests.lab.machines import Host
from tests.lab.neighbor import Neighbor
from tests.lab.speaking import NODE_ASN, Meshed, Speaking, peer, route, start_external
from tests.lab.topology import DUAL_STACK, Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001


def tor(net: Lab, family: str = "ipv4", **neighbor: object) -> Frr:
    address = str(net.node(1).address(family))  # type: ignore[arg-type]
    one = Neighbor(address, NODE_ASN, **neighbor)  # type: ignore[arg-type]
    return Frr(net.router, asn=TOR_ASN, router_id="192.0.2.1", neighbors=[one], announce=["10.50.0.0/24", "fd50::/64"])


@pytest.mark.parametrize("family", DUAL_STACK)
async def test_one_session_over_either_family_carries_both(lab: LabFactory, family: str) -> None:
    net = lab(nodes=1)
    router, node = tor(net, family), net.node(1)
    hops = {family: str(node.address(family)) for family in DUAL_STACK}
    async with Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(family), asn=TOR_ASN))  # type: ignore[arg-type]
        speaking.add_route(one, route("10.1.0.0/24", hops["ipv4"]))
        speaking.add_route(one, route("fd01::/64", hops["ipv6"]))
        await speaking.tell()
        await eventually(lambda: router.routes("ipv4").get("10.1.0.0/24") == [hops["ipv4"]])
        await eventually(lambda: router.routes("ipv6").get("fd01::/64") == [hops["ipv6"]])
        await eventually(lambda: speaking.speaker.states[one.address].synced == frozenset(Family))

        heard = {
            str(prefix): str(path.next_hop)
            for event in speaking.heard(PathsHeard)
            for path, found in event.announced
            for prefix in found
        }
        # FRR adds a link-local next hop to the global one: the global one counts.
        assert (heard["10.50.0.0/24"], heard["fd50::/64"]) == ("172.18.0.1", "fd18::1")
        assert not speaking.speaker.malformed


@pytest.mark.parametrize("family", DUAL_STACK)
async def test_a_password_is_used_and_changed_without_touching_other_sessions(lab: LabFactory, family: str) -> None:
    net = lab(nodes=1)
    router, node = tor(net, family, password="first-one"), net.node(1)
    async with Speaking(node) as speaking:
        one = peer(node, net.router.address(family), asn=TOR_ASN)  # type: ignore[arg-type]
        speaking.add_peer(replace(one, password=Password("first-one")))
        speaking.add_route(one, route("10.1.0.0/24", node.address("ipv4")))
        await speaking.tell()
        await speaking.established(one)
        router.configure([f"router bgp {TOR_ASN}", f"neighbor {node.address(family)} password second"])  # type: ignore[arg-type]
        speaking.add_peer(replace(one, password=Password("second")))
        await speaking.tell()
        await eventually(lambda: router.times_established(str(node.address(family))) == 2)  # type: ignore[arg-type]
        await speaking.established(one)

        await eventually(lambda: "10.1.0.0/24" in router.routes("ipv4"))
        assert "second" not in (speaking.run_dir / "exabgp.conf").read_text()
        assert (speaking.run_dir / "exabgp.conf").stat().st_mode & 0o777 == 0o600


async def test_a_password_of_any_characters_works_between_two_speakers(lab: LabFactory) -> None:
    net = lab(nodes=2)
    password = Password("\"quoted\" 'twice' \\ {brace}; #ü")
    async with Meshed(net.node(1), net.node(2), password=password) as (first, second):
        await first.established(*first.peers.values())
        await second.established(*second.peers.values())


async def test_a_wrong_password_gives_no_session_and_a_reason(lab: LabFactory) -> None:
    net = lab(nodes=1)
    tor(net, password="right")
    node = net.node(1)
    async with Speaking(node) as speaking:
        one = speaking.add_peer(replace(peer(node, net.router.address(), asn=TOR_ASN), password=Password("wrong")))
        await speaking.tell()
        await eventually(lambda: speaking.speaker.states[one.address].last_error)

        state = speaking.speaker.states[one.address]
        assert state.up is None
        assert state.last_error is not None
        assert state.last_error.direction is Direction.LOCAL
        assert "wrong" not in str(speaking.speaker.states)


async def test_of_two_nodes_one_dials_and_the_session_comes_up_once(lab: LabFactory) -> None:
    net = lab(nodes=2)
    async with Meshed(net.node(1), net.node(2)) as (first, second):
        (one,), (other,) = first.peers.values(), second.peers.values()
        first.add_route(one, route("10.1.0.0/24", net.node(1).address(), as_path=(), local_pref=100))
        second.add_route(other, route("10.2.0.0/24", net.node(2).address(), as_path=(), local_pref=100))
        await first.tell()
        await second.tell()
        for speaking in (first, second):
            await speaking.established(*speaking.peers.values())
            await eventually(
                lambda speaking=speaking: all(
                    state.synced == frozenset(Family) for state in speaking.speaker.states.values()
                )
            )

            assert [state.flaps for state in speaking.speaker.states.values()] == [0]


async def test_a_wrong_as_is_reported_with_the_router_s_notification(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    neighbor = Neighbor(str(node.address()), 64999)
    Frr(net.router, asn=TOR_ASN, router_id="192.0.2.1", neighbors=[neighbor])
    async with Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        await speaking.tell()
        await eventually(lambda: speaking.heard(SessionDown))
        await eventually(
            lambda: (error := speaking.speaker.states[one.address].last_error) is not None and error.code == 2
        )

        error = speaking.speaker.states[one.address].last_error
        assert error is not None
        assert describe(error).startswith("received 2/2 Bad Peer AS")


async def test_a_router_that_shuts_down_says_why_and_attempts_meanwhile_are_not_told(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    router = tor(net)
    async with Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        await speaking.tell()
        await speaking.established(one)
        count_dials(net.router)
        router.configure([f"router bgp {TOR_ASN}", f"neighbor {node.address()} shutdown message back at noon"])
        await eventually(lambda: speaking.heard(SessionDown))
        assert speaking.heard(SessionDown)[0].reason == (
            'received 6/2 Administrative Shutdown: Shutdown Communication: "back at noon"'
        )
        error = speaking.speaker.states[one.address].last_error
        assert error is not None
        assert (error.code, error.subcode) == (6, 2)
        await eventually(lambda: dials(net.router) >= 5, within=90)
        router.configure([f"router bgp {TOR_ASN}", f"no neighbor {node.address()} shutdown"])
        await speaking.established(one, within=90)

        (_, *attempts) = speaking.heard(SessionDown)
        assert not any(down.was_up for down in attempts)
        assert len(attempts) <= 1, "an attempt that fails like the one before is not told"
        assert speaking.speaker.states[one.address].flaps == 1


def count_dials(router: Host) -> None:
    rule = "tcp dport 179 tcp flags & (syn | ack) == syn counter name dials"
    chain = f"chain arriving {{ type filter hook input priority 0; {rule}; }}"
    router.run(["nft", "-f", "-"], stdin=f"table inet seen {{ counter dials {{}}; {chain}; }}\n")


def dials(router: Host) -> int:
    """Since `count_dials`."""
    told = json.loads(router.run(["nft", "-j", "list", "counter", "inet", "seen", "dials"]).stdout)
    return sum(one["counter"]["packets"] for one in told["nftables"] if "counter" in one)


async def test_a_changed_hold_time_restarts_that_session_alone(lab: LabFactory) -> None:
    net = lab(nodes=1, routers=2)
    node = net.node(1)
    async with (
        WirePeer(net.routers[0], asn=TOR_ASN) as first,
        WirePeer(net.routers[1], asn=TOR_ASN) as second,
        Speaking(node) as speaking,
    ):
        one = speaking.add_peer(peer(node, net.routers[0].address(), asn=TOR_ASN))
        other = speaking.add_peer(peer(node, net.routers[1].address(), asn=TOR_ASN))
        for told in (one, other):
            speaking.add_route(told, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: all(len(wire.session.of("end-of-rib")) == 2 for wire in (first, second)))
        speaking.add_peer(replace(one, hold_seconds=30))
        await speaking.tell()
        await eventually(lambda: len(first.sessions) == 2 and len(first.session.of("end-of-rib")) == 2)
        await speaking.established(one, other)

        assert len(second.sessions) == 1
        assert (up := speaking.speaker.states[one.address].up) is not None
        assert up.hold_seconds == 30


async def test_a_family_that_a_session_gets_while_it_is_up_brings_its_routes_with_it(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN, families=[Family.IPV6]))
        speaking.add_route(one, route("fd00:1::/64", node.address("ipv6")))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 1)
        speaking.add_peer(replace(one, families=frozenset(Family)))
        speaking.add_route(one, route("10.1.0.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(wire.sessions) == 2 and len(wire.session.of("end-of-rib")) == 2)

        told = {prefix for sent in wire.session.of("announce") for prefix in sent.prefixes}
        assert told == {"10.1.0.0/24", "fd00:1::/64"}


async def test_a_changed_as_is_a_new_session_with_all_routes_before_end_of_rib(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        for number in range(10):
            speaking.add_route(one, route(f"10.1.{number}.0/24", node.address()))
        await speaking.tell()
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)
        speaking.add_peer(replace(one, local_asn=64999))
        await speaking.tell()
        await eventually(lambda: len(wire.sessions) == 2 and len(wire.session.of("end-of-rib")) == 2)

        assert len({prefix for sent in wire.session.of("announce") for prefix in sent.prefixes}) == 10
        assert [sent.what for sent in wire.session.heard[-2:]] == ["end-of-rib", "end-of-rib"]


async def test_a_peer_without_route_refresh_repeats_itself_in_a_new_session(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    start_external(node)
    async with (
        WirePeer(net.router, asn=TOR_ASN, route_refresh=False) as wire,
        Speaking(node, mode=SpeakerMode.EXTERNAL) as speaking,
    ):
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        await speaking.tell()
        await speaking.established(one)
        await speaking.restart_agent()
        await speaking.tell()
        await eventually(lambda: len(wire.sessions) == 2)
        await speaking.established(one)


async def test_a_peer_that_cannot_be_is_left_out_and_the_others_work(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN), Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        bad = peer(node, ip_address("172.18.0.99"), asn=TOR_ASN, name="BGPPeer/bad")
        speaking.add_peer(replace(bad, password=Password("x" * 81)))
        await speaking.tell()
        await speaking.established(one)

        (problem,) = speaking.speaker.problems
        assert (problem.reason, problem.subject) == ("peerRefused", "BGPPeer/bad")
        assert "81 bytes" in problem.message


async def test_of_a_peer_that_must_have_no_session_nothing_more_is_refused(lab: LabFactory) -> None:
    node = lab(nodes=1).node(1)
    async with Speaking(node) as speaking:
        bad = replace(peer(node, ip_address("172.18.0.99"), asn=TOR_ASN), password=Password("x" * 81))
        speaking.add_peer(replace(bad, held=Held("passwordTooLong")))
        await speaking.tell()
        assert speaking.speaker.problems == frozenset()

        speaking.add_peer(bad)
        await speaking.tell()
        assert [problem.reason for problem in speaking.speaker.problems] == ["peerRefused"]


async def test_a_file_that_exabgp_would_refuse_is_not_put_in_place(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, Speaking(node) as speaking:
        one = speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
        await speaking.tell()
        await speaking.established(one)
        good = (speaking.run_dir / "exabgp.conf").read_text()
        impossible = speaking.add_peer(peer(node, ip_address("172.18.0.98"), asn=1 << 32))
        await speaking.apply()
        await eventually(lambda: speaking.speaker.problems)

        (problem,) = speaking.speaker.problems
        assert problem.reason == "configurationRefused"
        assert not speaking.speaker.in_sync
        assert (speaking.run_dir / "exabgp.conf").read_text() == good

        del speaking.peers[impossible.address]
        new = speaking.add_peer(peer(node, ip_address("172.18.0.97"), asn=TOR_ASN))
        await speaking.tell()
        assert not speaking.speaker.problems
        assert speaking.state(one) is SessionState.ESTABLISHED
        assert new.address in speaking.speaker.states
        assert len(wire.sessions) == 1


async def test_a_port_that_is_taken_is_a_problem_until_it_is_free(lab: LabFactory) -> None:
    net = lab(nodes=1)
    node = net.node(1)
    thief = WirePeer(node, asn=TOR_ASN)
    async with Speaking(node) as speaking:
        async with thief:
            speaking.add_peer(peer(node, net.router.address(), asn=TOR_ASN))
            await speaking.apply()
            await eventually(lambda: speaking.speaker.problems)
            (problem,) = speaking.speaker.problems
            assert problem.reason == "cannotListen"
            assert "172.18.0.11:179" in problem.message
        await eventually(lambda: not speaking.speaker.problems)
        await eventually(lambda: "172.18.0.11:179" in node.run(["ss", "-Hltn"]).stdout)
