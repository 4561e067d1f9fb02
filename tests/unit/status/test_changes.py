"""What has changed since the last look: refusals that stand, addresses, drift."""

from __future__ import annotations

import pytest

from agent.cluster.world import World
from agent.model import Key, Kind
from agent.plan.steps import finish
from agent.status.changes import ADDRESSES_MAX, Changes
from bgp.model import RouteKey
from tests.unit.status.scene import STRAY, TOR, VIP, WEB, Scene


class Looking:
    def __init__(self):
        self.scene = Scene()
        self.scene.refused_in.clear()
        self.changes = Changes()

    def look(self):
        found = finish(self.changes.look(self.scene.status(), World("worker-1")))
        return [(change.event, change.keys) for change in found]

    def events(self):
        return [event for event, _ in self.look()]


@pytest.fixture
def looking():
    looking = Looking()
    assert looking.look() == []
    return looking


def test_a_route_that_is_refused_at_two_looks_is_told_once_and_that_it_is_over(looking):
    looking.scene.refused_in[RouteKey(TOR, STRAY)] = "importNotAllowed"
    assert looking.events() == []

    ((event, keys),) = looking.look()
    assert (event, keys["subject"], keys["reason"]) == ("routes_refused", "BGPPeer tor-a", "importNotAllowed")
    assert keys["text"].startswith(f"a route it announces is not used, such as {STRAY}")
    assert looking.events() == []

    looking.scene.refused_in.clear()
    assert looking.events() == ["routes_refused_no_more"]
    assert looking.events() == []


def test_a_route_that_is_refused_for_a_moment_is_not_told(looking):
    looking.scene.refused_out[RouteKey(TOR, VIP)] = "messageTooLong"
    assert looking.events() == []
    looking.scene.refused_out.clear()

    assert looking.events() == []


def test_an_address_that_is_not_announced_any_more_is_told_and_that_it_is_again(looking):
    looking.scene.services[WEB] = looking.scene.services[WEB].__class__(
        namespace="default", name="web", external_ips=(VIP.network_address,)
    )
    what = (WEB, str(VIP.network_address))
    looking.scene.not_advertised[what] = "optedOut"

    ((event, keys),) = looking.look()
    assert (event, keys["subject"], keys["address"], keys["reason"]) == (
        "address_not_announced",
        "Service default/web",
        "198.51.100.7",
        "optedOut",
    )
    del looking.scene.not_advertised[what]
    assert looking.events() == ["address_announced"]

    looking.scene.not_advertised[what] = "noEndpoint"
    assert looking.events() == ["address_not_announced"]
    looking.scene.not_advertised[what] = "noLocalEndpoint"
    assert looking.events() == ["announced_elsewhere"]


def test_what_was_so_at_the_first_look_and_what_is_usual_is_not_told():
    looking = Looking()
    looking.scene.not_advertised[WEB, "198.51.100.7"] = "optedOut"
    assert looking.look() == []
    looking.scene.not_advertised[WEB, "198.51.100.8"] = "noLocalEndpoint"

    assert looking.look() == []


def test_of_many_addresses_at_once_the_rest_is_counted(looking):
    for number in range(ADDRESSES_MAX + 30):
        looking.scene.not_advertised[Key(Kind.SERVICE, "a", str(number)), "1.2.3.4"] = "optedOut"

    *some, last = looking.look()
    assert (len(some), last) == (ADDRESSES_MAX, ("addresses_changed", {"count": 30}))


def test_drift_is_told_by_kind_as_it_grows(looking):
    looking.scene.kernel.drift.update(missing=2)
    assert looking.look() == [("drift_repaired", {"missing": 2})]

    looking.scene.kernel.drift.update(missing=1, changed=1)
    assert looking.look() == [("drift_repaired", {"missing": 1, "changed": 1})]
    assert looking.look() == []
