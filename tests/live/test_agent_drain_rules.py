"""Nodes that announce no service address for a while, as the tables of FRR and BIRD show: excluded ones, and drained.

Two nodes announce the same addresses to both routers. Whatever is said of the first, the second goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.minicluster import LAB_HOLD_SECONDS, custom, node_object, service_object
from tests.lab.topology import Lab, Node
from tests.lab.tworouters import UP_SECONDS, TwoRouters, peer_of
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

HOSTS = ("10.96.0.80/32", "fd96::80/128", "192.0.2.80/32", "2001:db8::80/128")
"""A ClusterIP and a LoadBalancerIP of each family."""
SEEN = "203.0.113.0/24"
"""Announced by nodes with the label `seen`: who does has thought about all that its Node says."""
ALLOWED = "198.51.100.80/32"
"""An ExternalIP of another Service: who announces it has seen what `drain_on` said."""
LABEL = "node.kubernetes.io/exclude-from-external-load-balancers"
USUAL_TAINT = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
OWN_TAINT = {"key": "example.com/maintenance", "effect": "NoSchedule"}
CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


class Scene(TwoRouters):
    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.first, self.second = lab.node(1), lab.node(2)
        self.pods = [str(cidr) for cidr in self.first.pod_cidrs.values()]
        self.api.apply(
            peer_of("frr", lab.routers[0]),
            peer_of("bird", lab.routers[1]),
            service_object("web", _ips(HOSTS[:2]), load_balancer_ips=_ips(HOSTS[2:])),
            service_object("proof", ["10.96.0.81"], external_ips=_ips([ALLOWED])),
        )
        self.instance()
        classes = ["ClusterIP", "LoadBalancerIP", "ExternalIP"]
        self.advertise("services", type="Service", service={"addresses": classes})
        self.advertise("seen", type="Prefix", prefixes=[SEEN], nodeSelector={"matchLabels": {"seen": "yes"}})
        self.cluster.start()
        wait_until(lambda: self.established(self.first, self.second), within=UP_SECONDS)

    def instance(self, **spec: Any) -> None:
        self.api.apply(custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}, **spec}))

    def drain_on(self, *taints: str) -> None:
        """Taints with these keys count from now on, and no others; both nodes know."""
        self.instance(drain={"onTaints": list(taints)}, allowedExternalIPs=[ALLOWED])
        self.told(ALLOWED)

    def node(self, *, label: str = "", taint: dict[str, str] | None = None, cordoned: bool = False) -> None:
        """What the first node's object says from now on, and it knows."""
        thing = node_object(self.first, labels={"seen": "yes"} | ({label: ""} if label else {}))
        thing["spec"] |= {"taints": [taint] if taint else []} | ({"unschedulable": True} if cordoned else {})
        self.api.apply(thing)
        self.told_by([self.first], SEEN)

    def reset(self) -> None:
        self.api.apply(node_object(self.first))
        self.instance()
        self.told_by([], SEEN, ALLOWED)
        self.told(*HOSTS)
        self.told_by([self.first], *self.pods)

    def status(self, node: Node) -> tuple[int, set[str]]:
        """The exit code of `bgpilot status`, and the reason words of what is wrong with the node."""
        agent = self.cluster.agent(node)
        told = {problem["reason"] for problem in agent.ask("status")["problems"]}
        return agent.cli("status").returncode, told

    def explained(self, node: Node) -> set[str]:
        """Reason words of why the node does not announce what the Service has."""
        return {
            hop["reason"] for hop in self.cluster.agent(node).ask("explain", "default/web")["hops"] if not hop["ok"]
        }

    def events(self) -> list[dict[str, Any]]:
        """Those that say of something that it is not announced, but for what `drain_on` needs."""
        told = [event for event in self.api.list("Event") if event["reason"] == "RouteNotAdvertised"]
        return [event for event in told if event["involvedObject"]["name"] != "proof"]


def _ips(hosts: tuple[str, ...] | list[str]) -> list[str]:
    return [host.partition("/")[0] for host in hosts]


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    with Lab(nodes=2, routers=2) as lab:
        scene = Scene(lab)
        scene.reset()
        yield scene
        sessions = scene.sessions()
        scene.close()
        assert sessions == [1, 1], "what a node announces is no reason to lose a session"


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    built.reset()


def test_kubectl_sees_one_event_on_the_node_and_none_on_the_service(scene: Scene) -> None:
    """The first test here, since the same is not told again of the node for some minutes."""
    scene.node(label=LABEL)

    wait_until(scene.events)
    (event,) = scene.events()
    assert event["involvedObject"]["kind"] == "Node"
    assert (event["involvedObject"]["name"], event["count"]) == (scene.first.name, 1)
    assert event["message"].startswith(f"nodeExcluded: Node {scene.first.name} has the label {LABEL}")


def test_a_cordoned_node_announces_all_it_did(scene: Scene) -> None:
    before = scene.marks(*HOSTS, *scene.pods)

    scene.node(taint=CORDON, cordoned=True)

    assert scene.unchanged(before)
    assert scene.status(scene.first) == (0, set())


def test_taints_of_nodes_that_go_mean_nothing_where_others_are_named(scene: Scene) -> None:
    scene.drain_on(OWN_TAINT["key"])
    before = scene.marks(*HOSTS, *scene.pods)

    scene.node(taint=USUAL_TAINT)

    assert scene.unchanged(before)


@pytest.mark.parametrize(
    ("said", "on_taint", "reason"),
    [
        ({"label": LABEL}, "", "nodeExcluded"),
        ({"taint": USUAL_TAINT}, "", "nodeDraining"),
        ({"taint": OWN_TAINT}, OWN_TAINT["key"], "nodeDraining"),
    ],
    ids=["label", "usual-taint", "own-taint"],
)
def test_service_addresses_of_that_node_alone_are_withdrawn_until_it_is_over(
    scene: Scene, said: dict[str, Any], on_taint: str, reason: str
) -> None:
    if on_taint:
        scene.drain_on(on_taint)
    pods = scene.marks(*scene.pods)

    scene.node(**said)

    scene.told_by([scene.second], *HOSTS)
    assert scene.explained(scene.first) == {reason}
    assert scene.explained(scene.second) == set()
    assert scene.status(scene.first) == (0, {reason}), "it is said, and nothing is wrong: somebody asked for it"
    assert scene.status(scene.second) == (0, set())

    scene.node()
    scene.told(*HOSTS)
    assert scene.unchanged(pods)
    assert scene.status(scene.first) == (0, set())
