"""Alerts of sessions: each in the case that it is for, and in one that is near and is none."""

from __future__ import annotations

from tests.lab.alertcase import (
    BUILD,
    INFO,
    OF_ALL,
    OF_NODE,
    OF_PEER,
    PREFIXES_DROPPED,
    ROUTER_DOWN,
    Case,
    alert,
    node,
    peer,
    refused,
)

SESSION_CASES = (
    # BgpilotPeerDown
    Case(
        "a router's session is away for three minutes",
        {peer("bgp_peer_up"): "1x10 0x50", **INFO},
        ROUTER_DOWN,
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
        ROUTER_DOWN,
    ),
    Case(
        "nodes miss sessions with other nodes",
        {
            node("degraded", reason="sessionDown"): "1x60",
            'bgpilot_degraded{job="bgpilot",instance="n2",reason="sessionDown"}': "1x60",
        },
        alert("PeerDown", OF_ALL, scope="nodes"),
        before="4m",
    ),
    Case("a node misses one for four minutes", {node("degraded", reason="sessionDown"): "1x8 stale _x60"}),
    Case(
        "a node that misses a router is told of once, as such",
        {node("degraded", reason="sessionDown"): "1x60", peer("bgp_peer_up"): "0x60", **INFO},
        ROUTER_DOWN,
    ),
    # BgpilotNodeIsolated
    Case(
        "a node has no session at all",
        {node("degraded", reason="noSession"): "_x10 1x60"},
        alert("NodeIsolated", OF_NODE, severity="critical", reason="noSession"),
        before="6m30s",
    ),
    Case("a node has none for a minute", {node("degraded", reason="noSession"): "_x10 1x2 stale _x60"}),
    # BgpilotPeerFlapping
    Case(
        "a session is lost three times within a quarter of an hour",
        {peer("bgp_peer_flaps_total"): "0x30 1x8 2x8 3x20"},
        alert("PeerFlapping", OF_PEER),
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
        PREFIXES_DROPPED,
        at="45m",
        before="39m",
    ),
    Case(
        "a router withdraws its only prefix, such as the default route",
        {peer("bgp_prefixes_received", afi="ipv4", safi="unicast"): "1x70 0x50", peer("bgp_peer_up"): "1x120"},
        PREFIXES_DROPPED,
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
        refused("2", "2"),
        at="20m",
        before="14m30s",
    ),
    Case(
        "a router refuses our AS again",
        {peer("bgp_notifications_total", direction="received", code="2", subcode="2"): "3x30 4x60", **BUILD},
        refused("2", "2"),
        at="20m",
        before="15m",
    ),
    Case(
        "a router has had too many prefixes",
        {peer("bgp_notifications_total", direction="received", code="6", subcode="1"): "_x30 1x60", **BUILD},
        refused("6", "1"),
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
        alert("GracefulRestartStuck", OF_PEER),
        before="15m",
    ),
    Case("a router's routes are kept for its restart time", {peer("bgp_graceful_restart_active"): "0x10 1x8 0x60"}),
)
