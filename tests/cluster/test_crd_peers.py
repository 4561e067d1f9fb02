"""BGPPeer on a real API server: every setting of a session is taken, nonsense is refused with its field and the fix.

Rules are tried at both doors: what the schema refuses, the agent refuses too when there is no schema, and what it takes
the agent can read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent.cluster.parse import read_object
from agent.intent import ExternalPeer
from agent.model import Kind, Problem
from tests.lab.apikinds import CRDS
from tests.lab.controlplane import ControlPlane
from tests.lab.kubeapi import ApiError, KubeApi

pytestmark = pytest.mark.cluster

PEERS = "/apis/bgpilot.io/v1alpha1/bgppeers"


@pytest.fixture(scope="module")
def defined() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        running.apply(CRDS / "bgppeers.yaml")
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield running


@pytest.fixture(scope="module")
def api(defined: ControlPlane) -> KubeApi:
    return defined.api()


def post(api: KubeApi, spec: Any) -> Any:
    return api.post(PEERS, {**OBJECT, "spec": spec})


OBJECT = {"apiVersion": "bgpilot.io/v1alpha1", "kind": "BGPPeer", "metadata": {"name": "sample"}}


def read(spec: Any) -> ExternalPeer | Problem:
    found = read_object(Kind.PEER, json.dumps({**OBJECT, "spec": spec}).encode()).outcome
    assert isinstance(found, ExternalPeer | Problem)
    return found


def peer(**spec: Any) -> dict[str, Any]:
    return {"address": "192.0.2.1", "asn": 64513, **spec}


def limits(**ipv4: Any) -> dict[str, Any]:
    return peer(maxPrefixes={"ipv4": ipv4})


GOOD: dict[str, dict[str, Any]] = {
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
def test_what_makes_sense_is_taken_and_read(api: KubeApi, spec: Any) -> None:
    made = post(api, spec)
    api.delete(f"{PEERS}/sample")

    assert spec.items() <= {**made["spec"], **{key: spec[key] for key in ("maxPrefixes",) if key in spec}}.items()
    assert isinstance(read(made["spec"]), ExternalPeer)
    assert read(made["spec"]) == read(spec), "what the schema fills in is what the agent takes for granted"


ONE_ROUTER = "name the router with exactly one of `address`, `addressFrom` and `defaultGateway`"
ONE_KEY = "needs exactly one of `label` and `annotation`"
NO_NUMBER = "must be an AS number: 1 to 4294967295, or asdot in quotes with both halves up to 65535, such as"
AS_TRANS = "23456 is AS_TRANS, a placeholder that no speaker may use as its own (RFC 6793)"
THREE_TIMES = "`keepaliveSeconds` must fit three times into `holdSeconds`"
ONE_LINE = "has a line break or another control character: write it on one line"

BAD: list[tuple[dict[str, Any], str, str]] = [
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
    (peer(sourceAddress="eth0"), "spec.sourceAddress", "must be an IPv4 or IPv6 address"),
    (peer(sourceAddress="fd00::1"), "spec", "`sourceAddress` is not of the family of `address`"),
    (peer(sourceAddress="192.0.2.9", sourceInterface="eth0"), "spec", "do not go together: remove one of them"),
    (peer(sourceInterface="eth 0"), "spec.sourceInterface", "is no name of an interface"),
    (peer(sourceInterface="a-name-too-long-"), "spec.sourceInterface", "may not be more than 15"),
    (peer(families=[]), "spec.families", "should have at least 1 items"),
    (peer(families=["IPv4", "IPv4"]), "spec.families[1]", "Duplicate value"),
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
def test_nonsense_is_refused_at_both_doors(api: KubeApi, spec: Any, field: str, says: str) -> None:
    with pytest.raises(ApiError) as refused:
        post(api, spec)

    assert refused.value.reason == "Invalid"
    assert f"{field}: " in refused.value.message
    assert says in refused.value.message
    problem = read(spec)
    if spec.get("families") != [] and spec.get("families") != ["IPv4", "IPv4"]:  # these have one meaning only
        assert isinstance(problem, Problem), problem
        assert problem.fix


def test_kubectl_shows_what_matters(defined: ControlPlane, api: KubeApi) -> None:
    post(api, {"defaultGateway": "Dual", "asn": "64086.59905", "shutdown": True})
    try:
        headings, row = defined.kubectl("get", "bgpp", "-o", "wide").splitlines()
    finally:
        api.delete(f"{PEERS}/sample")

    assert headings.split() == ["NAME", "ADDRESS", "ASN", "HOLD", "SHUTDOWN", "GATEWAY", "PORT", "SECRET", "AGE"]
    assert row.split()[:-1] == ["sample", "64086.59905", "90", "true", "Dual", "179"]
