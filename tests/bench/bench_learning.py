"""Bulk learning: a router announces 10,000 and 100,000 routes at once; how long until all are in the node's kernel.

bgpilot, BIRD and FRR in turn, each started anew for every run, in the same namespace, from the same sender. Routes of
one UPDATE share their attributes; there are ten sets of these. The clock runs from the first byte sent.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from tests.bench import bgpwire, usage
from tests.bench.kernelwatch import RouteCount, RouteWatch
from tests.bench.peers import Peers, Session
from tests.bench.report import OURS, Table
from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.minicluster import MiniCluster, custom
from tests.lab.neighbor import Neighbor
from tests.lab.topology import Host, Lab, Node

SENDER_ASN = 65010
NODE_ASN = 64512
RUNS = 3
ROUTES_PER_UPDATE = 500
ATTRIBUTE_SETS = 10
SINGLE_ROUTES = 15
SINGLE_PAUSE_SECONDS = 0.1
LEARN_SECONDS = 60.0
QUIET_SECONDS = 0.5
BATCHES = {10_000: IPv4Network("40.0.0.0/8"), 100_000: IPv4Network("32.0.0.0/7")}
SINGLES = IPv4Network("50.0.0.0/8")


@dataclass(frozen=True, slots=True)
class Receiver:
    """A program under test that runs and dials the sender."""

    pids: Callable[[], Sequence[int]]
    longest_stall_ms: Callable[[], float] | None = None


@contextmanager
def bird(_: MiniCluster, node: Node, sender: Host) -> Iterator[Receiver]:
    running = Bird(node, asn=NODE_ASN, router_id=str(node.address()), neighbors=[_neighbor(sender)])
    try:
        yield Receiver(lambda: [running.process.pid])
    finally:
        running.stop()


@contextmanager
def frr(_: MiniCluster, node: Node, sender: Host) -> Iterator[Receiver]:
    running = Frr(node, asn=NODE_ASN, router_id=str(node.address()), neighbors=[_neighbor(sender)])
    try:
        yield Receiver(lambda: [running.bgpd.pid, running.zebra.pid])
    finally:
        running.stop()


@contextmanager
def bgpilot(cluster: MiniCluster, node: Node, sender: Host) -> Iterator[Receiver]:
    everything = {"prefix": "0.0.0.0/0", "ge": 1, "le": 32}
    peer = {"address": str(sender.address()), "asn": SENDER_ASN, "import": {"allowed": [everything]}}
    cluster.api.apply(custom("BGPPeer", "sender", peer))
    cluster.start(node)
    agent = cluster.agent(node)
    try:
        yield Receiver(
            lambda: usage.tree(agent.process.pid), lambda: float(agent.ask("status")["loop"]["longest_own_lag_ms"])
        )
    finally:
        agent.stop()


RECEIVERS = {OURS: bgpilot, "BIRD": bird, "FRR": frr}


def bench(contestants: Sequence[str] = tuple(RECEIVERS), runs: int = RUNS) -> None:
    table = Table("Bulk learning: session up, then routes sent at once", *contestants)
    with Lab(nodes=1, families=("ipv4",)) as lab, MiniCluster(lab) as cluster:
        sender = lab.host("sender")
        with Peers(sender, asn=SENDER_ASN) as peers:
            for _, who in itertools.product(range(runs), contestants):
                with RECEIVERS[who](cluster, lab.node(1), sender) as receiver:
                    _measure(table, who, receiver, lab.node(1), peers)
                    _until_gone(peers)
    table.show()


def _measure(table: Table, who: str, receiver: Receiver, node: Node, peers: Peers) -> None:
    [session] = peers.wait_for(1)
    session.send(bgpwire.end_of_rib())
    count = RouteCount(node)
    for size, space in BATCHES.items():
        before = _settled(count)
        messages = _updates(space, size, session.local)
        began_at = time.monotonic()
        session.send(messages)
        took = count.wait_for(before + size, within=LEARN_SECONDS) - began_at
        table.add(f"{size:,} routes in the kernel", "ms", took * 1000, who=who)
    table.add(f"memory with {sum(BATCHES):,} routes", "MiB", usage.rss_mib(*receiver.pids()), who=who)
    table.add("one more route in the kernel", "ms", _single(node, session) * 1000, who=who)
    before = _settled(count)
    began_at = time.monotonic()
    session.close()
    took = count.wait_for(before - sum(BATCHES), within=LEARN_SECONDS, at_most=True) - began_at
    table.add(f"session lost: {sum(BATCHES):,} removed", "ms", took * 1000, who=who)
    table.add("CPU of all this", "s", usage.cpu_seconds(*receiver.pids()), who=who)
    if receiver.longest_stall_ms is not None:
        table.add("longest stall of the event loop", "ms", receiver.longest_stall_ms(), who=who)
    count.close()


def _single(node: Node, session: Session) -> float:
    """Median seconds from one UPDATE with one route to that route in the kernel; each is withdrawn again."""
    seconds = []
    with RouteWatch(node) as watch:
        for prefix in itertools.islice(SINGLES.subnets(new_prefix=24), SINGLE_ROUTES):
            message = bgpwire.announcement([prefix], session.local, as_path=[SENDER_ASN])
            began_at = time.monotonic()
            session.send(message)
            seconds.append(watch.wait_came(node, prefix, within=LEARN_SECONDS) - began_at)
            session.send(bgpwire.withdrawal([prefix]))
            watch.wait_went(node, prefix, within=LEARN_SECONDS)
            time.sleep(SINGLE_PAUSE_SECONDS)
    return statistics.median(seconds)


def _updates(space: IPv4Network, size: int, next_hop: IPv4Address) -> bytes:
    prefixes = itertools.islice(space.subnets(new_prefix=24), size)
    return b"".join(
        bgpwire.announcement(
            chunk, next_hop, as_path=[SENDER_ASN, 65100 + number % ATTRIBUTE_SETS], med=number % ATTRIBUTE_SETS
        )
        for number, chunk in enumerate(_chunks(prefixes))
    )


def _chunks(prefixes: Iterator[IPv4Network]) -> Iterator[list[IPv4Network]]:
    while chunk := list(itertools.islice(prefixes, ROUTES_PER_UPDATE)):
        yield chunk


def _settled(count: RouteCount) -> int:
    """How many routes there are once nothing has changed for a moment: what came before must not be counted."""
    found = count.now()
    while True:
        time.sleep(QUIET_SECONDS)
        last, found = found, count.now()
        if found == last:
            return found


def _until_gone(peers: Peers) -> None:
    for session in peers.up():
        session.close()


def _neighbor(sender: Host) -> Neighbor:
    return Neighbor(str(sender.address()), SENDER_ASN, families=("ipv4",), hold_seconds=90)
