"""What is written of an object is read again as the same record: of each kind, and of every object of the scenarios."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.cluster.parse import read_object
from agent.cluster.world import World
from agent.model import Applied, Key, Kind, Node, Secret, Service
from agent.scenario.objects import Writer
from bgp.model import PASSWORD_MAX_BYTES, Password
from tests.lab.scenario import Stage, load

FILES = sorted((Path(__file__).parents[2] / "scenarios").glob("*.yaml"))
META = {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": "7", "generation": 3}


def again(record, world=None):
    written = Writer(world or World()).write(record)
    return read_object(Kind(written["kind"]), json.dumps(written).encode()).outcome


def read(kind, **members):
    meta = {"name": "x", **META, **members.pop("metadata", {})}
    outcome = read_object(kind, json.dumps({"metadata": meta, **members}).encode()).outcome
    assert not hasattr(outcome, "fix"), outcome
    return outcome


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_object_of_a_scenario_is_read_again_as_it_was(file: Path):
    scenario = load(file)
    stage = Stage(scenario)
    stage.play(scenario.events)
    records = [
        record
        for kind in Kind
        if kind not in {Kind.SECRET, Kind.DAEMON_SET}
        for record in stage.world.records(kind).values()
    ]

    assert [_asked_for(again(record, stage.world)) for record in records] == [_asked_for(it) for it in records]


def _asked_for(record):
    """Of annotations there is a test below."""
    return replace(record, annotations=()) if isinstance(record, Node) else record


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "LoadBalancer"},
        {"type": "ExternalName"},
        {"clusterIPs": ["None"]},
        {"type": "LoadBalancer", "loadBalancerClass": "a/b", "externalTrafficPolicy": "Local"},
        {"internalTrafficPolicy": "Local", "clusterIPs": ["10.96.0.1", "fd02::1"], "externalIPs": ["192.0.2.1"]},
    ],
)
@pytest.mark.parametrize(
    "ingress",
    [
        [],
        [{"ip": "198.51.100.1"}, {"ip": "2001:db8::1"}],
        [{"ip": "198.51.100.1", "ipMode": "Proxy"}],
        [{"hostname": "lb.example.com"}],
        [{"hostname": "lb.example.com"}, {"ip": "198.51.100.2", "ipMode": "Proxy"}, {"ip": "198.51.100.1"}],
    ],
)
@pytest.mark.parametrize("asks", [None, "true", "false", "ClusterIP, LoadBalancerIP", "what?", "w" * 70])
def test_a_service_is_read_again_as_it_was(spec, ingress, asks):
    annotations = {} if asks is None else {"bgpilot.io/advertise": asks}
    meta = {"namespace": "default", "labels": {"a": "b"}, "annotations": annotations}
    service = read(Kind.SERVICE, metadata=meta, spec=spec, status={"loadBalancer": {"ingress": ingress}})

    assert again(service) == service


@pytest.mark.parametrize("address_type", ["IPv4", "IPv6", "FQDN"])
def test_an_endpoint_slice_is_read_again_as_it_was(address_type):
    endpoints = [
        {"nodeName": "a", "conditions": {"ready": True}},
        {"nodeName": "b", "conditions": {"ready": False}},
        {"nodeName": "c", "conditions": {"ready": False, "terminating": True, "serving": True}},
        {"nodeName": "d", "conditions": {"ready": True, "terminating": True}},
        {"conditions": {}},
    ]
    meta = {"namespace": "default", "labels": {"kubernetes.io/service-name": "web"}}
    found = read(Kind.ENDPOINT_SLICE, metadata=meta, addressType=address_type, endpoints=endpoints)

    assert again(found) == found


SELECTOR = {
    "matchLabels": {"rack": "a"},
    "matchExpressions": [{"key": "x", "operator": "In", "values": ["1", "2"]}, {"key": "y", "operator": "Exists"}],
}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"drain": {"onTaints": []}, "mesh": {"reflectors": {"nodeSelector": {}}}, "asnFrom": {"label": "as"}},
        {
            "nodeSelector": SELECTOR,
            "priority": -5,
            "asn": "64086.59905",
            "asnFrom": {"annotation": "example.com/as"},
            "routerIDFrom": {"label": "rid"},
            "listenPort": 1179,
            "listenAddresses": ["10.0.0.0/8", "fd00::/8"],
            "mesh": {
                "mode": "RouteReflector",
                "holdSeconds": 9,
                "passwordSecretRef": {"name": "mesh", "key": "md5"},
                "reflectors": {
                    "nodeSelector": SELECTOR,
                    "clusterID": "192.0.2.1",
                    "threshold": 7,
                    "controlPlane": "Prefer",
                },
            },
            "podRoutes": "Off",
            "serviceRoutes": "Import",
            "allowedExternalIPs": ["192.0.2.0/24"],
            "maximumPaths": 3,
            "damping": {"withdrawMilliseconds": 1234, "announceMilliseconds": 1},
            "drain": {"onTaints": ["example.com/going"]},
            "serviceCIDRs": ["10.96.0.0/12"],
        },
        {"routerID": "192.0.2.7"},
    ],
)
def test_an_instance_is_read_again_as_it_was(spec):
    found = read(Kind.INSTANCE, spec=spec)

    assert again(found) == found


ROUTER = {"asn": 65001, "address": "10.0.0.254"}


@pytest.mark.parametrize(
    "spec",
    [
        ROUTER,
        {"asn": "external", "defaultGateway": "Dual"},
        {"asn": "internal", "addressFrom": {"annotation": "example.com/tor"}, "shutdown": True},
        {"asn": 65001, "address": "fe80::1", "sourceInterface": "eth0", "extendedNextHop": True},
        {**ROUTER, "ttlSecurityHops": 2, "sourceAddress": "10.0.0.1", "passive": True, "shutdownText": "unused"},
        {
            **ROUTER,
            "localASN": 65009,
            "allowASIn": 2,
            "nodeSelector": SELECTOR,
            "port": 1179,
            "holdSeconds": 9,
            "keepaliveSeconds": 3,
            "connectRetrySeconds": 7,
            "passwordSecretRef": {"name": "tor", "key": "md5"},
            "ebgpMultihop": 4,
            "families": ["IPv6", "IPv4"],
            "maxPrefixes": {
                "ipv4": {"limit": 10, "warningPercent": 50, "restartSeconds": 30},
                "ipv6": {"limit": 5, "warningOnly": True},
            },
            "description": "rack 7",
            "shutdown": True,
            "shutdownText": "tea",
            "import": {"podCIDRs": True, "allowed": [{"prefix": "0.0.0.0/0", "le": 24}, {"prefix": "10.1.0.0/16"}]},
        },
    ],
)
def test_a_peer_is_read_again_as_it_was(spec):
    found = read(Kind.PEER, spec=spec, metadata={"labels": {"rack": "a"}})

    assert again(found) == found


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "PodCIDR", "nodeSelector": SELECTOR, "peerSelector": SELECTOR},
        {"type": "Prefix", "prefixes": ["203.0.113.0/24", "2001:db8:7::/48"]},
        {
            "type": "Service",
            "attributes": {
                "communities": ["no-export", "65000:120"],
                "largeCommunities": ["4200000001:1:20"],
                "localPreference": 0,
                "med": 0,
                "prepend": 3,
            },
            "service": {
                "addresses": ["ClusterIP"],
                "onRequest": ["ExternalIP", "LoadBalancerIP"],
                "selector": SELECTOR,
                "namespaceSelector": SELECTOR,
                "loadBalancerClasses": ["a/b"],
                "whenNoEndpoints": "Withdraw",
                "aggregation": {"ipv4": 24, "ipv6": 64},
            },
        },
    ],
)
def test_an_advertisement_is_read_again_as_it_was(spec):
    found = read(Kind.ADVERTISEMENT, spec=spec)

    assert again(found) == found


def test_a_node_is_read_again_as_it_was_without_annotations_that_nobody_asks_for():
    found = read(
        Kind.NODE,
        metadata={
            "labels": {"zone": "a"},
            "annotations": {"bgpilot.io/drain": "tea", "other.io/as": "1", "my/as": "2"},
        },
        spec={"podCIDRs": ["10.244.1.0/24"], "unschedulable": True, "taints": [{"key": "t"}]},
        status={
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "fd00::1"}],
            "conditions": [{"type": "Ready", "status": "Unknown"}],
        },
    )
    world = World()
    asks = read(Kind.INSTANCE, spec={"asnFrom": {"annotation": "my/as"}})
    world.apply(Applied(Key(Kind.INSTANCE, "", "x"), asks))
    back = again(found, world)

    assert dict(back.annotations) == {"bgpilot.io/drain": "tea", "my/as": "2"}
    assert {**_fields(back), "annotations": None} == {**_fields(found), "annotations": None}


def _fields(record):
    return {name: getattr(record, name) for name in record.__slots__}


# Secrets.


def test_of_a_secret_only_keys_that_are_used_are_written_and_no_value():
    world = World()
    peer = read(Kind.PEER, spec={**ROUTER, "passwordSecretRef": {"name": "tor", "key": "md5"}})
    world.apply(Applied(Key(Kind.PEER, "", "x"), peer))
    secret = Secret(name="tor", values=(("md5", Password("swordfish")), ("other", Password("marlin"))))
    written = Writer(world).write(secret)

    assert written["data"].keys() == {"md5"}
    assert b64decode(written["data"]["md5"]) == b"redacted"


@pytest.mark.parametrize("value", ["", "x" * (PASSWORD_MAX_BYTES + 7)])
def test_the_stand_in_for_a_password_that_cannot_be_used_can_be_used_as_little(value):
    world = World()
    peer = read(Kind.PEER, spec={**ROUTER, "passwordSecretRef": {"name": "tor", "key": "md5"}})
    world.apply(Applied(Key(Kind.PEER, "", "x"), peer))

    ((key, stand_in),) = again(Secret(name="tor", values=(("md5", Password(value)),)), world).values

    assert (key, len(stand_in.reveal())) == ("md5", len(value))


def test_a_secret_that_does_not_exist_is_no_object():
    assert Writer(World()).write(Secret(name="tor", found=False)) is None


def test_a_service_whose_addresses_stay_from_a_load_balancer_is_read_again_as_it_was():
    service = Service(
        namespace="default", name="x", external_ips=(ip_address("192.0.2.1"),), left_out=(("lb.x", "noLoadBalancer"),)
    )

    assert again(service) == service
