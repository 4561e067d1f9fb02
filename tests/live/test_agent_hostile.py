"""A router that sends malformed and hostile UPDATEs to a real agent: nothing wrong ever gets into the kernel.

A wire-level peer says byte by byte what it likes (`tests.lab.hostile`); FRR beside it is an ordinary router
(`tests.lab.attack`). After each case the node's kernel is compared with what the case may leave there, the agent and
ExaBGP are the processes they were, and FRR's session is the one it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address, ip_network

import pytest

from tests.lab.attack import Attack, Scene
from tests.lab.hostile import ASN, NLRI, ORIGIN, US, V4, V6, WITHDRAWN, Case, HostilePeer, segment, update
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import attribute

pytestmark = pytest.mark.live

SEED, MUTATIONS = 7606, 400


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=1, routers=2) as lab:
        built = Scene(lab)
        yield built
        built.cluster.close()


@pytest.fixture
async def attack(scene: Scene) -> AsyncIterator[Attack]:
    async with HostilePeer(scene.hostile, asn=ASN, restart_seconds=None) as wire:
        one = Attack(scene, wire)
        await one.up()
        yield one
    await eventually(scene.unharmed)
    await eventually(lambda: scene.kernel() == {}, within=60)


async def test_no_malformed_update_leaves_a_wrong_route_or_harms_anybody_else(attack: Attack) -> None:
    scene, build = attack.scene, attack.scene.build
    hops = {V4: [str(scene.hostile.address("ipv4"))], V6: [str(scene.hostile.address("ipv6"))]}
    wanted, actual = {}, {}
    for case in build.cases():
        attack.wire.update(build.announce(NLRI))
        attack.wire.update(build.announce6(bytes.fromhex("3020010db80051")))
        await eventually(lambda: scene.kernel() == hops)
        actual[case.name] = await _left_by(attack, case)
        wanted[case.name] = _may_leave(case, hops)

    assert actual == wanted


async def _left_by(attack: Attack, case: Case) -> dict[str, list[str]]:
    """The kernel once the case has been dealt with, and after the end of the session if that is its outcome."""
    session = attack.wire.session
    attack.wire.update(case.body)
    if case.outcome[0].isdigit():
        await eventually(lambda: session.ended)
        (last,) = session.of("notification")
        assert case.outcome == f"{last.data[0]}/{last.data[1]}"
        await eventually(lambda: attack.wire.session is not session and attack.scene.kernel() == {}, within=60)
        assert _last_error_says(attack.scene, case.outcome)
        await attack.up()
    else:
        await attack.settled()
        assert not session.ended
        if case.outcome == WITHDRAWN:
            assert "taken for withdrawn (RFC 7606)" in attack.scene.problem()
    return attack.scene.kernel()


def _last_error_says(scene: Scene, code: str) -> bool:
    last = scene.agent.ask("peers")["peers"][scene.peer]["last_error"]
    assert code == f"{last['code']}/{last['subcode']}"
    assert last["direction"] == "sent"
    return True


def _may_leave(case: Case, hops: dict[str, list[str]]) -> dict[str, list[str]]:
    if case.outcome[0].isdigit():
        return {}
    return {prefix: hop for prefix, hop in hops.items() if case.outcome != WITHDRAWN or prefix != case.prefix}


BAD_HOPS = {
    "172.18.0.11": "nextHopIsUs",
    "0.0.0.0": "nextHopUnusable",
    "127.0.0.1": "nextHopUnusable",
    "224.0.0.5": "nextHopUnusable",
    "255.255.255.255": "nextHopUnusable",
    "10.244.1.7": "nextHopIsPod",
    "10.244.1.0": "nextHopIsPod",
    "240.0.0.1": "nextHopNotConnected",
    "8.8.8.8": "nextHopNotConnected",
    "::": "nextHopUnusable",
    "::1": "nextHopUnusable",
    "ff02::1": "nextHopUnusable",
    "fe80::1": "nextHopUnusable",
    "::ffff:172.18.0.2": "nextHopUnusable",
    "fd18::11": "nextHopIsUs",
    "fd10:244:1::7": "nextHopIsPod",
    "2001:db8::1": "nextHopNotConnected",
}


@pytest.mark.parametrize(("hop", "reason"), BAD_HOPS.items())
async def test_a_next_hop_that_leads_nowhere_is_refused_with_its_reason(attack: Attack, hop: str, reason: str) -> None:
    scene, packed = attack.scene, ip_address(hop).packed
    if len(packed) == 4:
        attack.wire.update(scene.build.announce(NLRI, hop=packed))
    else:
        attack.wire.update(scene.build.announce6(bytes.fromhex("3020010db80051"), hop=packed))
    await attack.settled()

    assert scene.kernel() == {}
    assert scene.reasons(V4 if len(packed) == 4 else V6) == {reason}


async def test_the_broadcast_address_of_our_subnet_is_no_neighbour(attack: Attack) -> None:
    scene = attack.scene
    attack.wire.update(scene.build.announce(NLRI, hop=scene.hostile.subnet.networks["ipv4"].broadcast_address.packed))
    await attack.settled()

    assert scene.kernel() == {}
    assert scene.reasons(V4) == {"nextHopNotConnected"}


async def test_our_as_in_the_path_is_a_loop_also_in_a_set_or_behind_a_thousand_others(attack: Attack) -> None:
    scene = attack.scene
    paths = {
        "20cb007101": segment(ASN, US),
        "20cb007102": segment(ASN) + segment(7, US, kind=1),
        "20cb007103": b"".join([segment(*[ASN] * 240)] * 4) + segment(US),
        "20cb007104": segment(ASN, US, kind=3),
    }
    for nlri, path in paths.items():
        attack.wire.update(scene.build.announce(bytes.fromhex(nlri), path=attribute(0x40, 2, path)))
    await attack.settled()

    assert scene.kernel() == {}
    assert [scene.reasons(f"203.0.113.{host}/32") for host in range(1, 5)] == [{"asLoop"}] * 4


async def test_as4_path_hides_no_loop(attack: Attack) -> None:
    scene = attack.scene
    path = attribute(0x40, 2, segment(ASN, US)) + attribute(0xC0, 17, segment(ASN, 7))
    attack.wire.update(scene.build.announce(NLRI, path=path))
    await attack.settled()

    assert scene.kernel() == {}
    assert scene.reasons(V4) == {"asLoop"}


async def test_attributes_of_the_inside_win_nothing_for_another_as(attack: Attack) -> None:
    """The router's own path is the shorter one; LOCAL_PREF, ORIGINATOR_ID or CLUSTER_LIST of the other do not count."""
    scene = attack.scene
    scene.frr.announce(V4)
    await eventually(lambda: scene.kernel() == {V4: [str(scene.router.address())]})
    inside = attribute(0x40, 5, b"\xff" * 4) + attribute(0x80, 9, bytes([0, 0, 0, 1])) + attribute(0x80, 10, bytes(4))
    path = attribute(0x40, 2, segment(ASN, 7))
    attack.wire.update(scene.build.announce(NLRI, path=path + inside))
    await attack.settled()

    assert scene.kernel() == {V4: [str(scene.router.address())]}
    scene.frr.withdraw(V4)
    await eventually(lambda: scene.kernel() == {V4: [scene.peer]})


