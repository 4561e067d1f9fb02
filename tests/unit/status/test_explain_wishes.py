"""Explain, of whole plans: what one advertisement announces and another does not, to whom, and who is told nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from agent.cluster.parse import read_object
from agent.model import Applied, Gone, Key, Kind
from agent.plan.definition import make_plan
from agent.status.explain import explain
from agent.status.status import Status
from bgp.model import Attributes, Family, PathsHeard, PeerState, SessionState, SessionUp
from bgp.model import Path as BgpPath
from bgp.outbox import Outbox
from tests.lab.scenario import Stage, load
from tests.unit.status.scene import NOW, KernelTable

SCENARIOS = Path(__file__).parents[2] / "scenarios"
TOR = ip_address("10.0.0.254")


class Node:
    """The node of a scenario, with all sessions up and everything told."""

    def __init__(self, scenario, own=None):
        found = load(SCENARIOS / f"{scenario}.yaml")
        found = replace(found, node=own or found.node)
        self.stage = Stage(found)
        self.stage.play(found.events)

    def apply(self, kind, name, *, namespace="", **fields):
        meta = {"name": name, **({"namespace": namespace} if namespace else {}), **fields.pop("metadata", {})}
        parsed = read_object(kind, json.dumps({"metadata": meta, **fields}).encode())
        self.stage.world.apply(Applied(parsed.key, parsed.outcome))

    def drop(self, kind, name, namespace=""):
        self.stage.world.apply(Gone(Key(kind, namespace, name)))

    def hear(self, peer, prefix, *as_path):
        path = BgpPath(peer, peer, Attributes(as_path=as_path))
        session = SessionUp(
            peer=peer, router_id=ip_address("9.9.9.9"), peer_asn=65001, hold_seconds=9, families=frozenset(Family)
        )
        self.stage.play([(session, PathsHeard(peer, announced=((path, (ip_network(prefix),)),)))])

    def status(self):
        world, plan, outbox, kernel = self.stage.world, make_plan(self.stage.picture), Outbox(), KernelTable()
        for peer in plan.peers:
            outbox.peer_added(peer)
        for key, route in plan.routes.items():
            outbox.want(key, route)
        while outbox.next_command(NOW) is not None:
            outbox.answered(True, NOW)
        kernel.actual.update(plan.fib)
        own = world.get(Key(Kind.NODE, "", self.stage.picture.node_name))
        return Status(
            node=self.stage.picture.node_name,
            version="1",
            started_at=NOW,
            phase="IN_SYNC",
            picture_complete=True,
            plan=plan,
            peers={peer: PeerState(state=SessionState.ESTABLISHED, since=NOW) for peer in plan.peers},
            rib=self.stage.rib,
            outbox=outbox,
            fib=kernel,
            problems=plan.problems,
            services=world.records(Kind.SERVICE),
            routers=world.records(Kind.PEER),
            advertisements=world.records(Kind.ADVERTISEMENT),
            namespaces=world.records(Kind.NAMESPACE),
            own_labels=dict(own.labels),
        )

    def explained(self, subject):
        return explain(self.status(), subject)

    def noes(self, subject):
        """(place, reason word) of every "no"."""
        return [(hop["place"], hop["reason"]) for hop in self.explained(subject)["hops"] if not hop["ok"]]


def texts(view, place):
    return [hop["text"] for hop in view["hops"] if hop["place"] == place]


# To nobody.


@pytest.mark.parametrize("subject", ["100.67.0.0/16", "100.69.1.2"])
def test_a_prefix_of_which_no_router_is_told_is_not_ok(subject):
    node = Node("selectors-that-select-nothing")

    assert node.noes(subject) == [("node worker-1", "peerSelectorSelectsNothing")]


def test_a_service_of_which_no_router_is_told_is_not_ok_and_says_which_labels_are_wanted():
    node = Node("service-refused-by-one-advertisement")
    node.drop(Kind.ADVERTISEMENT, "together")
    node.drop(Kind.ADVERTISEMENT, "withdrawing")
    node.drop(Kind.PEER, "tor")

    for subject in ("default/cluster", "198.51.100.11"):
        assert node.noes(subject) == [("node worker-1", "peerSelectorSelectsNothing")]
        assert "wants zone=a" in texts(node.explained(subject), "node worker-1")[0]


def test_a_service_on_a_node_without_a_router_says_that_there_is_none():
    node = Node("vip-shared")
    node.drop(Kind.PEER, "tor")

    assert node.noes("default/tcp")[-1] == ("node worker-1", "noPeer")


def test_pods_of_a_cluster_of_one_node_without_routers_are_told_to_nobody_and_that_is_no_no():
    node = Node("vip-shared")
    node.drop(Kind.PEER, "tor")
    view = node.explained("10.244.1.0/24")

    assert view["ok"]
    assert [(hop["reason"], hop["neutral"]) for hop in view["hops"] if hop["reason"]] == [("noPeer", True)]


def test_a_router_with_which_there_must_be_no_session_is_said_to_be_told_nothing():
    node = Node("vip-shared")
    node.apply(Kind.PEER, "tor", spec={"address": "10.0.0.254", "asn": 65001, "shutdown": True})

    assert node.noes("198.51.100.10")[-1] == ("peer 10.0.0.254 (BGPPeer/tor)", "shutdown")


# Not by each advertisement.


@pytest.mark.parametrize("subject", ["default/local", "198.51.100.10"])
def test_a_local_address_is_a_half_hole_for_the_router_of_the_aggregate_around_it(subject):
    node = Node("service-refused-by-one-advertisement")
    view = node.explained(subject)

    assert node.noes(subject) == [("peer 10.0.0.253 (BGPPeer/edge)", "aggregateOfLocal")]
    assert "198.51.100.10/32 sent" in texts(view, "peer 10.0.0.254 (BGPPeer/tor)")[0]
    (text,) = texts(view, "peer 10.0.0.253 (BGPPeer/edge)")
    assert "it is told 198.51.100.0/24 around it, and nodes without an endpoint drop what comes" in text


@pytest.mark.parametrize("subject", ["default/local", "198.51.100.10"])
def test_a_local_address_that_nobody_announces_by_itself_is_a_half_hole_too(subject):
    node = Node("service-refused-by-one-advertisement")
    node.drop(Kind.ADVERTISEMENT, "single")

    assert node.noes(subject) == [
        ("Service default/local", "aggregateOfLocal"),
        ("peer 10.0.0.253 (BGPPeer/edge)", "aggregateOfLocal"),
    ]


def test_an_address_that_one_advertisement_withdraws_is_no_for_its_router_alone():
    node = Node("service-refused-by-one-advertisement")
    node.drop(Kind.ADVERTISEMENT, "together")

    assert node.noes("default/cluster") == [("peer 10.0.0.253 (BGPPeer/edge)", "noEndpoint")]


def test_advertisements_that_say_no_for_different_reasons_are_each_heard():
    node = Node("service-refused-by-one-advertisement")
    node.drop(Kind.ADVERTISEMENT, "single")
    spec = {
        "type": "Service",
        "service": {"addresses": ["LoadBalancerIP"], "whenNoEndpoints": "Withdraw"},
        "peerSelector": {"matchLabels": {"zone": "a"}},
    }
    node.apply(Kind.ADVERTISEMENT, "picky", spec=spec)
    node.apply(
        Kind.SERVICE,
        "local",
        namespace="default",
        spec={"type": "LoadBalancer", "externalTrafficPolicy": "Cluster", "loadBalancerClass": "other"},
        status={"loadBalancer": {"ingress": [{"ip": "198.51.100.10"}]}},
    )
    spec["service"]["loadBalancerClasses"] = ["other"]
    node.drop(Kind.ENDPOINT_SLICE, "local-1", "default")
    node.apply(Kind.ADVERTISEMENT, "picky", spec=spec)

    assert node.noes("default/local") == [
        ("peer 10.0.0.254 (BGPPeer/tor)", "noEndpoint"),
        ("peer 10.0.0.253 (BGPPeer/edge)", "otherLoadBalancerClass"),
    ]


# Shared.


@pytest.mark.parametrize("subject", ["default/local", "198.51.100.10"])
def test_a_local_service_whose_address_another_has_announced_from_here_is_warned(subject):
    node = Node("vip-shared-local-cluster")
    view = node.explained(subject)

    assert ("Service default/local", "sharedWithoutEndpoint") in node.noes(subject)
    assert "198.51.100.10/32 sent" in texts(view, "peer 10.0.0.254 (BGPPeer/tor)")[0]


def test_a_service_that_may_not_have_the_address_that_another_announces_is_told_so():
    node = Node("vip-shared-local-cluster")
    spec = {"clusterIPs": ["10.96.0.10"], "externalIPs": ["198.51.100.10"]}
    node.apply(Kind.SERVICE, "local", namespace="default", spec=spec)
    service = {"addresses": ["LoadBalancerIP", "ExternalIP"]}
    node.apply(Kind.ADVERTISEMENT, "services", spec={"type": "Service", "service": service})

    assert node.noes("default/local") == [("Service default/local", "externalIPNotAllowed")]
    assert node.explained("198.51.100.10")["ok"]


def test_the_services_that_share_it_and_answer_here_are_not():
    node = Node("vip-shared-local-cluster")
    node.drop(Kind.SERVICE, "local", "default")

    assert node.explained("default/here")["ok"]
    assert node.explained("198.51.100.10")["ok"]


# Not at all.


def test_a_load_balancer_without_an_address_yet_says_so():
    node = Node("service-no-address-yet")
    node.drop(Kind.ADVERTISEMENT, "cluster")
    spec = {"type": "Service", "service": {"addresses": ["LoadBalancerIP"]}}
    node.apply(Kind.ADVERTISEMENT, "services", spec=spec)

    assert node.noes("default/web") == [("Service default/web", "noAddressYet")]


def test_what_nobody_asks_for_is_no_no_while_the_rest_is_announced():
    assert Node("service-no-address-yet").explained("default/inside")["ok"]


def service_of(node, reason):
    spec = {"type": "Service", "service": {"addresses": ["LoadBalancerIP"]}}
    match reason:
        case "nodeNotSelected":
            spec["nodeSelector"] = {"matchLabels": {"rack": "z"}}
        case "noAddressOfClass":
            spec["service"] = {"addresses": ["ExternalIP"]}
        case "notRequested":
            spec["service"] = {"addresses": [], "onRequest": ["LoadBalancerIP"]}
        case "notSelected":
            spec["service"]["selector"] = {"matchLabels": {"app": "other"}}
    node.apply(Kind.ADVERTISEMENT, "services", spec=spec)


@pytest.mark.parametrize("reason", ["nodeNotSelected", "noAddressOfClass", "notRequested", "notSelected"])
@pytest.mark.parametrize("subject", ["default/tcp", "198.51.100.10"])
def test_a_service_that_nobody_announces_says_which_object_leaves_it_out(subject, reason):
    node = Node("vip-shared")
    node.drop(Kind.SERVICE, "udp", "default")
    service_of(node, reason)
    (no,) = (hop for hop in node.explained(subject)["hops"] if not hop["ok"])

    assert no["reason"] == reason
    assert no["fix"]
    if reason == "nodeNotSelected":
        assert no["place"] == "BGPAdvertisement services"
        assert no["text"].endswith("it wants rack=z, and the node has no label rack")


def test_an_address_of_a_class_that_is_announced_by_other_nodes_only_names_the_selector_and_not_what_is_announced():
    node = Node("vip-shared")
    node.drop(Kind.SERVICE, "udp", "default")
    node.apply(Kind.ADVERTISEMENT, "cluster", spec={"type": "Service", "service": {"addresses": ["ClusterIP"]}})
    service_of(node, "nodeNotSelected")

    assert node.noes("198.51.100.10") == [("BGPAdvertisement services", "nodeNotSelected")]
    assert node.explained("10.96.0.10")["ok"]


def test_an_address_of_a_class_that_nobody_announces_says_its_class():
    node = Node("vip-shared")
    node.drop(Kind.SERVICE, "udp", "default")
    node.apply(
        Kind.ADVERTISEMENT, "services", spec={"type": "Service", "service": {"addresses": ["ClusterIP", "ExternalIP"]}}
    )
    (no,) = node.explained("198.51.100.10")["hops"]

    assert no["reason"] == "noAddressOfClass"
    assert no["text"] == (
        "198.51.100.10 (LoadBalancerIP) is not announced for it here: "
        "BGPAdvertisement services announces ClusterIP and ExternalIP of it only"
    )


def said_of(node, service):
    """(what is said of its addresses, whether it is no "no"), by their own Service and by what leaves them out."""
    places = {f"Service {service}", "BGPAdvertisement services"}
    return [(hop["text"], hop["neutral"]) for hop in node.explained(service)["hops"] if hop["place"] in places]


def service_with_all(node, **fields):
    spec = {"clusterIPs": ["10.96.0.10"], "externalIPs": ["198.51.100.20", "198.51.100.21"]}
    status = {"loadBalancer": {"ingress": [{"ip": "198.51.100.10"}]}}
    spec["type"] = "LoadBalancer"
    node.drop(Kind.SERVICE, "udp", "default")
    node.apply(Kind.SERVICE, "tcp", namespace="default", spec=spec, status=status, **fields)


def test_each_address_of_a_service_that_nobody_asks_for_is_listed_beside_those_that_are_announced():
    node = Node("vip-shared")
    service_with_all(node)

    ((text, neutral),) = said_of(node, "default/tcp")
    assert text == (
        "10.96.0.10 (ClusterIP), 198.51.100.20 (ExternalIP) and 198.51.100.21 (ExternalIP) are not announced for it "
        "here: BGPAdvertisement services announces LoadBalancerIP of it only"
    )
    assert neutral
    assert node.explained("default/tcp")["ok"]


def test_each_address_of_a_service_that_is_announced_elsewhere_names_who_does_not_announce_it_here():
    node = Node("vip-shared")
    service_with_all(node)
    service_of(node, "nodeNotSelected")

    elsewhere, unnamed = said_of(node, "default/tcp")
    assert elsewhere[0].startswith(
        "does not announce 198.51.100.10 (LoadBalancerIP) here: its spec.nodeSelector does not"
    )
    assert not elsewhere[1]
    assert unnamed[0].startswith(
        "10.96.0.10 (ClusterIP), 198.51.100.20 (ExternalIP) and 198.51.100.21 (ExternalIP) are "
    )
    assert unnamed[1]
    assert node.noes("default/tcp") == [("BGPAdvertisement services", "nodeNotSelected")]


@pytest.mark.parametrize(("reason", "number"), [("noAddressOfClass", 2), ("notRequested", 4), ("notSelected", 4)])
def test_a_service_of_which_nothing_is_announced_lists_its_addresses(reason, number):
    node = Node("vip-shared")
    service_with_all(node)
    service_of(node, reason)
    (no,) = [hop for hop in node.explained("default/tcp")["hops"] if hop["reason"] == reason]

    assert no["text"].count("IP) ") + no["text"].count("IP), ") == number
    assert "are not announced for it here: " in no["text"]


def test_an_address_that_is_asked_for_and_not_planned_yet_is_about_to_be_announced():
    node = Node("vip-shared")
    service_with_all(node)
    status = node.status()
    plan = replace(status.plan, originated={}, not_advertised={})
    hops = explain(replace(status, plan=plan), "default/tcp")["hops"]

    assert [hop["text"] for hop in hops if hop["reason"] == "pending"] == [
        "198.51.100.10 (LoadBalancerIP) is about to be announced"
    ]


# Of the node: static prefixes, aggregates and pod CIDRs.


@pytest.mark.parametrize("subject", ["203.0.113.0/24", "203.0.113.7", "10.244.1.0/24", "10.96.0.0/24", "fd02::/64"])
def test_what_a_drained_node_does_not_announce_has_the_word_that_the_services_have(subject):
    node = Node("node-drained-dual")
    node.hear(TOR, "0.0.0.0/0", 65001)

    assert {reason for _, reason in node.noes(subject)} == {"nodeDrained"}


def test_a_node_with_a_taint_of_those_that_go_says_so_of_its_static_prefixes_and_announces_its_pods():
    node = Node("node-draining")
    node.apply(Kind.ADVERTISEMENT, "static", spec={"type": "Prefix", "prefixes": ["203.0.113.0/24"]})
    node.hear(TOR, "203.0.113.0/24", 65001, 64512)

    assert node.noes("203.0.113.0/24") == [("node worker-1", "nodeDraining")]
    (text,) = texts(node.explained("203.0.113.0/24"), "peer 10.0.0.254 (BGPPeer/tor)")
    assert text.endswith("another node's route coming back")
    assert node.explained("10.244.1.0/24")["ok"]


def test_a_static_prefix_for_other_nodes_is_explained_by_the_selector():
    node = Node("vip-shared")
    spec = {"type": "Prefix", "prefixes": ["203.0.113.0/24"], "nodeSelector": {"matchLabels": {"rack": "z"}}}
    node.apply(Kind.ADVERTISEMENT, "static", spec=spec)

    for subject in ("203.0.113.0/24", "203.0.113.7"):
        assert node.noes(subject) == [("BGPAdvertisement static", "nodeNotSelected")]


def test_a_static_prefix_for_other_nodes_that_is_installed_here_is_no_no():
    node = Node("vip-shared")
    spec = {"type": "Prefix", "prefixes": ["203.0.113.0/24"], "nodeSelector": {"matchLabels": {"rack": "z"}}}
    node.apply(Kind.ADVERTISEMENT, "static", spec=spec)
    allowed = {"allowed": [{"prefix": "203.0.113.0/24"}]}
    node.apply(Kind.PEER, "tor", spec={"address": "10.0.0.254", "asn": 65001, "import": allowed})
    node.hear(TOR, "203.0.113.0/24", 65001)

    assert node.explained("203.0.113.0/24")["ok"]


def test_own_pod_cidrs_that_another_cni_carries_say_so():
    node = Node("vip-shared")
    node.apply(Kind.INSTANCE, "main", spec={"podRoutes": "Off"})

    assert node.noes("10.244.1.0/24") == [("node worker-1", "podRoutesOff")]


def test_another_nodes_route_for_the_address_that_comes_back_is_no_reason():
    node = Node("vip-shared")
    service_of(node, "notSelected")
    node.hear(TOR, "198.51.100.10/32", 65001, 64512)

    assert {reason for _, reason in node.noes("198.51.100.10")} == {"notSelected"}
    (text,) = texts(node.explained("198.51.100.10"), "peer 10.0.0.254 (BGPPeer/tor)")
    assert text.endswith("another node's route coming back")


def test_an_address_of_a_service_is_not_explained_by_the_default_route_around_it():
    node = Node("vip-shared")
    service_of(node, "notSelected")
    node.hear(TOR, "0.0.0.0/0", 65001)

    assert {reason for _, reason in node.noes("198.51.100.10")} == {"notSelected"}


# Words.


def test_a_service_address_that_is_never_routed_is_not_said_to_be_announced_first():
    node = Node("service-martian-address-dual")

    assert node.noes("127.0.0.5") == [("Service default/web", "martianPrefix")]
    (hop,) = node.explained("127.0.0.5")["hops"]
    assert "Take another address" in hop["fix"]


def test_a_word_means_one_thing_outward_and_another_inward():
    outward = Node("load-balancer-ip-in-service-range").status()
    (address,) = {what for (_, what), why in outward.plan.not_advertised.items() if why == "serviceRange"}
    (out, *_) = explain(outward, address)["hops"]
    assert "ClusterIP of another Service" in out["text"]
    assert "Take another address" in out["fix"]

    node = Node("vip-shared")
    node.apply(Kind.SERVICE_CIDR, "kubernetes", spec={"cidrs": ["10.96.0.0/16"]})
    node.hear(TOR, "10.96.0.0/16", 65001)
    node.hear(TOR, "0.0.0.0/0", 65001)
    (inward,) = node.explained("10.96.0.0/16")["hops"]
    assert inward["reason"] == "serviceRange"
    assert "kube-proxy answers" in inward["text"]
    assert "Stop the peer" in inward["fix"]
    (default,) = node.explained("0.0.0.0/0")["hops"]
    assert default["reason"] == "defaultRoute"
    assert "never announced" not in default["text"]
    assert "import.allowed" in default["text"]


@pytest.mark.parametrize("prefix", ["203.0.113.0/24", "10.244.1.128/25", "10.0.0.0/24"])
def test_why_a_path_is_not_admitted_is_said_in_words(prefix):
    node = Node("vip-shared")
    node.hear(TOR, prefix, 65001)
    (hop,) = (hop for hop in node.explained(prefix)["hops"] if hop["place"].startswith("peer") and hop["reason"])

    assert hop["reason"] not in hop["text"]


def test_a_path_that_the_limit_of_equal_paths_leaves_out_is_not_said_to_be_worse():
    node = Node("import-maximum-paths")
    status = node.status()
    cut = [
        hop
        for prefix in status.rib.prefixes()
        for hop in explain(status, str(prefix))["hops"]
        if hop["reason"] == "maximumPathsReached"
    ]

    assert cut
    assert all("as good as" in hop["text"] and hop["neutral"] for hop in cut)


# Two Nodes with one pod CIDR.


def test_a_pod_cidr_that_another_node_has_is_a_no_on_the_node_that_does_not_get_it_with_who_has_it_and_what_to_do():
    node = Node("pod-cidr-conflict-own")

    for subject in ("10.244.2.128/25", "10.244.2.200"):
        view = node.explained(subject)
        assert node.noes(subject)[0] == ("Node worker-1", "podCIDRConflict")
        assert "overlaps one of Node worker-2, which is older and keeps it" in view["hops"][0]["text"]
        assert view["hops"][0]["fix"].startswith("Delete Node worker-1")


def test_a_pod_cidr_in_dispute_is_in_use_on_other_nodes_and_they_say_all_of_it_too():
    view = Node("pod-cidr-conflict").explained("10.244.2.0/24")

    assert view["ok"]
    (hop,) = (hop for hop in view["hops"] if hop["reason"] == "podCIDRConflict")
    assert (hop["place"], hop["neutral"]) == ("Node worker-9", True)
    assert "one of Node worker-2, which is older and keeps it. Delete Node worker-9" in hop["text"]
    assert view["hops"][-1]["text"] == "10.244.2.0/24 via 10.0.0.2 installed"


def test_the_node_that_keeps_a_pod_cidr_says_who_wants_a_part_of_it():
    node = Node("pod-cidr-conflict-own", own="worker-2")

    assert [(hop["place"], hop["neutral"]) for hop in node.explained("10.244.2.0/24")["hops"][:1]] == [
        ("Node worker-1", True)
    ]


def test_of_nodes_of_one_age_the_name_says_who_keeps_a_pod_cidr():
    node = Node("pod-cidr-conflict")
    node.apply(
        Kind.NODE,
        "worker-9",
        metadata={"creationTimestamp": "2026-01-01T00:00:00Z"},
        spec={"podCIDRs": ["10.244.2.0/24"]},
        status={"addresses": [{"type": "InternalIP", "address": "10.0.0.9"}]},
    )

    text = texts(node.explained("10.244.2.0/24"), "Node worker-9")[0]
    assert "one of Node worker-2, which is of the same age, comes first by name and keeps it" in text


# A load balancer no more.


@pytest.mark.parametrize("subject", ["default/node-port", "198.51.100.2", "2001:db8::2"])
def test_an_address_that_is_left_over_of_a_load_balancer_says_so(subject):
    node = Node("service-no-load-balancer")

    assert set(node.noes(subject)) == {("Service default/node-port", "noLoadBalancer")}
    assert "left over" in node.explained(subject)["hops"][0]["text"]
