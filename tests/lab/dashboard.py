"""The picture in the README: `python -m tests.lab.dashboard` runs a cluster for five minutes and draws the dashboard.

Three real agents, two real FRRs and a real Prometheus; the panels are drawn (`tests.lab.panels`) from the answers to
the dashboard's own queries. There is no Grafana here: Debian has none, and as a Go module it lacks its frontend. What
happens meanwhile is in `happen`; nothing of it is made up.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import yaml

from tests.lab.frr import Frr
from tests.lab.minicluster import (
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    MiniCluster,
    custom,
    service_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.panels import draw, legend
from tests.lab.prometheus import PROJECT, Prometheus
from tests.lab.topology import Host, Lab
from tests.lab.wait import wait_until

MONITORING = PROJECT / "deploy/monitoring"
PICTURE = MONITORING / "dashboard.svg"
STEP = 2


def main() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    rules = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"]["groups"]
    with Lab(nodes=3, routers=2, families=("ipv4",)) as lab:
        cluster = MiniCluster(lab)
        routers = [start_router(lab, router, number) for number, router in enumerate(lab.routers, start=1)]
        allowed = {"import": {"allowed": [{"prefix": "198.51.100.0/24", "le": 32}]}, "connectRetrySeconds": 2}
        cluster.api.apply(
            *(tor_peer(router, name=f"tor-{number}", **allowed) for number, router in enumerate(lab.routers, start=1)),
            custom("BGPAdvertisement", "services", {"type": "Service", "service": {"addresses": ["ClusterIP"]}}),
        )
        cluster.start()
        targets = {name: f"{node.address()}:9817" for name, node in lab.nodes.items()}
        prometheus = Prometheus(lab.host("prometheus"), targets=targets, groups=rules)
        wait_until(lambda: all(len(router.established()) == 3 for router in routers), within=90)
        start = time.time()
        happen(lab, cluster, routers, start)
        end = time.time()
        answers = {panel["id"]: ask(prometheus, panel, start, end) for panel in dashboard["panels"]}
        cluster.close()
    PICTURE.write_text(draw(dashboard, answers, start=start, end=end))
    print(f"{PICTURE}: {PICTURE.stat().st_size // 1024} KiB, {end - start:.0f} s")


def start_router(lab: Lab, router: Host, number: int) -> Frr:
    nodes = [
        Neighbor(str(node.address()), CLUSTER_ASN, families=("ipv4",), hold_seconds=LAB_HOLD_SECONDS)
        for node in lab.nodes.values()
    ]
    prefixes = [f"198.51.100.{16 * part}/28" for part in range(6 * number)] + ["203.0.113.0/24"]
    lines = ("bgp graceful-restart-disable",)
    return Frr(router, asn=ROUTER_ASN, router_id=f"10.99.0.{number}", neighbors=nodes, announce=prefixes, lines=lines)


def happen(lab: Lab, cluster: MiniCluster, routers: list[Frr], start: float) -> None:
    """At these seconds, each as it would in a cluster."""
    node = lab.node(2)

    def services(first: int, count: int) -> None:
        cluster.api.apply(
            *(service_object(f"web-{number}", [f"10.96.1.{number}"]) for number in range(first, first + count))
        )

    def somebody_flushes() -> None:
        node.ip("route", "flush", "proto", "179")

    def router_dies() -> None:
        routers[1].kill()

    def router_is_back() -> None:
        routers[1] = start_router(lab, lab.routers[1], 2)

    for at, what in (
        (20, lambda: services(1, 20)),
        (60, lambda: routers[0].withdraw("198.51.100.0/28", "198.51.100.16/28", "198.51.100.32/28")),
        (90, lambda: services(21, 40)),
        (110, router_dies),
        (170, router_is_back),
        (200, lambda: routers[0].vtysh("clear bgp *")),
        (220, somebody_flushes),
        (240, lambda: services(61, 30)),
        (255, lambda: routers[0].announce("198.51.100.0/28", "198.51.100.16/28", "198.51.100.32/28")),
        (290, lambda: None),
    ):
        time.sleep(max(0.0, start + at - time.time()))
        what()


def ask(
    prometheus: Prometheus, panel: Mapping[str, Any], start: float, end: float
) -> dict[str, list[tuple[float, float]]]:
    """With all nodes and routers chosen, and the rate over what Grafana would take for a scrape each second."""
    answer: dict[str, list[tuple[float, float]]] = {}
    for target in panel.get("targets", ()):
        query = target["expr"].replace("$__rate_interval", "15s")
        for name in ("job", "instance", "peer"):
            query = query.replace(f'=~"${name}"', '=~".*"')
        for labels, points in prometheus.history(query, start=start, end=end, step=STEP).items():
            answer[legend(target, dict(labels))] = points
    return answer


if __name__ == "__main__":
    main()
