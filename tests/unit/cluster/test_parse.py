"""What becomes of the JSON of core objects: canonical, reduced records, or a Problem that helps; never an exception."""

import json
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cluster.parse import ANNOTATION_MAX, UNNAMED, Parsed, read_object
from agent.model import (
    EndpointSlice,
    Key,
    Kind,
    Node,
    Problem,
    Secret,
    Service,
    ServiceCidr,
    TrafficPolicy,
)
from bgp.model import Family


def read(kind: Kind, body: dict[str, Any], namespace: str = "") -> Parsed:
    meta = {"name": "x", **({"namespace": namespace} if namespace else {}), **body.pop("metadata", {})}
    return read_object(kind, json.dumps({"metadata": meta, **body}).encode())


def problem(parsed: Parsed) -> Problem:
    assert isinstance(parsed.outcome, Problem)
    return parsed.outcome


def test_a_node_is_reduced_to_what_routing_needs() -> None:
    parsed = read(
        Kind.NODE,
        {
            "metadata": {
                "uid": "u1",
                "resourceVersion": "7",
                "creationTimestamp": "2024-05-01T10:00:00Z",
                "labels": {"rack": "r2", "a": "b"},
                "managedFields": [{"manager": "kubelet"}],
            },
            "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "FD00:0:0:1::/64"]},
            "status": {
                "conditions": [{"type": "Ready"}],
                "addresses": [
                    {"type": "Hostname", "address": "x"},
                    {"type": "InternalIP", "address": "192.168.0.7"},
                    {"type": "ExternalIP", "address": "203.0.113.7"},
                    {"type": "InternalIP", "address": "2001:DB8:0::7"},
                ],
            },
        },
    )

    assert parsed == (
        Key(Kind.NODE, "", "x"),
        "7",
        Node(
            name="x",
            uid="u1",
            created=1714557600.0,
            addresses=(IPv4Address("192.168.0.7"), IPv6Address("2001:db8::7")),
            pod_cidrs=(ip_network("10.244.1.0/24"), ip_network("fd00:0:0:1::/64")),
            labels=(("a", "b"), ("rack", "r2")),
        ),
    )


def test_annotations_of_a_node_are_kept_when_they_are_short() -> None:
    annotations = {"b": "x" * ANNOTATION_MAX, "a": "", "long": "x" * (ANNOTATION_MAX + 1)}

    assert read(Kind.NODE, {"metadata": {"annotations": annotations}}).outcome == Node(
        name="x", annotations=(("a", ""), ("b", "x" * ANNOTATION_MAX))
    )


@pytest.mark.parametrize(
    ("conditions", "ready"),
    [
        (None, True),
        ([{"type": "Ready", "status": "True"}, {"type": "MemoryPressure", "status": "Unknown"}], True),
        ([{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": "False"}], False),
        ([{"type": "Ready", "status": "Unknown"}], False),
    ],
)
def test_a_node_is_ready_unless_its_condition_says_otherwise(conditions: Any, ready: bool) -> None:
    assert read(Kind.NODE, {"status": {"conditions": conditions}}).outcome == Node(name="x", ready=ready)


@pytest.mark.parametrize("cordoned", [True, False, None])
def test_a_cordoned_node_is_known(cordoned: bool | None) -> None:
    assert read(Kind.NODE, {"spec": {"unschedulable": cordoned}}).outcome == Node(name="x", cordoned=bool(cordoned))


def test_a_node_before_podcidrs_existed_has_its_one_pod_cidr() -> None:
    parsed = read(Kind.NODE, {"spec": {"podCIDR": "10.244.1.0/24"}})

    assert parsed.outcome == Node(name="x", pod_cidrs=(ip_network("10.244.1.0/24"),))


@pytest.mark.parametrize("body", [{}, {"spec": None, "status": None}, {"spec": {"podCIDRs": None}, "status": {}}])
def test_a_node_without_pod_cidr_and_address_is_a_node(body: dict[str, Any]) -> None:
    assert read(Kind.NODE, body).outcome == Node(name="x")


@pytest.mark.parametrize("cidr", ["10.244.1.0/24", "10.244.1.77/24", "010.244.001.0/24", "::ffff:10.244.1.0/120"])
def test_spellings_of_a_pod_cidr_that_the_api_accepts_are_one_prefix(cidr: str) -> None:
    assert read(Kind.NODE, {"spec": {"podCIDRs": [cidr]}}).outcome == Node(
        name="x", pod_cidrs=(ip_network("10.244.1.0/24"),)
    )


def test_a_node_address_that_is_none_is_a_problem_with_name_field_value_and_fix() -> None:
    parsed = read(Kind.NODE, {"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.256"}]}})

    assert problem(parsed) == Problem(
        "malformedObject",
        "Node x",
        "status.addresses[0].address = '10.0.0.256' is not an IP address",
        "Mend the object: write an IPv4 or IPv6 address without a prefix length.",
    )


