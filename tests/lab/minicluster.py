"""A cluster on a lab: the embedded API on a host of its own, a Node object and a real agent per node, a router.

The agents are the real program (`bgpilot run`), each in its node's namespace with its own run directory; all that is
embedded is the API server. Live tests, demo and bench drive it: nodes join, leave and die, services come and go.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Self

from agent.cli.client import RefusedError, UnreachableError, ask
from agent.settings import SOCKET_NAME
from tests.lab.api import EmbeddedApi
from tests.lab.frr import Frr
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family, Namespace
from tests.lab.procs import Process
from tests.lab.topology import Host, Lab, Node
from tests.lab.wait import wait_until

CLUSTER_ASN = 64512
ROUTER_ASN = 64600
API_PORT = 6443
OUR_PROTOCOL = "179"
BGPILOT = Path(sys.executable).with_name("bgpilot")
LAB_HOLD_SECONDS = 9
"""Hold time in the lab, so that a dead node is noticed within a test; the default is 90."""

Object = dict[str, Any]


class Agent:
    """`bgpilot run` on one node, and the command line that asks it."""

    def __init__(self, namespace: Namespace, node_name: str, kubeconfig: Path, *flags: str) -> None:
        self.namespace = namespace
        self.run_dir = namespace.run_dir / "bgpilot"
        self.run_dir.mkdir(mode=0o700, exist_ok=True)
        self._argv = [
            BGPILOT,
            "run",
            f"--node-name={node_name}",
            f"--kubeconfig={kubeconfig}",
            f"--run-dir={self.run_dir}",
            *flags,
        ]
        self.process = self._start()

    def restart(self) -> None:
        """After `stop` or `kill`."""
        self.process = self._start()

    def stop(self) -> int:
        return self.process.stop()

    def kill(self) -> None:
        """SIGKILL for the agent; its ExaBGP child goes on or goes with it, as it will."""
        self.process.kill()

    def cli(self, *words: str) -> CompletedProcess[str]:
        return self.namespace.run([BGPILOT, *words, f"--run-dir={self.run_dir}"], check=False)

    def ask(self, *words: str) -> Any:
        """The JSON answer of `bgpilot WORDS -o json`; AssertionError while the agent does not answer."""
        done = self.cli(*words, "-o", "json")
        assert done.returncode in {0, 3}, done.stdout + done.stderr
        return json.loads(done.stdout)

    def view(self, *path: str, **query: str) -> Any:
        """What `ask` answers, straight from the agent's socket: for what is asked again and again."""
        return view(self.run_dir, *path, **query)

    def exabgp(self) -> int:
        """The pid of its child."""
        for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            if b"bgp.inside.launcher" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
        raise LookupError("no ExaBGP")

    def _start(self) -> Process:
        return self.namespace.start(self._argv, log="agent")


def view(run_dir: Path, *path: str, **query: str) -> Any:
    """What the agent of this run directory answers; AssertionError while it does not."""
    try:
        return ask(run_dir / SOCKET_NAME, *path, **query)
    except (UnreachableError, RefusedError) as error:
        raise AssertionError(str(error)) from error


class Fleet:
    """The agents of a lab and what their nodes' kernels hold, whatever API server they ask."""

    def __init__(self, lab: Lab, kubeconfig: Path, *, flags: Sequence[str] = ()) -> None:
        self.lab = lab
        self.kubeconfig = kubeconfig
        self.flags = tuple(flags)
        self.agents: dict[str, Agent] = {}

    def start_agent(self, node: Node, *flags: str) -> Agent:
        agent = Agent(node, node.name, self.kubeconfig, *self.flags, *flags)
        self.agents[node.name] = agent
        return agent

    def agent(self, node: Node) -> Agent:
        return self.agents[node.name]

    def learned(self, node: Node, family: Family) -> Mapping[str, list[str]]:
        """Prefix → next hops of the kernel routes with our protocol number, without discard routes."""
        found = node.kernel_routes(family, "proto", OUR_PROTOCOL)
        return {prefix: hops for prefix, hops in found.items() if hops}

    def meshed(self, *, besides: frozenset[str] = frozenset()) -> bool:
        """Every node has every other node's pod CIDRs in its kernel, and nothing else (but what is in `besides`)."""
        for node in self.lab.nodes.values():
            for family in self.lab.families:
                others = [other for other in self.lab.nodes.values() if other is not node]
                wanted = {str(other.pod_cidrs[family]): [str(other.address(family))] for other in others}
                actual = {to: hops for to, hops in self.learned(node, family).items() if to not in besides}
                assert actual == wanted, f"{node.name}: {actual} instead of {wanted}"
        return True

    def flaps(self) -> int:
        """How many sessions have ended so far, of all agents together."""
        tables = [agent.view("peers")["peers"].values() for agent in self.agents.values()]
        return sum(peer["flaps"] for table in tables for peer in table)

    def wait_meshed(self, *, within: float = 60.0, besides: frozenset[str] = frozenset()) -> None:
        wait_until(lambda: self.meshed(besides=besides), within=within)


