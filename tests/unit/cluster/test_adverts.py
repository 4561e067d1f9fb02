"""BGPAdvertisement and what of BGPInstance goes with it as records, and each mistake as a Problem: field, value, fix.

Also the annotation by which a Service asks to be announced.
"""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

import pytest

from agent.advertising import (
    Advertisement,
    AdvertisementType,
    ServiceAddress,
    ServiceChoice,
    Terms,
    ToPeers,
    WhenNoEndpoints,
)
from agent.cluster.adverts import WELL_KNOWN, read_request
from agent.cluster.fields import FieldError
from agent.cluster.parse import read_object
from agent.intent import DRAIN_TAINTS, Damping, Instance, Selector
from agent.model import Kind, Problem, Record, UnreadPodCidrs
from bgp.model import Community, Family, LargeCommunity

RACK_7 = {"matchLabels": {"rack": "7"}}
IN_RACK_7 = Selector(labels=(("rack", "7"),))


def read(kind: Kind, spec: Any) -> Record | Problem:
    return read_object(kind, json.dumps({"metadata": {"name": "x"}, "spec": spec}).encode()).outcome


def says(**attributes: Any) -> dict[str, Any]:
    return {"type": "PodCIDR", "attributes": attributes}


def service(**choice: Any) -> dict[str, Any]:
    return {"type": "Service", "service": {"addresses": ["ClusterIP"], **choice}}


def prefixes(*listed: Any) -> dict[str, Any]:
    return {"type": "Prefix", "prefixes": list(listed)}


def test_an_advertisement_of_services_in_full() -> None:
    spec = {
        "type": "Service",
        "nodeSelector": RACK_7,
        "peerSelector": RACK_7,
        "attributes": {
            "communities": ["65000:120", "no-export", "65535:65281"],
            "largeCommunities": ["4294967295:1:20"],
            "localPreference": 0,
            "med": 4294967295,
            "prepend": 10,
        },
        "service": {
            "addresses": ["ExternalIP"],
            "onRequest": ["ClusterIP", "LoadBalancerIP"],
            "selector": RACK_7,
            "namespaceSelector": RACK_7,
            "loadBalancerClasses": ["metallb.io/metallb"],
            "whenNoEndpoints": "Withdraw",
            "aggregation": {"ipv4": 24, "ipv6": 64},
        },
    }

    assert read(Kind.ADVERTISEMENT, spec) == Advertisement(
        name="x",
        type=AdvertisementType.SERVICE,
        node_selector=IN_RACK_7,
        to_peers=ToPeers(
            IN_RACK_7,
            Terms(
                communities=frozenset({Community(65000, 120), Community(65535, 65281)}),
                large_communities=frozenset({LargeCommunity(4294967295, 1, 20)}),
                local_pref=0,
                med=4294967295,
                prepend=10,
            ),
        ),
        service=ServiceChoice(
            addresses=frozenset({ServiceAddress.EXTERNAL_IP}),
            on_request=frozenset({ServiceAddress.CLUSTER_IP, ServiceAddress.LOAD_BALANCER_IP}),
            selector=IN_RACK_7,
            namespace_selector=IN_RACK_7,
            load_balancer_classes=frozenset({"metallb.io/metallb"}),
            when_no_endpoints=WhenNoEndpoints.WITHDRAW,
            aggregation=((Family.IPV4, 24), (Family.IPV6, 64)),
        ),
    )


def test_an_advertisement_of_prefixes() -> None:
    found = read(Kind.ADVERTISEMENT, prefixes("192.0.2.0/24", "2001:db8::/32"))

    wanted = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert found == Advertisement(name="x", type=AdvertisementType.PREFIX, prefixes=wanted)


def test_one_of_pod_cidrs_that_cannot_be_read_says_that_it_is_of_pod_cidrs() -> None:
    of_services = service(addresses=["ClusterIP"]) | {"attributes": {"med": "x"}}

    assert isinstance(read(Kind.ADVERTISEMENT, says(med="x")), UnreadPodCidrs)
    assert type(read(Kind.ADVERTISEMENT, of_services)) is Problem
    assert type(read(Kind.ADVERTISEMENT, ["no object"])) is Problem


