"""What a reason word means, in words for people: of what this node announces, and of what it hears.

The same word may mean one thing outward and another inward. What to do about it is `agent.status.remedies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bgp.check import Reason


def meaning_out(reason: str) -> str:
    """Why something is not announced, or not told to a peer."""
    return _OUT.get(reason, reason)


def meaning_in(reason: str) -> str:
    """Why a path that was heard is not admitted."""
    return _IN.get(reason, reason)


_BGP: Final = {str(reason): reason.meaning for reason in Reason}

_OUT: Final[Mapping[str, str]] = {
    **_BGP,
    "noLocalEndpoint": "its traffic policy is Local, and no endpoint on this node can be used",
    "endpointsExcluded": "its endpoints are on nodes with the label "
    "node.kubernetes.io/exclude-from-external-load-balancers only",
    "noEndpoint": "no endpoint of its IP family, on any node, can be used",
    "externalIPNotAllowed": "it is an external IP outside all of allowedExternalIPs",
    "optedOut": "the annotation bgpilot.io/advertise of the Service leaves it out",
    "requestNotAllowed": "the Service asks for it by annotation, and no BGPAdvertisement that selects it has its class",
    "otherLoadBalancerClass": "the loadBalancerClass of the Service says that somebody else answers for it",
    "aggregateOfLocal": "its traffic policy is Local, and an aggregate cannot say which nodes have an endpoint",
    "aggregateTooWide": "its aggregate would hold networks of nodes or pods, or a router",
    "controlPlaneExcluded": "this control plane has the label node.kubernetes.io/exclude-from-external-load-balancers, "
    "as kubeadm gives it",
    "nodeExcluded": "this node has the label node.kubernetes.io/exclude-from-external-load-balancers",
    "nodeDraining": "this node has a taint of nodes that are about to go",
    "nodeDrained": "this node is drained: somebody has asked for it",
    "nodeDeleted": "the Node object of this node is deleted",
    "agentUninstalled": "the DaemonSet of the agent is deleted, and the agent is about to end",
    "nodeAddress": "it is the address of a node",
    "nodeSubnet": "it is an external IP in a network of this node",
    "peerAddress": "it is the address of a router",
    "podRange": "it is in the pod CIDR of a node",
    "serviceRange": "it is in a range of ClusterIPs, or the ClusterIP of another Service",
    "headlessService": "a headless Service has no address of its own",
    "externalName": "a Service of type ExternalName is a name in the DNS and has no address",
    "ipModeProxy": "its load balancer has the traffic for itself (ipMode Proxy): nodes do not answer for the address",
    "hostnameOnly": "the load balancer gave a name and no address",
    "noLoadBalancer": "the Service is no LoadBalancer (any more), and what its status says of one is left over",
    "noAddressYet": "no load balancer controller has given the Service an address yet",
    "podRoutesAwaited": "this node lacks pod routes of other nodes, and could not pass on what came for it",
    "noAddressOfFamily": "this node has no address of its family that could be the next hop",
}

_IN: Final[Mapping[str, str]] = {
    **_BGP,
    Reason.DEFAULT_ROUTE: "a default route is taken only from a router whose BGPPeer allows it in import.allowed",
    "serviceRange": "it holds addresses of Services, for which kube-proxy answers on each node",
    "ownPodCIDR": "it is this node's own pod CIDR, or a part of it",
    "ownAddress": "it is an address of this node",
    "connectedSubnet": "it is a network that this node is connected to",
    "insidePodCIDR": "it is a part of a pod CIDR, which only its whole node can give",
    "podRoutesOff": "podRoutes of the BGPInstance is Off: another CNI carries pods",
    "notAPodCIDR": "peers of our own AS may give pod CIDRs of other nodes, and this is none",
    "importNotAllowed": "`import` of the BGPPeer does not admit it",
    "nextHopNotConnected": "the next hop is in no network of this node",
    "nextHopIsPod": "the next hop is a pod of this node",
    "serviceRoutesOff": "it is a service address, and serviceRoutes of the BGPInstance is not Import",
    "announcedHere": "this node announces it itself, so it answers for it",
    "answeredHere": "kube-proxy of this node has the address on an interface, so it answers for it",
    "peerUnknown": "the peer is configured no more",
}