def test_a_service_has_its_addresses_by_class() -> None:
    parsed = read(
        Kind.SERVICE,
        {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "type": "LoadBalancer",
                "clusterIP": "10.96.0.5",
                "clusterIPs": ["10.96.0.5", "fd00:96::5"],
                "externalIPs": ["203.0.113.5"],
                "externalTrafficPolicy": "Local",
                "internalTrafficPolicy": "Cluster",
            },
            "status": {
                "loadBalancer": {
                    "ingress": [
                        {"ip": "198.51.100.1"},
                        {"ip": "198.51.100.2", "ipMode": "VIP"},
                        {"ip": "198.51.100.3", "ipMode": "Proxy"},
                        {"hostname": "lb.example"},
                    ]
                }
            },
        },
        "default",
    )

    assert parsed.outcome == Service(
        namespace="default",
        name="x",
        cluster_ips=(IPv4Address("10.96.0.5"), IPv6Address("fd00:96::5")),
        external_ips=(IPv4Address("203.0.113.5"),),
        load_balancer_ips=(IPv4Address("198.51.100.1"), IPv4Address("198.51.100.2")),
        external_policy=TrafficPolicy.LOCAL,
        labels=(("app", "web"),),
        left_out=(("198.51.100.3", "ipModeProxy"), ("lb.example", "hostnameOnly")),
    )


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", None])
def test_a_service_that_is_no_load_balancer_has_no_address_of_one_and_says_what_is_left_over(kind: str | None) -> None:
    spec = {"clusterIPs": ["10.96.0.5"], **({"type": kind} if kind else {})}
    ingress = [{"ip": "198.51.100.1"}, {"hostname": "lb.example"}]

    parsed = read(Kind.SERVICE, {"spec": spec, "status": {"loadBalancer": {"ingress": ingress}}}, "default")

    assert parsed.outcome == Service(
        namespace="default",
        name="x",
        cluster_ips=(IPv4Address("10.96.0.5"),),
        left_out=(("198.51.100.1", "noLoadBalancer"), ("lb.example", "noLoadBalancer")),
    )


def test_an_address_of_a_former_load_balancer_that_the_service_has_otherwise_is_not_left_over() -> None:
    spec = {"clusterIPs": ["10.96.0.5"], "externalIPs": ["198.51.100.1"]}

    parsed = read(
        Kind.SERVICE, {"spec": spec, "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}}, "default"
    )

    assert isinstance(parsed.outcome, Service)
    assert parsed.outcome.left_out == ()


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"clusterIP": "None", "clusterIPs": ["None"]}, "headlessService"),
        ({"clusterIP": "None"}, "headlessService"),
        ({"type": "ExternalName", "externalName": "example.org"}, "externalName"),
    ],
)
def test_headless_and_external_name_services_have_no_address_and_say_why(spec: dict[str, Any], why: str) -> None:
    parsed = read(Kind.SERVICE, {"spec": {**spec, "externalIPs": ["203.0.113.5"]}}, "default")

    assert parsed.outcome == Service(namespace="default", name="x", left_out=(("ClusterIP", why),))


def test_a_traffic_policy_that_is_not_known_is_a_problem() -> None:
    parsed = read(Kind.SERVICE, {"spec": {"internalTrafficPolicy": "Near"}}, "default")

    assert problem(parsed).subject == "Service default/x"
    assert problem(parsed).message == "spec.internalTrafficPolicy = 'Near' is not known"


def endpoint(node: str | None, **conditions: bool | None) -> dict[str, Any]:
    return {"addresses": ["10.244.0.1"], "conditions": conditions, "nodeName": node}


def slice_of(*endpoints: dict[str, Any], address_type: str = "IPv4") -> EndpointSlice:
    labels = {"kubernetes.io/service-name": "web"}
    parsed = read(
        Kind.ENDPOINT_SLICE,
        {"metadata": {"labels": labels}, "addressType": address_type, "endpoints": list(endpoints)},
        "default",
    )
    assert isinstance(parsed.outcome, EndpointSlice)
    return parsed.outcome


def test_an_endpoint_slice_is_reduced_to_the_nodes_of_its_usable_endpoints() -> None:
    found = slice_of(
        endpoint("n1", ready=True, serving=True, terminating=False),
        endpoint("n1", ready=True),
        endpoint("n2", ready=False, serving=True, terminating=True),
        endpoint("n3", ready=False, serving=False, terminating=True),
        endpoint("n4", ready=False, serving=False),
        endpoint(None, ready=True),
    )

    assert found == EndpointSlice(
        namespace="default",
        name="x",
        service="web",
        family=Family.IPV4,
        ready=frozenset({"n1", ""}),
        serving=frozenset({"n2"}),
        unready=frozenset({"n4"}),
    )