@pytest.mark.parametrize("name", WELL_KNOWN)
def test_a_well_known_community_is_the_same_by_name_and_by_number(name: str) -> None:
    number = f"{WELL_KNOWN[name].asn}:{WELL_KNOWN[name].value}"

    assert read(Kind.ADVERTISEMENT, says(communities=[name])) == read(Kind.ADVERTISEMENT, says(communities=[number]))


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"damping": {}}, Instance(name="x")),
        (
            {"damping": {"withdrawMilliseconds": 0}},
            Instance(name="x", damping=Damping(withdraw_seconds=0.0, announce_seconds=0.0)),
        ),
        (
            {"damping": {"announceMilliseconds": 250}},
            Instance(name="x", damping=Damping(withdraw_seconds=0.5, announce_seconds=0.25)),
        ),
        ({"drain": {}}, Instance(name="x", drain_on_taints=DRAIN_TAINTS)),
        ({"drain": {"onTaints": []}}, Instance(name="x", drain_on_taints=())),
        ({"drain": {"onTaints": ["a/b", "c"]}}, Instance(name="x", drain_on_taints=("a/b", "c"))),
        ({"maximumPaths": 1}, Instance(name="x", maximum_paths=1)),
    ],
)
def test_damping_drain_and_paths_of_an_instance(spec: Any, wanted: Instance) -> None:
    assert read(Kind.INSTANCE, spec) == wanted


COMMUNITIES = 'write two numbers up to 65535, such as "65000:120", or one of graceful-shutdown, '
LARGE = 'write three numbers up to 4294967295, such as "4200000001:1:20"'
CLASSES = "ClusterIP, ExternalIP, LoadBalancerIP"

BAD: list[tuple[Kind, Any, str, str]] = [
    (Kind.ADVERTISEMENT, says(communities=["70000:1"]), "communities[0] = '70000:1' is no community", COMMUNITIES),
    (Kind.ADVERTISEMENT, says(communities=["1:1", "1:70000"]), "communities[1] = '1:70000' is no", COMMUNITIES),
    (Kind.ADVERTISEMENT, says(communities=["65000"]), "communities[0] = '65000' is no community", COMMUNITIES),
    (Kind.ADVERTISEMENT, says(communities=["no-exprot"]), "communities[0] = 'no-exprot' is no", "no-export, "),
    (Kind.ADVERTISEMENT, says(communities=["1:\u0661"]), "communities[0] = '1:\u0661' is no community", COMMUNITIES),
    (Kind.ADVERTISEMENT, says(communities=["1:2\n"]), r"communities[0] = '1:2\n' is no community", COMMUNITIES),
    (Kind.ADVERTISEMENT, says(communities=[65000]), "spec.attributes.communities[0] = 65000 is not a text", "text"),
    (Kind.ADVERTISEMENT, says(communities="no-export"), "communities = 'no-export' is not a list", "make it a list"),
    (Kind.ADVERTISEMENT, says(communities=[f"1:{n}" for n in range(33)]), "has more than 32 entries", "with fewer"),
    (Kind.ADVERTISEMENT, says(largeCommunities=["1:2"]), "largeCommunities[0] = '1:2' is no large community", LARGE),
    (Kind.ADVERTISEMENT, says(largeCommunities=["1:2:4294967296"]), "'1:2:4294967296' is no large", LARGE),
    (Kind.ADVERTISEMENT, says(prepend=11), "spec.attributes.prepend = 11 is not a number in range", "from 0 to 10"),
    (Kind.ADVERTISEMENT, says(med=-1), "spec.attributes.med = -1 is not a number", "from 0 to 4294967295"),
    (Kind.ADVERTISEMENT, says(localPreference=2**32), "localPreference = 4294967296 is not", "from 0 to 4294967295"),
    (Kind.ADVERTISEMENT, {"type": "Prefix"}, "spec.prefixes is missing", "at least one, such as 192.0.2.0/24"),
    (Kind.ADVERTISEMENT, prefixes(), "spec.prefixes = [] names no prefix", "at least one, such as 192.0.2.0/24"),
    (
        Kind.ADVERTISEMENT,
        {**service(), "prefixes": ["192.0.2.0/24"]},
        "spec.prefixes = ['192.0.2.0/24'] has no meaning with type Service",
        "set type to Prefix",
    ),
    (Kind.ADVERTISEMENT, prefixes("192.0.2.1/24"), "[0] = '192.0.2.1/24' has bits", "did you mean 192.0.2.0/24?"),
    (Kind.ADVERTISEMENT, prefixes("192.0.2.1"), "spec.prefixes[0] = '192.0.2.1' is not a prefix", "a length"),
    (Kind.ADVERTISEMENT, prefixes("0.0.0.0/0"), "[0] = '0.0.0.0/0' is the default route", "lies behind the nodes"),
    (Kind.ADVERTISEMENT, prefixes("10.0.0.0/8", "::/0"), "[1] = '::/0' is the default route", "behind the nodes"),
    (Kind.ADVERTISEMENT, {"type": "Service", "service": {}}, "spec.service.addresses is missing", CLASSES),
    (Kind.ADVERTISEMENT, service(addresses=[], onRequest=[]), "addresses = [] names no class", CLASSES),
    (Kind.ADVERTISEMENT, service(onRequest=["PodIP"]), "spec.service.onRequest[0] = 'PodIP' is not known", CLASSES),
    (Kind.ADVERTISEMENT, service(whenNoEndpoints="Drop"), "whenNoEndpoints = 'Drop' is not known", "Keep, Withdraw"),
    (Kind.ADVERTISEMENT, service(aggregation={"ipv4": 7}), "spec.service.aggregation.ipv4 = 7 is not", "8 to 31"),
    (Kind.ADVERTISEMENT, service(aggregation={"ipv4": 32}), "spec.service.aggregation.ipv4 = 32 is not", "8 to 31"),
    (Kind.ADVERTISEMENT, service(aggregation={"ipv6": 15}), "spec.service.aggregation.ipv6 = 15 is not", "16 to 127"),
    (Kind.ADVERTISEMENT, service(aggregation={"ipv6": 128}), "aggregation.ipv6 = 128 is not", "16 to 127"),
    (Kind.ADVERTISEMENT, service(aggregation=24), "spec.service.aggregation = 24 is not an object", "such as `ipv4`"),
    (Kind.ADVERTISEMENT, service(loadBalancerClasses=[""]), "loadBalancerClasses[0] = '' is not a text", "not empty"),
    (Kind.INSTANCE, {"drain": {"onTaints": ["no good"]}}, "spec.drain.onTaints[0] = 'no good' is no key", "as on the"),
    (Kind.INSTANCE, {"drain": {"onTaints": ["reboot:NoExecute"]}}, "'reboot:NoExecute' is no key of a taint", "Node"),
    (Kind.INSTANCE, {"drain": {"onTaints": "reboot"}}, "spec.drain.onTaints = 'reboot' is not a list", "a list"),
    (Kind.INSTANCE, {"damping": {"withdrawMilliseconds": 60001}}, "withdrawMilliseconds = 60001 is not", "0 to 60000"),
    (Kind.INSTANCE, {"damping": {"announceMilliseconds": "1s"}}, "announceMilliseconds = '1s' is not", "0 to 60000"),
    (Kind.INSTANCE, {"maximumPaths": 65}, "spec.maximumPaths = 65 is not a number in range", "from 1 to 64"),
    (Kind.INSTANCE, {"maximumPaths": 0}, "spec.maximumPaths = 0 is not a number in range", "from 1 to 64"),
]


