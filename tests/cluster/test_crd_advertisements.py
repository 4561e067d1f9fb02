"""What is announced, on a real API server: BGPAdvertisement in full, and BGPInstance's drain, damping and paths.

Rules are tried at both doors: what the schema refuses, the agent refuses too when there is no schema, and what it takes
the agent can read.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from agent.model import Problem
from tests.lab.controlplane import ControlPlane
from tests.lab.customresources import ADVERTISEMENT, INSTANCE, body, created, read, refusal, sample
from tests.lab.kubeapi import KubeApi

pytestmark = pytest.mark.cluster


def says(**attributes: Any) -> dict[str, Any]:
    return {"type": "PodCIDR", "attributes": attributes}


def service(**choice: Any) -> dict[str, Any]:
    return {"type": "Service", "service": {"addresses": ["LoadBalancerIP"], **choice}}


def prefixes(*listed: str) -> dict[str, Any]:
    return {"type": "Prefix", "prefixes": list(listed)}


RACK_7 = {"matchLabels": {"rack": "7"}}
WELL_KNOWN = ["graceful-shutdown", "accept-own", "blackhole", "no-export", "no-advertise", "no-peer"]

GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "all attributes": (
        ADVERTISEMENT,
        says(
            communities=["65000:120", "0:0", "65535:65535", "no-export-subconfed"],
            largeCommunities=["4294967295:0:4294967295"],
            localPreference=4294967295,
            med=0,
            prepend=10,
        ),
    ),
    "well-known communities": (ADVERTISEMENT, says(communities=WELL_KNOWN)),
    "as many communities as may be": (
        ADVERTISEMENT,
        says(communities=[f"65000:{n}" for n in range(32)], largeCommunities=[f"1:2:{n}" for n in range(32)]),
    ),
    "attributes of nothing": (ADVERTISEMENT, says()),
    "selected nodes and peers": (ADVERTISEMENT, {"type": "PodCIDR", "nodeSelector": RACK_7, "peerSelector": RACK_7}),
    "static prefixes": (ADVERTISEMENT, prefixes("192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32", "fd00::/128")),
    "as many prefixes as may be": (ADVERTISEMENT, prefixes(*(f"198.51.{n}.0/24" for n in range(64)))),
    "all of a service": (
        ADVERTISEMENT,
        service(
            onRequest=["ClusterIP", "ExternalIP", "LoadBalancerIP"],
            selector=RACK_7,
            namespaceSelector=RACK_7,
            loadBalancerClasses=["metallb.io/metallb"],
            whenNoEndpoints="Withdraw",
            aggregation={"ipv4": 24, "ipv6": 64},
        ),
    ),
    "only on request": (ADVERTISEMENT, {"type": "Service", "service": {"onRequest": ["LoadBalancerIP"]}}),
    "shortest aggregates": (ADVERTISEMENT, service(aggregation={"ipv4": 8, "ipv6": 16})),
    "longest aggregates": (ADVERTISEMENT, service(aggregation={"ipv4": 31, "ipv6": 127})),
    "an aggregate of one family": (ADVERTISEMENT, service(aggregation={"ipv6": 64})),
    "no damping": (INSTANCE, {"damping": {"withdrawMilliseconds": 0, "announceMilliseconds": 0}}),
    "long damping": (INSTANCE, {"damping": {"withdrawMilliseconds": 60000, "announceMilliseconds": 60000}}),
    "damping half said": (INSTANCE, {"damping": {"announceMilliseconds": 250}}),
    "no multipath": (INSTANCE, {"maximumPaths": 1}),
    "wide multipath": (INSTANCE, {"maximumPaths": 64}),
    "no drain": (INSTANCE, {"drain": {"onTaints": []}}),
    "drain on our own taint": (INSTANCE, {"drain": {"onTaints": ["example.com/maintenance", "reboot"]}}),
    "drain as usual": (INSTANCE, {"drain": {}}),
}


@pytest.mark.parametrize(("plural", "spec"), GOOD.values(), ids=GOOD)
def test_what_makes_sense_is_taken_and_read(crds_api: KubeApi, plural: str, spec: Any) -> None:
    made = created(crds_api, plural, spec)

    assert spec.keys() <= made.keys()
    assert not isinstance(read(plural, made), Problem)
    assert read(plural, made) == read(plural, spec), "what the schema fills in is what the agent takes for granted"


FILLED_IN: list[tuple[str, dict[str, Any], tuple[str, ...], Any]] = [
    (ADVERTISEMENT, service(), ("service", "whenNoEndpoints"), "Keep"),
    (INSTANCE, {"damping": {}}, ("damping",), {"withdrawMilliseconds": 500, "announceMilliseconds": 0}),
    (INSTANCE, {}, ("maximumPaths",), 16),
    (
        INSTANCE,
        {"drain": {}},
        ("drain", "onTaints"),
        [
            "ToBeDeletedByClusterAutoscaler",
            "node.cloudprovider.kubernetes.io/shutdown",
            "node.kubernetes.io/out-of-service",
        ],
    ),
]


@pytest.mark.parametrize(("plural", "spec", "where", "value"), FILLED_IN, ids=lambda part: json.dumps(part)[:60])
def test_what_is_left_out_comes_back_with_its_default(
    crds_api: KubeApi, plural: str, spec: Any, where: tuple[str, ...], value: Any
) -> None:
    found = created(crds_api, plural, spec)
    for name in where:
        found = found[name]

    assert found == value


NO_COMMUNITY = 'is no community: write two numbers up to 65535, such as "65000:120", or a well-known name such as no-ex'
NO_LARGE = 'is no large community: write three numbers up to 4294967295, such as "4200000001:1:20"'
NO_PREFIX = "must be an IPv4 or IPv6 prefix with its length, such as 192.0.2.0/24 or 2001:db8::/64"
HOST_BITS = "is not in canonical form: zero the bits after its length and shorten IPv6"
DEFAULT_ROUTE = "is the default route, which no node announces: list what lies behind the nodes"
NO_PREFIXES = "type Prefix needs `prefixes`: list at least one, for example prefixes: [192.0.2.0/24]"
PREFIXES_ELSEWHERE = "`prefixes` has a meaning with type Prefix only: remove it, or set type: Prefix"
NO_ADDRESS = "names no address, so nothing would be announced: add ClusterIP, ExternalIP or LoadBalancerIP"
SERVICE_ELSEWHERE = "`service` has a meaning with type Service only: remove it, or set type: Service"
NO_TAINT = "is no key of a taint: write it as on the Node, such as example.com/maintenance"
CLASSES = 'supported values: "ClusterIP", "ExternalIP", "LoadBalancerIP"'

BAD: list[tuple[str, dict[str, Any], str, str]] = [
    (ADVERTISEMENT, says(communities=["70000:1"]), "spec.attributes.communities[0]", NO_COMMUNITY),
    (ADVERTISEMENT, says(communities=["65000:1", "1:70000"]), "spec.attributes.communities[1]", NO_COMMUNITY),
    (ADVERTISEMENT, says(communities=["65000"]), "spec.attributes.communities[0]", NO_COMMUNITY),
    (ADVERTISEMENT, says(communities=["65000:1:2"]), "spec.attributes.communities[0]", NO_COMMUNITY),
    (ADVERTISEMENT, says(communities=["no-exprot"]), "spec.attributes.communities[0]", NO_COMMUNITY),
    (ADVERTISEMENT, says(communities=["-1:1"]), "spec.attributes.communities[0]", NO_COMMUNITY),
    (ADVERTISEMENT, says(communities=[""]), "spec.attributes.communities[0]", NO_COMMUNITY),
    (ADVERTISEMENT, says(communities=["65000:1\n"]), "spec.attributes.communities[0]", NO_COMMUNITY),
    (ADVERTISEMENT, says(communities=[6500012]), "spec.attributes.communities[0]", "must be of type string"),
    (ADVERTISEMENT, says(communities=[f"1:{n}" for n in range(33)]), "spec.attributes.communities", "at most 32"),
    (ADVERTISEMENT, says(largeCommunities=["1:2"]), "spec.attributes.largeCommunities[0]", NO_LARGE),
    (ADVERTISEMENT, says(largeCommunities=["4294967296:1:2"]), "spec.attributes.largeCommunities[0]", NO_LARGE),
    (ADVERTISEMENT, says(largeCommunities=["1:2:3:4"]), "spec.attributes.largeCommunities[0]", NO_LARGE),
    (ADVERTISEMENT, says(largeCommunities=["no-export"]), "spec.attributes.largeCommunities[0]", NO_LARGE),
    (ADVERTISEMENT, says(largeCommunities=[f"1:1:{n}" for n in range(33)]), "largeCommunities", "at most 32"),
    (ADVERTISEMENT, says(prepend=11), "spec.attributes.prepend", "should be less than or equal to 10"),
    (ADVERTISEMENT, says(prepend=-1), "spec.attributes.prepend", "should be greater than or equal to 0"),
    (ADVERTISEMENT, says(prepend=1.5), "spec.attributes.prepend", "must be of type integer"),
    (ADVERTISEMENT, says(med=-1), "spec.attributes.med", "should be greater than or equal to 0"),
    (ADVERTISEMENT, says(med=4294967296), "spec.attributes.med", "should be less than or equal to 4294967295"),
    (ADVERTISEMENT, says(localPreference=-1), "spec.attributes.localPreference", "greater than or equal to 0"),
    (ADVERTISEMENT, says(localPreference="200"), "spec.attributes.localPreference", "must be of type integer"),
    (ADVERTISEMENT, {"type": "Prefix"}, "spec", NO_PREFIXES),
    (ADVERTISEMENT, prefixes(), "spec", NO_PREFIXES),
    (ADVERTISEMENT, {**service(), "prefixes": ["192.0.2.0/24"]}, "spec", PREFIXES_ELSEWHERE),
    (ADVERTISEMENT, {"type": "PodCIDR", "prefixes": ["192.0.2.0/24"]}, "spec", PREFIXES_ELSEWHERE),
    (ADVERTISEMENT, {**service(), **prefixes("192.0.2.0/24")}, "spec", SERVICE_ELSEWHERE),
    (ADVERTISEMENT, prefixes("192.0.2.1"), "spec.prefixes[0]", NO_PREFIX),
    (ADVERTISEMENT, prefixes("192.0.2.0/33"), "spec.prefixes[0]", NO_PREFIX),
    (ADVERTISEMENT, prefixes("rack-7"), "spec.prefixes[0]", NO_PREFIX),
    (ADVERTISEMENT, prefixes("192.0.2.0/24", "192.0.2.1/24"), "spec.prefixes[1]", HOST_BITS),
    (ADVERTISEMENT, prefixes("2001:db8::1/64"), "spec.prefixes[0]", HOST_BITS),
    (ADVERTISEMENT, prefixes("0.0.0.0/0"), "spec.prefixes[0]", DEFAULT_ROUTE),
    (ADVERTISEMENT, prefixes("::/0"), "spec.prefixes[0]", DEFAULT_ROUTE),
    (ADVERTISEMENT, {"type": "Service", "service": {}}, "spec.service.addresses", NO_ADDRESS),
    (ADVERTISEMENT, service(addresses=[], onRequest=[]), "spec.service.addresses", NO_ADDRESS),
    (ADVERTISEMENT, service(onRequest=["PodIP"]), "spec.service.onRequest[0]", CLASSES),
    (ADVERTISEMENT, service(whenNoEndpoints="Drop"), "spec.service.whenNoEndpoints", 'values: "Keep", "Withdraw"'),
    (ADVERTISEMENT, service(aggregation={"ipv4": 7}), "spec.service.aggregation.ipv4", "greater than or equal to 8"),
    (ADVERTISEMENT, service(aggregation={"ipv4": 32}), "spec.service.aggregation.ipv4", "less than or equal to 31"),
    (ADVERTISEMENT, service(aggregation={"ipv6": 15}), "spec.service.aggregation.ipv6", "greater than or equal to 16"),
    (ADVERTISEMENT, service(aggregation={"ipv6": 128}), "spec.service.aggregation.ipv6", "less than or equal to 127"),
    (ADVERTISEMENT, service(loadBalancerClasses=[""]), "spec.service.loadBalancerClasses[0]", "at least 1 chars long"),
    (INSTANCE, {"drain": {"onTaints": ["no good"]}}, "spec.drain.onTaints[0]", NO_TAINT),
    (INSTANCE, {"drain": {"onTaints": ["reboot", "a/b/c"]}}, "spec.drain.onTaints[1]", NO_TAINT),
    (INSTANCE, {"drain": {"onTaints": ["reboot:NoExecute"]}}, "spec.drain.onTaints[0]", NO_TAINT),
    (INSTANCE, {"drain": {"onTaints": "reboot"}}, "spec.drain.onTaints", "must be of type array"),
    (INSTANCE, {"damping": {"withdrawMilliseconds": 60001}}, "spec.damping.withdrawMilliseconds", "equal to 60000"),
    (INSTANCE, {"damping": {"announceMilliseconds": -1}}, "spec.damping.announceMilliseconds", "or equal to 0"),
    (INSTANCE, {"damping": {"announceMilliseconds": "1s"}}, "spec.damping.announceMilliseconds", "type integer"),
    (INSTANCE, {"maximumPaths": 0}, "spec.maximumPaths", "should be greater than or equal to 1"),
    (INSTANCE, {"maximumPaths": 65}, "spec.maximumPaths", "should be less than or equal to 64"),
]


@pytest.mark.parametrize(("plural", "spec", "field", "words"), BAD, ids=lambda part: json.dumps(part)[:70])
def test_nonsense_is_refused_at_both_doors(crds_api: KubeApi, plural: str, spec: Any, field: str, words: str) -> None:
    message = refusal(crds_api, plural, spec)
    problem = read(plural, spec)

    assert f"{field}: " in message
    assert words in message
    assert isinstance(problem, Problem), problem
    assert problem.fix


ONE_MEANING: list[tuple[dict[str, Any], str, str]] = [
    (says(communities=["1:1", "1:1"]), "spec.attributes.communities[1]", "Duplicate value"),
    (prefixes("2001:DB8::/32"), "spec.prefixes[0]", HOST_BITS),
    (prefixes("192.0.2.0/24", "192.0.2.0/24"), "spec.prefixes[1]", "Duplicate value"),
    (prefixes(*(f"198.51.{n}.0/24" for n in range(65))), "spec.prefixes", "must have at most 64 items"),
    (service(onRequest=["ClusterIP", "ClusterIP"]), "spec.service.onRequest[1]", "Duplicate value"),
]


@pytest.mark.parametrize(("spec", "field", "words"), ONE_MEANING, ids=lambda part: json.dumps(part)[:70])
def test_what_has_one_meaning_is_refused_by_the_schema_only(
    crds_api: KubeApi, spec: Any, field: str, words: str
) -> None:
    message = refusal(crds_api, ADVERTISEMENT, spec)

    assert f"{field}: " in message
    assert words in message
    assert not isinstance(read(ADVERTISEMENT, spec), Problem)


TYPING_ERRORS = [
    (ADVERTISEMENT, says(community=["65000:1"]), ".spec.attributes.community"),
    (ADVERTISEMENT, service(aggregate={"ipv4": 24}), ".spec.service.aggregate"),
    (ADVERTISEMENT, {**service(), "peers": RACK_7}, ".spec.peers"),
    (INSTANCE, {"drain": {"taints": ["reboot"]}}, ".spec.drain.taints"),
]


@pytest.mark.parametrize(("plural", "spec", "field"), TYPING_ERRORS, ids=[field for _, _, field in TYPING_ERRORS])
def test_a_field_with_a_typing_error_is_refused_by_kubectl(
    crds: ControlPlane, plural: str, spec: Any, field: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        crds.apply(body(plural, spec))

    assert f"{field}: field not declared in schema" in refused.value.stderr


def test_kubectl_shows_what_an_advertisement_is_for(crds: ControlPlane, crds_api: KubeApi) -> None:
    with sample(crds_api, ADVERTISEMENT, service(addresses=["ClusterIP", "LoadBalancerIP"])):
        headings, row = crds.kubectl("get", "bgpa", "-o", "wide").splitlines()

    assert headings.split() == ["NAME", "TYPE", "ADDRESSES", "AGE"]
    assert row.split()[:-1] == ["sample", "Service", '["ClusterIP","LoadBalancerIP"]']
