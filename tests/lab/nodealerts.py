"""Alerts of nodes: each in the case that it is for, and in one that is near and is none."""

from __future__ import annotations

from tests.lab.alertcase import AGENT_DOWN, INFO, OF_ALL, OF_NODE, ROUTER_DOWN, Case, alert, node, peer

NODE_CASES = (
    # BgpilotFibDrift
    Case(
        "somebody removes a route of ours every two minutes",
        {node("fib_drift_routes_total", kind="missing"): " ".join(f"{count}x3" for count in range(30))},
        alert("FibDrift", OF_NODE),
        before="15m",
    ),
    Case(
        "a link bounces and takes five hundred routes along",
        {node("fib_drift_routes_total", kind="missing"): "0x20 500x60"},
    ),
    # BgpilotReconcileErrors
    Case(
        "the kernel refuses a route each minute",
        {node("reconcile_errors_total", driver="kernel", reason="kernelRefused"): "0x10 1+0.5x60"},
        alert("ReconcileErrors", OF_NODE, driver="kernel", reason="kernelRefused"),
        before="15m",
    ),
    Case(
        "the kernel refuses a route for a while and then takes it",
        {node("reconcile_errors_total", driver="kernel", reason="kernelRefused"): "0x10 1 2 3 4 4x60"},
    ),
    # BgpilotConfigStale
    Case(
        "ExaBGP does not take the configuration",
        {node("config_last_reload_success"): "1x10 0x60"},
        alert("ConfigStale", OF_NODE, scope="exabgp"),
        before="10m",
    ),
    Case("ExaBGP takes the next one", {node("config_last_reload_success"): "1x10 0x8 1x60"}),
    Case(
        "an object is not understood, which every node sees",
        {
            f'bgpilot_problems{{job="bgpilot",instance="{name}",reason="malformedObject"}}': "_x10 1x60"
            for name in ("n1", "n2", "n3")
        },
        alert("ConfigStale", OF_ALL, reason="malformedObject", scope="objects"),
        before="9m30s",
    ),
    Case("other problems are none of the configuration", {node("problems", reason="noPeer"): "1x60"}),
    # BgpilotNodeDegraded
    Case(
        "two nodes have the pod CIDRs of others",
        {
            f'bgpilot_degraded{{job="bgpilot",instance="{name}",reason="podCIDRConflict"}}': "_x10 1x60"
            for name in ("n1", "n2")
        },
        alert("NodeDegraded", OF_ALL, reason="podCIDRConflict"),
        before="9m30s",
    ),
    Case("a node does not forward for four minutes", {node("degraded", reason="forwardingOff"): "_x10 1x8 stale _x60"}),
    Case(
        "sessions between nodes have no password",
        {node("degraded", reason="secretMissing"): "1x60"},
        alert("NodeDegraded", OF_ALL, reason="secretMissing"),
    ),
    Case(
        "a router's session without a password is told of once, as such",
        {
            node("degraded", reason="secretMissing"): "1x60",
            peer("bgp_peer_held", reason="secretMissing"): "1x60",
            peer("bgp_peer_up"): "0x60",
            **INFO,
        },
        ROUTER_DOWN,
    ),
    Case(
        "a refused route is told of by BgpilotReconcileErrors",
        {
            node("degraded", reason="kernelRefused"): "1x60",
            node("reconcile_errors_total", driver="kernel", reason="kernelRefused"): "1+0.5x60",
        },
        alert("ReconcileErrors", OF_NODE, driver="kernel", reason="kernelRefused"),
    ),
    # BgpilotNotAnnounced
    Case(
        "two Services have no endpoint anywhere, and all nodes see it",
        {
            f'bgpilot_services_not_advertised{{job="bgpilot",instance="{name}",reason="noEndpoint"}}': "_x10 2x60"
            for name in ("n1", "n2")
        },
        alert("NotAnnounced", OF_ALL, severity="info", reason="noEndpoint", scope="services"),
        before="19m30s",
    ),
    Case(
        "a Service is announced by other nodes only",
        {node("services_not_advertised", reason="noLocalEndpoint"): "1x60"},
    ),
    Case(
        "a node is excluded by label",
        {node("problems", reason="nodeExcluded"): "_x10 1x60"},
        alert("NotAnnounced", OF_NODE, severity="info", reason="nodeExcluded", scope="node"),
        before="19m30s",
    ),
    Case("kubeadm has excluded a control plane", {node("problems", reason="controlPlaneExcluded"): "1x60"}),
    Case(
        "a selector selects nothing, and all nodes see it",
        {
            f'bgpilot_problems{{job="bgpilot",instance="{name}",reason="nodeSelectorSelectsNothing"}}': "_x10 1x60"
            for name in ("n1", "n2")
        },
        alert("NotAnnounced", OF_ALL, severity="info", reason="nodeSelectorSelectsNothing", scope="objects"),
        before="19m30s",
    ),
    # BgpilotPictureStale
    Case(
        "the API server is away",
        {node("kubernetes_picture_age_seconds"): "20x10 30+30x60"},
        alert("PictureStale", OF_NODE),
        before="11m",
    ),
    Case("watches are quiet", {node("kubernetes_picture_age_seconds"): "0 30 60 30 0 60 0 120 0x60"}),
    Case(
        "an agent never gets a picture",
        {
            node("phase", phase="LISTING"): "1x60",
            node("uptime_seconds"): "0+30x60",
            node("kubernetes_picture_age_seconds"): " ".join(["NaN"] * 61),
        },
        alert("PictureStale", OF_NODE, phase="LISTING"),
        before="7m",
    ),
    Case(
        "an agent lists for a minute",
        {
            node("phase", phase="LISTING"): "1x2 _x60",
            node("phase", phase="IN_SYNC"): "_x2 1x60",
            node("uptime_seconds"): "0+30x60",
        },
    ),
    # BgpilotAgentDown
    Case(
        "an agent does not answer",
        {'up{job="bgpilot",instance="n1"}': "1x10 0x60"},
        AGENT_DOWN,
        before="10m",
    ),
    Case("an agent does not answer for four minutes", {'up{job="bgpilot",instance="n1"}': "1x10 0x8 1x60"}),
    Case(
        "nobody is scraped",
        {'up{job="bgpilot",instance="n1"}': "1x10 _x60", 'up{job="other",instance="n1"}': "1x60"},
        alert("AgentDown", OF_ALL, severity="critical", scope="cluster"),
    ),
    # BgpilotLatencyHigh
    Case(
        "Services are announced late",
        {
            node("service_advertisement_latency_seconds_bucket", le="5.0"): "0+1x60",
            node("service_advertisement_latency_seconds_bucket", le="30.0"): "0+10x60",
            node("service_advertisement_latency_seconds_bucket", le="+Inf"): "0+10x60",
        },
        alert("LatencyHigh", OF_NODE, scope="services"),
        before="10m",
    ),
    Case(
        "routes are installed late",
        {
            node("route_programming_latency_seconds_bucket", le="5.0"): "0+1x60",
            node("route_programming_latency_seconds_bucket", le="30.0"): "0+10x60",
            node("route_programming_latency_seconds_bucket", le="+Inf"): "0+10x60",
        },
        alert("LatencyHigh", OF_NODE, scope="routes"),
        before="10m",
    ),
    Case(
        "one route in twenty is late",
        {
            node("route_programming_latency_seconds_bucket", le="5.0"): "0+19x60",
            node("route_programming_latency_seconds_bucket", le="30.0"): "0+20x60",
            node("route_programming_latency_seconds_bucket", le="+Inf"): "0+20x60",
        },
    ),
    Case(
        "a full table is learned within five minutes",
        {
            node("route_programming_latency_seconds_bucket", le="5.0"): "0x70",
            node("route_programming_latency_seconds_bucket", le="30.0"): "0 1000x10 1000x60",
            node("route_programming_latency_seconds_bucket", le="+Inf"): "0 1000x10 1000x60",
        },
    ),
)
