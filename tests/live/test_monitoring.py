"""What Prometheus makes of three agents: their figures are the router's, the shipped rules fire and resolve, and every
panel of the dashboard has something to show.

Rules are as shipped but for `for`, of which a minute lasts a second. The tests are one story, in this order.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.lab.frr import Frr
from tests.lab.minicluster import (
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    MiniCluster,
    custom,
    node_object,
    service_object,
    slice_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.prometheus import PROJECT, Prometheus, promtool, sooner
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

MONITORING = PROJECT / "deploy/monitoring"
RULES = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]["groups"]
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
ADMITTED, OTHERS = "198.51.100.0/24", ("203.0.113.0/25", "203.0.113.128/25")
FORGETS = ("bgp graceful-restart-disable",)
"""Routes of a router that goes are to go with it."""


class Scene:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.address = str(lab.router.address())
        self.cluster = MiniCluster(lab)
        allowed = {"import": {"allowed": [{"prefix": ADMITTED}]}}
        self.cluster.api.apply(
            tor_peer(lab.router, connectRetrySeconds=1, description="top of rack", **allowed),
            custom(
                "BGPAdvertisement",
                "services",
                {"type": "Service", "service": {"addresses": ["ClusterIP", "ExternalIP"]}},
            ),
            service_object("web", ["10.96.0.80"], external_ips=["192.0.2.99"]),
            slice_object("web", {"node-1": ["10.244.1.9"]}),
        )
        self.frr = self.router()
        *others, last = lab.nodes.values()
        self.cluster.start(*others)
        self.cluster.api.apply(node_object(last))
        self.cluster.start_agent(last, "--metrics-mesh-peers")
        self.began_at = time.time()
        targets = {name: f"{node.address()}:9817" for name, node in lab.nodes.items()}
        self.prometheus = Prometheus(lab.host("prometheus"), targets=targets, groups=sooner(RULES))

    def router(self) -> Frr:
        nodes = [
            Neighbor(str(node.address()), CLUSTER_ASN, families=("ipv4",), hold_seconds=LAB_HOLD_SECONDS)
            for node in self.lab.nodes.values()
        ]
        announced = (ADMITTED, *OTHERS)
        return Frr(
            self.lab.router,
            asn=ROUTER_ASN,
            router_id="10.99.0.1",
            neighbors=nodes,
            announce=announced,
            lines=FORGETS,
        )

    def of_router(self, metric: str, **more: str) -> dict[str, float]:
        """Node → what Prometheus has of its session with the router."""
        matchers = ",".join([f'peer="{self.address}"', *(f'{name}="{value}"' for name, value in more.items())])
        found = self.prometheus.query(f"bgpilot_{metric}{{{matchers}}}")
        return {dict(labels)["instance"]: value for labels, value in found.items()}

    def everywhere(self, value: float) -> dict[str, float]:
        return dict.fromkeys(self.lab.nodes, value)

    def via_router(self, name: str) -> list[str]:
        """What the node's kernel has over the router."""
        learned = self.cluster.learned(self.lab.nodes[name], "ipv4")
        return [prefix for prefix, hops in learned.items() if self.address in hops]

    def of_nodes(self) -> Mapping[str, Any]:
        """Node → the router's own view of the session."""
        theirs = self.frr.show_json("show bgp neighbors json")
        return {name: theirs[str(node.address())] for name, node in self.lab.nodes.items()}

    def firing(self) -> set[tuple[str, str]]:
        return {(alert["alertname"], alert.get("instance", "")) for alert in self.prometheus.alerts()}


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab(nodes=3, families=("ipv4",)) as lab:
        built = Scene(lab)
        built.cluster.wait_meshed(besides=frozenset({ADMITTED}))
        wait_until(lambda: len(built.frr.established()) == 3)
        wait_until(lambda: built.of_router("bgp_peer_up") == built.everywhere(1), within=60)
        yield built
        built.cluster.close()


def metrics(node: Node) -> str:
    return node.run(["curl", "-sS", "http://127.0.0.1:9817/metrics"]).stdout


def test_three_agents_are_scraped_and_promtool_has_nothing_against_what_they_say(scene: Scene) -> None:
    wait_until(lambda: scene.prometheus.targets() == dict.fromkeys(scene.lab.nodes, "up"))
    done = promtool("check", "metrics", stdin=metrics(scene.lab.node(1)))

    assert (done.returncode, done.stdout) == (0, "")
    meshed = {frozenset({("instance", name)}): 2 for name in scene.lab.nodes}
    established = "sum by (instance) (bgpilot_mesh_peers{state='Established'})"
    wait_until(lambda: scene.prometheus.query(established) == meshed)


