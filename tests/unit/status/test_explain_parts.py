"""Explain, of a prefix around others: what of it is known, here and by peers."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from agent.model import FibRoute, NextHop
from agent.status.explain import explain, explain_steps
from tests.unit.status.scene import MATE, MATE_PODS, OWN_PODS, TOR, VIP, Scene

AROUND = "10.244.0.0/16"


@pytest.fixture
def scene():
    return Scene()


def hops(scene, subject):
    return explain(scene.status(), subject)["hops"]


def test_a_prefix_around_what_is_announced_says_what_that_is(scene):
    own, heard = hops(scene, AROUND)

    assert [(hop["place"], hop["ok"], hop["reason"]) for hop in (own, heard)] == [
        ("node worker-1", False, "partsOnly"),
        ("peers", False, "partsOnly"),
    ]
    assert own["text"] == f"does not announce {AROUND} of its own; it covers 1 prefix that it announces: {OWN_PODS}"
    assert heard["text"].endswith(f"; it covers 1 prefix that peers have announced: {MATE_PODS}")
    assert f"name {AROUND} in `spec.prefixes`" in own["fix"]
    assert f"`bgpilot routes received {AROUND}`" in heard["fix"]


def test_of_many_parts_the_first_are_named_and_all_are_counted(scene):
    scene.hear(MATE, *(ip_network(f"10.244.{number}.0/24") for number in range(9, 2, -1)))

    text = hops(scene, AROUND)[1]["text"]
    assert text.endswith(
        "covers 8 prefixes that peers have announced: 10.244.2.0/24, 10.244.3.0/24, 10.244.4.0/24 and 5 more"
    )


def test_only_who_knows_parts_says_so(scene):
    assert [hop["reason"] for hop in hops(scene, "198.51.100.0/24")] == ["partsOnly", "notHeard"]
    assert [hop["reason"] for hop in hops(scene, "203.0.0.0/16")] == ["notOriginated", "partsOnly"]
    assert [hop["reason"] for hop in hops(scene, "100.64.0.0/10")] == ["notOriginated", "notHeard"]


def test_a_wider_route_is_explained_after_the_parts(scene):
    wider = ip_network("10.0.0.0/8")
    scene.hear(TOR, wider)
    scene.want_in_kernel(FibRoute(wider, (NextHop(TOR),)))
    view = explain(scene.status(), AROUND)

    assert view["ok"]
    assert [(hop["place"], hop["neutral"], hop["reason"]) for hop in view["hops"]] == [
        ("node worker-1", True, "partsOnly"),
        ("peers", True, "partsOnly"),
        ("peer 192.0.2.254 (BGPPeer/tor-a)", False, None),
        ("kernel", False, None),
    ]
    assert view["hops"][0]["text"] == f"{AROUND} covers 1 prefix that it announces: {OWN_PODS}"


def test_what_is_known_as_a_whole_is_not_told_by_its_parts(scene):
    scene.hear(MATE, ip_network("10.244.1.128/25"), reason="ownPodCIDR")

    assert "partsOnly" not in {hop["reason"] for hop in hops(scene, str(OWN_PODS))}


def test_a_default_route_that_nobody_gives_is_not_to_be_announced(scene):
    own, heard = hops(scene, "0.0.0.0/0")

    assert (own["reason"], heard["reason"]) == ("defaultRoute", "notHeard")
    assert "spec.prefixes" not in own["fix"]


def test_remedies_name_the_prefix(scene):
    own, heard = hops(scene, "100.64.0.0/10")

    assert "name 100.64.0.0/10 in `spec.prefixes`" in own["fix"]
    assert "`bgpilot routes advertised 100.64.0.0/10`" in heard["fix"]


def test_a_full_table_is_looked_through_in_steps(scene):
    scene.hear(MATE, *(ip_network((n << 8, 24)) for n in range(10_000)))

    assert sum(1 for _ in explain_steps(scene.status(), AROUND)) >= 10_000
    assert sum(1 for _ in explain_steps(scene.status(), str(VIP))) == 0
