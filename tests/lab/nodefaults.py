"""Faults of the node, its Node object, the cluster and the API server, and of ExaBGP."""

from __future__ import annotations

from collections.abc import Mapping

from tests.lab import harms
from tests.lab.fault import PEERS, Fault
from tests.lab.harms import node_with
from tests.lab.minicluster import custom, node_object, slice_object
from tests.lab.ward import LEARNED, VIP

SELECTS_NOTHING = custom(
    "BGPAdvertisement",
    "idle",
    {"type": "Service", "service": {"addresses": ["ClusterIP"], "selector": {"matchLabels": {"a": "b"}}}},
)
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"

_SERVICE = ("explain", "default/web")
_NODE = ("explain", "node-2")
_ROUTE = ("explain", LEARNED)
_UP = r'bgpilot_bgp_peer_up\{peer="172\.18\.0\.1",.*'
_PROBLEM = r'bgpilot_problems\{{reason="{}"\}}'
_DEGRADED = ("BgpilotNodeDegraded",)
_OUT_OF_REACH = ("BgpilotAgentDown node",)
"""Prometheus does not get there either: the one alert that needs nothing from there."""
_RECONCILE = ("BgpilotReconcileErrors",)
_TRIED_AGAIN = r"bgpilot_reconcile_errors_total\{.*"
_AGE = "bgpilot_kubernetes_picture_age_seconds"
_UNHEARD = r"bgpilot_kubernetes_watch_(restarts_total|healthy)\{.*"

