"""BGPPeer on a real API server: every setting of a session is taken, nonsense is refused with its field and the fix.

Rules are tried at both doors: what the schema refuses, the agent refuses too when there is no schema, and what it takes
the agent can read.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.intent import ExternalPeer
from agent.model import Problem
from tests.lab.controlplane import ControlPlane
from tests.lab.customresources import PEER, created, read, refusal, sample
from tests.lab.kubeapi import KubeApi

pytestmark = pytest.mark.cluster


def peer(**spec: Any) -> dict[str, Any]:
    return {"address": "192.0.2.1", "asn": 64513, **spec}


def limits(**ipv4: Any) -> dict[str, Any]:
    return peer(maxPrefixes={"ipv4": ipv4})


def allowed(**item: Any) -> dict[str, Any]:
    return peer(**{"import": {"allowed": [item]}})


def expression(**spec: Any) -> dict[str, Any]:
    return {"matchExpressions": [spec]}


GOOD: dict[str, dict[str, Any]] = {
    "a peer": peer(),
    "an IPv6 peer": peer(address="fd00::1"),
    "a peer on loopback": peer(address="127.0.0.1", port=1790),
    "a default route": allowed(prefix="0.0.0.0/0"),
    "any route of a family": allowed(prefix="::/0", ge=0, le=128),
    "equal bounds": allowed(prefix="10.0.0.0/8", ge=24, le=24),
    "a selector": peer(nodeSelector={"matchLabels": {"rack": "7"}, **expression(key="rack", operator="Exists")}),
    "address from a label": {"addressFrom": {"label": "example.com/tor"}, "asn": 64513},
    "address from an annotation": {"addressFrom": {"annotation": "tor"}, "asn": "external"},
    "default gateways": {"defaultGateway": "Dual", "asn": "external"},
    "any other AS": peer(asn="external"),
    "our AS": peer(asn="internal"),
    "the greatest AS": peer(asn=4294967295),
    "asdot": peer(asn="64086.59905", localASN="1.0"),
    "the greatest asdot": peer(asn="65535.65535"),
    "timers": peer(holdSeconds=9, keepaliveSeconds=3, connectRetrySeconds=5),
    "two hops": peer(ebgpMultihop=2),
    "one link": peer(ttlSecurityHops=1, asn="internal"),
    "a source address": peer(sourceAddress="192.0.2.9", localASN=64999, allowASIn=1),
    "a source interface": peer(sourceInterface="bond0.100@x"),
    "IPv4 over IPv6": {"address": "fd00::1", "asn": 64513, "families": ["IPv4"], "extendedNextHop": True},
    "limits": peer(
        maxPrefixes={"ipv4": {"limit": 10, "restartSeconds": 30}, "ipv6": {"limit": 1, "warningOnly": True}}
    ),
    "shut down": peer(shutdown=True, shutdownText="Wartung bis 18 Uhr – ruhig bleiben", description="ToR, Schrank 7"),
    "passive": peer(passive=True, port=1790),
}


@pytest.mark.parametrize("spec", GOOD.values(), ids=GOOD)
def test_what_makes_sense_is_taken_and_read(crds_api: KubeApi, spec: Any) -> None:
    made = created(crds_api, PEER, spec)

    assert spec.items() <= {**made, **{key: spec[key] for key in ("maxPrefixes", "import") if key in spec}}.items()
    assert isinstance(read(PEER, made), ExternalPeer)
    assert read(PEER, made) == read(PEER, spec), "what the schema fills in is what the agent takes for granted"


ONE_ROUTER = "name the router with exactly one of `address`, `addressFrom` and `defaultGateway`"
ONE_KEY = "needs exactly one of `label` and `annotation`"
NO_NUMBER = "must be an AS number: 1 to 4294967295, or asdot in quotes with both halves up to 65535, such as"
AS_TRANS = "23456 is AS_TRANS, a placeholder that no speaker may use as its own (RFC 6793)"
THREE_TIMES = "`keepaliveSeconds` must fit three times into `holdSeconds`"
ONE_LINE = "has a line break or another control character: write it on one line"

HOLD = "a hold time of 1 or 2 seconds is not allowed by BGP (RFC 4271 4.2): use 3 or more, or 0 to turn it off"
HOST_BITS = "is not in canonical form: zero the bits after its length and shorten IPv6"
NO_PREFIX = "must be an IPv4 or IPv6 prefix with its length, such as"
NO_ADDRESS = "must be an IPv4 or IPv6 address without a prefix length or zone"
NO_UNICAST = "must be a unicast address: give the router's global, private or unique local address"
NO_VALUES = "operators In and NotIn need at least one entry in `values`: add one, or use Exists or DoesNotExist"
VALUES = "operators Exists and DoesNotExist take no `values`: remove them, or use In or NotIn"

BAD: list[tuple[dict[str, Any], str, str]] = [
    (peer(address="tor-a.example"), "spec.address", NO_ADDRESS),
    (peer(address="192.0.2.1/24"), "spec.address", NO_ADDRESS),
    (peer(address="fe80::1%eth0"), "spec.address", NO_ADDRESS),
    (peer(address="192.0.02.1"), "spec.address", NO_ADDRESS),
    (peer(address="169.254.1.1"), "spec.address", NO_UNICAST),
    (peer(address="fe80::1"), "spec", "`address` is link-local, which names a router only together with an interface"),
    (peer(address="fe80::1", sourceInterface="e0", passive=True), "spec", "`passive` does not go with a link-local"),
    (peer(address="0.0.0.0"), "spec.address", NO_UNICAST),
    (peer(address="224.0.0.5"), "spec.address", NO_UNICAST),
    (peer(address="0.0.0.9"), "spec.address", NO_UNICAST),
    (peer(address="255.255.255.255"), "spec.address", NO_UNICAST),
    (peer(port=0), "spec.port", "should be greater than or equal to 1"),
    (peer(holdSeconds=1), "spec.holdSeconds", HOLD),
    (peer(passwordSecretRef={"name": "tor"}), "spec.passwordSecretRef.key", "Required value"),
    (peer(passwordSecretRef={"name": "Tor", "key": "md5"}), "spec.passwordSecretRef.name", "is no name of a Secret"),
    (peer(passwordSecretRef={"name": "tor", "key": "a b"}), "spec.passwordSecretRef.key", "is no key of a Secret"),
    (peer(nodeSelector=expression(key="rack", operator="In")), "matchExpressions[0]", NO_VALUES),
    (peer(nodeSelector=expression(key="rack", operator="NotIn", values=[])), "matchExpressions[0]", NO_VALUES),
    (peer(nodeSelector=expression(key="rack", operator="Exists", values=["7"])), "matchExpressions[0]", VALUES),
    (peer(nodeSelector=expression(key="rack", operator="Is")), "operator", "supported values"),
    (allowed(prefix="10.0.0.1"), "spec.import.allowed[0].prefix", NO_PREFIX),
    (allowed(prefix="10.0.0.1/8"), "spec.import.allowed[0].prefix", HOST_BITS),
    (allowed(prefix="10.0.0.0/8", ge=25, le=24), "spec.import.allowed[0]", "`ge` is greater than `le`"),
    (allowed(prefix="10.0.0.0/8", ge=7), "spec.import.allowed[0]", "`ge` is less than the length of `prefix`"),
    (allowed(prefix="10.0.0.0/8", le=7), "spec.import.allowed[0]", "`le` is less than the length of `prefix`"),
    (allowed(prefix="10.0.0.0/8", le=33), "spec.import.allowed[0]", "`prefix` is IPv4, whose lengths end at 32"),
    (allowed(prefix="fd00::/8", le=129), "spec.import.allowed[0].le", "should be less than or equal to 128"),
    (allowed(ge=24), "spec.import.allowed[0].prefix", "Required value"),
    ({"asn": 64513}, "spec", ONE_ROUTER),
    (peer(defaultGateway="IPv4"), "spec", ONE_ROUTER),
    (peer(addressFrom={"label": "a"}), "spec", ONE_ROUTER),
    ({"addressFrom": {}, "asn": 1}, "spec.addressFrom", ONE_KEY),
    ({"addressFrom": {"label": "a", "annotation": "b"}, "asn": 1}, "spec.addressFrom", ONE_KEY),
    ({"addressFrom": {"label": "-a"}, "asn": 1}, "spec.addressFrom.label", "is no key of a label or annotation"),
    ({"defaultGateway": "Both", "asn": 1}, "spec.defaultGateway", 'supported values: "IPv4", "IPv6", "Dual"'),
    ({"address": "192.0.2.1"}, "spec.asn", "Required value"),
    (peer(asn=0), "spec.asn", NO_NUMBER),
    (peer(asn=4294967296), "spec.asn", NO_NUMBER),
    (peer(asn="4294967296"), "spec.asn", NO_NUMBER),
    (peer(asn="any"), "spec.asn", "or `external` or `internal`"),
    (peer(asn="0.0"), "spec.asn", NO_NUMBER),
    (peer(asn="1.65536"), "spec.asn", NO_NUMBER),
    (peer(asn=23456), "spec.asn", AS_TRANS),
    (peer(asn="0.23456"), "spec.asn", AS_TRANS),
    (peer(localASN="external"), "spec.localASN", NO_NUMBER),
    (peer(localASN=0), "spec.localASN", NO_NUMBER),
    (peer(localASN=64999, asn="internal"), "spec", "`localASN` does not go with asn internal"),
    (peer(allowASIn=11), "spec.allowASIn", "should be less than or equal to 10"),
    (peer(keepaliveSeconds=31), "spec", THREE_TIMES),
    (peer(keepaliveSeconds=1, holdSeconds=0), "spec", THREE_TIMES),
    (peer(keepaliveSeconds=0), "spec.keepaliveSeconds", "should be greater than or equal to 1"),
    (peer(connectRetrySeconds=0), "spec.connectRetrySeconds", "should be greater than or equal to 1"),
    (peer(ebgpMultihop=256), "spec.ebgpMultihop", "should be less than or equal to 255"),
    (peer(ttlSecurityHops=255), "spec.ttlSecurityHops", "should be less than or equal to 254"),
    (peer(ttlSecurityHops=1, ebgpMultihop=2), "spec", "`ebgpMultihop` and `ttlSecurityHops` do not go together"),
    (peer(ebgpMultihop=2, asn="internal"), "spec", "`ebgpMultihop` has no meaning with asn internal"),
    (peer(sourceAddress="0.0.0.9"), "spec.sourceAddress", "must be a unicast address that is not link-local"),
    (peer(sourceAddress="eth0"), "spec.sourceAddress", "must be an IPv4 or IPv6 address"),
    (peer(sourceAddress="fd00::1"), "spec", "`sourceAddress` is not of the family of `address`"),
    (peer(sourceAddress="192.0.2.9", sourceInterface="eth0"), "spec", "do not go together: remove one of them"),
    (peer(sourceInterface="eth 0"), "spec.sourceInterface", "is no name of an interface"),
    (peer(sourceInterface="a-name-too-long-"), "spec.sourceInterface", "may not be more than 15"),
    (peer(families=["VPNv4"]), "spec.families[0]", 'supported values: "IPv4", "IPv6"'),
    (limits(), "spec.maxPrefixes.ipv4.limit", "Required value"),
    (limits(limit=0), "spec.maxPrefixes.ipv4.limit", "should be greater than or equal to 1"),
    (
        limits(limit=1, warningPercent=101),
        "spec.maxPrefixes.ipv4.warningPercent",
        "should be less than or equal to 100",
    ),
    (limits(limit=1, warningOnly=True, restartSeconds=1), "spec.maxPrefixes.ipv4", "`restartSeconds` has no meaning"),
    (peer(description="a\nb"), "spec.description", ONE_LINE),
    (peer(shutdown=True, shutdownText="a\tb"), "spec.shutdownText", ONE_LINE),
    (peer(shutdown=True, shutdownText="ü" * 128), "spec.shutdownText", "is longer than 255 octets (RFC 9003)"),
]


@pytest.mark.parametrize(("spec", "field", "says"), BAD, ids=lambda part: json.dumps(part)[:60])
def test_nonsense_is_refused_at_both_doors(crds_api: KubeApi, spec: Any, field: str, says: str) -> None:
    message = refusal(crds_api, PEER, spec)
    problem = read(PEER, spec)

    assert f"{field}: " in message
    assert says in message
    assert isinstance(problem, Problem), problem
    assert problem.fix


ONE_MEANING: list[tuple[dict[str, Any], str, str]] = [
    (peer(address="::ffff:192.0.2.1"), "spec.address", "must be an IPv4 or IPv6 address without a prefix length"),
    (peer(address="2001:DB8::1"), "spec.address", "is not in canonical form: write IPv6 in lower case and shortened"),
    (peer(families=[]), "spec.families", "should have at least 1 items"),
    (peer(families=["IPv4", "IPv4"]), "spec.families[1]", "Duplicate value"),
]


@pytest.mark.parametrize(("spec", "field", "says"), ONE_MEANING, ids=lambda part: json.dumps(part)[:60])
def test_what_has_one_meaning_is_refused_by_the_schema_only(
    crds_api: KubeApi, spec: Any, field: str, says: str
) -> None:
    message = refusal(crds_api, PEER, spec)

    assert f"{field}: " in message
    assert says in message
    assert isinstance(read(PEER, spec), ExternalPeer)


ROWS = [
    (
        {"address": "2001:db8::1", "asn": 4200000001, "passwordSecretRef": {"name": "tor", "key": "md5"}},
        ["sample", "2001:db8::1", "4200000001", "90", "false", "179", "tor"],
    ),
    (
        {"defaultGateway": "Dual", "asn": "64086.59905", "shutdown": True},
        ["sample", "64086.59905", "90", "true", "Dual", "179"],
    ),
]


@pytest.mark.parametrize(("spec", "shown"), ROWS, ids=["address", "gateway"])
def test_kubectl_shows_what_matters(crds: ControlPlane, crds_api: KubeApi, spec: Any, shown: list[str]) -> None:
    with sample(crds_api, PEER, spec):
        headings, row = crds.kubectl("get", "bgpp", "-o", "wide").splitlines()

    assert headings.split() == ["NAME", "ADDRESS", "ASN", "HOLD", "SHUTDOWN", "GATEWAY", "PORT", "SECRET", "AGE"]
    assert row.split()[:-1] == shown
