"""Services that change, share addresses, or mix traffic policies: who announces which of their addresses.

The tables of FRR and BIRD judge, both families at once; see tests/lab/announced.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.announced import BLOCKS, FAMILIES, FIRST, READY, SECOND, Scene, slice_, two_nodes
from tests.lab.minicluster import Object, service_object

pytestmark = pytest.mark.live

BOTH = (FIRST, SECOND)
CLUSTER_IPS, EXTERNAL_IPS, VIPS = ([block[family].format(80) for family in FAMILIES] for block in BLOCKS)
OWN = {"one": ["10.96.0.1", "fd96::1"], "two": ["10.96.0.2", "fd96::2"]}
"""ClusterIPs of the Services that share their other addresses."""
OTHER_VIPS = ["198.51.100.81", "2001:db8::81"]


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    yield from two_nodes()


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    built.clear()


# Traffic policies.


@pytest.mark.parametrize("external", ["Cluster", "Local"])
@pytest.mark.parametrize("internal", ["Cluster", "Local"])
def test_each_class_of_addresses_follows_its_own_policy(scene: Scene, internal: str, external: str) -> None:
    scene.service(
        "web",
        *CLUSTER_IPS,
        external_ips=EXTERNAL_IPS,
        load_balancer_ips=VIPS,
        internal_policy=internal,
        external_policy=external,
    )
    scene.ready("web", FIRST)

    tellers = {"Cluster": BOTH, "Local": (FIRST,)}
    scene.told(_every(CLUSTER_IPS, *tellers[internal]) | _every([*EXTERNAL_IPS, *VIPS], *tellers[external]))


def test_a_policy_that_changes_is_followed(scene: Scene) -> None:
    scene.service("web", *CLUSTER_IPS, load_balancer_ips=VIPS)
    scene.ready("web", FIRST)
    scene.told(_every([*CLUSTER_IPS, *VIPS], *BOTH))

    scene.service("web", *CLUSTER_IPS, load_balancer_ips=VIPS, external_policy="Local")
    scene.told(_every(CLUSTER_IPS, *BOTH) | _every(VIPS, FIRST))

    scene.service("web", *CLUSTER_IPS, load_balancer_ips=VIPS, internal_policy="Local")
    scene.told(_every(CLUSTER_IPS, FIRST) | _every(VIPS, *BOTH))


def test_under_policy_cluster_an_address_is_everybodys_whatever_the_endpoints_are(scene: Scene) -> None:
    scene.service("web", *CLUSTER_IPS, external_ips=EXTERNAL_IPS, load_balancer_ips=VIPS)
    everything = _every([*CLUSTER_IPS, *EXTERNAL_IPS, *VIPS], *BOTH)
    scene.told(everything)
    before = scene.heard(*CLUSTER_IPS, *VIPS)

    scene.api.apply(slice_("web", "ipv4", (FIRST, READY)), slice_("web", "ipv6", (None, READY)))
    scene.told(everything)
    scene.drop_slices()
    scene.told(everything)

    assert scene.heard(*CLUSTER_IPS, *VIPS) == before


def test_external_ips_under_policy_local_move_with_the_endpoints(scene: Scene) -> None:
    scene.service("web", *CLUSTER_IPS, external_ips=EXTERNAL_IPS, external_policy="Local")
    scene.ready("web", FIRST)
    scene.told(_every(CLUSTER_IPS, *BOTH) | _every(EXTERNAL_IPS, FIRST))

    scene.ready("web", SECOND)
    scene.told(_every(CLUSTER_IPS, *BOTH) | _every(EXTERNAL_IPS, SECOND))

    scene.ready("web")
    scene.told(_every(CLUSTER_IPS, *BOTH))


def test_external_ips_that_nobody_allows_are_not_told_whatever_the_policy(scene: Scene) -> None:
    scene.service("web", *CLUSTER_IPS, external_ips=[*VIPS, *EXTERNAL_IPS], external_policy="Local")
    scene.ready("web", FIRST)

    scene.told(_every(CLUSTER_IPS, *BOTH) | _every(EXTERNAL_IPS, FIRST))


# A load balancer's status.


def test_a_load_balancers_addresses_are_told_as_soon_as_and_as_long_as_they_are_there(scene: Scene) -> None:
    _balance(scene)
    scene.told(_every(CLUSTER_IPS, *BOTH))

    _balance(scene, {"ip": VIPS[0]})
    scene.told(_every([*CLUSTER_IPS, VIPS[0]], *BOTH))

    _balance(scene, {"ip": VIPS[0]}, {"ip": VIPS[1]})
    scene.told(_every([*CLUSTER_IPS, *VIPS], *BOTH))

    _balance(scene)
    scene.told(_every(CLUSTER_IPS, *BOTH))


def test_load_balancers_addresses_that_change_are_followed(scene: Scene) -> None:
    _balance(scene, *({"ip": vip} for vip in VIPS))
    scene.told(_every([*CLUSTER_IPS, *VIPS], *BOTH))

    _balance(scene, *({"ip": vip} for vip in OTHER_VIPS))
    scene.told(_every([*CLUSTER_IPS, *OTHER_VIPS], *BOTH))


def test_load_balancers_addresses_in_another_order_are_not_told_anew(scene: Scene) -> None:
    _balance(scene, *({"ip": vip} for vip in VIPS))
    scene.told(_every([*CLUSTER_IPS, *VIPS], *BOTH))
    before = scene.heard(*VIPS)

    _balance(scene, *({"ip": vip, "ipMode": "VIP"} for vip in reversed(VIPS)))
    scene.told(_every([*CLUSTER_IPS, *VIPS], *BOTH))

    assert scene.heard(*VIPS) == before


def test_a_load_balancer_that_takes_the_traffic_itself_is_not_announced_while_it_does(scene: Scene) -> None:
    _balance(scene, {"ip": VIPS[0], "ipMode": "Proxy"}, {"ip": VIPS[1], "ipMode": "VIP"})
    scene.told(_every([*CLUSTER_IPS, VIPS[1]], *BOTH))

    _balance(scene, {"ip": VIPS[0], "ipMode": "VIP"}, {"ip": VIPS[1], "ipMode": "Proxy"})
    scene.told(_every([*CLUSTER_IPS, VIPS[0]], *BOTH))


def test_a_load_balancer_with_a_name_instead_of_an_address_is_not_announced(scene: Scene) -> None:
    _balance(scene, {"hostname": "lb.example.org"}, {"hostname": "lb.example.org", "ip": VIPS[1]})

    scene.told(_every([*CLUSTER_IPS, VIPS[1]], *BOTH))


@pytest.mark.parametrize("status", [{}, {"loadBalancer": {}}, {"loadBalancer": {"ingress": []}}, None])
def test_a_status_that_says_nothing_takes_the_addresses_back(scene: Scene, status: Object | None) -> None:
    scene.service("web", *CLUSTER_IPS, load_balancer_ips=VIPS)
    scene.told(_every([*CLUSTER_IPS, *VIPS], *BOTH))

    scene.api.apply({**scene.api.get("Service", "web", "default"), "status": status})
    scene.told(_every(CLUSTER_IPS, *BOTH))


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_a_service_that_is_no_load_balancer_any_more_has_only_its_cluster_ips(scene: Scene, kind: str) -> None:
    """The API server of Kubernetes 1.36 clears the status when the type changes; before 1.29 it might stay behind."""
    scene.service("web", *CLUSTER_IPS, load_balancer_ips=VIPS)
    scene.told(_every([*CLUSTER_IPS, *VIPS], *BOTH))

    scene.api.merge("Service", "web", {"spec": {"type": kind}}, "default")
    scene.told(_every(CLUSTER_IPS, *BOTH))
    for agent in scene.cluster.agents.values():
        hops = agent.ask("explain", "default/web")["hops"]
        assert {hop["reason"] for hop in hops if not hop["ok"]} == {"noLoadBalancer"}

    scene.api.merge("Service", "web", {"spec": {"type": "LoadBalancer"}}, "default")
    scene.told(_every([*CLUSTER_IPS, *VIPS], *BOTH))


@pytest.mark.parametrize(
    "spec",
    [{"clusterIP": "None", "clusterIPs": ["None"]}, {"type": "ExternalName", "externalName": "example.org"}],
    ids=["headless", "ExternalName"],
)
def test_a_service_that_becomes_one_without_addresses_is_told_no_more(scene: Scene, spec: Object) -> None:
    scene.service("web", *CLUSTER_IPS, external_ips=EXTERNAL_IPS)
    scene.told(_every([*CLUSTER_IPS, *EXTERNAL_IPS], *BOTH))

    scene.api.merge("Service", "web", {"spec": spec}, "default")
    scene.told({})


# An address of two Services.


@pytest.mark.parametrize(("goes", "stays"), [("one", "two"), ("two", "one")])
def test_an_address_of_two_services_is_not_told_anew_when_one_goes(scene: Scene, goes: str, stays: str) -> None:
    for name in ("one", "two"):
        scene.service(name, *OWN[name], load_balancer_ips=VIPS, external_ips=EXTERNAL_IPS)
    shared = [*VIPS, *EXTERNAL_IPS]
    scene.told(_every([*shared, *OWN["one"], *OWN["two"]], *BOTH))
    before = scene.heard(*shared)

    scene.api.delete("Service", goes, "default")
    scene.told(_every([*shared, *OWN[stays]], *BOTH))

    assert scene.heard(*shared) == before


def test_an_address_of_two_services_is_told_by_the_nodes_of_both(scene: Scene) -> None:
    _share(scene, one="Local", two="Local")
    scene.ready("one", FIRST, slice_name="one")
    scene.ready("two", SECOND, slice_name="two")
    scene.told(_every(VIPS, *BOTH) | _every([*OWN["one"], *OWN["two"]], *BOTH))
    before = [_said_to_bird(scene, vip) for vip in VIPS]

    scene.api.delete("Service", "one", "default")
    scene.told(_every(VIPS, SECOND) | _every(OWN["two"], *BOTH))

    assert [_said_to_bird(scene, vip) for vip in VIPS] == [[*then, "removed"] for then in before], "no more than that"


def test_an_address_is_everybodys_as_soon_as_one_of_its_services_says_so(scene: Scene) -> None:
    _share(scene, one="Local", two="Cluster")
    scene.ready("one", FIRST, slice_name="one")
    scene.told(_every(VIPS, *BOTH) | _every([*OWN["one"], *OWN["two"]], *BOTH))

    scene.api.delete("Service", "two", "default")
    scene.told(_every(VIPS, FIRST) | _every(OWN["one"], *BOTH))


def test_an_address_that_moves_from_one_service_to_another_moves_to_its_nodes(scene: Scene) -> None:
    _share(scene, one="Local")
    scene.ready("one", FIRST, slice_name="one")
    scene.ready("two", SECOND, slice_name="two")
    scene.told(_every(VIPS, FIRST) | _every(OWN["one"], *BOTH))

    scene.api.delete("Service", "one", "default")
    _share(scene, two="Local")
    scene.told(_every(VIPS, SECOND) | _every(OWN["two"], *BOTH))


def _said_to_bird(scene: Scene, address: str) -> list[str]:
    return [what for _, what in scene.said_to_bird(address)]


def _every(addresses: list[str], *nodes: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(addresses, nodes)


def _balance(scene: Scene, *ingress: Object) -> None:
    """The Service, type LoadBalancer, with this status."""
    balanced = service_object("web", CLUSTER_IPS)
    balanced["spec"]["type"] = "LoadBalancer"
    balanced["status"] = {"loadBalancer": {"ingress": list(ingress)} if ingress else {}}
    scene.api.apply(balanced)


def _share(scene: Scene, **policies: str) -> None:
    """Services by name, with ClusterIPs of their own, and the same addresses under this external policy."""
    for name, policy in policies.items():
        scene.service(name, *OWN[name], load_balancer_ips=VIPS, external_policy=policy)
