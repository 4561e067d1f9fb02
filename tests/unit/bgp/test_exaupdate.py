"""UPDATEs as ExaBGP 5.0.15 writes them: what is wrong withdraws the routes it would have replaced (RFC 7606)."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp.exaevents import EventReader, Malformed
from bgp.model import PathsHeard

PEER, US, THEM = "10.99.0.2", 64512, 65001
HOP, PREFIX = "10.99.0.2", "198.51.100.0/24"
GOOD: dict[str, Any] = {
    "origin": "igp",
    "as-path": {"0": {"element": "as-sequence", "value": [THEM]}},
    "med": 7,
    "local-preference": 4_294_967_295,
    "originator-id": "192.0.2.3",
    "cluster-list": ["192.0.2.4"],
}


def line(
    attributes: Any = GOOD, *, asn: Any = THEM, announce: Any = None, withdraw: Any = None, peer: Any = PEER
) -> bytes:
    update = {
        "attribute": attributes,
        "announce": {"ipv4 unicast": {HOP: [PREFIX]}} if announce is None else announce,
        "withdraw": {} if withdraw is None else withdraw,
    }
    said = {
        "address": {"local": "10.99.0.1", "peer": peer},
        "asn": {"local": US, "peer": asn},
        "direction": "receive",
        "message": {"update": update},
    }
    return json.dumps({"type": "update", "time": 1, "neighbor": said}).encode()


def heard(*args: Any, **more: Any) -> PathsHeard:
    found = EventReader().read(line(*args, **more))
    assert isinstance(found, PathsHeard), found
    return found


def path(*segments: tuple[str, list[int]]) -> dict[str, Any]:
    numbered = {str(at): {"element": element, "value": value} for at, (element, value) in enumerate(segments)}
    return {**GOOD, "as-path": numbered}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        (without("origin"), "ORIGIN is missing"),
        ({**GOOD, "origin": "invalid"}, "ORIGIN is of no known value"),
        (without("as-path"), "AS_PATH is missing or empty"),
        (path(), "AS_PATH is missing or empty"),
        (path(("as-sequence", [])), "AS_PATH is missing or empty"),
        (path(("as-sequence", [THEM, 0])), "AS 0 is in AS_PATH"),
        (path(("as-sequence", [THEM]), ("as-set", [3, 0])), "AS 0 is in AS_PATH"),
        ({**GOOD, "error": "treat-as-withdraw due to origin"}, "treat-as-withdraw due to origin"),
        ({**GOOD, "med": 4_294_967_296}, "attributes that cannot be read"),
        (path(("as-sequence", [4_294_967_296])), "attributes that cannot be read"),
        (path(("as-sequence", [-1])), "attributes that cannot be read"),
        ({**GOOD, "community": [[65536, 1]]}, "attributes that cannot be read"),
    ],
)
def test_attributes_that_are_wrong_withdraw_what_they_would_have_announced(
    attributes: dict[str, Any], why: str
) -> None:
    told = heard(attributes, withdraw={"ipv6 unicast": ["fd50::/64"]})

    assert told.announced == ()
    assert told.withdrawn == (ip_network("fd50::/64"), ip_network(PREFIX))
    assert told.malformed.startswith(why)


@pytest.mark.parametrize("hop", ["no-nexthop", "null", "nonsense", "fe80::1%eth0"])
def test_a_next_hop_that_is_none_withdraws_all_that_the_update_announces(hop: str) -> None:
    fine = {"ipv6 unicast": {"2001:db8::1": ["2001:db8:51::/48"]}}
    told = heard(announce={"ipv4 unicast": {hop: [PREFIX]}} | fine)

    assert (told.announced, set(told.withdrawn)) == ((), {ip_network(PREFIX), ip_network("2001:db8:51::/48")})
    assert told.malformed


def test_an_attribute_that_was_left_out_for_being_wrong_withdraws_nothing() -> None:
    told = heard({**GOOD, "error": "discard due to aggregator"})

    assert (len(told.announced), told.malformed) == (1, "")


def test_inside_the_as_an_empty_path_is_the_usual_one() -> None:
    ((found, _),) = heard(without("as-path"), asn=US).announced

    assert found.attributes.as_path == ()


@pytest.mark.parametrize("asn", [THEM, None])
def test_from_another_as_attributes_of_the_inside_mean_nothing(asn: int | None) -> None:
    ((found, _),) = heard(asn=asn).announced
    attributes = found.attributes

    assert (attributes.local_pref, attributes.originator_id, attributes.cluster_list) == (None, None, ())
    assert attributes.med == 7


def test_the_same_attributes_from_both_kinds_of_peers_are_told_apart() -> None:
    reader = EventReader()
    outside, inside = reader.read(line()), reader.read(line(asn=US))

    assert isinstance(outside, PathsHeard)
    assert isinstance(inside, PathsHeard)
    assert outside.announced[0][0].attributes.local_pref is None
    assert inside.announced[0][0].attributes.local_pref == 4_294_967_295


def test_what_was_wrong_once_is_wrong_again() -> None:
    reader = EventReader()

    assert reader.read(line(without("origin"))) == reader.read(line(without("origin"))) == heard(without("origin"))


def test_a_prefix_both_withdrawn_and_announced_is_announced() -> None:
    """RFC 4271 4.3: as if it were not among those withdrawn, which are meant first."""
    told = heard(withdraw={"ipv4 unicast": [PREFIX]})

    assert [prefixes for _, prefixes in told.announced] == [(ip_network(PREFIX),)]


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**70), max_value=2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["10.0.0.0/33", "10.0.0.1/8", "::/129", "::1%x", "1.2.3.4", "no-nexthop", "igp", PREFIX]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
asns = st.one_of(st.integers(min_value=-1, max_value=2**32 + 1), st.just(0))
segments = st.dictionaries(
    st.sampled_from(["0", "1", "2", "x", "-1"]),
    st.fixed_dictionaries(
        {"element": st.sampled_from(["as-sequence", "as-set", "other"]), "value": st.lists(asns, max_size=4)}
    )
    | junk,
    max_size=3,
)
attribute_sets = st.fixed_dictionaries(
    {},
    optional={
        "origin": st.sampled_from(["igp", "egp", "incomplete", "invalid", ""]) | junk,
        "as-path": segments,
        "med": st.integers(-1, 2**32) | junk,
        "local-preference": st.integers(-1, 2**32) | junk,
        "community": st.lists(st.lists(st.integers(-1, 65536), min_size=1, max_size=3), max_size=3) | junk,
        "originator-id": st.sampled_from(["192.0.2.1", "::1", "x"]) | junk,
        "cluster-list": st.lists(st.sampled_from(["192.0.2.1", "x"]), max_size=2) | junk,
        "error": st.sampled_from(["treat-as-withdraw", "discard"]) | junk,
        "bgp-prefix-sid": junk,
    },
)
hops = st.sampled_from(["10.99.0.2", "0.0.0.0", "2001:db8::1", "fe80::1", "no-nexthop", ""]) | st.text(max_size=8)
prefixes = st.sampled_from(["10.0.0.0/8", "10.0.0.1/8", "0.0.0.0/0", "2001:db8::1/32", "10.0.0.0/33", "::/129"])
families = st.sampled_from(["ipv4 unicast", "ipv6 unicast", "ipv4 flow", "x"])
announcements = (
    st.dictionaries(families, st.dictionaries(hops, st.lists(prefixes, max_size=3), max_size=3), max_size=3) | junk
)
withdrawals = st.dictionaries(families, st.lists(prefixes, max_size=3), max_size=3) | junk


@given(
    attributes=attribute_sets | junk,
    announce=announcements,
    withdraw=withdrawals,
    asn=st.sampled_from([US, THEM, None]) | junk,
    peer=st.sampled_from([PEER, "fe80::2%eth0"]) | junk,
)
def test_whatever_a_line_says_it_raises_nothing_and_a_path_comes_only_of_what_is_right(
    attributes: Any, announce: Any, withdraw: Any, asn: Any, peer: Any
) -> None:
    found = EventReader().read(line(attributes, asn=asn, announce=announce, withdraw=withdraw, peer=peer))

    if found is None or isinstance(found, Malformed):
        return
    assert isinstance(found, PathsHeard)
    assert found.peer == ip_address(peer)
    assert not (found.announced and found.malformed)
    for told, networks in found.announced:
        _is_right(attributes, asn, told.attributes)
        for network in networks:
            family = f"ipv{network.version} unicast"
            assert any(
                ip_network(text, strict=False) == network and int(ip_address(hop)) == int(told.next_hop)
                for hop, texts in announce[family].items()
                for text in texts
            )


def _is_right(said: dict[str, Any], asn: Any, told: Any) -> None:
    """An independent account of what RFC 4271 5, 7606 and 7607 let through."""
    numbers: list[int] = []
    for at in sorted(said.get("as-path") or {}, key=int):
        numbers += said["as-path"][at]["value"]
    assert said["origin"] == told.origin.name.lower()
    assert sorted(numbers) == sorted(n for it in told.as_path for n in ([it] if isinstance(it, int) else it)) or any(
        len(set(segment["value"])) < len(segment["value"]) for segment in said["as-path"].values()
    )
    assert all(0 < number < 2**32 for number in numbers)
    assert not str(said.get("error", "")).startswith("treat-as-withdraw")
    assert told.med == said.get("med")
    if asn == US:
        assert told.local_pref == said.get("local-preference")
        assert told.originator_id == (IPv4Address(said["originator-id"]) if said.get("originator-id") else None)
    else:
        assert numbers
        assert (told.local_pref, told.originator_id, told.cluster_list) == (None, None, ())
