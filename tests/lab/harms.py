"""Harm as it is done to running clusters: each is a context manager, within which the fault is there."""

from __future__ import annotations

import base64
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from agent.settings import DEFAULT_NAMESPACE
from tests.lab.minicluster import CLUSTER_ASN, OUR_PROTOCOL, ROUTER_ASN, Object, node_object
from tests.lab.wait import wait_until
from tests.lab.ward import LEARNED, Ward
from tests.lab.wirepeer import KEEPALIVE, OPEN, message

NOWHERE = "198.51.100.1"
SECRET = {"name": "tor", "key": "md5"}
BGP_PORT = 179
NOBODY = 99
"""Host number of an address that no machine has."""


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
    """And again when they are back, until somebody has looked."""
    with _again_and_again(lambda: ward.node.ip("route", "flush", "proto", OUR_PROTOCOL)):
        yield


@contextmanager
def _again_and_again(harm: Callable[[], None]) -> Iterator[None]:
    over = threading.Event()

    def go_on() -> None:
        while True:
            harm()
            if over.wait(1.0):
                return

    doer = threading.Thread(target=go_on)
    doer.start()
    try:
        yield
    finally:
        over.set()
        doer.join()


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
    """And again when its sessions are there, until somebody has looked: it is back within seconds."""

    def kill() -> None:
        if ward.us in ward.frr.established():
            with suppress(LookupError, ProcessLookupError):
                os.kill(ward.agent.exabgp(), signal.SIGKILL)

    with _again_and_again(kill):
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