@pytest.mark.parametrize("conditions", [{}, {"ready": None}, {"ready": None, "serving": None, "terminating": None}])
def test_an_endpoint_that_does_not_say_whether_it_is_ready_is_ready(conditions: dict[str, Any]) -> None:
    found = slice_of(endpoint("n1", **conditions), {"addresses": [], "nodeName": "n2"})

    assert (found.ready, found.serving) == ({"n1", "n2"}, frozenset())


def test_names_are_no_endpoints() -> None:
    found = slice_of(endpoint("n1", ready=True), address_type="FQDN")

    assert (found.family, found.ready) == (None, frozenset())


@pytest.mark.parametrize("body", [{"endpoints": None}, {}])
def test_a_slice_without_service_and_endpoints_belongs_to_none(body: dict[str, Any]) -> None:
    parsed = read(Kind.ENDPOINT_SLICE, {"addressType": "IPv6", **body}, "default")

    assert parsed.outcome == EndpointSlice(namespace="default", name="x", service="", family=Family.IPV6)


def test_a_service_cidr_has_its_ranges() -> None:
    parsed = read(Kind.SERVICE_CIDR, {"spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]}})

    assert parsed.outcome == ServiceCidr(name="x", cidrs=(ip_network("10.96.0.0/16"), ip_network("fd00:96::/112")))


def test_a_secret_gives_its_data_decoded_and_without_the_line_end_that_echo_leaves() -> None:
    parsed = read(Kind.SECRET, {"data": {"b": "aHVudGVyMg==", "a": "aHVudGVyMwo=", "binary": "/w=="}}, "agent")

    assert isinstance(parsed.outcome, Secret)
    assert parsed.key == Key(Kind.SECRET, "agent", "x")
    values = [(name, value.reveal()) for name, value in parsed.outcome.values]
    assert values == [("a", "hunter3"), ("b", "hunter2"), ("binary", "")]


@pytest.mark.parametrize("data", [{"password": "hunter2!"}, {"password": "hunter2\x80"}, {"password": 815}, "hunter2!"])
def test_a_secret_that_does_not_decode_never_shows_its_value(data: Any) -> None:
    parsed = read(Kind.SECRET, {"data": data}, "agent")

    assert "hunter2" not in repr(parsed)
    assert "815" not in repr(parsed)
    assert "data" in problem(parsed).message


def test_a_member_of_another_type_than_promised_is_a_problem_of_that_object() -> None:
    parsed = read(Kind.NODE, {"metadata": {"resourceVersion": "9"}, "spec": {"podCIDRs": ["10.0.0.0/24", 7]}})

    assert (parsed.key, parsed.revision) == (Key(Kind.NODE, "", "x"), "9")
    assert problem(parsed).message == "spec.podCIDRs[1]: Expected `str`, got `int`"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.dictionaries(
    st.sampled_from(
        [
            "name",
            "namespace",
            "labels",
            "resourceVersion",
            "creationTimestamp",
            "podCIDRs",
            "addresses",
            "clusterIPs",
            "externalIPs",
            "type",
            "asn",
            "address",
            "import",
            "allowed",
            "prefix",
            "ge",
            "le",
            "nodeSelector",
            "matchLabels",
            "matchExpressions",
            "operator",
            "values",
            "service",
            "selector",
            "cidrs",
            "endpoints",
            "conditions",
            "ready",
            "loadBalancer",
            "ingress",
            "passwordSecretRef",
            "mesh",
            "holdSeconds",
            "addressType",
        ]
    ),
    JSON,
    max_size=5,
)


@given(
    kind=st.sampled_from(list(Kind)),
    body=st.fixed_dictionaries(
        {}, optional={"metadata": JSON | MEMBERS, "spec": JSON | MEMBERS, "status": JSON | MEMBERS, "data": JSON}
    ),
)
def test_no_json_raises(kind: Kind, body: dict[str, Any]) -> None:
    parsed = read_object(kind, json.dumps(body).encode())

    assert parsed.key.kind is kind
    assert parsed.key.name


@given(kind=st.sampled_from(list(Kind)), body=st.binary(max_size=64))
def test_no_bytes_raise(kind: Kind, body: bytes) -> None:
    assert read_object(kind, body).key.kind is kind


@pytest.mark.parametrize(
    "body", [b'{"metadata":{"name":"\xff"}}', b'{"spec":' + b"[" * 100_000 + b"]" * 100_000 + b"}"]
)
def test_bad_utf8_and_bottomless_nesting_are_problems(body: bytes) -> None:
    parsed = read_object(Kind.PEER, body)

    assert parsed.key == Key(Kind.PEER, "", UNNAMED)
    assert problem(parsed).reason == "malformedObject"