@pytest.mark.parametrize(("kind", "spec", "message", "fix"), BAD, ids=lambda part: str(part)[:60])
def test_nonsense_is_a_problem_that_says_field_value_and_fix(kind: Kind, spec: Any, message: str, fix: str) -> None:
    problem = read(kind, spec)

    assert isinstance(problem, Problem)
    assert (problem.reason, problem.subject) == ("malformedObject", f"{kind} x")
    assert message in problem.message
    assert fix in problem.fix


CLUSTER, EXTERNAL, BALANCED = ServiceAddress


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        (None, None),
        ("true", {CLUSTER, EXTERNAL, BALANCED}),
        ("false", set()),
        ("ClusterIP", {CLUSTER}),
        ("ClusterIP,LoadBalancerIP", {CLUSTER, BALANCED}),
        (" LoadBalancerIP , ExternalIP ", {EXTERNAL, BALANCED}),
        ("ExternalIP,ExternalIP", {EXTERNAL}),
    ],
)
def test_a_service_asks_by_annotation_for_all_none_or_some_of_its_addresses(text: str | None, asked: Any) -> None:
    assert read_request(text) == asked


@pytest.mark.parametrize(
    "text", ["", "yes", "True", "clusterip", "ClusterIP;ExternalIP", "ClusterIP,", "true,ClusterIP"]
)
def test_an_annotation_that_is_not_known_says_what_may_stand_there(text: str) -> None:
    with pytest.raises(FieldError) as refused:
        read_request(text)

    assert refused.value.what == f"metadata.annotations[bgpilot.io/advertise] = {text!r} is not known"
    assert refused.value.fix == (
        'set it to "true", "false", or some of ClusterIP, ExternalIP, LoadBalancerIP, with commas between'
    )
