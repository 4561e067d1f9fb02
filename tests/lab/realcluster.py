"""A cluster of real parts on a lab: control plane, kube-proxy, CNI plugins and agents; only the kubelet is missing.

Its work is done here as it would do it: a Node object and its addresses, a pod's network by the CNI plugins, the Pod's
addresses and readiness. All else is real: pod CIDRs come from the node-ipam controller, EndpointSlices from theirs,
kube-proxy has the role of kube-proxy. Agents come with the token of the service account of deploy/agent.yaml, so that
they can do what that file grants and no more. Load balancers' addresses are the test's to write (`set_ingress`).

It refuses to start a router: which one there is, and who peers with it, is the test's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from types import TracebackType
from typing import Any, Self

from tests.lab.addresses import Network, family_of
from tests.lab.cni import CniPod, bridge_conflist
from tests.lab.controlplane import ControlPlane
from tests.lab.gobuild import CNI_PLUGINS, PROJECT, binary
from tests.lab.kubeapi import ApiError
from tests.lab.kubeproxy import start_kube_proxy
from tests.lab.minicluster import Agent, Fleet, Object, custom
from tests.lab.netns import Family
from tests.lab.pods import HTTP_PORT, serve_http
from tests.lab.procs import Process
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until

MANIFEST = PROJECT / "deploy/agent.yaml"
AGENT_NAMESPACE, AGENT_ACCOUNT = "bgpilot-system", "bgpilot-agent"
NODES = "/api/v1/nodes"
PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"
SERVICE_CIDRS: Mapping[Family, str] = {"ipv4": "10.96.0.0/16", "ipv6": "fd00:10:96::/112"}
POD_CIDRS: Mapping[Family, str] = {"ipv4": "10.244.0.0/16", "ipv6": "fd10:244::/48"}
CONTROLLERS = ("endpointslice-controller", "node-ipam-controller", "serviceaccount-controller")
SECONDS = 60.0
TERMINATING_SECONDS = 300

_KUBE_PROXY = "system:kube-proxy"
"""A user whom Kubernetes' own roles know."""


