"""What to do about each "no": reason word → remedy, for `explain` and everything else that shows a reason to people.

The words are those of `bgp.check.Reason`, `agent.plan` and the drivers; a test demands that none of them is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from bgp.check import Reason
from bgp.model import Address

REMEDIES: Final[Mapping[str, str]] = {
    # A route of ours that does not go to a peer.
    Reason.FAMILY_NOT_SPOKEN: "Activate this address family for the neighbor on the router.",
    Reason.NEXT_HOP_FAMILY: "IPv4 over IPv6 needs `extendedNextHop` in the BGPPeer; IPv6 over IPv4 is not possible.",
    Reason.NEXT_HOP_NOT_NEGOTIATED: "Switch it on at the router (FRR: `capability extended-nexthop`), or off here.",
    Reason.NEXT_HOP_IS_PEER: "Look for a node and a router with the same address.",
    Reason.NEXT_HOP_IS_US: "Nothing to do: the route leads to this node.",
    Reason.NEXT_HOP_UNUSABLE: "Make the router send its own address as next hop (next-hop-self).",
    Reason.DEFAULT_ROUTE: "Nothing to do, or add 0.0.0.0/0 or ::/0 to `import.allowed` in the BGPPeer.",
    Reason.MARTIAN_PREFIX: "Stop the peer from announcing it: it cannot be routed.",
    Reason.INTERNAL_ATTRIBUTE: "This is a mistake in bgpilot: please report it.",
    Reason.AS_PATH_NOT_OURS: "This is a mistake in bgpilot: please report it.",
    Reason.MESSAGE_TOO_LONG: "Use fewer communities in the BGPAdvertisements that select this route.",
    Reason.SPEAKER_REFUSED: "Look for the command in the log of ExaBGP (container `speaker`).",
    Reason.NO_ADVERTISE: "Nothing to do: who announced it wants it so.",
    Reason.NOT_TRANSIT: "Nothing to do: nodes pass on nothing from router to router.",
    Reason.TOLD_BY_PEER: "Nothing to do: a route never goes back to who told us.",
    Reason.NEITHER_CLIENT: "Nothing to do: reflectors hear from each other directly.",
    Reason.ORIGINATOR_UNKNOWN: "Wait for the session: its OPEN says the router id.",
    "noAddressOfFamily": "Give the Node an InternalIP of this address family.",
    # A route heard that is not used.
    Reason.AS_LOOP: "Normal for our own routes coming back; where racks share our AS, set `allowASIn` of the BGPPeer.",
    Reason.ORIGINATED_HERE: "Nothing to do: a route reflector has sent our own route back.",
    Reason.CLUSTER_LOOP: "Nothing to do if this node has the route from its own client; else see why it has no session "
    "with that client, or leave out `clusterID`, with which reflectors take nothing from each other's clients.",
    "ownPodCIDR": "Stop the peer from announcing this node's own pod CIDR.",
    "ownAddress": "Stop the peer from announcing this node's own address.",
    "connectedSubnet": "Stop the peer from announcing the subnet this node stands in.",
    "serviceRange": "Stop the peer from announcing service addresses: kube-proxy answers for them on each node.",
    "serviceRoutesOff": "Set `serviceRoutes: Import` in the BGPInstance of this node if it has no kube-proxy.",
    "announcedHere": "Nothing to do: this node announces it itself, so it answers for it.",
    "answeredHere": "Nothing to do: kube-proxy of this node has the address on an interface, so it answers for it.",
    "insidePodCIDR": "Stop the peer from announcing parts of a pod CIDR: the Node it belongs to carries all of it.",
    "nextHopIsPod": "Make the peer send its own address as next hop: no pod of this node is a router.",
    "podRoutesOff": "Set `podRoutes: BGP` in the BGPInstance if bgpilot shall carry pods.",
    "peerUnknown": "Nothing to do: the session is being removed.",
    "notAPodCIDR": "Only pod CIDRs of other nodes are taken from internal peers: check the Nodes' spec.podCIDRs.",
    "importNotAllowed": "Add the prefix to `import.allowed`, or set `import.podCIDRs: true`, in the BGPPeer.",
    "nextHopNotConnected": "Make the peer send a next hop inside a subnet of this node (next-hop-self on the router).",
    # A service address that is not announced.
    "notSelected": "Label the Service, or widen `service.selector` or `addresses` of a Service BGPAdvertisement; where "
    "that has `onRequest`, annotate the Service with bgpilot.io/advertise.",
    "requestNotAllowed": "Add the class of the address to `service.onRequest` of a BGPAdvertisement that selects the "
    "Service, or take it out of the annotation bgpilot.io/advertise.",
    "notRequested": "Annotate the Service with bgpilot.io/advertise, or name the class in `service.addresses` of the "
    "BGPAdvertisement.",
    "noAddressOfClass": "Name in `service.addresses` of the BGPAdvertisement a class of address that the Service has.",
    "noAddressYet": "Look at the controller that gives load balancers their addresses: bgpilot gives none.",
    "peerSelectorSelectsNothing": "Compare spec.peerSelector with `kubectl get bgppeers --show-labels`.",
    "noPeer": "Create a BGPPeer that selects this node, if routers are to be told.",
    "noLocalEndpoint": "The traffic policy is Local: run a ready pod of the Service here, or use policy Cluster.",
    "externalIPNotAllowed": "Add the address to `allowedExternalIPs` of the BGPInstance.",
    "optedOut": "Remove the annotation bgpilot.io/advertise from the Service, or name the class of the address in it.",
    "otherLoadBalancerClass": "Name the class in `service.loadBalancerClasses` of the BGPAdvertisement, if nobody else "
    "answers for the address.",
    "endpointsExcluded": "Its traffic policy is Local: run a ready pod on a node that announces, or remove the label "
    "node.kubernetes.io/exclude-from-external-load-balancers from a Node that has one.",
    "noEndpoint": "Run a ready pod of the Service that has an address of this family; under traffic policy Cluster "
    "`service.whenNoEndpoints: Keep` announces it all the same.",
    "aggregateOfLocal": "Announce it by a BGPAdvertisement without `aggregation`: a prefix says nothing of nodes.",
    "aggregateTooWide": "Give `service.aggregation` more bits: the prefix overlaps networks of nodes or pods, or holds "
    "a router.",
    "controlPlaneExcluded": "Nothing to do if other nodes announce it; else remove the label "
    "node.kubernetes.io/exclude-from-external-load-balancers from the Node.",
    "nodeExcluded": "Remove the label node.kubernetes.io/exclude-from-external-load-balancers from the Node.",
    "nodeDraining": "Nothing to do if the node is about to go; else see the Problem for the taint.",
    "nodeDrained": "When it shall come back: `bgpilot undrain` there, and no annotation bgpilot.io/drain on the Node.",
    "nodeDeleted": "Nothing to do if the machine goes; else restart its kubelet, which makes the Node again.",
    "agentUninstalled": "Nothing to do; to have it back, deploy the agent again.",
    "nodeAddress": "Take another address: this one belongs to a Node.",
    "nodeSubnet": "Take another address: this one is inside a subnet that the node stands in.",
    "peerAddress": "Take another address: this one belongs to a router, of a BGPPeer or of the node's default route.",
    "podRange": "Take another address: this one is inside a Node's pod CIDR.",
    "headlessService": "Give the Service a ClusterIP if it shall be reached from outside.",
    "externalName": "Nothing to do: such a Service leads to another name and never to this cluster's pods.",
    "ipModeProxy": "Nothing to do: the load balancer must be reached, not the node.",
    "noLoadBalancer": "Set `type: LoadBalancer` if it shall be announced; else nothing to do: the status is left over.",
    "hostnameOnly": "Use a load balancer controller that gives addresses if routes shall be announced.",
    # A peer with which there must be no session.
    "shutdown": "Remove `spec.shutdown` from the BGPPeer when the session shall come back.",
    "secretMissing": "Create the Secret that `passwordSecretRef` names, in the agent's namespace.",
    "secretKeyMissing": "Add the key that `passwordSecretRef` names to the Secret.",
    "passwordTooLong": "Set a password of at most 80 bytes, in the Secret and on the other side.",
    "secretPending": "Wait a moment: the Secret has not been read yet.",
    "noCommonFamily": "Activate an address family for the neighbor on the router that its BGPPeer has in `families`.",
    "familyNotNegotiated": "Activate the family for the neighbor on the router, or take it out of `families` here.",
    "maxPrefixesNear": "Find out why the peer tells so much, or raise `maxPrefixes` of its BGPPeer before it is over.",
    "maxPrefixesExceeded": "Find out why the peer tells so much, or raise `maxPrefixes` of its BGPPeer.",
    "malformedUpdate": "Look on the peer for where the route has its attributes from. Shown until the session ends.",
    "peerRefused": "Correct the field that is named; the other peers are not affected.",
    # The way there.
    "parting": "Nothing to do: it ends when the sessions that replace it have brought everything, or when the other "
    "node, which is deleted, has taken leave.",
    "notEstablished": "See `bgpilot peers --failed` for the last error of the session.",
    "neverTried": "Wait a moment: it is being dialed.",
    "notOriginated": "Nothing to do where another node or a router is to announce it.",
    "notHeard": "See `bgpilot routes advertised PREFIX` on the node that should announce it.",
    "partsOnly": "Nothing to do where the parts are enough; else announce the whole, too.",
    "objectNotFound": "Check namespace and name with `kubectl get service -A`.",
    "kernelConflict": "Remove the other route, or stop the daemon that writes it: routes of others are never replaced.",
    "kernelRefused": "The words are the kernel's own; `ip route get NEXTHOP` often shows what is missing.",
    "notBest": "Nothing to do: another path to this prefix is preferred.",
    "maximumPathsReached": "Raise `maximumPaths` of the BGPInstance, if more next hops shall be used at once.",
    "podRoutesAwaited": "Wait a moment: other nodes tell their pod CIDRs when there are sessions with them.",
    **dict.fromkeys(
        ("notInstalled", "leaving", "pending"),
        "Wait a moment; if it stays, `bgpilot status` shows what the agent is busy with.",
    ),
    "endOfRibMissing": "The router does not say when it has sent everything; it may lack graceful restart (RFC 4724).",
}


_OUTWARD: Final[Mapping[str, str]] = {
    "serviceRange": "Take another address: this one is in a range of ClusterIPs, or the ClusterIP of another Service.",
    Reason.DEFAULT_ROUTE: "Take it out of the BGPAdvertisement: nodes are no way to everywhere.",
    Reason.MARTIAN_PREFIX: "Take another address or prefix: nothing is ever routed to this one.",
}
"""Where the word means another thing of what is announced than of what is heard."""


def outward_remedy(reason: str) -> str:
    """For what is not announced, or not told to a peer."""
    return _OUTWARD.get(reason) or remedy(reason)


def kernel_remedy(gateways: Collection[Address | None]) -> str:
    """Of a route that the kernel refuses, with the next hop in the commands where there is but one."""
    (gateway,) = gateways if len(gateways) == 1 else (None,)
    if gateway is None:
        return remedy("kernelRefused")
    ip = "ip -6 route" if gateway.version == 6 else "ip route"
    return (
        f"The words are the kernel's own; `{ip} get {gateway}` and `{ip} show match {gateway}` show how it would reach "
        "that next hop."
    )


def remedy(reason: str) -> str:
    """Empty for a word that explains itself."""
    return REMEDIES.get(reason, "")
