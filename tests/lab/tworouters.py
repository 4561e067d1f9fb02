"""A small cluster whose nodes all peer with two independent routers, FRR and BIRD, over eBGP: both tables are asked.

FRR's BGPPeer has the label router=frr, BIRD's router=bird: what is meant for one alone shows in the other's table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from tests.lab.addresses import family_of
from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.minicluster import CLUSTER_ASN, LAB_HOLD_SECONDS, ROUTER_ASN, MiniCluster, Object, custom, node_object
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Host, Lab, Node
from tests.lab.wait import wait_until

UP_SECONDS = 90.0
BIRD_JITTER = timedelta(seconds=0.5)
"""It counts back from the present each time it is asked, and by how much it errs depends on how busy it is (2.0.12)."""

PATH_SINCE = re.compile(r"\[(peer_\S+) (\d{4}-\d\d-\d\d \S+?)(?: from [^]]+)?\]")


class Mark(NamedTuple):
    versions: Sequence[int]
    """FRR's, of each path."""
    times: Mapping[str, datetime]
    """BIRD's, by session."""


class TwoRouters:
    """It begins with no agent: `start` them, or the cluster's parts as you like. Close it before the lab."""

    def __init__(
        self, lab: Lab, *, bird_password: str = "", frr: Sequence[Neighbor] = (), bird: Sequence[Neighbor] = ()
    ):
        """`frr` and `bird`: sessions they have besides those with the nodes."""
        self.lab = lab
        self.cluster = MiniCluster(lab)
        self.api = self.cluster.api
        self.bird_password = bird_password
        nodes = lab.nodes.values()
        self.frr = Frr(
            lab.routers[0],
            asn=ROUTER_ASN,
            router_id="10.99.0.1",
            neighbors=[*(neighbor_of(node) for node in nodes), *frr],
        )
        self.bird = Bird(
            lab.routers[1],
            asn=ROUTER_ASN,
            router_id="10.99.0.2",
            neighbors=[*(neighbor_of(node, bird_password) for node in nodes), *bird],
        )

    def close(self) -> None:
        self.cluster.close()

    def add_node(self) -> Node:
        """Its agent is yet to be started."""
        node = self.lab.add_node()
        self.frr.add_neighbor(neighbor_of(node))
        self.bird.add_neighbor(neighbor_of(node, self.bird_password))
        self.api.apply(node_object(node))
        return node

    def remove_node(self, node: Node) -> None:
        self.cluster.forget(node)
        self.lab.remove_node(node)
        self.frr.remove_neighbor(neighbor_of(node))
        self.bird.remove_neighbor(neighbor_of(node, self.bird_password))

    def advertise(self, name: str, **spec: Any) -> None:
        self.api.apply(custom("BGPAdvertisement", name, spec))

    def established(self, *nodes: Node) -> bool:
        """With both routers."""
        return all({str(node.address()) for node in nodes} <= set(it.established()) for it in (self.frr, self.bird))

    def sessions(self) -> list[int]:
        """How often each session with FRR came up."""
        return [self.frr.times_established(str(node.address())) for node in self.lab.nodes.values()]

    def tellers(self, *prefixes: str) -> dict[str, tuple[list[str], list[str]]]:
        """Which nodes FRR and BIRD have each prefix from, by name."""
        nodes = self.lab.nodes.values()
        names = {str(address): node.name for node in nodes for address in node.addresses}
        families = {prefix: family_of(prefix.partition("/")[0]) for prefix in prefixes}
        routers = (self.frr, self.bird)
        frr, bird = ({family: it.routes(family) for family in set(families.values())} for it in routers)
        return {
            prefix: (_named(frr[family].get(prefix, ()), names), _named(bird[family].get(prefix, ()), names))
            for prefix, family in families.items()
        }

    def told(self, *prefixes: str, frr: Sequence[Node] | None = None, bird: Sequence[Node] | None = None) -> None:
        """Each router has these from exactly these nodes, from now on or soon; None: from all."""
        everybody = tuple(self.lab.nodes.values())
        by_frr, by_bird = (
            sorted(node.name for node in everybody if nodes is None or node in nodes) for nodes in (frr, bird)
        )
        wanted = dict.fromkeys(prefixes, (by_frr, by_bird))

        def heard() -> bool:
            actual = self.tellers(*prefixes)
            assert actual == wanted, f"FRR and BIRD have it from: {actual}; instead of {wanted}"
            return True

        wait_until(heard, within=60)

    def told_by(self, nodes: Sequence[Node], *prefixes: str) -> None:
        """Both routers have these from exactly these nodes, from now on or soon."""
        self.told(*prefixes, frr=nodes, bird=nodes)

    def marks(self, *prefixes: str) -> dict[str, Mark]:
        """When the routers were told what they have of these prefixes: for `unchanged`."""
        versions = self._versions(prefixes)
        return {prefix: Mark(versions[prefix], self._times(prefix)) for prefix in prefixes}

    def unchanged(self, before: Mapping[str, Mark]) -> bool:
        """What was told of these prefixes is as it was then, and was so all the time."""
        for prefix, now in self.marks(*before).items():
            mark = before[prefix]
            assert now.versions == mark.versions, f"FRR heard something of {prefix}"
            assert now.times.keys() == mark.times.keys(), f"BIRD has {prefix} from others"
            moved = {name: at - mark.times[name] for name, at in now.times.items()}
            assert all(abs(by) < BIRD_JITTER for by in moved.values()), f"BIRD heard something of {prefix}: {moved}"
        return True

    def _versions(self, prefixes: Sequence[str]) -> dict[str, list[int]]:
        """Of each path that FRR has; all in one go, since a start of vtysh is what costs."""
        families = (family_of(prefix.partition("/")[0]) for prefix in prefixes)
        commands = [
            f"show bgp {family} unicast {prefix} json" for family, prefix in zip(families, prefixes, strict=True)
        ]
        text, found = self.frr.vtysh(*commands), dict[str, list[int]]()
        for prefix in prefixes:
            answer, end = json.JSONDecoder().raw_decode(text := text.lstrip())
            found[prefix] = [path["version"] for path in answer.get("paths", [])]
            text = text[end:]
        return found

    def _times(self, prefix: str) -> dict[str, datetime]:
        return {name: datetime.fromisoformat(at) for name, at in PATH_SINCE.findall(self.bird.route_text(prefix))}


def neighbor_of(node: Node, password: str = "") -> Neighbor:
    return Neighbor(
        str(node.address()),
        CLUSTER_ASN,
        password=password,
        families=tuple(node.pod_cidrs),
        hold_seconds=LAB_HOLD_SECONDS,
    )


def peer_of(name: str, router: Host, **spec: Any) -> Object:
    """The BGPPeer of a router that is told about apart from others by the label `router`."""
    whole = {"address": str(router.address()), "asn": ROUTER_ASN, "holdSeconds": LAB_HOLD_SECONDS, **spec}
    peer = custom("BGPPeer", name, whole)
    peer["metadata"]["labels"] = {"router": name}
    return peer


def only(name: str) -> Object:
    """Selects the BGPPeer of that router."""
    return {"matchLabels": {"router": name}}


def _named(hops: Iterable[str], names: Mapping[str, str]) -> list[str]:
    return sorted(names.get(hop, hop) for hop in hops)
