"""Series, and what must come of them: each alert in the case that it is for, and in one that is near and is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NODE = 'job="bgpilot",instance="n1"'
PEER = f'{NODE},peer="10.0.0.1",peer_as="64600"'
INFO = {f'bgpilot_bgp_peer_info{{{PEER},description="tor a",peer_type="external"}}': "1x120"}
BUILD = {f'bgpilot_build_info{{{NODE},version="1"}}': "1x120"}
OF_PEER = {"job": "bgpilot", "instance": "n1", "peer": "10.0.0.1", "peer_as": "64600"}
OF_NODE = {"job": "bgpilot", "instance": "n1"}
WARNING = {"severity": "warning"}
UP = {'up{job="bgpilot",instance="n1"}': "1x120"}
MINUTE = 2
"""Values of a series: one each 30 s."""


@dataclass(frozen=True, slots=True)
class Case:
    claim: str
    series: Mapping[str, str]
    """Of promtool: `0x4 1+1x2` is 0 five times, then 1 2 3; `_` is a value that is missing."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the alert that fires at the end, and it alone; empty: nothing has fired at any time."""
    at: str = "30m"
    before: str | None = None
    """Until then nothing has fired."""


def peer(metric: str, **more: str) -> str:
    return _series(metric, PEER, more)


def node(metric: str, **more: str) -> str:
    return _series(metric, NODE, more)


def _series(metric: str, whose: str, more: Mapping[str, str]) -> str:
    return f"bgpilot_{metric}{{{','.join([whose, *matchers(more)])}}}"


def matchers(labels: Mapping[str, str]) -> list[str]:
    return [f'{name}="{value}"' for name, value in labels.items()]