@pytest.mark.parametrize("moment", ["early", "between"])
async def test_an_update_before_the_session_is_up_is_not_believed(scene: Scene, moment: str) -> None:
    """ExaBGP 5.0.15 ends the attempt with 5/1 or 5/2; but what came between OPEN and KEEPALIVE it has handed over."""
    wire = HostilePeer(scene.hostile, asn=ASN, restart_seconds=None)
    setattr(wire, moment, scene.build.announce(NLRI))
    async with wire:
        await eventually(lambda: len([it for it in wire.sessions if it.ended]) >= 2, within=60)
        codes = {sent.data[:1] for session in wire.sessions for sent in session.of("notification")}
        assert codes == {b"\5"}
        assert scene.kernel() == {}
        await eventually(lambda: _last_error_says(scene, "5/1" if moment == "early" else "5/2"))
        setattr(wire, moment, b"")
        attack = Attack(scene, wire)
        await eventually(lambda: scene.agent.view("peers")["peers"][scene.peer]["is_up"], within=60)
        await attack.up()

        assert scene.kernel() == {}
        assert scene.unharmed()


async def test_ten_thousand_communities_in_one_message_hide_neither_a_route_nor_a_loop(scene: Scene) -> None:
    """ExaBGP takes messages of 65,535 bytes from who offers them (RFC 8654); all others have room for a thousand."""
    build = scene.build
    much = attribute(0xC0, 8, build.many(10_000)) + attribute(0xC0, 32, bytes(range(240)) * 50)
    path, loop = (attribute(0x40, 2, b"".join([segment(*[ASN] * 250)] * 4) + end) for end in (b"", segment(US)))
    hops = {V4: [str(scene.hostile.address("ipv4"))], V6: [str(scene.hostile.address("ipv6"))]}
    async with HostilePeer(scene.hostile, asn=ASN, restart_seconds=None, long_messages=True) as wire:
        attack = Attack(scene, wire)
        await attack.up()
        for attributes in (much + path, much + loop, much + path):
            wire.update(update(ORIGIN + attributes + build.hop, NLRI))
            wire.update(update(ORIGIN + attributes + build.reach, b""))
            await attack.settled()
            looped = attributes.endswith(loop)
            assert scene.kernel() == ({} if looped else hops)
            assert [scene.reasons(prefix) for prefix in (V4, V6)] == [{"asLoop"} if looped else set()] * 2
        assert scene.unharmed()
    await eventually(lambda: scene.kernel() == {}, within=60)


