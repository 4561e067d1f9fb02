"""Faults as they happen to operators: how each is done to a running cluster and undone, and what must be said of it.

Each is a context manager: within it the fault is there. `FAULTS` says, of each, what `bgpilot check` fails with, which
command names cause and fix, and which sample of the metrics moves.
"""

from __future__ import annotations

import base64
import os
import signal
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from agent.settings import DEFAULT_NAMESPACE
from tests.lab.frr import Frr
from tests.lab.minicluster import (
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    OUR_PROTOCOL,
    ROUTER_ASN,
    Agent,
    MiniCluster,
    Object,
    custom,
    node_object,
    service_object,
    slice_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until
from tests.lab.wirepeer import KEEPALIVE, OPEN, message

LEARNED = "203.0.113.0/24"
"""FRR tells it, and both nodes install it."""
VIP = "10.96.0.80"
SELECTS_NOTHING = custom(
    "BGPAdvertisement",
    "idle",
    {"type": "Service", "service": {"addresses": ["ClusterIP"], "selector": {"matchLabels": {"a": "b"}}}},
)
EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"
NOWHERE = "198.51.100.1"
SECRET = {"name": "tor", "key": "md5"}
BGP_PORT = 179
NOBODY = 99
"""Host number of an address that no machine has."""


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

    def exabgp(self) -> int:
        for pid in Path(f"/proc/{self.agent.process.pid}/task/{self.agent.process.pid}/children").read_text().split():
            if b"bgp.inside.launcher" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
        raise LookupError("no ExaBGP")


# At the router, and on the way to it.


@contextmanager
def port_closed(ward: Ward) -> Iterator[None]:
    with ward.asked(port=BGP_PORT + 1000):
        yield


@contextmanager
def no_route(ward: Ward) -> Iterator[None]:
    ward.node.ip("route", "del", "default")
    with ward.asked(address=NOWHERE):
        yield
    ward.node.add_default_routes()


@contextmanager
def silently_gone(ward: Ward, address: str = "") -> Iterator[None]:
    """The router, or whoever has the address: nothing comes from there any more."""
    ward.node.run(["nft", "-f", "-"], stdin=DROPPING.format(address or ward.tor))
    yield
    ward.node.run(["nft", "delete", "table", "inet", "silence"])


DROPPING = """
table inet silence {{
  chain first {{
    type filter hook prerouting priority raw
    ip saddr {} drop
  }}
}}
"""


@contextmanager
def hold_time_refused(ward: Ward) -> Iterator[None]:
    ward.frr.configure([f"router bgp {ROUTER_ASN}", "bgp minimum-holdtime 60"])
    with ward.asked(holdSeconds=12):  # begins it anew
        yield
    ward.frr.configure([f"router bgp {ROUTER_ASN}", "no bgp minimum-holdtime"])


@contextmanager
def no_common_family(ward: Ward) -> Iterator[None]:
    with (
        ward.told(f"no neighbor {ward.us} activate", family="ipv4"),
        ward.told(f"neighbor {ward.us} activate", family="ipv6"),
    ):
        yield


@contextmanager
def told_too_much(ward: Ward) -> Iterator[None]:
    with ward.told(f"neighbor {ward.us} maximum-prefix 1", family="ipv4"):
        yield
    ward.frr.vtysh(f"clear bgp {ward.us}")


@contextmanager
def second_speaker(ward: Ward) -> Iterator[None]:
    """Something else on the node has the session, as the BGP daemon that was there before."""
    ward.api.delete("BGPPeer", "tor")
    wait_until(lambda: ward.us not in ward.frr.established())

    def dialed() -> socket.socket:
        plain = ward.node.make(partial(socket.create_connection, (ward.tor, BGP_PORT), 5.0))
        plain.sendall(message(OPEN, struct.pack("!BHH4sB", 4, CLUSTER_ASN, 0, socket.inet_aton(ward.us), 0)))
        plain.sendall(message(KEEPALIVE, b""))
        wait_until(lambda: ward.us in ward.frr.established(), within=3)
        return plain

    with wait_until(dialed):  # the router may be idle for a while after the end of ours
        ward.peer()
        yield


# On the node.


@contextmanager
def link_down(ward: Ward) -> Iterator[None]:
    ward.node.ip("link", "set", "eth0", "down")
    yield
    ward.node.ip("link", "set", "eth0", "up")
    ward.node.add_default_routes()


@contextmanager
def address_removed(ward: Ward) -> Iterator[None]:
    address = f"{ward.us}/{ward.node.subnet.networks['ipv4'].prefixlen}"
    ward.node.ip("addr", "del", address, "dev", "eth0")
    yield
    ward.node.ip("addr", "add", address, "dev", "eth0")
    ward.node.add_default_routes()


@contextmanager
def foreign_route(ward: Ward) -> Iterator[None]:
    ward.node.ip("route", "replace", LEARNED, "via", ward.tor, "proto", "static")
    yield
    ward.node.ip("route", "del", LEARNED, "proto", "static")


@contextmanager
def flushed(ward: Ward) -> Iterator[None]:
    ward.node.ip("route", "flush", "proto", OUR_PROTOCOL)
    yield


@contextmanager
def next_hop_refused(ward: Ward) -> Iterator[None]:
    """Somebody has made it unreachable, so that the kernel takes it for no gateway."""
    hop = str(ward.node.subnet.address(NOBODY, "ipv4"))
    wall = ("unreachable", hop, "scope", "link")  # a gateway is looked for among those that are near only
    ward.node.ip("route", "add", *wall)
    ward.frr.configure(["route-map elsewhere permit 10", f"set ip next-hop {hop}"])
    with ward.told(f"neighbor {ward.us} route-map elsewhere out", family="ipv4"):
        yield
    ward.node.ip("route", "del", *wall)


@contextmanager
def not_forwarding(ward: Ward) -> Iterator[None]:
    ward.node.configure(sysctls={"net.ipv4.ip_forward": 0})
    yield
    ward.node.configure(sysctls={"net.ipv4.ip_forward": 1})


@contextmanager
def exabgp_killed(ward: Ward) -> Iterator[None]:
    os.kill(ward.exabgp(), signal.SIGKILL)
    yield


# In the cluster.


@contextmanager
def api_away(ward: Ward) -> Iterator[None]:
    ward.api.cut()
    yield
    ward.api.restore()


@contextmanager
def api_silent(ward: Ward) -> Iterator[None]:
    """Its machine is gone, so that nobody ends the connections."""
    with silently_gone(ward, str(ward.lab.hosts["api"].address())):
        yield


@contextmanager
def forbidden(ward: Ward) -> Iterator[None]:
    ward.api.refuse(403)
    yield
    ward.api.behave()


def node_with(ward: Ward, *, addresses: Iterable[object] = (), cidrs: Iterable[object] = ()) -> Object:
    """The Node object of our node with these instead of its own."""
    thing = node_object(ward.node)
    if addresses:
        thing["status"]["addresses"] = [{"type": "InternalIP", "address": str(it)} for it in addresses]
    if texts := [str(it) for it in cidrs]:
        thing["spec"] = {"podCIDR": texts[0], "podCIDRs": texts}
    return thing


def secret(**values: str) -> Object:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    metadata = {"namespace": DEFAULT_NAMESPACE, "name": SECRET["name"]}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


@contextmanager
def key_missing(ward: Ward) -> Iterator[None]:
    with ward.written(secret(other="swordfish")), ward.asked(passwordSecretRef=SECRET):
        yield


Harm: TypeAlias = Callable[[Ward], AbstractContextManager[None]]


class Fault(NamedTuple):
    harm: Harm
    check: str
    """In a line of `bgpilot check` that fails, or that is a note; empty: it is put right before anybody asks."""
    asked: tuple[str, ...]
    """The command that names the cause,"""
    cause: str
    """so, in a regular expression,"""
    fix: str
    """and what to do."""
    moves: str
    """A sample of the metrics, in a regular expression, that is another one then."""


_PEERS = ("peers",)
_SERVICE = ("explain", "default/web")
_NODE = ("explain", "node-2")
_ROUTE = ("explain", LEARNED)
_UP = r'bgpilot_bgp_peer_up\{peer="172\.18\.0\.1",.*'
_PROBLEM = r'bgpilot_problems\{{reason="{}"\}}'
_UNHEARD = r"bgpilot_kubernetes_watch_(restarts_total|healthy)\{.*"

FAULTS: Mapping[str, Fault] = {
    "wrong peer AS": Fault(
        lambda ward: ward.asked(asn=64999),
        "is in another AS than the one configured here",
        _PEERS,
        r"AS 64999\): ASN in OPEN \(64600\)",
        "Correct `asn` of BGPPeer tor",
        r'bgpilot_bgp_peer_up\{peer="172\.18\.0\.1",peer_as="64999"\}',
    ),
    "wrong password": Fault(
        lambda ward: ward.told(f"neighbor {ward.us} password swordfish"),
        r"BGPPeer/tor .*: 172\.18\.0\.1 (has ended the session|does not answer)",
        _PEERS,
        r"172\.18\.0\.1 (has ended the session|does not answer)",
        "password and TTL security (must be|are) the same on both sides .here: without a password",
        _UP,
    ),
    "missing Secret": Fault(
        lambda ward: ward.asked(passwordSecretRef=SECRET),
        "names Secret tor, which cannot be read",
        _PEERS,
        "has no Secret tor",
        "Create Secret tor with key md5",
        _PROBLEM.format("secretMissing"),
    ),
    "missing key in it": Fault(
        key_missing,
        "Secret tor has no key md5",
        _PEERS,
        "Secret tor has no key md5",
        "Add key md5 to Secret tor",
        _PROBLEM.format("secretKeyMissing"),
    ),
    "TTL security mismatch": Fault(
        lambda ward: ward.told(f"neighbor {ward.us} ttl-security hops 1"),
        "172.18.0.1 (has ended|has been silent|takes the connection)",
        _PEERS,
        "172.18.0.1 (has ended|has been silent|takes the connection)",
        "`ttlSecurityHops` of BGPPeer tor is not set here",
        _UP,
    ),
    "port closed": Fault(
        port_closed,
        "refuses connections on TCP port 1179",
        _PEERS,
        "refuses connections on TCP port 1179",
        "correct `port` of BGPPeer tor",
        _UP,
    ),
    "no route to peer": Fault(
        no_route,
        "this node has no route to 198.51.100.1",
        _PEERS,
        "this node has no route to 198.51.100.1",
        "ip route get 198.51.100.1",
        r'bgpilot_bgp_peer_up\{peer="198\.51\.100\.1",.*',
    ),
    "peer silently gone": Fault(
        silently_gone,
        "172.18.0.1 has been silent for the hold time",
        _PEERS,
        "172.18.0.1 has been silent for the hold time",
        "See if it is there and not overloaded",
        _UP,
    ),
    "hold time refused": Fault(
        hold_time_refused,
        "172.18.0.1 refuses the hold time",
        _PEERS,
        "ours is 12 s",
        "Change `holdSeconds` of BGPPeer tor",
        _UP,
    ),
    "no common family": Fault(
        no_common_family,
        "no address family in common",
        _PEERS,
        "offered here: ipv4",
        "Activate ipv4 in the router's neighbor statement for 172.18.0.12",
        _UP,
    ),
    "router's maximum-prefix": Fault(
        told_too_much,
        "told more prefixes than it allows",
        _PEERS,
        "its maximum-prefix",
        "Raise the limit",
        _UP,
    ),
    "router's administrative shutdown": Fault(
        lambda ward: ward.told(f"neighbor {ward.us} shutdown message rack 7 is moved"),
        "shut down by its administrator",
        _PEERS,
        'who says "rack 7 is moved"',
        "Ask there",
        _UP,
    ),
    "collision with a second speaker": Fault(
        second_speaker,
        "keeps another connection that it has with 172.18.0.12",
        _PEERS,
        "keeps another connection that it has with 172.18.0.12",
        "something else on this node speaks BGP with it",
        r'bgpilot_bgp_notifications_total\{.*code="6",.*subcode="7"\}',
    ),
    "two Nodes with one address": Fault(
        lambda ward: ward.written(node_with(ward, addresses=ward.other.addresses)),
        "is also that of Node node-1",
        _NODE,
        "is also that of Node node-1, which is older and keeps it",
        "Give Node node-2 an address of its own",
        _PROBLEM.format("nodeAddressConflict"),
    ),
    "two Nodes with one pod CIDR": Fault(
        lambda ward: ward.written(node_with(ward, cidrs=ward.other.pod_cidrs.values())),
        "overlaps one of Node node-1",
        _NODE,
        "pod CIDR 10.244.1.0/24 of Node node-2 overlaps",
        "register again with a pod CIDR of its own",
        _PROBLEM.format("podCIDRConflict"),
    ),
    "Node without pod CIDR": Fault(
        lambda ward: ward.written(node_object(ward.node) | {"spec": {}}),
        "has no spec.podCIDRs",
        _NODE,
        "no route to its pods is announced",
        "--allocate-node-cidrs",
        _PROBLEM.format("nodeWithoutPodCIDR"),
    ),
    "link down": Fault(
        link_down,
        "node/node-1 .*: 172.18.0.11 has been silent",
        _PEERS,
        "172.18.0.1 has been silent for the hold time",
        "if its link and ours are up",
        _UP,
    ),
    "address removed": Fault(
        address_removed,
        "this node does not have 172.18.0.12",
        _PEERS,
        "which it is to dial from",
        "Add it again",
        _UP,
    ),
    "foreign route on our prefix": Fault(
        foreign_route,
        r"conflict \(held by protocol 4 \(static\)\)",
        _ROUTE,
        "kernelConflict",
        "Remove the other route",
        "bgpilot_fib_routes_conflicting",
    ),
    "our routes flushed": Fault(
        flushed, "", _ROUTE, "installed", "", r'bgpilot_fib_drift_routes_total\{kind="missing"\}'
    ),
    "kernel refusing a next hop": Fault(
        next_hop_refused,
        "203.0.113.0/24: (failing|refused)",
        _ROUTE,
        "kernelRefused",
        "ip route get",
        "bgpilot_fib_routes_failing",
    ),
    "ip_forward off": Fault(
        not_forwarding,
        "net.ipv4.ip_forward is 0",
        _NODE,
        "the kernel drops what comes here for pods",
        "sysctl -w net.ipv4.ip_forward=1",
        _PROBLEM.format("forwardingOff"),
    ),
    "API server away": Fault(
        api_away,
        "changes of .*Node, Service.* are not heard",
        ("status",),
        "not watched for .*apiUnreachable",
        "",
        _UNHEARD,
    ),
    "RBAC verb missing": Fault(
        forbidden,
        r'Fix: Grant .*resources \["nodes"\]',
        ("status",),
        "not watched for .*apiForbidden",
        "",
        _UNHEARD,
    ),
    "malformed resource": Fault(
        lambda ward: ward.written(custom("BGPPeer", "bad", {"address": "nowhere", "asn": 1})),
        "BGPPeer bad: spec.address = 'nowhere' is not an IP address",
        ("explain", "bad"),
        "spec.address = 'nowhere' is not an IP address",
        "write an IPv4 or IPv6 address",
        _PROBLEM.format("malformedObject"),
    ),
    "advertisement selecting nothing": Fault(
        lambda ward: ward.written(SELECTS_NOTHING),
        "NOTE .*BGPAdvertisement idle selects no Service",
        ("status",),
        "BGPAdvertisement idle selects no Service",
        "Compare spec.service.selector",
        _PROBLEM.format("advertisementSelectsNothing"),
    ),
    "service without local endpoint": Fault(
        lambda ward: ward.written(slice_object("web", {ward.other.name: ["10.244.1.9"]})),
        "",
        _SERVICE,
        "noLocalEndpoint",
        "run a ready pod of the Service here",
        r'bgpilot_.*\{.*reason="noLocalEndpoint".*\}',
    ),
    "excluded node": Fault(
        lambda ward: ward.written(node_object(ward.node, labels={EXCLUDED: ""})),
        "NOTE .*exclude-from-external-load-balancers",
        _SERVICE,
        "nodeExcluded",
        "Remove the label",
        _PROBLEM.format("nodeExcluded"),
    ),
    "ExaBGP dead and restarting": Fault(
        exabgp_killed,
        "ExaBGP ended with signal SIGKILL",
        _PEERS,
        "ExaBGP ended with signal SIGKILL",
        "",
        "bgpilot_exabgp_restarts_total",
    ),
    "watch silent": Fault(
        api_silent,
        "changes of .*Node, Service.* are not heard",
        ("status",),
        "not watched for .*(apiUnreachable|streamSilent)",
        "",
        _UNHEARD,
    ),
}