def test_sessions_between_nodes_have_series_of_their_own_where_that_is_asked_for(scene: Scene) -> None:
    nodes = scene.lab.nodes
    others = {str(node.address()): name for name, node in nodes.items() if name != "node-3"}

    found = scene.prometheus.query("bgpilot_bgp_peer_up")
    sessions = {(dict(labels)["instance"], dict(labels)["peer"]): value for labels, value in found.items()}

    of_router = {(name, scene.address): 1 for name in nodes}
    assert sessions == of_router | {("node-3", address): 1 for address in others}


def test_the_figures_of_a_session_are_those_of_the_router(scene: Scene) -> None:
    def alike() -> bool:
        ours = {
            name: scene.of_router(f"bgp_{name}")
            for name in ("prefixes_received", "prefixes_accepted", "prefixes_advertised", "peer_hold_time_seconds")
        }
        sent = scene.of_router("bgp_messages_total", direction="sent", type="open")
        heard = scene.of_router("bgp_messages_total", direction="received", type="update")
        for name, theirs in scene.of_nodes().items():
            family = theirs["addressFamilyInfo"]["ipv4Unicast"]
            assert ours["prefixes_received"][name] == family["sentPrefixCounter"]
            assert ours["prefixes_advertised"][name] == family["acceptedPrefixCounter"] == 2
            assert ours["prefixes_accepted"][name] == len(scene.via_router(name)) == 1
            assert ours["peer_hold_time_seconds"][name] * 1000 == theirs["bgpTimerHoldTimeMsecs"]
            assert heard[name] == theirs["messageStats"]["updatesSent"]
            assert sent[name] >= 1
        return True

    wait_until(alike)


def test_a_session_that_the_router_resets_is_counted_and_wakes_nobody(scene: Scene) -> None:
    scene.frr.vtysh("clear bgp *")

    wait_until(lambda: scene.of_router("bgp_notifications_total", code="6", subcode="4") == scene.everywhere(1))
    wait_until(lambda: scene.of_router("bgp_peer_flaps_total") == scene.everywhere(1))
    wait_until(lambda: scene.of_router("bgp_peer_up") == scene.everywhere(1))
    wait_until(lambda: scene.of_router("bgp_peer_state", state="Established") == scene.everywhere(1))
    wait_until(lambda: {theirs["bgpState"] for theirs in scene.of_nodes().values()} == {"Established"})
    assert scene.firing() == set()


def test_an_alert_fires_for_each_node_when_the_router_goes_and_resolves_when_it_is_back(scene: Scene) -> None:
    down = {("BgpilotPeerDown", name) for name in scene.lab.nodes}
    scene.frr.kill()

    wait_until(lambda: down <= scene.firing(), within=60)
    assert scene.firing() == down, "and no other alert says the same in other words"
    assert scene.of_router("bgp_peer_up") == scene.everywhere(0), "it does not vanish with the session"
    (alert, *_) = scene.prometheus.alerts()
    assert (alert["peer"], alert["description"], alert["severity"]) == (scene.address, "top of rack", "warning")
    scene.frr = scene.router()

    wait_until(lambda: scene.firing() == set(), within=60)
    assert scene.of_router("bgp_peer_up") == scene.everywhere(1)


def test_a_service_that_is_added_has_taken_its_time_and_the_router_has_it(scene: Scene) -> None:
    count = "sum by (instance) (bgpilot_service_advertisement_latency_seconds_count)"
    before = scene.prometheus.query(count)

    scene.cluster.api.apply(service_object("late", ["10.96.0.81"]))

    wait_until(lambda: len(scene.frr.routes("ipv4").get("10.96.0.81/32", ())) == 3)
    wait_until(lambda: scene.prometheus.query(count) == {whose: value + 1 for whose, value in before.items()})
    late = scene.prometheus.query("sum(bgpilot_service_advertisement_latency_seconds_sum)")
    assert 0 < sum(late.values()) < 10


def test_every_panel_of_the_dashboard_has_something_to_show_of_this(scene: Scene) -> None:
    spec = {"address": "10.99.0.8", "asn": ROUTER_ASN, "passwordSecretRef": {"name": "none", "key": "password"}}
    scene.cluster.api.apply(custom("BGPPeer", "secretless", spec))
    wait_until(lambda: scene.prometheus.query("bgpilot_degraded{reason='secretMissing'}"))

    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "10s")
            for name in ("job", "instance", "peer"):
                query = query.replace(f'=~"${name}"', '=~".*"')
            until = time.time() + 1  # the last scrape is in, too
            told = scene.prometheus.history(query, start=scene.began_at, end=until, step=1)
            seen = [value for points in told.values() for _, value in points if not math.isnan(value)]
            assert seen, f"{panel['title']}: {query}"