async def test_a_message_that_does_not_end_holds_nobody_up(attack: Attack) -> None:
    session = attack.wire.session
    whole = attack.scene.build.announce(NLRI)
    session.writer.write(b"\xff" * 16 + struct.pack("!HB", 19 + len(whole) + 100, 2) + whole)
    scene = attack.scene
    scene.frr.announce("192.0.2.128/25")
    await eventually(lambda: "192.0.2.128/25" in scene.learned("ipv4"))
    scene.frr.withdraw("192.0.2.128/25")
    await eventually(lambda: "192.0.2.128/25" not in scene.learned("ipv4"))
    assert scene.kernel() == {}


async def test_whatever_becomes_of_a_valid_update_by_chance_harms_nobody_else(attack: Attack) -> None:
    """Fixed seed. What a mutation says may be a route; but none through an address that is not a neighbour's, and none
    to what is this node's own, or may not be routed."""
    scene = attack.scene
    for count, body in enumerate(scene.build.mutations(SEED, MUTATIONS)):
        with contextlib.suppress(ConnectionError):
            attack.wire.update(body)
            await attack.wire.session.writer.drain()
        if count % 10 == 9:  # most of them end the session
            await eventually(lambda: attack.wire.session.open and not attack.wire.session.ended, within=60)
            _sane(scene)
        await asyncio.sleep(0)
    await eventually(lambda: attack.wire.session.open and not attack.wire.session.ended, within=60)
    _sane(scene)
    await attack.restart()

    assert scene.unharmed()


def _sane(scene: Scene) -> None:
    """Our own prefixes by their own way only, and no next hop but neighbours."""
    around = list(scene.router.subnet.networks.values())
    ours = [*scene.node.pod_cidrs.values(), *around]
    for family in ("ipv4", "ipv6"):
        for prefix, hops in scene.learned(family).items():  # type: ignore[arg-type]  # both are families
            network = ip_network("0.0.0.0/0" if prefix == "default" and family == "ipv4" else prefix)
            assert not any(network.version == own.version and network.subnet_of(own) for own in ours), prefix
            assert not any((network.is_loopback, network.is_multicast, network.is_link_local)), prefix
            for hop in hops:
                assert any(ip_address(hop) in subnet for subnet in around), f"{prefix} via {hop}"
                assert hop not in {str(address) for address in scene.node.addresses}