NODE_FAULTS: Mapping[str, Fault] = {
    "two Nodes with one address": Fault(
        lambda ward: ward.written(node_with(ward, addresses=ward.other.addresses)),
        "is also that of Node node-1",
        _NODE,
        "is also that of Node node-1, which is older and keeps it",
        "Give Node node-2 an address of its own",
        _PROBLEM.format("nodeAddressConflict"),
        _DEGRADED,
    ),
    "two Nodes with one pod CIDR": Fault(
        lambda ward: ward.written(node_with(ward, cidrs=ward.other.pod_cidrs.values())),
        "overlaps one of Node node-1",
        _NODE,
        "pod CIDR 10.244.1.0/24 of Node node-2 overlaps",
        "register again with a pod CIDR of its own",
        _PROBLEM.format("podCIDRConflict"),
        _DEGRADED,
    ),
    "Node without pod CIDR": Fault(
        lambda ward: ward.written(node_object(ward.node) | {"spec": {}}),
        "has no spec.podCIDRs",
        _NODE,
        "no route to its pods is announced",
        "--allocate-node-cidrs",
        _PROBLEM.format("nodeWithoutPodCIDR"),
        _DEGRADED,
    ),
    "link down": Fault(
        harms.link_down,
        "node/node-1 .*: 172.18.0.11 has been silent",
        PEERS,
        "172.18.0.1 has been silent for the hold time",
        "if its link and ours are up",
        _UP,
        _OUT_OF_REACH,
    ),
    "address removed": Fault(
        harms.address_removed,
        "this node does not have 172.18.0.12",
        PEERS,
        "which it is to dial from",
        "Add it again",
        _UP,
        _OUT_OF_REACH,
    ),
    "foreign route on our prefix": Fault(
        harms.foreign_route,
        r"conflict \(held by protocol 4 \(static\)\)",
        _ROUTE,
        "kernelConflict",
        "Remove the other route",
        "bgpilot_fib_routes_conflicting",
        _RECONCILE,
        goes_on=_TRIED_AGAIN,
    ),
    "our routes flushed": Fault(
        harms.flushed,
        r"routes of this node were found other than it had left them \d s ago, and put right: .*\d missing",
        ("events",),
        "drift_repaired .* are put right: .*missing",
        "",
        r'bgpilot_fib_drift_routes_total\{kind="missing"\}',
        ("BgpilotFibDrift",),
        goes_on=r'bgpilot_fib_drift_routes_total\{kind="missing"\}',
        lasts=False,
    ),
    "kernel refusing a next hop": Fault(
        harms.next_hop_refused,
        "203.0.113.0/24: (failing|refused)",
        _ROUTE,
        "kernelRefused",
        r"ip route show match 172\.18\.0\.99",
        "bgpilot_fib_routes_failing",
        _RECONCILE,
        goes_on=_TRIED_AGAIN,
    ),
    "ip_forward off": Fault(
        harms.not_forwarding,
        "net.ipv4.ip_forward is 0",
        _NODE,
        "the kernel drops what comes here for pods",
        "sysctl -w net.ipv4.ip_forward=1",
        _PROBLEM.format("forwardingOff"),
        _DEGRADED,
    ),
    "API server away": Fault(
        harms.api_away,
        "changes of .*Node, Service.* are not heard",
        ("status",),
        "not watched for .*apiUnreachable",
        "",
        _UNHEARD,
        ("BgpilotPictureStale",),
        goes_on=_AGE,
    ),
    "RBAC verb missing": Fault(
        harms.forbidden,
        r'Fix: Grant .*resources \["nodes"\]',
        ("status",),
        "not watched for .*apiForbidden",
        "",
        _UNHEARD,
        ("BgpilotPictureStale",),
        goes_on=_AGE,
    ),
    "malformed resource": Fault(
        lambda ward: ward.written(custom("BGPPeer", "bad", {"address": "nowhere", "asn": 1})),
        "BGPPeer bad: spec.address = 'nowhere' is not an IP address",
        ("explain", "bad"),
        "spec.address = 'nowhere' is not an IP address",
        "write an IPv4 or IPv6 address",
        _PROBLEM.format("malformedObject"),
        ("BgpilotConfigStale objects",),
    ),
    "advertisement selecting nothing": Fault(
        lambda ward: ward.written(SELECTS_NOTHING),
        "BGPAdvertisement idle selects no Service",
        ("status",),
        "BGPAdvertisement idle selects no Service",
        "Compare spec.service.selector",
        _PROBLEM.format("advertisementSelectsNothing"),
        ("BgpilotNotAnnounced objects",),
    ),
    "service without local endpoint": Fault(
        lambda ward: ward.written(slice_object("web", {})),
        f"Service default/web: {VIP} is not announced for it: no endpoint of its IP family",
        _SERVICE,
        f"{VIP} is not announced here: no endpoint of its IP family",
        "Run a ready pod of the Service",
        r'bgpilot_services_not_advertised\{reason="noEndpoint"\}',
        ("BgpilotNotAnnounced services",),
    ),
    "service with endpoints on an excluded node only": Fault(
        lambda ward: ward.written(
            node_object(ward.other, labels={EXCLUDED: ""}), slice_object("web", {ward.other.name: ["10.244.1.9"]})
        ),
        f"Service default/web: {VIP} is not announced for it: its endpoints are on nodes with the label",
        _SERVICE,
        f"{VIP} is not announced here: its endpoints are on nodes with the label",
        "run a ready pod on a node that announces",
        r'bgpilot_services_not_advertised\{reason="endpointsExcluded"\}',
        ("BgpilotNotAnnounced services",),
    ),
    "service with endpoints on other nodes only": Fault(
        lambda ward: ward.written(slice_object("web", {ward.other.name: ["10.244.1.9"]})),
        "PASS .*not announced from here: noLocalEndpoint 1",
        _SERVICE,
        "its spec.internalTrafficPolicy is Local",
        "run a ready pod of the Service here",
        r'bgpilot_services_not_advertised\{reason="noLocalEndpoint"\}',
        (),  # as the rules say: other nodes announce it
    ),
    "excluded node": Fault(
        lambda ward: ward.written(node_object(ward.node, labels={EXCLUDED: ""})),
        "FAIL .*exclude-from-external-load-balancers",
        _SERVICE,
        "nodeExcluded",
        "Remove the label",
        _PROBLEM.format("nodeExcluded"),
        ("BgpilotNotAnnounced node",),
    ),
    "ExaBGP dead and restarting": Fault(
        harms.exabgp_killed,
        "ExaBGP ended with signal SIGKILL",
        PEERS,
        "ExaBGP ended with signal SIGKILL",
        "",
        "bgpilot_exabgp_restarts_total",
        ("BgpilotPeerFlapping",),
        goes_on=r"bgpilot_(exabgp_restarts|bgp_peer_flaps)_total.*",
        lasts=False,
    ),
    "watch silent": Fault(
        harms.api_silent,
        "changes of BGPAdvertisement, .*, ServiceCIDR are not heard.* takes no connection",
        ("status",),
        "not watched for .*(apiUnreachable|streamSilent)",
        "",
        _UNHEARD,
        ("BgpilotPictureStale",),
        goes_on=_AGE,
    ),
}
