"""An API server that does not answer: the route of our own around its address is named, and nothing else is touched."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from agent.model import FibKey, FibRoute, NextHop, Problem
from agent.plan.model import NodePlan, Origination
from agent.plan.way import with_own_way

NEAR, WIDE = ip_network("10.9.0.0/16"), ip_network("10.0.0.0/8")
ROUTER = ip_address("192.0.2.254")
PLAN = NodePlan(
    fib={FibKey(prefix, 0): FibRoute(prefix, (NextHop(ROUTER),)) for prefix in (NEAR, WIDE)},
    originated={WIDE: Origination(WIDE, ("BGPAdvertisement lab",))},
)
AWAY = Problem("apiUnreachable", "watch of Node", "no answer", "See if it runs.")


@pytest.mark.parametrize("url", ["https://10.9.0.4:6443", "https://10.9.0.4"])
def test_an_api_server_inside_routes_of_ours_names_the_longest_of_each_kind(url: str) -> None:
    (said,) = with_own_way([AWAY], PLAN, url)

    assert said.message == (
        "no answer; its address 10.9.0.4 lies in a route of ours: this node has installed 10.9.0.0/16 via 192.0.2.254, "
        "as peers gave it and this node announces 10.0.0.0/8 for BGPAdvertisement lab"
    )
    assert (said.reason, said.subject) == (AWAY.reason, AWAY.subject)
    assert said.fix == "See if this route is right. See if it runs."


@pytest.mark.parametrize(
    "url", ["https://172.16.0.1:6443", "https://[2001:db8::1]:6443", "https://api.example:6443", ""]
)
def test_one_outside_of_them_or_known_by_name_alone_is_said_as_ever(url: str) -> None:
    assert with_own_way([AWAY], PLAN, url) == {AWAY}


def test_what_else_is_wrong_with_it_is_no_matter_of_routes() -> None:
    forbidden = Problem("apiForbidden", "watch of Node", "no")

    assert with_own_way([forbidden], PLAN, "https://10.9.0.4:6443") == {forbidden}
