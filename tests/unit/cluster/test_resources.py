"""The custom resources as records; and every nonsense that a missing schema lets through as a Problem with its fix."""

import json
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest

from agent.advertising import Advertisement, AdvertisementType, ServiceAddress, ServiceChoice
from agent.cluster.parse import read_object
from agent.intent import (
    AllowedPrefix,
    ControlPlane,
    ExternalPeer,
    Instance,
    Mesh,
    MeshMode,
    NodeValue,
    PodRoutes,
    SecretRef,
    Selector,
    ServiceRoutes,
)
from agent.model import Kind, Problem, Record

PEER = {"address": "192.0.2.1", "asn": 64512}
SERVICE = {"type": "Service", "service": {"addresses": ["ClusterIP"]}}


def read(kind: Kind, spec: Any) -> Record | Problem:
    return read_object(kind, json.dumps({"metadata": {"name": "x"}, "spec": spec}).encode()).outcome


@pytest.mark.parametrize("spec", [None, {}, {"mesh": None}, {"mesh": {}, "allowedExternalIPs": None}])
def test_an_empty_instance_is_the_defaults(spec: Any) -> None:
    assert read(Kind.INSTANCE, spec) == Instance(name="x")


def test_an_instance_in_full() -> None:
    spec = {
        "nodeSelector": {"matchLabels": {"rack": "r2"}},
        "priority": -5,
        "asn": 4200000001,
        "asnFrom": {"label": "example.com/asn"},
        "routerIDFrom": {"annotation": "example.com/id"},
        "listenPort": 1790,
        "listenAddresses": ["10.0.0.0/8", "fd00::/8"],
        "podRoutes": "Off",
        "serviceRoutes": "Import",
        "mesh": {
            "mode": "RouteReflector",
            "holdSeconds": 9,
            "passwordSecretRef": {"name": "mesh", "key": "md5"},
            "reflectors": {
                "nodeSelector": {"matchLabels": {"reflector": ""}},
                "clusterID": "0.0.0.7",
                "threshold": 7,
                "controlPlane": "Prefer",
            },
        },
        "allowedExternalIPs": ["203.0.113.0/24", "2001:db8:1::/48"],
        "serviceCIDRs": ["10.96.0.0/12"],
    }

    assert read(Kind.INSTANCE, spec) == Instance(
        name="x",
        node_selector=Selector(labels=(("rack", "r2"),)),
        priority=-5,
        asn=4200000001,
        asn_from=NodeValue(annotation=False, key="example.com/asn"),
        router_id_from=NodeValue(annotation=True, key="example.com/id"),
        listen_port=1790,
        listen_addresses=(ip_network("10.0.0.0/8"), ip_network("fd00::/8")),
        pod_routes=PodRoutes.OFF,
        service_routes=ServiceRoutes.IMPORT,
        mesh=Mesh(
            mode=MeshMode.ROUTE_REFLECTOR,
            hold_seconds=9,
            password_ref=SecretRef("mesh", "md5"),
            reflector_selector=Selector(labels=(("reflector", ""),)),
            cluster_id=IPv4Address("0.0.0.7"),
            threshold=7,
            control_plane=ControlPlane.PREFER,
        ),
        allowed_external_ips=(ip_network("203.0.113.0/24"), ip_network("2001:db8:1::/48")),
        service_cidrs=(ip_network("10.96.0.0/12"),),
    )


@pytest.mark.parametrize(
    ("written", "asn"),
    [
        (64512, 64512),
        (4294967295, 4294967295),
        ("64512", 64512),
        ("0.64512", 64512),
        ("1.0", 65536),
        ("64086.59905", 4200000001),
        ("65535.65535", 4294967295),
    ],
)
def test_an_as_number_is_read_as_asplain_and_as_asdot(written: Any, asn: int) -> None:
    assert read(Kind.INSTANCE, {"asn": written}) == Instance(name="x", asn=asn)


def test_with_asn_from_an_as_that_is_not_written_is_not_there() -> None:
    where = NodeValue(annotation=True, key="asn")

    assert read(Kind.INSTANCE, {"asnFrom": {"annotation": "asn"}}) == Instance(name="x", asn=None, asn_from=where)