class RealCluster(Fleet):
    """Close it before the lab, which must be without pod bridges: the CNI plugins make them."""

    def __init__(self, lab: Lab, *, apiserver_flags: Sequence[str] = ()) -> None:
        host = lab.host("api")
        pod_cidrs = ",".join(POD_CIDRS[family] for family in lab.families)
        self.control = ControlPlane(
            netns=host.path,
            addresses=[str(address) for address in host.addresses],
            service_cidrs=[SERVICE_CIDRS[family] for family in lab.families],
            users={_KUBE_PROXY: ()},
            controllers=CONTROLLERS,
            apiserver_flags=apiserver_flags,
            controller_flags=["--allocate-node-cidrs", f"--cluster-cidr={pod_cidrs}"],
        )
        self.control.__enter__()
        try:
            self.control.apply(MANIFEST)
            self.control.kubectl("wait", "--for=condition=Established", "crd", "--all", f"--timeout={SECONDS:.0f}s")
            token = self.control.service_account_token(AGENT_NAMESPACE, AGENT_ACCOUNT)
            super().__init__(lab, self.control.kubeconfig(token))
            self.api = self.control.api()
            self.proxies: dict[str, Process] = {}
            self.plugins = {binary(name) for name in CNI_PLUGINS}.pop().parent
            self._proxy_config = self.control.kubeconfig(self.control.token(_KUBE_PROXY))
            self._pod_cidrs = pod_cidrs.split(",")
            wait_until(lambda: self.api.get("/api/v1/namespaces/default/serviceaccounts")["items"], within=SECONDS)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:  # the logs are gone before anybody could look
            error.add_note(self.lab.logs())
        self.close()

    def close(self) -> None:
        """Agents and kube-proxies belong to the lab and go with it."""
        self.control.close()

    def apply(self, *objects: Object) -> None:
        """Through strict validation, as `kubectl apply --server-side`."""
        self.control.apply(*objects)

    @contextmanager
    def api_server_away(self) -> Iterator[None]:
        """Inside, nothing listens at its address; afterwards it answers again."""
        self.control.stop_apiserver()
        try:
            yield
        finally:
            self.control.start()

    # Nodes.

    def join(self, *nodes: Node) -> None:
        """The Node objects, then the agents, then kube-proxies; these run and the pod CIDRs are known on return."""
        for node in nodes:
            self.register(node)
        for node in nodes:
            self.start_agent(node)
        for node in nodes:
            self.start_kube_proxy(node)

    def start_kube_proxy(self, node: Node) -> None:
        self.proxies[node.name] = start_kube_proxy(
            node, node_name=node.name, kubeconfig=self._proxy_config, pod_cidrs=self._pod_cidrs
        )

    def register(self, node: Node) -> None:
        """A new Node as a kubelet makes it; `node.pod_cidrs` are then those that the node-ipam controller gave it."""
        labels = {"kubernetes.io/hostname": node.name}
        self.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name, "labels": labels}})
        self.set_addresses(node, *map(str, node.addresses))
        node.pod_cidrs = wait_until(lambda: self._assigned(node), within=SECONDS)

    def set_addresses(self, node: Node, *addresses: str) -> None:
        """What the kubelet reports as the node's InternalIPs."""
        status = {"addresses": [{"type": "InternalIP", "address": address} for address in addresses]}
        self.api.patch(f"{NODES}/{node.name}/status", {"status": status})

    def unregister(self, node: Node) -> None:
        """The Node object goes; all that runs on the node stays as it is."""
        self.discard(f"{NODES}/{node.name}")

    def leave(self, node: Node) -> None:
        """All that `join` did is undone, as far as it was."""
        self.unregister(node)
        if agent := self.agents.pop(node.name, None):
            agent.stop()
        if proxy := self.proxies.pop(node.name, None):
            proxy.stop()

    def _assigned(self, node: Node) -> Mapping[Family, Network]:
        cidrs = self.api.get(f"{NODES}/{node.name}")["spec"].get("podCIDRs", [])
        return {family_of(cidr.partition("/")[0]): ip_network(cidr) for cidr in cidrs}

    # Pods and services.

    def run_pod(self, node: Node, name: str, *, app: str, ready: bool = True) -> CniPod:
        """A pod that answers HTTP with its name, and its Pod object with the label `app`."""
        pod = CniPod(node, name, plugins=self.plugins, conflist=bridge_conflist(node))
        serve_http(pod, name)
        spec = {"nodeName": node.name, "containers": [{"name": "web", "image": "web"}]}
        metadata = {"name": name, "labels": {"app": app}}
        self.api.post(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        addresses = [{"ip": str(pod.address(family))} for family in self.lab.families]
        self._patch_pod(name, ready=ready, phase="Running", podIP=addresses[0]["ip"], podIPs=addresses)
        return pod

    def set_ready(self, name: str, *, ready: bool) -> None:
        """What the pod's readiness probe came to."""
        self._patch_pod(name, ready=ready)

    def terminate(self, name: str) -> None:
        """It is asked to end, and goes on serving as a pod does in the time it is given: `remove_pod` ends it."""
        self.api.delete(f"{PODS}/{name}", {"gracePeriodSeconds": TERMINATING_SECONDS})

    def remove_pod(self, pod: CniPod, name: str) -> None:
        """At once, without the time that a pod is given to end in order."""
        self.api.delete(f"{PODS}/{name}", {"gracePeriodSeconds": 0})
        pod.remove()

    def _patch_pod(self, name: str, *, ready: bool, **status: Any) -> None:
        conditions = [{"type": "Ready", "status": str(ready)}]
        self.api.patch(f"{PODS}/{name}/status", {"status": {**status, "conditions": conditions}})

    def cluster_ips(self, service: str) -> Mapping[Family, str]:
        """What the API server gave the Service."""
        addresses = self.api.get(f"{SERVICES}/{service}")["spec"]["clusterIPs"]
        return {family_of(address): address for address in addresses}

    def set_ingress(self, service: str, *addresses: str) -> None:
        """The work of a load balancer's controller."""
        ingress = [{"ip": address, "ipMode": "VIP"} for address in addresses]
        self.api.patch(f"{SERVICES}/{service}/status", {"status": {"loadBalancer": {"ingress": ingress}}})

    def discard(self, path: str) -> None:
        """Delete the object, if it exists."""
        try:
            self.api.delete(path)
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    # What the agents say.

    def problems(self, agent: Agent) -> set[tuple[str, str]]:
        """Reason and subject."""
        return {(told["reason"], told["subject"]) for told in agent.view("status")["problems"]}

    def flaps(self) -> Mapping[tuple[str, str], int]:
        """How often each established session of each agent has been lost so far."""
        return {
            (name, address): peer["flaps"]
            for name, agent in self.agents.items()
            for address, peer in agent.view("peers")["peers"].items()
            if peer["is_up"]
        }


def web_service(name: str, *, app: str, **spec: Any) -> Object:
    """Port 80 of the pods with the label `app`, in both families where the cluster has both."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": name, "labels": {"advertise": "yes"}},
        "spec": {
            "selector": {"app": app},
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [{"name": "http", "port": HTTP_PORT}],
            **spec,
        },
    }


def host_prefix(address: str) -> str:
    return f"{address}/{ip_address(address).max_prefixlen}"


SERVICES_ADVERTISED = custom(
    "BGPAdvertisement",
    "services",
    {
        "type": "Service",
        "service": {
            "addresses": ["ClusterIP", "ExternalIP", "LoadBalancerIP"],
            "selector": {"matchLabels": {"advertise": "yes"}},
        },
    },
)
"""All addresses of what `web_service` makes."""
