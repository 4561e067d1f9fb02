"""BGPPeer as a record: every setting of a session, and the nonsense that a missing schema lets through."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from agent.cluster.parse import read_object
from agent.intent import ExternalPeer, GatewayFamily, NodeValue, PeerAs, PeerReach
from agent.model import Kind, Problem
from bgp.model import Family, PrefixLimit

PEER = {"address": "192.0.2.1", "asn": 65001}


def read(**spec: Any) -> ExternalPeer | Problem:
    body = json.dumps({"metadata": {"name": "x"}, "spec": spec}).encode()
    found = read_object(Kind.PEER, body).outcome
    assert isinstance(found, ExternalPeer | Problem)
    return found


def test_a_router_is_named_by_the_node_or_by_its_default_routes() -> None:
    assert read(addressFrom={"label": "rack.example.com/tor"}, asn="external") == ExternalPeer(
        name="x", address_from=NodeValue(annotation=False, key="rack.example.com/tor"), asn=PeerAs.EXTERNAL
    )
    assert read(addressFrom={"annotation": "tor"}, asn="internal") == ExternalPeer(
        name="x", address_from=NodeValue(annotation=True, key="tor"), asn=PeerAs.INTERNAL
    )
    assert read(defaultGateway="Dual", asn="64086.59905") == ExternalPeer(
        name="x", default_gateway=GatewayFamily.DUAL, asn=4200000001
    )


def test_every_setting_of_a_session_is_read() -> None:
    spec = {
        **PEER,
        "localASN": "1.0",
        "allowASIn": 2,
        "passive": True,
        "holdSeconds": 30,
        "keepaliveSeconds": 10,
        "connectRetrySeconds": 5,
        "ebgpMultihop": 2,
        "sourceAddress": "192.0.2.9",
        "families": ["IPv6", "IPv4"],
        "extendedNextHop": True,
        "maxPrefixes": {
            "ipv4": {"limit": 10, "warningPercent": 50, "restartSeconds": 60},
            "ipv6": {"limit": 5, "warningOnly": True},
        },
        "description": "rack 7",
        "shutdown": True,
        "shutdownText": "until 18:00",
    }

    assert read(**spec) == ExternalPeer(
        name="x",
        address=ip_address("192.0.2.1"),
        asn=65001,
        local_asn=65536,
        allowas_in=2,
        hold_seconds=30,
        keepalive_seconds=10,
        connect_retry_seconds=5,
        reach=PeerReach(multihop=2, source_address=ip_address("192.0.2.9"), passive=True),
        families=frozenset(Family),
        extended_next_hop=True,
        prefix_limits=(
            (Family.IPV4, PrefixLimit(prefixes=10, warning_percent=50, restart_seconds=60)),
            (Family.IPV6, PrefixLimit(prefixes=5, warning_only=True)),
        ),
        description="rack 7",
        shutdown="until 18:00",
    )
    near = read(**PEER, ttlSecurityHops=1, sourceInterface="bond0.100")
    assert isinstance(near, ExternalPeer)
    assert near.reach == PeerReach(ttl_security_hops=1, source_interface="bond0.100")


@pytest.mark.parametrize(("spec", "shutdown"), [({}, None), ({"shutdownText": "x"}, None), ({"shutdown": True}, "")])
def test_a_text_alone_shuts_nothing_down(spec: dict[str, Any], shutdown: str | None) -> None:
    found = read(**PEER, **spec)

    assert isinstance(found, ExternalPeer)
    assert found.shutdown == shutdown


@pytest.mark.parametrize(
    ("spec", "message", "fix"),
    [
        ({"asn": 1}, "spec.address is missing", "one of address, addressFrom and defaultGateway"),
        ({**PEER, "defaultGateway": "IPv4"}, "spec.defaultGateway = 'IPv4' does not go with address", "remove one of"),
        ({"asn": 1, "addressFrom": {}}, "spec.addressFrom = {} names neither", "exactly one"),
        ({"asn": 1, "defaultGateway": "both"}, "spec.defaultGateway = 'both' is not known", "IPv4, IPv6, Dual"),
        ({**PEER, "asn": "any"}, "spec.asn = 'any' is no AS number", "or external or internal"),
        ({**PEER, "asn": "0.23456"}, "spec.asn = '0.23456' is AS_TRANS", "real AS number"),
        ({**PEER, "localASN": "external"}, "spec.localASN = 'external' is no AS number", "1 to 4294967295"),
        ({**PEER, "asn": "internal", "localASN": 7}, "spec.localASN = 7 does not go with asn internal", "set asn to"),
        ({**PEER, "allowASIn": 11}, "spec.allowASIn = 11 is not a number in range", "from 0 to 10"),
        ({**PEER, "keepaliveSeconds": 31}, "spec.keepaliveSeconds = 31 is more than a third", "at most 30"),
        ({**PEER, "keepaliveSeconds": 1, "holdSeconds": 0}, "spec.keepaliveSeconds = 1 is more than", "remove it"),
        ({**PEER, "ebgpMultihop": 0}, "spec.ebgpMultihop = 0 is not a number in range", "from 1 to 255"),
        ({**PEER, "ttlSecurityHops": 255}, "spec.ttlSecurityHops = 255 is not", "from 1 to 254"),
        ({**PEER, "ebgpMultihop": 2, "ttlSecurityHops": 2}, "does not go with ebgpMultihop", "remove ebgpMultihop"),
        ({**PEER, "asn": "internal", "ebgpMultihop": 2}, "spec.ebgpMultihop = 2 does not go with asn", "remove it"),
        ({**PEER, "sourceAddress": "fd00::1"}, "spec.sourceAddress = 'fd00::1' is not of the family", "family of addr"),
        ({**PEER, "sourceAddress": "fe80::1"}, "is no unicast address", "global, private or unique local"),
        (
            {"address": "fe80::1", "asn": 1, "sourceInterface": "e", "passive": True},
            "spec.passive = True does not go with a link-local address",
            "let the router wait",
        ),
        ({**PEER, "sourceAddress": "192.0.2.9", "sourceInterface": "e"}, "does not go with sourceAddress", "one of"),
        (
            {**PEER, "sourceInterface": "a/b"},
            "spec.sourceInterface = 'a/b' is no name of an interface",
            "1 to 15 letters",
        ),
        ({**PEER, "families": ["VPNv4"]}, "spec.families[0] = 'VPNv4' is no address family", "IPv4 or IPv6"),
        ({**PEER, "maxPrefixes": {"ipv4": {}}}, "spec.maxPrefixes.ipv4.limit is missing", "from 1"),
        ({**PEER, "maxPrefixes": {"ipv4": 9}}, "spec.maxPrefixes.ipv4 = 9 is not an object", "such as `limit`"),
        (
            {**PEER, "maxPrefixes": {"ipv6": {"limit": 1, "warningOnly": True, "restartSeconds": 1}}},
            "spec.maxPrefixes.ipv6.restartSeconds = 1 does not go with warningOnly",
            "remove one",
        ),
        ({**PEER, "description": "a\nb"}, "spec.description = 'a\\nb' has a line break", "one line"),
        ({**PEER, "shutdownText": "ü" * 128}, "is longer than 255 octets", "shorten it"),
    ],
)
def test_nonsense_is_a_problem_that_says_field_value_and_fix(spec: dict[str, Any], message: str, fix: str) -> None:
    problem = read(**spec)

    assert isinstance(problem, Problem), problem
    assert (problem.reason, problem.subject) == ("malformedObject", "BGPPeer x")
    assert message in problem.message
    assert fix in problem.fix
