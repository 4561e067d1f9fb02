"""Series, and what must come of them: an alert in the case that it is for, or none in one that is near."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.lab.alertrules import matchers

NODE = 'job="bgpilot",instance="n1"'
PEER = f'{NODE},peer="10.0.0.1",peer_as="64600"'
INFO = {f'bgpilot_bgp_peer_info{{{PEER},description="tor a",peer_type="external"}}': "1x120"}
BUILD = {f'bgpilot_build_info{{{NODE},version="1"}}': "1x120"}
OF_PEER = {"job": "bgpilot", "instance": "n1", "peer": "10.0.0.1", "peer_as": "64600"}
OF_NODE = {"job": "bgpilot", "instance": "n1"}
UP = {'up{job="bgpilot",instance="n1"}': "1x120"}
MINUTE = 2
"""Values of a series: one each 30 s."""


@dataclass(frozen=True, slots=True)
class Case:
    claim: str
    series: Mapping[str, str]
    """Of promtool: `0x4 1+1x2` is 0 five times, then 1 2 3; `_` is a value that is missing."""
    alert: Mapping[str, str] = field(default_factory=dict)
    """Labels of the one that fires at the end, and it alone; empty: nothing has fired at any time."""
    at: str = "30m"
    before: str | None = None
    """Until then nothing has fired."""


def peer(metric: str, **more: str) -> str:
    return _series(metric, PEER, more)


def node(metric: str, **more: str) -> str:
    return _series(metric, NODE, more)


def _series(metric: str, whose: str, more: Mapping[str, str]) -> str:
    return f"bgpilot_{metric}{{{','.join([whose, *matchers(more)])}}}"


def alert(name: str, of: Mapping[str, str], *, severity: str = "warning", **more: str) -> Mapping[str, str]:
    return {"alertname": f"Bgpilot{name}", **of, "severity": severity, **more}


def refused(code: str, subcode: str) -> Mapping[str, str]:
    return alert("NotificationReceived", OF_PEER, direction="received", code=code, subcode=subcode)


OF_ALL = {"job": "bgpilot"}
ROUTER_DOWN = alert("PeerDown", OF_PEER, description="tor a", scope="router")
PREFIXES_DROPPED = alert("PrefixesDropped", OF_PEER, afi="ipv4", safi="unicast")
AGENT_DOWN = alert("AgentDown", OF_NODE, severity="critical", scope="node")
