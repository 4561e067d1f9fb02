"""Tables of routes: what is in them, how much of it, and that others have their turns while they are made."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest

from agent.model import FibRoute, NextHop
from agent.plan.steps import finish
from agent.status.explain_unknown import explained
from agent.status.server import ROUTES_PER_TURN
from agent.status.tables import ROWS_MAX, SIDES, fib_steps, fib_view, matches, routes_steps, routes_view
from bgp.model import Held, PathsHeard, RouteKey
from tests.unit.status.scene import (
    MATE,
    MATE_PODS,
    NOW,
    STRAY,
    TOR,
    TOR6,
    Failure,
    Scene,
    learned,
    missing_secret,
    peer,
)
from tests.unit.status.test_server import asked, get

MANY = [ip_network((0x64000000 + (number << 8), 24)) for number in range(4 * ROUTES_PER_TURN)]


@pytest.fixture
def scene():
    return Scene()


class Counted(dict):
    looked_up = 0

    def __contains__(self, key):
        self.looked_up += 1
        return super().__contains__(key)


@pytest.mark.parametrize("prefix", [None, ip_network("0.0.0.0/0"), ip_network("10.244.1.0/24")])
def test_what_is_advertised_is_not_looked_up_for_each_peer_and_each_prefix_that_is_heard(scene, prefix):
    scene.hear(MATE, *(ip_network((0x64000000 + (number << 8), 24)) for number in range(500)))
    for number in range(100):
        address = ip_address(f"192.0.3.{number}")
        scene.peers[address] = peer(address, f"node/{number}", 64512, mesh=True)
    scene.routes = Counted(scene.routes)
    view = routes_view(scene.status(), NOW, "advertised", prefix=prefix)

    told = {(row["peer"], row["prefix"]) for row in view["rows"]}
    wanted = {(str(key.peer), str(key.prefix)) for key in scene.routes if prefix is None or matches(key.prefix, prefix)}
    assert told == wanted
    assert scene.routes.looked_up < 1_000, "of 50,000 pairs"


def test_advertised_routes_say_for_what_and_how_far(scene):
    scene.refused_out[RouteKey(TOR6, STRAY)] = "familyNotSpoken"
    view = routes_view(scene.status(), NOW, "advertised")

    assert [(row["prefix"], row["peer"], row["state"], row["reason"]) for row in view["rows"]] == [
        ("10.244.1.0/24", "192.0.2.2", "sent", None),
        ("10.244.1.0/24", "192.0.2.254", "sent", None),
        ("198.51.100.7/32", "192.0.2.254", "sent", None),
        ("203.0.113.0/24", "2001:db8::fe", "refused", "familyNotSpoken"),
    ]
    assert view["rows"][2]["sources"] == ["Service default/web (ExternalIP)"]
    assert view["rows"][2]["communities"] == ["64512:7"]


def test_what_waits_for_a_session_says_so_and_why_there_is_none(scene):
    scene.states[TOR] = scene.down_state()
    view = routes_view(scene.status(), NOW, "advertised", peer=TOR)

    assert {(row["state"], row["reason"]) for row in view["rows"]} == {("held", "notEstablished")}
    (why,) = view["problems"]
    assert (why["subject"], why["reason"]) == ("BGPPeer tor-a", "notEstablished")
    assert "shut down by its administrator" in why["message"]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("problem", [missing_secret(), None])
def test_of_a_peer_that_must_have_no_session_it_is_said_why(scene, side, problem):
    scene.problems = {problem} - {None}
    scene.peers[TOR6] = replace(scene.peers[TOR6], held=Held("secretMissing"))
    view = routes_view(scene.status(), NOW, side, peer=TOR6)
    (why,) = view["problems"]

    assert (view["rows"], why["subject"], why["reason"]) == ([], "BGPPeer tor-b", "secretMissing")
    assert why["message"] == (problem.message if problem else "there must be no session")
    assert why["fix"]


@pytest.mark.parametrize("peer", [TOR, None])
def test_where_there_is_a_session_or_all_are_asked_for_nothing_is_said_of_none(scene, peer):
    assert routes_view(scene.status(), NOW, "advertised", peer=peer)["problems"] == []


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("10.0.0.0/8", True),
        ("10.244.2.0/24", True),
        ("10.244.2.5/32", True),
        ("10.244.2.0/25", False),
        ("10.244.3.0/24", False),
        ("::/0", False),
    ],
)
def test_a_prefix_asked_for_selects_what_is_inside_and_an_address_what_is_around(asked, found):
    assert matches(MATE_PODS, ip_network(asked)) is found


def test_tables_are_bounded_and_say_what_was_left_out(scene):
    many = [ip_network((n << 8, 24)) for n in range(ROWS_MAX + 10)]
    scene.hear(MATE, *many)
    view = routes_view(scene.status(), NOW, "received", peer=MATE)

    assert (len(view["rows"]), view["left_out"]) == (ROWS_MAX, 11)


def test_the_kernels_view_shows_what_is_there_and_what_should_be(scene):
    scene.want_in_kernel(FibRoute(STRAY, (NextHop(TOR), NextHop(MATE))), there=False)
    scene.kernel.failing[learned(STRAY)] = Failure("Network is unreachable")
    view = fib_view(scene.status(), NOW)

    assert [(row["prefix"], row["type"], row["next_hops"], row["state"], row["details"]) for row in view["rows"]] == [
        ("10.244.1.0/24", "unreachable", [], "installed", None),
        ("10.244.2.0/24", "unicast", ["192.0.2.2"], "installed", None),
        ("203.0.113.0/24", "unicast", ["192.0.2.254", "192.0.2.2"], "failing", "Network is unreachable"),
    ]
    assert [row["prefix"] for row in fib_view(scene.status(), NOW, prefix=STRAY)["rows"]] == ["203.0.113.0/24"]


def test_the_kernels_view_says_what_somebody_else_set(scene):
    scene.kernel.actual[learned(STRAY)] = FibRoute(STRAY, (NextHop(TOR),), extra="mtu 1300 onlink")
    scene.fib[learned(STRAY)] = FibRoute(STRAY, (NextHop(TOR),))
    (row,) = fib_view(scene.status(), NOW, prefix=STRAY)["rows"]
    hop = explained(scene.status(), str(STRAY), NOW)["hops"][-1]

    assert (row["state"], row["details"]) == ("changed", "has mtu 1300 onlink, which we never set")
    assert (hop["ok"], hop["text"].split(": ")[-1]) == (False, row["details"])


# In turns.


class Seen(dict):
    """Counts how many keys were asked for."""

    count = 0

    def get(self, key, default=None):
        self.count += 1
        return super().get(key, default)

    def __contains__(self, key):
        self.count += 1
        return super().__contains__(key)


@pytest.fixture
def full(scene):
    """A router has told many routes, and all are in the kernel."""
    scene.hear(TOR, *MANY)
    for prefix in MANY:
        scene.want_in_kernel(FibRoute(prefix, (NextHop(TOR),)))
    scene.kernel.actual, scene.refused_in = Seen(scene.kernel.actual), Seen(scene.refused_in)
    return scene


@pytest.mark.parametrize(
    ("path", "asked_for", "others"),
    [
        ("/v1/fib", lambda scene: scene.kernel.actual, 2),
        ("/v1/routes?side=accepted", lambda scene: scene.refused_in, 1),
        ("/v1/routes?side=received", lambda scene: scene.refused_in, 2),
    ],
)
async def test_others_have_turns_while_a_table_of_many_routes_is_made(full, tmp_path, path, asked_for, others):
    turns = []

    async def other():
        while True:
            turns.append(asked_for(full).count)
            await asyncio.sleep(0)

    async with asked(tmp_path, full) as client:
        meanwhile = asyncio.create_task(other())
        code, view = await get(client, path)
        meanwhile.cancel()

    assert (code, len(view["rows"])) == (200, len(MANY) + others)
    assert 0 < max(after - before for before, after in pairwise(turns)) <= 3 * ROUTES_PER_TURN


@pytest.mark.parametrize(
    "table",
    [
        fib_steps,
        partial(routes_steps, side="received"),
        partial(routes_steps, side="accepted"),
        partial(routes_steps, side="advertised"),
        partial(routes_steps, side="advertised", peer=TOR),
    ],
)
def test_what_is_gone_when_its_turn_comes_is_not_shown(full, table):
    for prefix in MANY[:100]:
        full.announce(TOR, prefix)
    steps = table(full.status(), NOW)
    next(steps)
    full.rib.apply(PathsHeard(TOR, withdrawn=tuple(MANY)), 0.0)
    for some in (full.fib, full.kernel.actual, full.routes):
        some.clear()

    assert {row["prefix"] for row in finish(steps)["rows"]} & set(map(str, MANY)) == set()