@pytest.mark.parametrize("mode", ["FullMesh", "Auto", "None"])
def test_other_modes_keep_the_reflectors_that_were_chosen_for_one(mode: str) -> None:
    mesh = {"mode": mode, "reflectors": {"nodeSelector": {"matchLabels": {"reflector": ""}}}}
    selector = Selector(labels=(("reflector", ""),))

    assert read(Kind.INSTANCE, {"mesh": mesh}) == Instance(
        name="x", mesh=Mesh(mode=MeshMode(mode), reflector_selector=selector)
    )


def test_a_peer_in_short_has_the_defaults() -> None:
    assert read(Kind.PEER, PEER) == ExternalPeer(name="x", address=IPv4Address("192.0.2.1"), asn=64512)


def test_a_peer_in_full() -> None:
    spec = {
        "address": "2001:DB8:0::1",
        "asn": 65001,
        "nodeSelector": {
            "matchLabels": {"rack": "r2", "a": ""},
            "matchExpressions": [
                {"key": "zone", "operator": "In", "values": ["a", "b"]},
                {"key": "spare", "operator": "DoesNotExist"},
            ],
        },
        "port": 1790,
        "holdSeconds": 9,
        "passwordSecretRef": {"name": "tor", "key": "password"},
        "import": {
            "podCIDRs": True,
            "allowed": [
                {"prefix": "0.0.0.0/0"},
                {"prefix": "10.0.0.0/8", "ge": 16},
                {"prefix": "10.0.0.0/8", "le": 24},
                {"prefix": "2001:db8::/32", "ge": 48, "le": 64},
            ],
        },
    }

    assert read(Kind.PEER, spec) == ExternalPeer(
        name="x",
        address=IPv6Address("2001:db8::1"),
        asn=65001,
        node_selector=Selector(
            labels=(("a", ""), ("rack", "r2")),
            expressions=(("zone", "In", ("a", "b")), ("spare", "DoesNotExist", ())),
        ),
        port=1790,
        hold_seconds=9,
        password_ref=SecretRef("tor", "password"),
        import_pod_cidrs=True,
        import_allowed=(
            AllowedPrefix(ip_network("0.0.0.0/0"), 0, 0),
            AllowedPrefix(ip_network("10.0.0.0/8"), 16, 32),
            AllowedPrefix(ip_network("10.0.0.0/8"), 8, 24),
            AllowedPrefix(ip_network("2001:db8::/32"), 48, 64),
        ),
    )


def test_advertisements_of_both_types() -> None:
    chosen = {"addresses": ["LoadBalancerIP", "ClusterIP"], "selector": {"matchLabels": {"bgp": "yes"}}}

    assert read(Kind.ADVERTISEMENT, {"type": "PodCIDR"}) == Advertisement(name="x", type=AdvertisementType.POD_CIDR)
    assert read(Kind.ADVERTISEMENT, {"type": "Service", "service": chosen}) == Advertisement(
        name="x",
        type=AdvertisementType.SERVICE,
        service=ServiceChoice(
            addresses=frozenset({ServiceAddress.CLUSTER_IP, ServiceAddress.LOAD_BALANCER_IP}),
            selector=Selector(labels=(("bgp", "yes"),)),
        ),
    )


