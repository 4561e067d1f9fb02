"""A session that does not come about, and what we say of it: one node with an agent, and one router of some kind.

Judged on both sides: the router's own words say that it was this that happened; `bgpilot peers`, `bgpilot explain` and
the log say so to who has only the node to look at. What a router does when is measured, not wished: where kinds of
router differ, each has its own words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.gobgp import GoBgp
from tests.lab.minicluster import (
    CLUSTER_ASN,
    LAB_HOLD_SECONDS,
    ROUTER_ASN,
    MiniCluster,
    custom,
    service_object,
    slice_object,
    tor_peer,
)
from tests.lab.neighbor import Neighbor
from tests.lab.netns import Family
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

Router: TypeAlias = Frr | Bird | GoBgp
KINDS: tuple[type[Router], ...] = (Frr, Bird, GoBgp)
FOREIGN = ("198.51.100.0/24", "203.0.113.0/24")
VIP = "10.96.0.80"
REFUSED_SECONDS = 90.0
OUTCOMES = {"peer_attempt_failed", "peer_down", "problem"}


@dataclass
class Scene:
    """The router waits to be dialed by the node. There is one peer at a time, and its name is `tor`."""

    lab: Lab
    cluster: MiniCluster
    router: Router
    logged_before: int = 0
    """Characters of the agent's log before the peer was there."""

    @property
    def us(self) -> str:
        return str(self.lab.node(1).address())

    @property
    def them(self) -> str:
        return str(self.lab.router.address())

    def neighbor(
        self, *extra: str, asn: int = CLUSTER_ASN, password: str = "", families: tuple[Family, ...] = ("ipv4",)
    ) -> None:
        """The router's side; `extra` are lines in its own language."""
        self.router.add_neighbor(
            Neighbor(
                self.us, asn, password, passive=True, families=families, hold_seconds=LAB_HOLD_SECONDS, extra=extra
            )
        )

    def peer(self, *, families: tuple[str, ...] = ("IPv4",), **spec: Any) -> None:
        self.apply(tor_peer(self.lab.router, families=list(families), **spec))

    def apply(self, peer: dict[str, Any]) -> None:
        self.logged_before = len(self._log())
        self.cluster.api.apply(peer)

    def forget_peer(self) -> None:
        self.cluster.api.delete("BGPPeer", "tor")
        agent = self.cluster.agent(self.lab.node(1))
        wait_until(lambda: not agent.view("peers")["peers"])
        wait_until(lambda: agent.view("status")["phase"] == "IN_SYNC")  # or the next one is ExaBGP's from before

    def begin_anew(self) -> None:
        """Neither side knows the other. A router that keeps anything of a neighbor that was is started again."""
        self.forget_peer()
        if isinstance(self.router, Frr):
            for address in self.router.neighbors():
                self.router.remove_neighbor(Neighbor(address, CLUSTER_ASN))
        else:
            self.router.peers.clear()
            self.router.restart()

    # What is shown.

    def row(self, address: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.agent(self.lab.node(1)).view("peers")["peers"][address or self.them]
        return found

    def table(self) -> str:
        return self.cluster.agent(self.lab.node(1)).cli("peers").stdout

    def explained(self) -> str:
        done = self.cluster.agent(self.lab.node(1)).cli("explain", "tor")
        assert done.returncode == 3, done.stdout
        return done.stdout

    def refused(self, error: str, *, fix: str, address: str = "") -> None:
        """From some moment on: `error` is how the session last ended, and all that show it say why and what to do."""

        def said() -> bool:
            row = self.row(address)
            last, why = row["last_error"], row["cause"]
            words = "" if last is None else f"{last['direction']} {last['code']}/{last['subcode']} {last['text']}"
            seen = f"{row['state']}, up {row['uptime']}, flaps {row['flaps']}: {words}; {why}"
            assert error in words or error in str((why or {}).get("text")), f"{seen}\n{self.table()}"
            table = self.table()
            below = [line for line in table.splitlines() if line.startswith("! BGPPeer/tor: ")]
            assert len(below) == 1, seen + table
            assert fix in below[0], seen + below[0]
            assert fix in self.explained()
            return True

        wait_until(said, within=REFUSED_SECONDS)

    def lacking(self, reason: str, text: str, *, fix: str) -> None:
        """There is a session, and all that show it say what it lacks and what to do about that."""

        def said() -> bool:
            assert self.row()["is_up"], self.table()
            below = [line for line in self.table().splitlines() if line.startswith("! BGPPeer tor: ")]
            assert [text in line and fix in line for line in below] == [True], self.table()
            assert f"! {reason}: {fix}" in self.explained()
            return True

        wait_until(said, within=REFUSED_SECONDS)
        self.logged(reason)

    def logged(self, words: str) -> None:
        """Once, however often it is tried."""

        def events() -> list[str]:
            *lines, _ = self._log()[self.logged_before :].split("\n")  # what may be half a line is left out
            return [line for line in lines if words in line and json.loads(line)["event"] in OUTCOMES]

        found = wait_until(events)
        assert len(found) == 1, found

    def _log(self) -> str:
        return self.cluster.agent(self.lab.node(1)).process.output()

    def router_says(self, **words: str) -> None:
        """The router's own account has these words; one account for each kind."""
        wanted = words[type(self.router).__name__.lower()]

        def said() -> bool:
            assert wanted in self._account(), self._account()
            return True

        wait_until(said, within=REFUSED_SECONDS)

    def _account(self) -> str:
        match self.router:
            case Frr():
                return self.router.vtysh(f"show bgp neighbors {self.us}") + self.router.bgpd.output()
            case Bird():
                return self.router.birdc("show protocols all") + self.router.process.output()
            case GoBgp():
                return self.router.process.output()

    def never_established(self) -> None:
        assert self.router.neighbors().get(self.us) != "Established"


@contextmanager
def refusing(kind: type[Router]) -> Iterator[Scene]:
    """The node announces its pod CIDR and a VIP, the router two prefixes; both speak IPv4 and IPv6."""
    with Lab(nodes=1, families=("ipv4", "ipv6")) as lab, MiniCluster(lab) as cluster:
        cluster.api.apply(
            service_object("web", [VIP]),
            slice_object("web", {lab.node(1).name: ["10.244.1.9"]}),
            custom("BGPAdvertisement", "web", {"type": "Service", "service": {"addresses": ["ClusterIP"]}}),
        )
        router: Router
        if kind is Frr:
            lines = ["bgp log-neighbor-changes"]
            router = Frr(lab.router, asn=ROUTER_ASN, router_id="10.99.0.1", announce=FOREIGN, lines=lines)
        else:
            router = kind(lab.router, asn=ROUTER_ASN, router_id="10.99.0.1", announce=FOREIGN)
        cluster.start()
        wait_until(lambda: cluster.agent(lab.node(1)).view("status")["phase"] == "IN_SYNC", within=90)
        yield Scene(lab, cluster, router)
