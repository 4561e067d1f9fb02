"""Route reflection: each rule of RFC 4456, and that a thousand clients of one kind are judged as each by itself."""

from __future__ import annotations

import dataclasses
from ipaddress import ip_address, ip_network
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp.check import path_refusal, refusal
from bgp.exaconfig import configuration, identity
from bgp.model import Attributes, Community, Family, LargeCommunity, Origin, Path, Peer, Route
from bgp.reflect import Reflected, Role, kept_from, kept_from_address, kept_from_kind, kind_of, reflected

US, SOURCE, TARGET, OWNER = (ip_address(f"192.0.2.{n}") for n in (1, 2, 3, 4))
CLUSTER, SOURCE_ID, OTHER_CLUSTER, ORIGINATOR = (ip_address(f"9.9.9.{n}") for n in (1, 2, 3, 4))
PREFIX = ip_network("10.244.7.0/24")


def peer(address, role: Role, **settings) -> Peer:
    return Peer(
        address=address,
        name="somebody",
        local_address=US,
        local_asn=64512,
        peer_asn=65000 if role is Role.EXTERNAL else 64512,
        router_id=US,
        families=settings.pop("families", frozenset(Family)),
        client=role is Role.CLIENT,
        **settings,
    )


def heard(role: Role = Role.CLIENT, *, prefix=PREFIX, next_hop=OWNER, router_id=SOURCE_ID, **attributes) -> Reflected:
    path = Path(SOURCE, next_hop, Attributes(**attributes))
    return reflected(prefix, path, role=role, router_id=router_id, cluster_id=CLUSTER)


@pytest.mark.parametrize(
    ("source", "target", "why"),
    [
        (Role.CLIENT, Role.CLIENT, None),
        (Role.CLIENT, Role.NON_CLIENT, None),
        (Role.NON_CLIENT, Role.CLIENT, None),
        (Role.NON_CLIENT, Role.NON_CLIENT, "neitherClient"),
        (Role.CLIENT, Role.EXTERNAL, "notTransit"),
        (Role.NON_CLIENT, Role.EXTERNAL, "notTransit"),
        (Role.EXTERNAL, Role.CLIENT, "notTransit"),
        (Role.EXTERNAL, Role.NON_CLIENT, "notTransit"),
        (Role.EXTERNAL, Role.EXTERNAL, "notTransit"),
    ],
)
def test_a_path_goes_from_clients_to_all_inside_and_from_others_to_clients_only(source, target, why):
    assert kept_from(heard(source), peer(TARGET, target)) == why


def test_everything_but_originator_and_cluster_list_stays_as_it_was():
    said = Attributes(
        origin=Origin.EGP,
        as_path=(65001, frozenset({1, 2})),
        local_pref=250,
        med=7,
        communities=frozenset({Community(64512, 1)}),
        large_communities=frozenset({LargeCommunity(1, 2, 3)}),
    )

    route = reflected(
        PREFIX, Path(SOURCE, OWNER, said), role=Role.CLIENT, router_id=SOURCE_ID, cluster_id=CLUSTER
    ).route

    assert route == Route(PREFIX, OWNER, dataclasses.replace(said, originator_id=SOURCE_ID, cluster_list=(CLUSTER,)))


def test_the_originator_that_another_reflector_named_stays_and_our_cluster_goes_in_front():
    attributes = heard(originator_id=ORIGINATOR, cluster_list=(OTHER_CLUSTER,)).route.attributes

    assert attributes.originator_id == ORIGINATOR
    assert attributes.cluster_list == (CLUSTER, OTHER_CLUSTER)


def test_local_pref_that_is_absent_is_written_as_what_it_counts_as():
    assert heard().route.attributes.local_pref == 100
    assert heard(local_pref=0).route.attributes.local_pref == 0


@pytest.mark.parametrize(
    ("what", "target", "why"),
    [
        (heard(), peer(SOURCE, Role.CLIENT), "toldByPeer"),
        (heard(originator_id=ORIGINATOR, next_hop=TARGET), peer(TARGET, Role.CLIENT), "nextHopIsPeer"),
        (heard(communities=frozenset({Community(65535, 65282)})), peer(TARGET, Role.CLIENT), "noAdvertise"),
        (heard(communities=frozenset({Community(65535, 65281)})), peer(TARGET, Role.CLIENT), None),
        (heard(router_id=None), peer(TARGET, Role.CLIENT), "originatorUnknown"),
        (heard(router_id=None, originator_id=ORIGINATOR), peer(TARGET, Role.CLIENT), None),
        (heard(), peer(TARGET, Role.CLIENT, families=frozenset({Family.IPV6})), "familyNotSpoken"),
        (heard(prefix=ip_network("fd01::/64")), peer(TARGET, Role.CLIENT), "nextHopFamily"),
        (
            heard(communities=frozenset(Community(1, n) for n in range(1000))),
            peer(TARGET, Role.CLIENT),
            "messageTooLong",
        ),
    ],
)
def test_a_path_that_breaks_a_rule_is_kept_from_the_peer_for_it(what, target, why):
    assert kept_from(what, target) == why


@pytest.mark.parametrize(
    ("said", "cluster_id", "why"),
    [
        ({"cluster_list": (OTHER_CLUSTER, CLUSTER)}, CLUSTER, "clusterLoop"),
        ({"cluster_list": (OTHER_CLUSTER,)}, CLUSTER, None),
        ({"cluster_list": (CLUSTER,)}, None, None),
        ({"originator_id": SOURCE_ID}, CLUSTER, "originatedHere"),
        ({"originator_id": ORIGINATOR}, CLUSTER, None),
    ],
)
def test_what_came_round_is_refused(said, cluster_id, why):
    path = Path(SOURCE, OWNER, Attributes(**said))

    refused = path_refusal(path, own_asn=64512, own_router_id=SOURCE_ID, own_addresses={US}, own_cluster_id=cluster_id)

    assert refused == why


def test_a_peer_that_becomes_a_client_keeps_its_session():
    before, after = peer(TARGET, Role.NON_CLIENT), peer(TARGET, Role.CLIENT)

    assert before != after
    assert configuration([before], bridge=["bridge"]) == configuration([after], bridge=["bridge"])
    assert identity(before) == identity(after)


_ADDRESSES = st.sampled_from((SOURCE, TARGET, OWNER))
_PEERS = st.builds(
    peer,
    _ADDRESSES,
    st.sampled_from(Role),
    families=st.frozensets(st.sampled_from(Family), min_size=1),
    passive=st.booleans(),
    hold_seconds=st.sampled_from((9, 90)),
)


@given(
    st.lists(_PEERS, max_size=6), st.sampled_from(Role), _ADDRESSES, st.sampled_from((PREFIX, ip_network("fd01::/64")))
)
def test_peers_of_one_kind_differ_in_their_own_paths_only(peers, role, next_hop, prefix):
    what = heard(role, next_hop=next_hop, prefix=prefix)
    for one, other in product(peers, peers):
        if kind_of(one) == kind_of(other):
            assert kept_from_kind(what, kind_of(one)) == kept_from_kind(what, kind_of(other))
    for one in peers:
        told = kept_from(what, one) is None

        assert told <= (refusal(one, what.route) is None)
        assert told == (not (kept_from_address(what, one.address) or kept_from_kind(what, kind_of(one))))
