"""A small cluster to do harm to: two nodes and a router that peer with each other, and ways to change it and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.lab.frr import Frr
from tests.lab.minicluster import (
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    Agent,
    MiniCluster,
    Object,
    custom,
    service_object,
    slice_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Lab, Node

LEARNED = "203.0.113.0/24"
"""FRR tells it, and both nodes install it."""
VIP = "10.96.0.80"


class Ward:
    """Two nodes that peer with each other and with FRR, which knows them by name. It is node 2 that is done harm to."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node, self.other = lab.node(2), lab.node(1)
        self.router = lab.router
        self.tor = str(lab.router.address())
        self.frr = Frr(
            lab.router,
            asn=ROUTER_ASN,
            router_id="10.99.0.1",
            neighbors=[self.neighbor(node) for node in (self.node, self.other)],
            announce=[LEARNED],
        )
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.api.apply(
            custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}}),
            custom("BGPAdvertisement", "services", {"type": "Service", "service": {"addresses": ["ClusterIP"]}}),
            service_object("web", [VIP], internal_policy="Local"),
            slice_object("web", {self.node.name: ["10.244.1.9"], self.other.name: ["10.244.2.9"]}),
        )
        self.peer()
        self.cluster.start()

    def neighbor(self, node: Node, *extra: str, **other: Any) -> Neighbor:
        return Neighbor(
            str(node.address()), CLUSTER_ASN, passive=True, hold_seconds=LAB_HOLD_SECONDS, extra=extra, **other
        )

    def peer(self, **spec: Any) -> None:
        self.api.apply(tor_peer(self.router, **{"import": {"allowed": [{"prefix": LEARNED}]}, **spec}))

    @property
    def agent(self) -> Agent:
        return self.cluster.agent(self.node)

    besides = frozenset({LEARNED})

    @property
    def us(self) -> str:
        return str(self.node.address())

    @contextmanager
    def written(self, *changed: Object) -> Iterator[None]:
        """Objects of the API are so for a while, also such as no API server lets in."""
        before = [self._find(thing) for thing in changed]
        self.api.apply(*changed, checked=False)
        yield
        for thing, old in zip(changed, before, strict=True):
            if old is None:
                meta = thing["metadata"]
                self.api.delete(thing["kind"], meta["name"], meta.get("namespace", ""))
            else:
                self.api.apply(old)

    def _find(self, thing: Object) -> Object | None:
        meta = thing["metadata"]
        there = self.api.list(thing["kind"], meta.get("namespace", ""))
        found = [it for it in there if it["metadata"]["name"] == meta["name"]]
        if not found:
            return None
        return {key: value for key, value in found[0].items() if key != "metadata"} | {
            "metadata": {key: value for key, value in found[0]["metadata"].items() if key != "resourceVersion"}
        }

    @contextmanager
    def asked(self, **spec: Any) -> Iterator[None]:
        """The BGPPeer says this too."""
        self.peer(**spec)
        yield
        self.peer()

    @contextmanager
    def told(self, *lines: str, family: str = "") -> Iterator[None]:
        """FRR has these lines about its neighbor, our node, too; of `family`: among those of an address family."""
        self._configure(lines, family)
        yield
        self._configure(
            [line.removeprefix("no ") if line.startswith("no ") else f"no {line}" for line in lines], family
        )

    def _configure(self, lines: Iterable[str], family: str) -> None:
        inside = [f"address-family {family} unicast"] if family else []
        self.frr.configure([f"router bgp {ROUTER_ASN}", *inside, *lines])
