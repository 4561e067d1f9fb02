"""BGPInstance and BGPAdvertisement on a real API server: what makes sense is taken, nonsense is refused with its field
and the fix. BGPPeer has a file of its own.

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
from tests.lab.customresources import ADVERTISEMENT, INSTANCE, PEER, body, created, read, refusal, sample
from tests.lab.kubeapi import KubeApi

pytestmark = pytest.mark.cluster


def service(**spec: Any) -> dict[str, Any]:
    return {"type": "Service", "service": {"addresses": ["ClusterIP"]}, **spec}


def expression(**spec: Any) -> dict[str, Any]:
    return {"matchExpressions": [spec]}


def mesh(**spec: Any) -> dict[str, Any]:
    return {"mesh": spec}


RACK_7 = {"matchLabels": {"rack": "7"}}

GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "an empty instance": (INSTANCE, {}),
    "a full instance": (
        INSTANCE,
        {
            "nodeSelector": {"matchLabels": {"rack": "7"}, **expression(key="rack", operator="Exists")},
            "priority": -1000,
            "asn": 4294967295,
            "asnFrom": {"label": "example.com/rack-asn"},
            "routerIDFrom": {"annotation": "example.com/router-id"},
            "listenPort": 1790,
            "listenAddresses": ["10.0.0.0/8", "fd00::/8"],
            "podRoutes": "Off",
            "serviceRoutes": "Import",
            "mesh": {
                "mode": "RouteReflector",
                "holdSeconds": 3,
                "passwordSecretRef": {"name": "mesh", "key": "md5"},
                "reflectors": {
                    "nodeSelector": {"matchLabels": {"reflector": ""}},
                    "clusterID": "0.0.0.1",
                    "threshold": 1000,
                    "controlPlane": "Prefer",
                },
            },
            "allowedExternalIPs": ["192.0.2.0/24", "2001:db8::/64"],
            "serviceCIDRs": ["10.96.0.0/12", "fd00:10:96::/112"],
        },
    ),
    "hold time off": (INSTANCE, {"mesh": {"holdSeconds": 0}}),
    "asdot": (INSTANCE, {"asn": "64086.59905"}),
    "the largest asdot": (INSTANCE, {"asn": "65535.65535"}),
    "a number in quotes": (INSTANCE, {"asn": "4294967295"}),
    "a router id": (INSTANCE, {"routerID": "223.255.255.255"}),
    "no sessions between nodes": (INSTANCE, {"mesh": {"mode": "None"}, "asnFrom": {"annotation": "asn"}}),
    "the mode tried and left, reflectors kept": (INSTANCE, mesh(mode="FullMesh", reflectors={"nodeSelector": RACK_7})),
    "pod CIDRs": (ADVERTISEMENT, {"type": "PodCIDR"}),
    "services": (ADVERTISEMENT, service(service={"addresses": ["ClusterIP", "ExternalIP", "LoadBalancerIP"]})),
}


@pytest.mark.parametrize(("plural", "spec"), GOOD.values(), ids=GOOD)
def test_what_makes_sense_is_taken_and_read(crds_api: KubeApi, plural: str, spec: Any) -> None:
    made = created(crds_api, plural, spec)

    assert spec.keys() <= made.keys()
    assert not isinstance(read(plural, made), Problem)
    assert read(plural, made) == read(plural, spec), "what the schema fills in is what the agent takes for granted"


HOLD = "a hold time of 1 or 2 seconds is not allowed by BGP (RFC 4271 4.2): use 3 or more, or 0 to turn it off"
HOST_BITS = "is not in canonical form: zero the bits after its length and shorten IPv6"
NO_PREFIX = "must be an IPv4 or IPv6 prefix with its length, such as"
AS_TRANS = "23456 is AS_TRANS, a placeholder that no speaker may use as its own (RFC 6793): set"
NO_VALUES = "operators In and NotIn need at least one entry in `values`: add one, or use Exists or DoesNotExist"
VALUES = "operators Exists and DoesNotExist take no `values`: remove them, or use In or NotIn"

NO_ASN = "must be an AS number: 1 to 4294967295, or asdot in quotes with both halves up to 65535, such as"
ONE_OF = "give it exactly one of `label` and `annotation`"
NO_KEY = "write it as on the Node, such as example.com/rack"
NO_ROUTER_ID = "must have the form of an IPv4 address from 1.0.0.0 to 223.255.255.255"
NO_REFLECTORS = (
    "mode RouteReflector needs `reflectors.nodeSelector`: say with matchLabels which nodes reflect, or use mode Auto"
)

NO_LABEL_KEY = "has a key that no label can have, so nothing would be selected: write it as in metadata.labels"
NO_LABEL_VALUE = "is no value that a label can have: use letters, digits, -, _ and . only"

BAD: list[tuple[str, dict[str, Any], str, str]] = [
    (INSTANCE, {"asn": 0}, "spec.asn", NO_ASN),
    (INSTANCE, {"asn": 4294967296}, "spec.asn", NO_ASN),
    (INSTANCE, {"asn": "4294967296"}, "spec.asn", NO_ASN),
    (INSTANCE, {"asn": "0"}, "spec.asn", NO_ASN),
    (INSTANCE, {"asn": "0.0"}, "spec.asn", NO_ASN),
    (INSTANCE, {"asn": "65536.1"}, "spec.asn", NO_ASN),
    (INSTANCE, {"asn": "1.65536"}, "spec.asn", NO_ASN),
    (INSTANCE, {"asn": "1.2.3"}, "spec.asn", NO_ASN),
    (INSTANCE, {"asn": "AS64512"}, "spec.asn", NO_ASN),
    (INSTANCE, {"asn": 1.5}, "spec.asn", "must be of type integer,string"),
    (INSTANCE, {"asn": 23456}, "spec.asn", AS_TRANS),
    (INSTANCE, {"asn": "23456"}, "spec.asn", AS_TRANS),
    (INSTANCE, {"asn": "0.23456"}, "spec.asn", AS_TRANS),
    (INSTANCE, {"asnFrom": {}}, "spec.asnFrom", ONE_OF),
    (INSTANCE, {"asnFrom": {"label": "asn", "annotation": "asn"}}, "spec.asnFrom", ONE_OF),
    (INSTANCE, {"asnFrom": {"label": "rack asn"}}, "spec.asnFrom.label", NO_KEY),
    (INSTANCE, {"asnFrom": {"annotation": "a/b/c"}}, "spec.asnFrom.annotation", NO_KEY),
    (INSTANCE, {"routerIDFrom": {"label": "-"}}, "spec.routerIDFrom.label", NO_KEY),
    (INSTANCE, {"routerIDFrom": {}}, "spec.routerIDFrom", ONE_OF),
    (INSTANCE, {"routerID": "1.1.1.1", "routerIDFrom": {"label": "id"}}, "spec", "`routerID` and `routerIDFrom` exclu"),
    (INSTANCE, {"routerID": "0.0.0.1"}, "spec.routerID", NO_ROUTER_ID),
    (INSTANCE, {"routerID": "224.0.0.1"}, "spec.routerID", NO_ROUTER_ID),
    (INSTANCE, {"routerID": "7"}, "spec.routerID", NO_ROUTER_ID),
    (INSTANCE, {"routerID": "fd00::1"}, "spec.routerID", NO_ROUTER_ID),
    (INSTANCE, {"listenPort": 0}, "spec.listenPort", "should be greater than or equal to 1"),
    (INSTANCE, {"listenAddresses": ["10.0.0.1"]}, "spec.listenAddresses[0]", NO_PREFIX),
    (INSTANCE, {"listenAddresses": ["10.0.0.1/8"]}, "spec.listenAddresses[0]", HOST_BITS),
    (INSTANCE, {"priority": 1001}, "spec.priority", "should be less than or equal to 1000"),
    (INSTANCE, {"nodeSelector": expression(key="rack", operator="In")}, "matchExpressions[0]", NO_VALUES),
    (INSTANCE, mesh(mode="Full"), "spec.mesh.mode", 'supported values: "FullMesh", "RouteReflector", "Auto", "None"'),
    (INSTANCE, mesh(mode="RouteReflector"), "spec.mesh", NO_REFLECTORS),
    (INSTANCE, mesh(mode="RouteReflector", reflectors={"nodeSelector": {}}), "spec.mesh", NO_REFLECTORS),
    (INSTANCE, mesh(passwordSecretRef={"name": "mesh"}), "spec.mesh.passwordSecretRef.key", "Required value"),
    (
        INSTANCE,
        mesh(passwordSecretRef={"name": "Mesh", "key": "md5"}),
        "spec.mesh.passwordSecretRef.name",
        "is no name of a Secret",
    ),
    (INSTANCE, mesh(reflectors={"threshold": 0}), "spec.mesh.reflectors.threshold", "greater than or equal to 1"),
    (INSTANCE, mesh(reflectors={"clusterID": "0.0.0.0"}), "spec.mesh.reflectors.clusterID", "other than 0.0.0.0"),
    (INSTANCE, mesh(reflectors={"controlPlane": "Never"}), "spec.mesh.reflectors.controlPlane", "supported values"),
    (INSTANCE, {"podRoutes": "Overlay"}, "spec.podRoutes", 'supported values: "BGP", "Off"'),
    (INSTANCE, {"serviceRoutes": "On"}, "spec.serviceRoutes", 'supported values: "Off", "Announce", "Import"'),
    (INSTANCE, {"mesh": {"holdSeconds": 2}}, "spec.mesh.holdSeconds", HOLD),
    (INSTANCE, {"mesh": {"holdSeconds": 65536}}, "spec.mesh.holdSeconds", "should be less than or equal to 65535"),
    (INSTANCE, {"allowedExternalIPs": ["192.0.2.1"]}, "spec.allowedExternalIPs[0]", NO_PREFIX),
    (INSTANCE, {"allowedExternalIPs": ["192.0.2.1/24"]}, "spec.allowedExternalIPs[0]", HOST_BITS),
    (INSTANCE, {"serviceCIDRs": ["ten"]}, "spec.serviceCIDRs[0]", NO_PREFIX),
    (INSTANCE, {"serviceCIDRs": ["10.96.0.1/12"]}, "spec.serviceCIDRs[0]", HOST_BITS),
    (ADVERTISEMENT, {}, "spec.type", "Required value"),
    (ADVERTISEMENT, {"type": "Pods"}, "spec.type", 'supported values: "PodCIDR", "Service"'),
    (ADVERTISEMENT, {"type": "Service"}, "spec", "type Service needs `service`: say which addresses"),
    (ADVERTISEMENT, service(type="PodCIDR"), "spec", "`service` has a meaning with type Service only: remove it"),
    (ADVERTISEMENT, service(service={}), "spec.service.addresses", "names no address, so nothing would be announced"),
    (
        ADVERTISEMENT,
        service(service={"addresses": []}),
        "spec.service.addresses",
        "names no address, so nothing would be",
    ),
    (ADVERTISEMENT, service(service={"addresses": ["PodIP"]}), "spec.service.addresses[0]", "supported values"),
    (INSTANCE, {"nodeSelector": {"matchLabels": {"rack no": "7"}}}, "spec.nodeSelector.matchLabels", NO_LABEL_KEY),
    (
        INSTANCE,
        {"nodeSelector": {"matchLabels": {"rack": "7 b"}}},
        "spec.nodeSelector.matchLabels[rack]",
        NO_LABEL_VALUE,
    ),
    (
        ADVERTISEMENT,
        service(service={"addresses": ["ClusterIP"], "selector": {"matchLabels": {"-": "7"}}}),
        "spec.service.selector.matchLabels",
        NO_LABEL_KEY,
    ),
    (
        ADVERTISEMENT,
        service(nodeSelector=expression(key="rack", operator="NotIn", values=["a b"])),
        "spec.nodeSelector.matchExpressions[0].values[0]",
        NO_LABEL_VALUE,
    ),
    (
        ADVERTISEMENT,
        service(nodeSelector=expression(key="rack no", operator="Exists")),
        "spec.nodeSelector.matchExpressions[0].key",
        "is no key of a label: write it as in metadata.labels, such as example.com/rack",
    ),
]


@pytest.mark.parametrize(("plural", "spec", "field", "says"), BAD, ids=lambda part: json.dumps(part)[:60])
def test_nonsense_is_refused_at_both_doors(crds_api: KubeApi, plural: str, spec: Any, field: str, says: str) -> None:
    message = refusal(crds_api, plural, spec)
    problem = read(plural, spec)

    assert f"{field}: " in message
    assert says in message
    assert isinstance(problem, Problem), problem
    assert problem.fix


ONE_MEANING: list[tuple[str, dict[str, Any], str, str]] = [
    (INSTANCE, {"allowedExternalIPs": ["2001:DB8::/64"]}, "spec.allowedExternalIPs[0]", HOST_BITS),
    (INSTANCE, {"allowedExternalIPs": ["10.0.0.0/8"] * 2}, "spec.allowedExternalIPs[1]", "Duplicate value"),
    (ADVERTISEMENT, service(service={"addresses": ["ClusterIP"] * 2}), "spec.service.addresses[1]", "Duplicate value"),
]


@pytest.mark.parametrize(("plural", "spec", "field", "says"), ONE_MEANING, ids=lambda part: json.dumps(part)[:60])
def test_what_has_one_meaning_is_refused_by_the_schema_only(
    crds_api: KubeApi, plural: str, spec: Any, field: str, says: str
) -> None:
    message = refusal(crds_api, plural, spec)

    assert f"{field}: " in message
    assert says in message
    assert not isinstance(read(plural, spec), Problem)


def test_a_field_with_a_typing_error_is_refused_by_kubectl(crds: ControlPlane) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        crds.apply(body(PEER, {"address": "192.0.2.1", "asn": 64513, "hold": 9}))

    assert ".spec.hold: field not declared in schema" in refused.value.stderr


def test_kubectl_shows_what_an_instance_says(crds: ControlPlane, crds_api: KubeApi) -> None:
    spec = {"asn": "64086.59905", "asnFrom": {"label": "example.com/asn"}, "priority": 7}
    with sample(crds_api, INSTANCE, spec):
        headings, row = crds.kubectl("get", "bgpi", "-o", "wide").splitlines()

    columns = ["NAME", "ASN", "MESH", "POD-ROUTES", "MESH-HOLD", "PRIORITY", "ASN-LABEL", "PORT", "AGE"]
    assert headings.split() == columns
    assert row.split()[:-1] == ["sample", "64086.59905", "Auto", "BGP", "90", "7", "example.com/asn", "179"]
