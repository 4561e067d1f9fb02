"""Every way in which a session does not come about, made to happen: what we say of it names cause and fix.

Judged on both sides: the router's own words say that it was this that happened, `bgpilot peers`, `bgpilot explain` and
the log say so to who has only the node to look at. What a router does when is measured, not wished: where the two
differ, each has its own words here.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest

from agent.settings import DEFAULT_NAMESPACE
from tests.lab.bird import Bird
from tests.lab.frr import Frr
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

pytestmark = pytest.mark.live

Router: TypeAlias = Frr | Bird
KINDS: tuple[type[Router], ...] = (Frr, Bird)
FOREIGN = ("198.51.100.0/24", "203.0.113.0/24")
VIP = "10.96.0.80"
REFUSED_SECONDS = 90.0
SILENT = "import socket,sys,time; s=socket.create_server((sys.argv[1], 1790)); c=[s.accept() for _ in range(99)]"


@dataclass
class Scene:
    """One node with an agent, and one router of some kind that waits to be dialed by it."""

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
        """The router's side; all neighbors in the lab have the same name, so that a test cannot leave one behind."""
        self.router.add_neighbor(
            Neighbor(
                self.us, asn, password, passive=True, families=families, hold_seconds=LAB_HOLD_SECONDS, extra=extra
            )
        )

    def peer(self, **spec: Any) -> None:
        self.logged_before = len(self._log())
        self.cluster.api.apply(tor_peer(self.lab.router, **spec))

    def row(self, address: str = "") -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.agent(self.lab.node(1)).view("peers")["peers"][address or self.them]
        return found

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
            assert error in words or error in str((why or {}).get("text")), seen
            table = self.cluster.agent(self.lab.node(1)).cli("peers").stdout
            below = [line for line in table.splitlines() if line.startswith("! BGPPeer/tor: ")]
            assert len(below) == 1, seen + table
            assert fix in below[0], seen + below[0]
            assert fix in self.explained()
            return True

        wait_until(said, within=REFUSED_SECONDS)

    def logged(self, reason: str) -> None:
        """Once, however often it is tried."""
        events = [line for line in self._log()[self.logged_before :].splitlines() if reason in line]
        assert len([line for line in events if '"peer_attempt_failed"' in line or '"peer_down"' in line]) == 1, events

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

    def never_established(self) -> None:
        assert self.router.neighbors().get(self.us) != "Established"


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__.lower())
def built(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with Lab(nodes=1, families=("ipv4",)) as lab, MiniCluster(lab) as cluster:
        cluster.api.apply(
            service_object("web", [VIP]),
            slice_object("web", {lab.node(1).name: ["10.244.1.9"]}),
            custom("BGPAdvertisement", "web", {"type": "Service", "service": {"addresses": ["ClusterIP"]}}),
        )
        more = {"lines": ["bgp log-neighbor-changes"]} if request.param is Frr else {}
        router = request.param(lab.router, asn=ROUTER_ASN, router_id="10.99.0.1", announce=FOREIGN, **more)
        cluster.start()
        wait_until(lambda: cluster.agent(lab.node(1)).view("status")["phase"] == "IN_SYNC", within=90)
        yield Scene(lab, cluster, router)


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    built.cluster.api.delete("BGPPeer", "tor")
    wait_until(lambda: not built.cluster.agent(built.lab.node(1)).view("peers")["peers"])
    if isinstance(built.router, Frr):
        for address in built.router.neighbors():
            built.router.remove_neighbor(Neighbor(address, CLUSTER_ASN))
    else:
        built.router.peers.clear()
        built.router.restart()


def test_the_router_is_in_another_as_than_we_believe(scene: Scene) -> None:
    scene.neighbor()
    scene.peer(asn=64999)

    scene.refused("sent 2/2 ", fix="Correct `asn` of BGPPeer tor")
    assert str(ROUTER_ASN) in scene.row()["last_error"]["text"]
    scene.router_says(
        frr="2/2 (OPEN Message Error/Bad Peer AS)",
        bird="Received: Bad peer AS",
    )


def test_the_router_believes_us_to_be_in_another_as(scene: Scene) -> None:
    scene.neighbor(asn=64777)
    scene.peer()

    scene.refused("received 2/2 Bad Peer AS", fix=f"neighbor statement for {scene.us} (remote-as {CLUSTER_ASN})")
    scene.never_established()
    scene.router_says(frr="remote AS 64777", bird="Bad peer AS")


@pytest.mark.parametrize(("ours", "theirs"), [("swordfish", "mackerel"), ("", "mackerel"), ("swordfish", "")])
def test_passwords_that_differ_are_silence_and_named_as_a_possible_cause(scene: Scene, ours: str, theirs: str) -> None:
    scene.neighbor(password=theirs)
    if ours:
        scene.cluster.api.apply(secret(ours))
    scene.peer(**({"passwordSecretRef": {"name": "tor", "key": "md5"}} if ours else {}))

    scene.refused("Connection timed out", fix=f"here: with{'' if ours else 'out'} a password")
    scene.never_established()
    assert scene.router.neighbors()[scene.us] in {"Active", "Idle", "Passive", "Connect"}


def test_no_family_in_common(scene: Scene) -> None:
    scene.neighbor(families=("ipv6",))
    scene.peer()

    scene.refused("no address family in common", fix=f"Activate ipv4 in the router's neighbor statement for {scene.us}")
    scene.never_established()


def test_we_tell_the_router_more_prefixes_than_it_takes(scene: Scene) -> None:
    if isinstance(scene.router, Frr):
        scene.neighbor()
    else:
        scene.neighbor(BIRD_LIMIT, families=())
    scene.peer()
    if isinstance(scene.router, Frr):
        wait_until(lambda: scene.row()["is_up"], within=REFUSED_SECONDS)
        limit = [f"router bgp {ROUTER_ASN}", "address-family ipv4 unicast", f"neighbor {scene.us} maximum-prefix 1"]
        scene.router.configure(limit)

    scene.refused("received 6/1 ", fix=f"bgpilot routes advertised --peer {scene.them}")


def test_the_router_tells_us_more_prefixes_than_it_may(scene: Scene) -> None:
    scene.neighbor()
    scene.peer(maxPrefixes={"ipv4": {"limit": 1}})

    wait_until(lambda: scene.row()["reason"] == "maxPrefixesExceeded", within=REFUSED_SECONDS)
    assert "! maxPrefixesExceeded: " in scene.explained()
    wait_until(lambda: scene.router.neighbors()[scene.us] != "Established")
    scene.logged("maxPrefixesExceeded")


def test_ttl_security_at_the_router_alone_is_named_as_a_possible_cause(scene: Scene) -> None:
    lines: dict[type[Router], str] = {
        Frr: "ttl-security hops 1",
        Bird: "ttl security on;",
    }
    scene.neighbor(lines[type(scene.router)])
    scene.peer()

    scene.refused("", fix="`ttlSecurityHops` of BGPPeer tor is not set here")
    scene.never_established()


def test_ttl_security_on_our_side_alone_is_named_as_a_possible_cause(scene: Scene) -> None:
    scene.neighbor()
    scene.peer(ttlSecurityHops=1)

    scene.refused("", fix="`ttlSecurityHops` of BGPPeer tor is 1 here")
    scene.never_established()


def test_a_router_that_does_not_know_us(scene: Scene) -> None:
    scene.peer()

    scene.refused("", fix=scene.us)
    assert "as a neighbor" in scene.explained() or f"neighbor {scene.us} with remote-as" in scene.explained()


def test_a_port_on_which_nothing_listens(scene: Scene) -> None:
    scene.peer(port=1799)

    scene.refused("Connection refused", fix="`port` of BGPPeer tor")
    scene.logged("Connection refused")


BIRD_LIMIT = "ipv4 { import limit 1 action disable; import all; export none; };"


def secret(password: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": DEFAULT_NAMESPACE, "name": "tor"},
        "data": {"md5": base64.b64encode(password.encode()).decode()},
    }


# What no router has a part in.


@pytest.fixture(scope="module")
def alone() -> Iterator[Scene]:
    with Lab(nodes=1, families=("ipv4",)) as lab, MiniCluster(lab) as cluster:
        cluster.start()
        wait_until(lambda: cluster.agent(lab.node(1)).view("status")["phase"] == "IN_SYNC", within=90)
        yield Scene(lab, cluster, Frr(lab.router, asn=ROUTER_ASN, router_id="10.99.0.1"))


def _hold_time(scene: Scene) -> None:
    scene.router.configure([f"router bgp {ROUTER_ASN}", "bgp minimum-holdtime 60"])  # type: ignore[call-arg]  # FRR
    scene.neighbor()
    scene.peer()


def _silent(scene: Scene) -> None:
    scene.lab.router.start([sys.executable, "-c", SILENT, scene.them])
    scene.peer(port=1790)


def _no_route(scene: Scene) -> None:
    scene.lab.node(1).configure(ip=["route del default"])
    scene.cluster.api.apply(custom("BGPPeer", "tor", {"address": "203.0.113.9", "asn": ROUTER_ASN, "ebgpMultihop": 3}))


def _nobody(scene: Scene) -> None:
    scene.cluster.api.apply(custom("BGPPeer", "tor", {"address": NOBODY, "asn": ROUTER_ASN}))


NOBODY = "172.18.0.250"


@pytest.mark.parametrize(
    ("make", "address", "error", "fix"),
    [
        (_hold_time, "", "received 2/6 Unacceptable Hold Time", "Change `holdSeconds` of BGPPeer tor"),
        (_silent, "", "takes the connection and then is silent", "a BGP daemon that hangs"),
        (_nobody, NOBODY, "", "`ip neigh`"),  # the kernel gives up on the SYN and on ARP at the same time
        (_no_route, "203.0.113.9", "Network is unreachable", "ip route get 203.0.113.9"),
    ],
)
def test_what_one_router_shows_for_all(
    alone: Scene, make: Callable[[Scene], None], address: str, error: str, fix: str
) -> None:
    make(alone)

    alone.refused(error, fix=fix, address=address)

    alone.cluster.api.delete("BGPPeer", "tor")
    wait_until(lambda: not alone.cluster.agent(alone.lab.node(1)).view("peers")["peers"])


def test_a_secret_that_is_not_there(alone: Scene) -> None:
    alone.neighbor(password="swordfish")
    alone.peer(passwordSecretRef={"name": "missing", "key": "md5"})

    wait_until(lambda: alone.row()["reason"] == "secretMissing", within=REFUSED_SECONDS)

    table = alone.cluster.agent(alone.lab.node(1)).cli("peers").stdout
    assert "secretMissing: passwordSecretRef names Secret missing, which cannot be read" in table
    assert "! secretMissing: Create" in alone.explained()
    alone.never_established()
