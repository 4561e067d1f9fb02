"""The left door hands out a large change in parts, and none of it twice."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address

import pytest

from agent.cluster.world import World
from agent.inbox import KEYS_PER_PASS, PREFIXES_PER_PASS, Dirt, Inbox
from agent.intent import Damping
from agent.model import Applied, EndpointSlice, Gone, Key, Kind, Listed, Service, WatchState
from bgp.model import Attributes, Family, Path, PathsHeard, SessionDown, SessionUp
from bgp.rib import GO_AT_ONCE, Rib

PEER = ip_address("192.0.2.1")
MANY = 3 * GO_AT_ONCE
PREFIXES = tuple(IPv4Network((n << 8, 24)) for n in range(MANY))


@pytest.fixture
def inbox() -> Inbox:
    return Inbox(world=World(), rib=Rib(), clock=lambda: 0.0)


async def taken(inbox: Inbox) -> list[Dirt]:
    """All that there is to take, without a wait for more."""
    parts = [await inbox.take(within=0.0)]
    while parts[-1].more:
        parts.append(await inbox.take(within=60.0))
    return parts


def listed(count: int) -> Listed:
    services = [Service(namespace="default", name=f"s{n}") for n in range(count)]
    return Listed(Kind.SERVICE, {Key(Kind.SERVICE, "default", it.name): it for it in services})


def hear_many(inbox: Inbox) -> None:
    up = SessionUp(peer=PEER, router_id=None, peer_asn=1, hold_seconds=90, families=frozenset(Family))
    inbox.put(up)
    for first in range(0, MANY, PREFIXES_PER_PASS):
        update = PREFIXES[first : first + PREFIXES_PER_PASS]
        inbox.put(PathsHeard(PEER, (), ((Path(PEER, PEER, Attributes()), update),)))


async def test_ten_thousand_objects_listed_at_once_are_handed_out_in_parts_and_each_once(inbox: Inbox) -> None:
    change = listed(10_000)
    inbox.put(change)

    parts = await taken(inbox)

    assert {len(part.keys) for part in parts[:-1]} == {KEYS_PER_PASS}
    assert sum(len(part.keys) for part in parts) == 10_000
    assert frozenset().union(*(part.keys for part in parts)) == change.records.keys()


async def test_a_full_table_is_handed_out_in_parts_in_the_order_it_was_heard(inbox: Inbox) -> None:
    hear_many(inbox)

    parts = await taken(inbox)

    assert parts[0].prefixes == set(PREFIXES[:PREFIXES_PER_PASS])
    assert {len(part.prefixes) for part in parts[:-1]} == {PREFIXES_PER_PASS}
    assert sum(len(part.prefixes) for part in parts) == MANY
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]


async def test_the_end_of_a_full_table_leaves_the_picture_in_parts_and_no_prefix_is_forgotten(inbox: Inbox) -> None:
    hear_many(inbox)
    await taken(inbox)

    inbox.put(SessionDown(PEER, "x"))
    left = len(inbox.rib.prefixes())
    parts = await taken(inbox)

    assert left == MANY - GO_AT_ONCE
    assert not inbox.rib.prefixes()
    assert frozenset().union(*(part.prefixes for part in parts)) == set(PREFIXES)
    assert max(len(part.prefixes) for part in parts) == PREFIXES_PER_PASS


def test_the_picture_is_as_old_as_its_last_change_and_not_as_the_last_sign_of_life() -> None:
    now = [10.0]
    inbox = Inbox(world=World(), rib=Rib(), clock=lambda: now[0])
    assert inbox.changed_at is None
    inbox.put(listed(2))
    now[0] = 20.0
    inbox.put(listed(2))
    inbox.put(WatchState(Kind.SERVICE, healthy=True, fresh_at=20.0))

    assert inbox.changed_at == 10.0


async def test_what_is_forgotten_is_not_handed_out(inbox: Inbox) -> None:
    inbox.put(listed(10))
    hear_many(inbox)

    inbox.forget()

    assert await taken(inbox) == [Dirt()]


def test_an_endpoint_whose_slice_is_deleted_need_not_settle_in_the_one_that_takes_its_place(inbox: Inbox) -> None:
    inbox.damper.damping = Damping(announce_seconds=60.0)
    old, new = (Key(Kind.ENDPOINT_SLICE, "default", name) for name in ("web-old", "web-new"))
    slices = {
        key: EndpointSlice(
            namespace="default", name=key.name, service="web", family=Family.IPV4, ready=frozenset({"node-1"})
        )
        for key in (old, new)
    }
    inbox.put(Listed(Kind.ENDPOINT_SLICE, {old: slices[old]}))

    inbox.put(Gone(old))
    inbox.put(Applied(new, slices[new]))

    assert inbox.world.get(new) == slices[new]
