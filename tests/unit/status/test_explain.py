"""Explain: each "no" stands at the hop that says it, with its reason word and what would change it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from agent.model import FibRoute, NextHop, Problem, Service
from agent.status.explain import explain
from agent.status.remedies import REMEDIES, kernel_remedy
from bgp.check import Reason
from bgp.model import Direction, PeerState, RouteKey, SessionError, SpeakerLost
from tests.unit.reasonwords import OF_ADDRESSES, OF_ROUTES, said_by
from tests.unit.status.scene import (
    MATE,
    MATE_PODS,
    NOW,
    OWN_PODS,
    STRAY,
    TOR,
    TOR6,
    VIP,
    WEB,
    Failure,
    Scene,
    learned,
    missing_secret,
)


@pytest.fixture
def scene():
    return Scene()


def hops(scene, subject):
    return [(hop["place"], hop["ok"], hop["reason"]) for hop in explain(scene.status(), subject)["hops"]]


def test_a_route_of_ours_is_followed_from_its_object_through_the_kernel_to_each_peer(scene):
    assert hops(scene, "10.244.1.0/24") == [
        ("Node worker-1", True, None),
        ("kernel", True, None),
        ("peer 192.0.2.2 (node/worker-2)", True, None),
        ("peer 192.0.2.254 (BGPPeer/tor-a)", True, None),
    ]


def test_an_address_is_explained_by_the_longest_prefix_around_it(scene):
    assert hops(scene, "10.244.2.77") == [("peer 192.0.2.2 (node/worker-2)", True, None), ("kernel", True, None)]


def test_a_route_heard_and_refused_stops_at_the_peer_with_a_remedy(scene):
    view = explain(scene.status(), "203.0.113.9")

    assert view["ok"] is False
    assert [(hop["reason"], hop["fix"]) for hop in view["hops"]] == [
        ("importNotAllowed", "Add the prefix to `import.allowed`, or set `import.podCIDRs: true`, in the BGPPeer.")
    ]


@pytest.mark.parametrize(
    ("failing", "conflicts", "reason"),
    [
        ({learned(STRAY): Failure("Network is unreachable")}, {}, "kernelRefused"),
        ({}, {learned(STRAY): "static"}, "kernelConflict"),
        ({}, {}, "notInstalled"),
    ],
)
def test_a_route_that_is_not_in_the_kernel_stops_there(scene, failing, conflicts, reason):
    scene.refused_in.clear()
    scene.want_in_kernel(FibRoute(STRAY, (NextHop(TOR),)), there=False)
    scene.kernel.failing, scene.kernel.conflicts = failing, conflicts

    assert hops(scene, "203.0.113.0/24") == [
        ("peer 192.0.2.254 (BGPPeer/tor-a)", True, None),
        ("kernel", False, reason),
    ]


def test_a_path_that_is_not_chosen_says_that_another_is_better(scene):
    scene.hear(TOR, MATE_PODS)

    texts = [hop["text"] for hop in explain(scene.status(), "10.244.2.0/24")["hops"]]

    assert texts[:2] == [
        "10.244.2.0/24 via 192.0.2.2 admitted, chosen",
        "10.244.2.0/24 via 192.0.2.254 admitted, another path is better",
    ]


def marks(scene, subject):
    return [(hop["neutral"], hop["ok"], hop["reason"], hop["fix"]) for hop in explain(scene.status(), subject)["hops"]]


def test_our_own_route_coming_back_from_a_router_is_no_no(scene):
    scene.hear(TOR, OWN_PODS, as_path=(65000, 64512), reason="asLoop")
    scene.hear(MATE, OWN_PODS, reason="ownPodCIDR")
    view = explain(scene.status(), str(OWN_PODS))

    assert view["ok"] is True
    assert marks(scene, str(OWN_PODS))[-2:] == [(True, True, "ownPodCIDR", None), (True, True, "asLoop", None)]
    assert view["hops"][-1]["text"] == "10.244.1.0/24 via 192.0.2.254 not admitted: our own route coming back"
    assert "coming back" not in view["hops"][-2]["text"]


def test_a_refused_path_beside_one_that_is_installed_is_no_no(scene):
    scene.hear(TOR, MATE_PODS, as_path=(65000, frozenset({64512, 3})), reason="asLoop")
    view = explain(scene.status(), str(MATE_PODS))

    assert view["ok"] is True
    assert [hop["neutral"] for hop in view["hops"]] == [False, True, False]

    scene.kernel.actual.clear()
    view = explain(scene.status(), str(MATE_PODS))
    assert [hop["reason"] for hop in view["hops"] if not hop["ok"]] == ["asLoop", "notInstalled"]


def test_an_address_of_a_service_that_is_not_announced_here_says_why(scene):
    scene.not_advertised[WEB, "192.0.2.77"] = "noLocalEndpoint"

    for subject in ("192.0.2.77", "192.0.2.77/32"):
        assert hops(scene, subject) == [("Service default/web", False, "noLocalEndpoint")]


def test_which_traffic_policy_keeps_an_address_silent_is_said(scene):
    scene.services[WEB] = Service(
        namespace="default",
        name="web",
        cluster_ips=(ip_address("10.96.0.9"),),
        external_ips=(ip_address("192.0.2.77"),),
    )
    for address, policy in (("10.96.0.9", "internalTrafficPolicy"), ("192.0.2.77", "externalTrafficPolicy")):
        scene.not_advertised[WEB, address] = "noLocalEndpoint"
        (hop,) = (it for it in explain(scene.status(), address)["hops"] if it["reason"] == "noLocalEndpoint")

        assert f"{address} is not announced here: its spec.{policy} is Local, and no endpoint" in hop["text"]


@pytest.mark.parametrize(
    ("gateways", "says"),
    [
        (["192.0.2.254"], "`ip route get 192.0.2.254` and `ip route show match 192.0.2.254` show"),
        (["2001:db8::fe"], "`ip -6 route get 2001:db8::fe` and `ip -6 route show match 2001:db8::fe` show"),
        (["192.0.2.254", "192.0.2.2"], "`ip route get NEXTHOP` often"),
        ([], "`ip route get NEXTHOP` often"),
    ],
)
def test_what_the_kernel_refuses_is_looked_into_by_the_next_hop(gateways, says):
    assert says in kernel_remedy([ip_address(it) for it in gateways])


def test_an_unannounced_address_is_found_though_a_wider_route_is_known(scene):
    scene.not_advertised[WEB, "203.0.113.9"] = "noLocalEndpoint"

    assert hops(scene, "203.0.113.9") == [("Service default/web", False, "noLocalEndpoint")]


def test_a_path_kept_without_a_session_says_so(scene):
    scene.rib.apply(SpeakerLost("died"), 0.0)

    (text, *_) = [hop["text"] for hop in explain(scene.status(), str(MATE_PODS))["hops"]]
    assert text == "10.244.2.0/24 via 192.0.2.2 admitted, chosen; kept: session down"


def test_an_error_without_words_is_explained_by_its_name(scene):
    scene.states[TOR6] = PeerState(last_error=SessionError(Direction.SENT, 4, 0, "", NOW))

    assert explain(scene.status(), "tor-b")["hops"][-1]["text"].startswith("Idle: sent 4/0 Hold Timer Expired (× 1): ")


def test_a_prefix_that_nobody_knows_says_who_should(scene):
    assert hops(scene, "100.64.0.0/10") == [
        ("node worker-1", False, "notOriginated"),
        ("peers", False, "notHeard"),
    ]


def test_a_route_refused_held_or_failing_on_its_way_out_says_so_at_the_peer(scene):
    scene.announce(MATE, VIP, answer=False)
    scene.refused_out[RouteKey(TOR6, VIP)] = "familyNotSpoken"

    assert hops(scene, "198.51.100.7") == [
        ("Service default/web (ExternalIP)", True, None),
        ("peer 192.0.2.2 (node/worker-2)", False, "speakerRefused"),
        ("peer 192.0.2.254 (BGPPeer/tor-a)", True, None),
        ("peer 2001:db8::fe (BGPPeer/tor-b)", False, "familyNotSpoken"),
    ]


def test_a_route_that_the_session_does_not_carry_says_what_is_missing(scene):
    scene.announce(TOR, OWN_PODS, next_hop=TOR6)

    assert ("peer 192.0.2.254 (BGPPeer/tor-a)", False, "nextHopNotNegotiated") in hops(scene, str(OWN_PODS))


def test_an_ipv6_next_hop_of_an_ipv4_route_is_said_as_ip_route_prints_it(scene):
    scene.hear(TOR, STRAY, next_hop=TOR6)
    scene.want_in_kernel(FibRoute(STRAY, (NextHop(TOR6),)))
    texts = [hop["text"] for hop in explain(scene.status(), str(STRAY))["hops"]]

    assert texts[0].startswith(f"{STRAY} via inet6 {TOR6} ")
    assert texts[-1] == f"{STRAY} via inet6 {TOR6} installed"


def test_a_service_is_followed_by_its_addresses(scene):
    scene.not_advertised[WEB, "10.96.0.9"] = "noLocalEndpoint"

    assert hops(scene, "default/web") == [
        ("Service default/web", False, "noLocalEndpoint"),
        ("Service default/web (ExternalIP)", True, None),
        ("peer 192.0.2.254 (BGPPeer/tor-a)", True, None),
    ]


def test_a_service_that_nobody_selects_is_told_from_one_that_does_not_exist(scene):
    scene.originated.pop(VIP)

    assert hops(scene, "default/web") == [("Service default/web", False, "notSelected")]
    assert hops(scene, "default/wbe") == [("Service default/wbe", False, "objectNotFound")]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("ClusterIP", "headlessService"),
        ("ClusterIP", "externalName"),
        ("192.0.2.77", "ipModeProxy"),
        ("192.0.2.77", "noLoadBalancer"),
        ("lb.example", "hostnameOnly"),
    ],
)
def test_a_service_that_has_nothing_to_announce_says_the_true_reason(scene, what, reason):
    scene.originated.pop(VIP)
    scene.services[WEB] = Service(namespace="default", name="web", left_out=((what, reason),))
    (hop,) = explain(scene.status(), "default/web")["hops"]

    assert (hop["place"], hop["ok"], hop["reason"], hop["fix"]) == (str(WEB), False, reason, REMEDIES[reason])
    none = "has no address to announce: " if what == "ClusterIP" else f"{what} is not announced here: "
    assert hop["text"].startswith(none)


def test_an_address_behind_a_proxy_is_found_by_the_address(scene):
    scene.services[WEB] = Service(namespace="default", name="web", left_out=(("192.0.2.77", "ipModeProxy"),))

    assert hops(scene, "192.0.2.77") == [("Service default/web", False, "ipModeProxy")]


@pytest.mark.parametrize("known", [True, False])
def test_a_service_that_cannot_be_read_says_so(scene, known):
    scene.originated.pop(VIP)
    scene.services = scene.services if known else {}
    scene.problems.add(Problem("malformedObject", str(WEB), "spec.clusterIPs[0] = 'x' is no address", "Mend it."))
    view = explain(scene.status(), "default/web")

    assert (view["hops"][0]["reason"], view["hops"][0]["fix"]) == ("malformedObject", "Mend it.")
    assert "objectNotFound" not in {hop["reason"] for hop in view["hops"]}


def test_a_service_whose_name_another_begins_with_is_not_mistaken_for_it(scene):
    assert hops(scene, "default/we") == [("Service default/we", False, "objectNotFound")]


def test_a_peer_that_is_down_says_the_last_error_and_its_problems(scene):
    scene.problems.add(missing_secret())

    assert hops(scene, "BGPPeer/tor-b") == [
        ("peer 2001:db8::fe (BGPPeer/tor-b)", True, None),
        ("BGPPeer tor-b", False, "secretMissing"),
        ("peer 2001:db8::fe (BGPPeer/tor-b)", False, "notEstablished"),
    ]
    assert 'received 6/2 Shutdown Communication: "tea"' in explain(scene.status(), "tor-b")["hops"][-1]["text"]


def test_a_peer_that_is_up_counts_by_family(scene):
    texts = [hop["text"] for hop in explain(scene.status(), "192.0.2.254")["hops"]]

    assert texts[1:] == ["Established, families ipv4", "ipv4: 1 received, 0 accepted, 2 sent"]


def test_a_route_that_waits_for_the_pod_routes_of_others_names_them(scene):
    scene.outbox.want(RouteKey(TOR, VIP), None)
    status = scene.status(awaited=("worker-2", "worker-3", "worker-4", "worker-5"))

    (waiting,) = [hop for hop in explain(status, str(VIP))["hops"] if hop["reason"] == "podRoutesAwaited"]

    whose = "the kernel has the pod routes of worker-2, worker-3, worker-4 and 1 more"
    assert waiting["text"] == f"is told when {whose}, after 30 s at most"
    assert waiting["fix"]


@pytest.mark.parametrize("subject", ["", "nonsense", "a/b/c", "/x", "10.0.0.0/33"])
def test_what_is_no_subject_has_no_answer_or_is_an_unknown_service(scene, subject):
    view = explain(scene.status(), subject)

    assert view is None or view["kind"] == "service"


def test_every_reason_word_for_a_route_has_a_remedy():
    words = said_by(OF_ADDRESSES) | said_by(OF_ROUTES)
    assert {"ownPodCIDR", "noLocalEndpoint", "notAPodCIDR"} <= words

    words |= {"notBest", "notInstalled", "kernelConflict", "kernelRefused"}
    assert (words | {str(reason) for reason in Reason}) - set(REMEDIES) == set()
