"""The custom kinds on a real API server: what makes sense is taken, nonsense is refused with its field and the fix."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.apikinds import CRDS
from tests.lab.controlplane import ControlPlane
from tests.lab.kubeapi import ApiError, KubeApi

pytestmark = pytest.mark.cluster

API = "/apis/bgpilot.io/v1alpha1"


@pytest.fixture(scope="module")
def defined() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        running.apply(*sorted(CRDS.glob("bgp*.yaml")))
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield running


@pytest.fixture(scope="module")
def api(defined: ControlPlane) -> KubeApi:
    return defined.api()


def test_kubectl_shows_what_matters(defined: ControlPlane, api: KubeApi) -> None:
    post(
        api,
        "bgppeers",
        {"address": "2001:db8::1", "asn": 4200000001, "passwordSecretRef": {"name": "tor", "key": "md5"}},
    )
    try:
        headings, row = defined.kubectl("get", "bgpp", "-o", "wide").splitlines()
    finally:
        api.delete(f"{API}/bgppeers/sample")

    assert headings.split() == ["NAME", "ADDRESS", "ASN", "HOLD", "SHUTDOWN", "GATEWAY", "PORT", "SECRET", "AGE"]
    assert row.split()[:-1] == ["sample", "2001:db8::1", "4200000001", "90", "false", "179", "tor"]


def test_kubectl_shows_what_an_instance_says(defined: ControlPlane, api: KubeApi) -> None:
    post(api, INSTANCE, {"asn": "64086.59905", "asnFrom": {"label": "example.com/asn"}, "priority": 7})
    try:
        headings, row = defined.kubectl("get", "bgpi", "-o", "wide").splitlines()
    finally:
        api.delete(f"{API}/{INSTANCE}/sample")

    columns = ["NAME", "ASN", "MESH", "POD-ROUTES", "MESH-HOLD", "PRIORITY", "ASN-LABEL", "PORT", "AGE"]
    assert headings.split() == columns
    assert row.split()[:-1] == ["sample", "64086.59905", "Auto", "BGP", "90", "7", "example.com/asn", "179"]


def post(api: KubeApi, plural: str, spec: Any) -> Any:
    kinds = {"bgpinstances": "BGPInstance", "bgppeers": "BGPPeer", "bgpadvertisements": "BGPAdvertisement"}
    body = {"apiVersion": "bgpilot.io/v1alpha1", "kind": kinds[plural], "metadata": {"name": "sample"}, "spec": spec}
    return api.post(f"{API}/{plural}", body)


INSTANCE, PEER, ADVERTISEMENT = "bgpinstances", "bgppeers", "bgpadvertisements"


def peer(**spec: Any) -> dict[str, Any]:
    return {"address": "192.0.2.1", "asn": 64513, **spec}


def allowed(**item: Any) -> dict[str, Any]:
    return peer(**{"import": {"allowed": [item]}})


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
    "a peer": (PEER, peer()),
    "an IPv6 peer": (PEER, peer(address="fd00::1")),
    "a peer on loopback": (PEER, peer(address="127.0.0.1", port=1790)),
    "a default route": (PEER, allowed(prefix="0.0.0.0/0")),
    "any route of a family": (PEER, allowed(prefix="::/0", ge=0, le=128)),
    "equal bounds": (PEER, allowed(prefix="10.0.0.0/8", ge=24, le=24)),
    "a selector": (
        PEER,
        peer(nodeSelector={"matchLabels": {"rack": "7"}, **expression(key="rack", operator="Exists")}),
    ),
    "pod CIDRs": (ADVERTISEMENT, {"type": "PodCIDR"}),
    "services": (ADVERTISEMENT, service(service={"addresses": ["ClusterIP", "ExternalIP", "LoadBalancerIP"]})),
}


@pytest.mark.parametrize(("plural", "spec"), GOOD.values(), ids=GOOD)
def test_what_makes_sense_is_taken(api: KubeApi, plural: str, spec: Any) -> None:
    made = post(api, plural, spec)
    api.delete(f"{API}/{plural}/sample")

    assert {**made["spec"], **spec}.keys() == made["spec"].keys()


HOLD = "a hold time of 1 or 2 seconds is not allowed by BGP (RFC 4271 4.2): use 3 or more, or 0 to turn it off"
HOST_BITS = "is not in canonical form: zero the bits after its length and shorten IPv6"
NO_PREFIX = "must be an IPv4 or IPv6 prefix with its length, such as"
NO_UNICAST = (
    "must be a unicast address that is not link-local: give the router's global, private or unique local address"
)
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
    (INSTANCE, {"mesh": {"holdSeconds": 2}}, "spec.mesh.holdSeconds", HOLD),
    (INSTANCE, {"mesh": {"holdSeconds": 65536}}, "spec.mesh.holdSeconds", "should be less than or equal to 65535"),
    (INSTANCE, {"allowedExternalIPs": ["192.0.2.1"]}, "spec.allowedExternalIPs[0]", NO_PREFIX),
    (INSTANCE, {"allowedExternalIPs": ["192.0.2.1/24"]}, "spec.allowedExternalIPs[0]", HOST_BITS),
    (INSTANCE, {"allowedExternalIPs": ["2001:DB8::/64"]}, "spec.allowedExternalIPs[0]", HOST_BITS),
    (INSTANCE, {"allowedExternalIPs": ["10.0.0.0/8"] * 2}, "spec.allowedExternalIPs[1]", "Duplicate value"),
    (INSTANCE, {"serviceCIDRs": ["ten"]}, "spec.serviceCIDRs[0]", NO_PREFIX),
    (INSTANCE, {"serviceCIDRs": ["10.96.0.1/12"]}, "spec.serviceCIDRs[0]", HOST_BITS),
    (PEER, {"asn": 64513}, "spec", "name the router with exactly one of `address`, `addressFrom` and `defaultGateway`"),
    (PEER, {"address": "192.0.2.1"}, "spec.asn", "Required value"),
    (
        PEER,
        peer(address="tor-a.example"),
        "spec.address",
        "must be an IPv4 or IPv6 address without a prefix length or zone",
    ),
    (
        PEER,
        peer(address="192.0.2.1/24"),
        "spec.address",
        "must be an IPv4 or IPv6 address without a prefix length or zone",
    ),
    (
        PEER,
        peer(address="fe80::1%eth0"),
        "spec.address",
        "must be an IPv4 or IPv6 address without a prefix length or zone",
    ),
    (
        PEER,
        peer(address="192.0.02.1"),
        "spec.address",
        "must be an IPv4 or IPv6 address without a prefix length or zone",
    ),
    (PEER, peer(address="::ffff:192.0.2.1"), "spec.address", "must be an IPv4 or IPv6 address without a prefix length"),
    (
        PEER,
        peer(address="2001:DB8::1"),
        "spec.address",
        "is not in canonical form: write IPv6 in lower case and shortened",
    ),
    (PEER, peer(address="fe80::1"), "spec.address", NO_UNICAST),
    (PEER, peer(address="0.0.0.0"), "spec.address", NO_UNICAST),
    (PEER, peer(address="224.0.0.5"), "spec.address", NO_UNICAST),
    (PEER, peer(address="255.255.255.255"), "spec.address", NO_UNICAST),
    (PEER, peer(asn=23456), "spec.asn", AS_TRANS),
    (PEER, peer(asn="any"), "spec.asn", "or `external` or `internal`"),
    (PEER, peer(port=0), "spec.port", "should be greater than or equal to 1"),
    (PEER, peer(holdSeconds=1), "spec.holdSeconds", HOLD),
    (PEER, peer(passwordSecretRef={"name": "tor"}), "spec.passwordSecretRef.key", "Required value"),
    (
        PEER,
        peer(passwordSecretRef={"name": "Tor", "key": "md5"}),
        "spec.passwordSecretRef.name",
        "is no name of a Secret",
    ),
    (
        PEER,
        peer(passwordSecretRef={"name": "tor", "key": "a b"}),
        "spec.passwordSecretRef.key",
        "is no key of a Secret",
    ),
    (PEER, peer(nodeSelector=expression(key="rack", operator="In")), "matchExpressions[0]", NO_VALUES),
    (PEER, peer(nodeSelector=expression(key="rack", operator="NotIn", values=[])), "matchExpressions[0]", NO_VALUES),
    (PEER, peer(nodeSelector=expression(key="rack", operator="Exists", values=["7"])), "matchExpressions[0]", VALUES),
    (PEER, peer(nodeSelector=expression(key="rack", operator="Is")), "operator", "supported values"),
    (PEER, allowed(prefix="10.0.0.1"), "spec.import.allowed[0].prefix", NO_PREFIX),
    (PEER, allowed(prefix="10.0.0.1/8"), "spec.import.allowed[0].prefix", HOST_BITS),
    (PEER, allowed(prefix="10.0.0.0/8", ge=25, le=24), "spec.import.allowed[0]", "`ge` is greater than `le`"),
    (PEER, allowed(prefix="10.0.0.0/8", ge=7), "spec.import.allowed[0]", "`ge` is less than the length of `prefix`"),
    (PEER, allowed(prefix="10.0.0.0/8", le=7), "spec.import.allowed[0]", "`le` is less than the length of `prefix`"),
    (PEER, allowed(prefix="10.0.0.0/8", le=33), "spec.import.allowed[0]", "`prefix` is IPv4, whose lengths end at 32"),
    (PEER, allowed(prefix="fd00::/8", le=129), "spec.import.allowed[0].le", "should be less than or equal to 128"),
    (PEER, allowed(ge=24), "spec.import.allowed[0].prefix", "Required value"),
    (ADVERTISEMENT, {}, "spec.type", "Required value"),
    (ADVERTISEMENT, {"type": "Pods"}, "spec.type", 'supported values: "PodCIDR", "Service"'),
    (ADVERTISEMENT, {"type": "Service"}, "spec", "type Service needs `service`: say which addresses"),
    (ADVERTISEMENT, service(type="PodCIDR"), "spec", "`service` has a meaning with type Service only: remove it"),
    (ADVERTISEMENT, service(service={}), "spec.service.addresses", "Required value"),
    (
        ADVERTISEMENT,
        service(service={"addresses": []}),
        "spec.service.addresses",
        "names no address, so nothing would be",
    ),
    (ADVERTISEMENT, service(service={"addresses": ["PodIP"]}), "spec.service.addresses[0]", "supported values"),
    (ADVERTISEMENT, service(service={"addresses": ["ClusterIP"] * 2}), "spec.service.addresses[1]", "Duplicate value"),
]


@pytest.mark.parametrize(("plural", "spec", "field", "says"), BAD, ids=lambda part: json.dumps(part)[:60])
def test_nonsense_is_refused_with_the_field_and_the_fix(
    api: KubeApi, plural: str, spec: Any, field: str, says: str
) -> None:
    with pytest.raises(ApiError) as refused:
        post(api, plural, spec)

    assert refused.value.reason == "Invalid"
    assert f"{field}: " in refused.value.message
    assert says in refused.value.message


def test_a_field_with_a_typing_error_is_refused_by_kubectl(defined: ControlPlane) -> None:
    body = {"apiVersion": "bgpilot.io/v1alpha1", "kind": "BGPPeer", "metadata": {"name": "sample"}}

    with pytest.raises(subprocess.CalledProcessError) as refused:
        defined.apply({**body, "spec": peer(hold=9)})

    assert ".spec.hold: field not declared in schema" in refused.value.stderr