class MiniCluster(Fleet):
    """Close it before the lab. Node objects are older the lower the node's index."""

    def __init__(self, lab: Lab, *, flags: Sequence[str] = ()) -> None:
        host = lab.host("api")
        self.api = EmbeddedApi(host=str(host.address()), port=API_PORT, netns=host.path)
        self.api.__enter__()
        super().__init__(lab, self.api.kubeconfig(lab.directory / "kubeconfig"), flags=flags)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for agent in self.agents.values():
            agent.stop()
        self.api.__exit__()

    def start(self, *nodes: Node) -> None:
        """Node objects first, then the agents: as when a cluster is already there."""
        chosen = nodes or tuple(self.lab.nodes.values())
        self.api.apply(*(node_object(node) for node in chosen))
        for node in chosen:
            self.start_agent(node)

    def delete_all(self, *kinds: str) -> None:
        for kind in kinds:
            for thing in self.api.list(kind):
                self.api.delete(kind, thing["metadata"]["name"], thing["metadata"].get("namespace", ""))

    def forget(self, node: Node) -> None:
        """The Node object goes, as when an administrator removes a dead node."""
        self.api.delete("Node", node.name)
        self.agents.pop(node.name, None)


def node_object(node: Node, *, labels: Mapping[str, str] | None = None) -> Object:
    created = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=node.index)
    cidrs = [str(cidr) for cidr in node.pod_cidrs.values()]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": dict(labels or {}),
            "creationTimestamp": f"{created:%Y-%m-%dT%H:%M:%SZ}",
        },
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
        "status": {"addresses": [{"type": "InternalIP", "address": str(address)} for address in node.addresses]},
    }


def service_object(
    name: str,
    cluster_ips: Sequence[str],
    *,
    external_ips: Sequence[str] = (),
    load_balancer_ips: Sequence[str] = (),
    internal_policy: str = "Cluster",
    external_policy: str = "Cluster",
    labels: Mapping[str, str] | None = None,
) -> Object:
    spec: Object = {
        "type": "LoadBalancer" if load_balancer_ips else "ClusterIP",
        "clusterIP": cluster_ips[0],
        "clusterIPs": list(cluster_ips),
        "externalIPs": list(external_ips),
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "internalTrafficPolicy": internal_policy,
    }
    if load_balancer_ips or external_ips:
        spec["externalTrafficPolicy"] = external_policy
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": name, "labels": dict(labels or {})},
        "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "VIP"} for ip in load_balancer_ips]}},
    }


def slice_object(
    name: str, endpoints: Mapping[str, Sequence[str]], *, family: str = "IPv4", ready: bool = True
) -> Object:
    """`endpoints`: node name → pod addresses."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "default",
            "name": f"{name}-{family.lower()}",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": family,
        "endpoints": [
            {
                "addresses": [address],
                "nodeName": node,
                "conditions": {"ready": ready, "serving": ready, "terminating": False},
            }
            for node, addresses in endpoints.items()
            for address in addresses
        ],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    }


def custom(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": "bgpilot.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def tor(router: Host, *, password: str = "", hold_seconds: int = LAB_HOLD_SECONDS) -> Frr:
    """FRR as the rack's router: any node of the first subnet may dial it, eBGP, ECMP over all of them."""
    ranges = [str(network) for network in router.subnet.networks.values()]
    neighbors = [
        Neighbor(network, CLUSTER_ASN, password=password, hold_seconds=hold_seconds, families=router.subnet.families)
        for network in ranges
    ]
    return Frr(router, asn=ROUTER_ASN, router_id="10.99.0.1", neighbors=neighbors)


def tor_peer(router: Host, *, name: str = "tor", **spec: Any) -> Object:
    """The BGPPeer with which every node dials `tor(router)`."""
    return custom(
        "BGPPeer",
        name,
        {"address": str(router.address()), "asn": ROUTER_ASN, "holdSeconds": LAB_HOLD_SECONDS, **spec},
    )