@pytest.mark.parametrize(
    ("kind", "spec", "message", "fix"),
    [
        (Kind.INSTANCE, [], "spec = [] is not an object", "such as `asnFrom`"),
        (Kind.INSTANCE, {"asn": 0}, "spec.asn = 0 is not a number in range", "from 1 to 4294967295"),
        (Kind.INSTANCE, {"asn": 2**32}, "spec.asn = 4294967296 is not a number in range", "from 1 to 4294967295"),
        (Kind.INSTANCE, {"asn": 1.5}, "spec.asn = 1.5 is no AS number", "put quotes around an AS number in asdot"),
        (Kind.INSTANCE, {"asn": "AS1"}, "spec.asn = 'AS1' is no AS number", "in quotes, such as"),
        (Kind.INSTANCE, {"asn": ""}, "spec.asn = '' is not a text", "not empty"),
        (Kind.INSTANCE, {"asn": "1.2.3"}, "spec.asn = '1.2.3' is no AS number", "in quotes, such as"),
        (Kind.INSTANCE, {"asn": "0.0"}, "spec.asn = '0.0' is not between 1 and 4294967295", "real AS number"),
        (Kind.INSTANCE, {"asn": "4294967296"}, "is not between 1 and 4294967295", "1 to 4294967295"),
        (Kind.INSTANCE, {"asn": "1.65536"}, "spec.asn = '1.65536' has a half greater than 65535", "asdot in quotes"),
        (Kind.INSTANCE, {"asn": "0.23456"}, "spec.asn = '0.23456' is AS_TRANS", "real AS number"),
        (Kind.INSTANCE, {"asnFrom": {}}, "spec.asnFrom = {} names neither a label nor", "exactly one of"),
        (
            Kind.INSTANCE,
            {"asnFrom": {"label": "a", "annotation": "b"}},
            "names both a label and an annotation",
            "exactly one of",
        ),
        (Kind.INSTANCE, {"asnFrom": {"label": "a b"}}, "spec.asnFrom.label = 'a b' is no key", "example.com/rack"),
        (Kind.INSTANCE, {"asnFrom": {"label": "a" * 64}}, "is no key of a label or annotation", "as on the Node"),
        (Kind.INSTANCE, {"routerIDFrom": {"annotation": "/a"}}, "routerIDFrom.annotation = '/a' is no key", "as on"),
        (Kind.INSTANCE, {"routerID": "0.0.0.1"}, "spec.routerID = '0.0.0.1' is no id", "from 1.0.0.0 to 223"),
        (Kind.INSTANCE, {"routerID": "224.0.0.1"}, "spec.routerID = '224.0.0.1' is no id", "from 1.0.0.0 to 223"),
        (Kind.INSTANCE, {"routerID": "fd00::1"}, "spec.routerID = 'fd00::1' is no id", "from 1.0.0.0 to 223"),
        (
            Kind.INSTANCE,
            {"routerID": "1.1.1.1", "routerIDFrom": {"label": "id"}},
            "does not go with routerID",
            "remove one",
        ),
        (Kind.INSTANCE, {"listenPort": 0}, "spec.listenPort = 0 is not a number in range", "from 1 to 65535"),
        (
            Kind.INSTANCE,
            {"listenAddresses": ["10.0.0.1/8"]},
            "Addresses[0] = '10.0.0.1/8' has bits",
            "10.0.0.0/8",
        ),
        (Kind.INSTANCE, {"priority": 1001}, "spec.priority = 1001 is not a number in range", "from -1000 to 1000"),
        (Kind.INSTANCE, {"mesh": {"mode": "Full"}}, "spec.mesh.mode = 'Full' is not known", "FullMesh, RouteReflector"),
        (
            Kind.INSTANCE,
            {"mesh": {"mode": "RouteReflector"}},
            "spec.mesh.reflectors.nodeSelector is missing",
            "set mesh.mode to Auto",
        ),
        (
            Kind.INSTANCE,
            {"mesh": {"mode": "RouteReflector", "reflectors": {"nodeSelector": {}}}},
            "spec.mesh.reflectors.nodeSelector = {} selects every node",
            "set mesh.mode to Auto",
        ),
        (
            Kind.INSTANCE,
            {"mesh": {"reflectors": {"threshold": 0}}},
            "spec.mesh.reflectors.threshold = 0 is not",
            "from 1 to 1000",
        ),
        (
            Kind.INSTANCE,
            {"mesh": {"reflectors": {"clusterID": "0.0.0.0"}}},
            "spec.mesh.reflectors.clusterID = '0.0.0.0' is no id",
            "such as",
        ),
        (
            Kind.INSTANCE,
            {"mesh": {"reflectors": {"controlPlane": "Never"}}},
            "spec.mesh.reflectors.controlPlane = 'Never' is not known",
            "Avoid, Allow, Prefer",
        ),
        (Kind.INSTANCE, {"asn": True}, "spec.asn = True is not a number in range", "from 1 to"),
        (Kind.INSTANCE, {"asn": 23456}, "spec.asn = 23456 is AS_TRANS", "real AS number"),
        (Kind.INSTANCE, {"podRoutes": "Maybe"}, "spec.podRoutes = 'Maybe' is not known", "BGP, Off"),
        (Kind.INSTANCE, {"serviceRoutes": True}, "spec.serviceRoutes = True", "Off, Announce, Import"),
        (Kind.INSTANCE, {"mesh": {"holdSeconds": 2}}, "spec.mesh.holdSeconds = 2 is shorter than BGP", "3 or more"),
        (Kind.INSTANCE, {"mesh": 9}, "spec.mesh = 9 is not an object", "such as `reflectors`"),
        (Kind.INSTANCE, {"serviceCIDRs": "10.96.0.0/12"}, "spec.serviceCIDRs = '10.96.0.0/12' is not a list", "a list"),
        (
            Kind.INSTANCE,
            {"serviceCIDRs": ["10.97.0.0/12"]},
            "serviceCIDRs[0] = '10.97.0.0/12' has bits",
            "10.96.0.0/12",
        ),
        (Kind.INSTANCE, {"serviceCIDRs": ["10.97.0.1"]}, "serviceCIDRs[0] = '10.97.0.1' is not a prefix", "length"),
        (Kind.INSTANCE, {"serviceCIDRs": ["10.0.0.0/255.0.0.0"]}, "is not a prefix", "length"),
        (Kind.INSTANCE, {"serviceCIDRs": ["10.0.0/8"]}, "is not a prefix", "such as"),
        (Kind.PEER, {"asn": 1}, "spec.address is missing", "one of address, addressFrom and defaultGateway"),
        (
            Kind.PEER,
            {**PEER, "address": "192.0.2.1/32"},
            "spec.address = '192.0.2.1/32' is not an IP address",
            "without",
        ),
        (Kind.PEER, {**PEER, "address": "fe80::1"}, "spec.address = 'fe80::1' is link-local", "set sourceInterface"),
        (Kind.PEER, {**PEER, "address": "169.254.1.1"}, "is no unicast address", "router's"),
        (Kind.PEER, {**PEER, "address": "2001:db8::1%e0"}, "is an address with a zone", "remove the zone"),
        (Kind.PEER, {**PEER, "address": "224.0.0.1"}, "is no unicast address", "router's"),
        (Kind.PEER, {**PEER, "address": "255.255.255.255"}, "is no unicast address", "router's"),
        (Kind.PEER, {**PEER, "address": "0.0.0.0"}, "is no unicast address", "router's"),
        (Kind.PEER, {**PEER, "address": "0.255.0.1"}, "is no unicast address", "router's"),
        (Kind.PEER, {**PEER, "address": 7}, "spec.address = 7 is not a text", "text"),
        (Kind.PEER, {"address": "192.0.2.1"}, "spec.asn is missing", "from 1 to"),
        (Kind.PEER, {**PEER, "port": 70000}, "spec.port = 70000 is not a number in range", "from 1 to 65535"),
        (Kind.PEER, {**PEER, "holdSeconds": -1}, "spec.holdSeconds = -1 is not a number in range", "from 0"),
        (Kind.PEER, {**PEER, "import": {"podCIDRs": "yes"}}, "spec.import.podCIDRs = 'yes' is not true or", "quotes"),
        (Kind.PEER, {**PEER, "import": {"allowed": [{}]}}, "spec.import.allowed[0].prefix is missing", "not empty"),
        (
            Kind.PEER,
            {**PEER, "import": {"allowed": [{"prefix": "10.0.0.0/8", "ge": 24, "le": 16}]}},
            "spec.import.allowed[0].le = 16 is not a number in range",
            "from 24 to 32",
        ),
        (
            Kind.PEER,
            {**PEER, "import": {"allowed": [{"prefix": "10.0.0.0/8", "ge": 4}]}},
            "spec.import.allowed[0].ge = 4 is not a number in range",
            "from 8 to 32",
        ),
        (
            Kind.PEER,
            {**PEER, "nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}},
            "spec.nodeSelector.matchExpressions[0].operator = 'Like' is no operator",
            "In, NotIn, Exists, DoesNotExist",
        ),
        (
            Kind.PEER,
            {**PEER, "nodeSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            "spec.nodeSelector.matchExpressions[0].values is missing",
            "at least one value",
        ),
        (
            Kind.PEER,
            {**PEER, "nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}},
            "spec.nodeSelector.matchExpressions[0].values = ['b'] does not go with operator Exists",
            "take none",
        ),
        (
            Kind.PEER,
            {**PEER, "nodeSelector": {"matchLabels": {"rack": 2}}},
            "spec.nodeSelector.matchLabels[rack] = 2 is not a text",
            "quotes",
        ),
        (
            Kind.INSTANCE,
            {"nodeSelector": {"matchLabels": {"rack no": "2"}}},
            "spec.nodeSelector.matchLabels[rack no] = '2' has a key that no label can have",
            "example.com/rack",
        ),
        (
            Kind.ADVERTISEMENT,
            {**SERVICE, "service": {"addresses": ["ClusterIP"], "selector": {"matchLabels": {"a": "b c"}}}},
            "spec.service.selector.matchLabels[a] = 'b c' is no value that a label can have",
            "letters, digits",
        ),
        (
            Kind.PEER,
            {**PEER, "nodeSelector": {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b", "c-"]}]}},
            "spec.nodeSelector.matchExpressions[0].values[1] = 'c-' is no value that a label can have",
            "at both ends",
        ),
        (
            Kind.PEER,
            {**PEER, "nodeSelector": {"matchExpressions": [{"key": "/a", "operator": "Exists"}]}},
            "spec.nodeSelector.matchExpressions[0].key = '/a' is no key of a label",
            "example.com/rack",
        ),
        (
            Kind.INSTANCE,
            {"mesh": {"passwordSecretRef": {"name": "bgpilot-system/mesh", "key": "md5"}}},
            "spec.mesh.passwordSecretRef.name is no name of a Secret",
            "in the agent's namespace",
        ),
        (
            Kind.PEER,
            {**PEER, "passwordSecretRef": {"name": "tor", "key": "rack a"}},
            "spec.passwordSecretRef.key is no key of a Secret",
            "letters, digits",
        ),
        (
            Kind.INSTANCE,
            {"mesh": {"reflectors": {"clusterID": "7"}}},
            "spec.mesh.reflectors.clusterID = '7' is no id in the form of an IPv4 address",
            "such as 192.0.2.1",
        ),
        (Kind.ADVERTISEMENT, {}, "spec.type is missing", "PodCIDR, Service"),
        (Kind.ADVERTISEMENT, {"type": "Pods"}, "spec.type = 'Pods' is not known", "PodCIDR, Service"),
        (Kind.ADVERTISEMENT, {"type": "Service"}, "spec.service.addresses is missing", "ClusterIP"),
        (
            Kind.ADVERTISEMENT,
            {"type": "Service", "service": {"addresses": []}},
            "spec.service.addresses = [] names no class of addresses",
            "ClusterIP",
        ),
        (
            Kind.ADVERTISEMENT,
            {"type": "Service", "service": {"addresses": ["VIP"]}},
            "spec.service.addresses[0] = 'VIP' is not known",
            "ExternalIP",
        ),
        (
            Kind.ADVERTISEMENT,
            {"type": "PodCIDR", "service": {"addresses": ["ClusterIP"]}},
            "spec.service = {'addresses': ['ClusterIP']} has no meaning with type PodCIDR",
            "set type to Service",
        ),
    ],
)
def test_nonsense_is_a_problem_that_says_field_value_and_fix(kind: Kind, spec: Any, message: str, fix: str) -> None:
    problem = read(kind, spec)

    assert isinstance(problem, Problem)
    assert (problem.reason, problem.subject) == ("malformedObject", f"{kind} x")
    assert message in problem.message
    assert fix in problem.fix


@pytest.mark.parametrize("ref", ["hunter2", {"name": "tor", "key": ["hunter2"]}, {"name": {"hunter2": 1}}, ["hunter2"]])
def test_a_password_in_the_wrong_place_is_not_repeated(ref: Any) -> None:
    problem = read(Kind.PEER, {**PEER, "passwordSecretRef": ref})

    assert isinstance(problem, Problem)
    assert "spec.passwordSecretRef" in problem.message
    assert "hunter2" not in repr(problem)


@pytest.mark.parametrize("ref", ["hunter2", {"name": "mesh", "key": ["hunter2"]}])
def test_a_mesh_password_in_the_wrong_place_is_not_repeated(ref: Any) -> None:
    problem = read(Kind.INSTANCE, {"mesh": {"passwordSecretRef": ref}})

    assert isinstance(problem, Problem)
    assert "spec.mesh.passwordSecretRef" in problem.message
    assert "hunter2" not in repr(problem)


def test_a_long_value_is_quoted_in_short() -> None:
    problem = read(Kind.INSTANCE, {"podRoutes": "B" * 10_000})

    assert isinstance(problem, Problem)
    assert len(problem.message) < 120


def test_members_that_are_not_known_are_left_to_newer_agents() -> None:
    assert read(Kind.PEER, {**PEER, "multihop": 3}) == read(Kind.PEER, PEER)