CASES = (
    # BgpilotPeerDown
    Case(
        "a router's session is away for three minutes",
        {peer("bgp_peer_up"): "1x10 0x50", **INFO},
        {"alertname": "BgpilotPeerDown", **OF_PEER, "description": "tor a", **WARNING, "scope": "router"},
        before="8m",
    ),
    Case("a router's session is away for two minutes and back", {peer("bgp_peer_up"): "1x10 0x4 1x50", **INFO}),
    Case(
        "a router is shut down in its BGPPeer",
        {peer("bgp_peer_up"): "0x60", peer("bgp_peer_held", reason="shutdown"): "1x60", **INFO},
    ),
    Case(
        "a router has no session because its Secret is missing",
        {peer("bgp_peer_up"): "0x60", peer("bgp_peer_held", reason="secretMissing"): "1x60", **INFO},
        {"alertname": "BgpilotPeerDown", **OF_PEER, "description": "tor a", **WARNING, "scope": "router"},
    ),
    Case(
        "nodes miss sessions with other nodes",
        {
            node("degraded", reason="sessionDown"): "1x60",
            'bgpilot_degraded{job="bgpilot",instance="n2",reason="sessionDown"}': "1x60",
        },
        {"alertname": "BgpilotPeerDown", "job": "bgpilot", **WARNING, "scope": "nodes"},
        before="4m",
    ),
    Case("a node misses one for four minutes", {node("degraded", reason="sessionDown"): "1x8 stale _x60"}),
    Case(
        "a node that misses a router is told of once, as such",
        {node("degraded", reason="sessionDown"): "1x60", peer("bgp_peer_up"): "0x60", **INFO},
        {"alertname": "BgpilotPeerDown", **OF_PEER, "description": "tor a", **WARNING, "scope": "router"},
    ),
    # BgpilotNodeIsolated
    Case(
        "a node has no session at all",
        {node("degraded", reason="noSession"): "_x10 1x60"},
        {"alertname": "BgpilotNodeIsolated", **OF_NODE, "reason": "noSession", "severity": "critical"},
        before="6m30s",
    ),
    Case("a node has none for a minute", {node("degraded", reason="noSession"): "_x10 1x2 stale _x60"}),
    # BgpilotPeerFlapping
    Case(
        "a session is lost three times within a quarter of an hour",
        {peer("bgp_peer_flaps_total"): "0x30 1x8 2x8 3x20"},
        {"alertname": "BgpilotPeerFlapping", **OF_PEER, **WARNING},
        at="26m",
        before="24m",
    ),
    Case("a session is lost twice", {peer("bgp_peer_flaps_total"): "0x30 1x8 2x30"}),
    Case("a session is lost three times in an hour", {peer("bgp_peer_flaps_total"): "0x30 1x40 2x40 3x40"}, at="70m"),
    Case("a router that had flapped is told of by a new agent", {peer("bgp_peer_flaps_total"): "9x30 0x60"}),
    # BgpilotPrefixesDropped
    Case(
        "a router withdraws most of what it announced",
        {peer("bgp_prefixes_received", afi="ipv4", safi="unicast"): "100x70 40x50", peer("bgp_peer_up"): "1x120"},
        {"alertname": "BgpilotPrefixesDropped", **OF_PEER, "afi": "ipv4", "safi": "unicast", **WARNING},
        at="45m",
        before="39m",
    ),
    Case(
        "a router withdraws its only prefix, such as the default route",
        {peer("bgp_prefixes_received", afi="ipv4", safi="unicast"): "1x70 0x50", peer("bgp_peer_up"): "1x120"},
        {"alertname": "BgpilotPrefixesDropped", **OF_PEER, "afi": "ipv4", "safi": "unicast", **WARNING},
        at="45m",
    ),
    Case(
        "a router withdraws less than half",
        {peer("bgp_prefixes_received", afi="ipv4", safi="unicast"): "100x70 60x50", peer("bgp_peer_up"): "1x120"},
        at="60m",
    ),
    Case(
        "a router that announces nothing never did",
        {peer("bgp_prefixes_received", afi="ipv4", safi="unicast"): "0x120", peer("bgp_peer_up"): "1x120"},
        at="60m",
    ),
    Case(
        "a router is rebooted and tells everything again within five minutes",
        {
            peer("bgp_prefixes_received", afi="ipv4", safi="unicast"): "100x70 0x9 100x50",
            peer("bgp_peer_up"): "1x70 0x4 1x60",
            **INFO,
        },
        at="60m",
    ),
    # BgpilotNotificationReceived
    Case(
        "a router refuses our AS for the first time",
        {peer("bgp_notifications_total", direction="received", code="2", subcode="2"): "_x30 1x60", **BUILD},
        {
            "alertname": "BgpilotNotificationReceived",
            **OF_PEER,
            "direction": "received",
            "code": "2",
            "subcode": "2",
            **WARNING,
        },
        at="20m",
        before="14m30s",
    ),
    Case(
        "a router refuses our AS again",
        {peer("bgp_notifications_total", direction="received", code="2", subcode="2"): "3x30 4x60", **BUILD},
        {
            "alertname": "BgpilotNotificationReceived",
            **OF_PEER,
            "direction": "received",
            "code": "2",
            "subcode": "2",
            **WARNING,
        },
        at="20m",
        before="15m",
    ),
    Case(
        "a router has had too many prefixes",
        {peer("bgp_notifications_total", direction="received", code="6", subcode="1"): "_x30 1x60", **BUILD},
        {
            "alertname": "BgpilotNotificationReceived",
            **OF_PEER,
            "direction": "received",
            "code": "6",
            "subcode": "1",
            **WARNING,
        },
        at="20m",
    ),
    Case(
        "a router is shut down, reset and configured by its administrator",
        {
            peer("bgp_notifications_total", direction="received", code="6", subcode=subcode): "_x30 1x10 2x60"
            for subcode in ("2", "3", "4", "6", "7", "9")
        }
        | BUILD,
    ),
    Case(
        "Prometheus is started when an agent has long heard one",
        {
            peer("bgp_notifications_total", direction="received", code="2", subcode="2"): "_x30 7x60",
            node("build_info", version="1"): "_x30 1x60",
        },
    ),
    Case(
        "we send one",
        {peer("bgp_notifications_total", direction="sent", code="2", subcode="2"): "_x30 1x60", **BUILD},
    ),
    # BgpilotGracefulRestartStuck
    Case(
        "a router's routes are kept for more than ten minutes",
        {peer("bgp_graceful_restart_active"): "0x10 1x60"},
        {"alertname": "BgpilotGracefulRestartStuck", **OF_PEER, **WARNING},
        before="15m",
    ),
    Case("a router's routes are kept for its restart time", {peer("bgp_graceful_restart_active"): "0x10 1x8 0x60"}),
    # BgpilotFibDrift
    Case(
        "somebody removes a route of ours every two minutes",
        {node("fib_drift_routes_total", kind="missing"): " ".join(f"{count}x3" for count in range(30))},
        {"alertname": "BgpilotFibDrift", **OF_NODE, **WARNING},
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
        {"alertname": "BgpilotReconcileErrors", **OF_NODE, "driver": "kernel", "reason": "kernelRefused", **WARNING},
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
        {"alertname": "BgpilotConfigStale", **OF_NODE, **WARNING, "scope": "exabgp"},
        before="10m",
    ),
    Case("ExaBGP takes the next one", {node("config_last_reload_success"): "1x10 0x8 1x60"}),
    Case(
        "an object is not understood, which every node sees",
        {
            f'bgpilot_problems{{job="bgpilot",instance="{name}",reason="malformedObject"}}': "_x10 1x60"
            for name in ("n1", "n2", "n3")
        },
        {
            "alertname": "BgpilotConfigStale",
            "job": "bgpilot",
            "reason": "malformedObject",
            **WARNING,
            "scope": "objects",
        },
        before="9m30s",
    ),
    Case("other problems are none of the configuration", {node("problems", reason="nodeExcluded"): "1x60"}),
    # BgpilotPictureStale
    Case(
        "the API server is away",
        {node("kubernetes_picture_age_seconds"): "20x10 30+30x60"},
        {"alertname": "BgpilotPictureStale", **OF_NODE, **WARNING},
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
        {"alertname": "BgpilotPictureStale", **OF_NODE, "phase": "LISTING", **WARNING},
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
        {"alertname": "BgpilotAgentDown", **OF_NODE, "severity": "critical", "scope": "node"},
        before="10m",
    ),
    Case("an agent does not answer for four minutes", {'up{job="bgpilot",instance="n1"}': "1x10 0x8 1x60"}),
    Case(
        "nobody is scraped",
        {'up{job="bgpilot",instance="n1"}': "1x10 _x60", 'up{job="other",instance="n1"}': "1x60"},
        {"alertname": "BgpilotAgentDown", "job": "bgpilot", "severity": "critical", "scope": "cluster"},
    ),
    # BgpilotLatencyHigh
    Case(
        "Services are announced late",
        {
            node("service_advertisement_latency_seconds_bucket", le="5.0"): "0+1x60",
            node("service_advertisement_latency_seconds_bucket", le="30.0"): "0+10x60",
            node("service_advertisement_latency_seconds_bucket", le="+Inf"): "0+10x60",
        },
        {"alertname": "BgpilotLatencyHigh", **OF_NODE, **WARNING, "scope": "services"},
        before="10m",
    ),
    Case(
        "routes are installed late",
        {
            node("route_programming_latency_seconds_bucket", le="5.0"): "0+1x60",
            node("route_programming_latency_seconds_bucket", le="30.0"): "0+10x60",
            node("route_programming_latency_seconds_bucket", le="+Inf"): "0+10x60",
        },
        {"alertname": "BgpilotLatencyHigh", **OF_NODE, **WARNING, "scope": "routes"},
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
