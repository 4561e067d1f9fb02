"""Explain, for what users ask to have announced and is not: in words, with the object that must change."""

from __future__ import annotations

import pytest

from agent.advertising import ServiceAddress
from agent.model import Problem, Service
from agent.status.explain import explain
from tests.unit.reasonwords import OF_ADDRESSES, said_by
from tests.unit.status.scene import OWN_PODS, VIP, WEB, Scene


@pytest.fixture
def scene():
    return Scene()


def hops(scene, subject):
    return explain(scene.status(), subject)["hops"]


WITHOUT_ADDRESS = {"externalName", "headlessService", "noAddressYet"}


@pytest.mark.parametrize("word", sorted(said_by(OF_ADDRESSES) - WITHOUT_ADDRESS))
def test_each_reason_why_an_address_is_not_announced_is_said_in_words(scene, word):
    scene.not_advertised[WEB, "192.0.2.77"] = word
    (hop,) = hops(scene, "192.0.2.77")

    assert hop["reason"] == word
    assert hop["text"].startswith("192.0.2.77 is not announced here: ")
    assert word not in hop["text"]
    assert hop["fix"]


def test_a_service_that_asks_by_annotation_and_that_nobody_selects_is_told_so(scene):
    scene.originated.pop(VIP)
    scene.services[WEB] = Service(namespace="default", name="web", requested=frozenset(ServiceAddress))
    (hop,) = hops(scene, "default/web")

    assert hop["reason"] == "notSelected"
    assert hop["text"].endswith("though its annotation bgpilot.io/advertise asks for it")
    assert "BGPAdvertisement" in hop["fix"]


@pytest.mark.parametrize("requested", [None, frozenset()])
def test_a_service_that_does_not_ask_is_not_said_to(scene, requested):
    scene.originated.pop(VIP)
    scene.services[WEB] = Service(namespace="default", name="web", requested=requested)
    (hop,) = hops(scene, "default/web")

    assert hop["reason"] == "notSelected"
    assert "asks" not in hop["text"]


def in_use(prefix):
    message = f"prefix {prefix} of BGPAdvertisement lab is not announced from here: …"
    return Problem("prefixInUse", "BGPAdvertisement lab", message, "Take it out of spec.prefixes.")


@pytest.mark.parametrize("subject", ["100.64.0.128/25", "100.64.0.200", "100.64.0.192/26"])
def test_a_static_prefix_that_is_not_announced_says_why(scene, subject):
    scene.problems.add(in_use("100.64.0.128/25"))
    (hop,) = hops(scene, subject)

    assert (hop["place"], hop["reason"], hop["ok"]) == ("BGPAdvertisement lab", "prefixInUse", False)
    assert hop["text"].startswith("prefix 100.64.0.128/25 of BGPAdvertisement lab")
    assert hop["fix"] == "Take it out of spec.prefixes."


def test_a_static_prefix_that_something_else_announces_is_no_no(scene):
    scene.problems.add(in_use(OWN_PODS))

    assert [hop["neutral"] for hop in hops(scene, str(OWN_PODS)) if hop["reason"] == "prefixInUse"] == [True]
    assert explain(scene.status(), str(OWN_PODS))["ok"]
