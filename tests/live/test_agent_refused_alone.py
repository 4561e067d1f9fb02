"""Sessions that do not come about in a way that one kind of router shows for all, or that no router has a part in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.lab.frr import Frr
from tests.lab.minicluster import ROUTER_ASN, custom
from tests.lab.refused import REFUSED_SECONDS, Scene, refusing
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

NOBODY, ELSEWHERE = "172.18.0.250", "203.0.113.9"
SILENT = "import socket,sys,time; s=socket.create_server((sys.argv[1], 1790)); c=[s.accept() for _ in range(99)]"


@pytest.fixture(scope="module")
def built() -> Iterator[Scene]:
    with refusing(Frr) as scene:
        yield scene


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    built.begin_anew()


def _hold_time(scene: Scene) -> None:
    assert isinstance(scene.router, Frr)
    scene.router.configure([f"router bgp {ROUTER_ASN}", "bgp minimum-holdtime 60"])
    scene.neighbor()
    scene.peer()


def _silent(scene: Scene) -> None:
    scene.lab.router.start([sys.executable, "-c", SILENT, scene.them])
    scene.peer(port=1790)


def _nobody(scene: Scene) -> None:
    scene.apply(custom("BGPPeer", "tor", {"address": NOBODY, "asn": ROUTER_ASN}))


def _no_route(scene: Scene) -> None:
    scene.lab.node(1).configure(ip=["route del default"])
    scene.apply(custom("BGPPeer", "tor", {"address": ELSEWHERE, "asn": ROUTER_ASN, "ebgpMultihop": 3}))


@dataclass(frozen=True)
class Case:
    make: Callable[[Scene], None]
    error: str
    fix: str
    address: str = ""


@pytest.mark.parametrize(
    "case",
    [
        Case(_hold_time, "received 2/6 Unacceptable Hold Time", "Change `holdSeconds` of BGPPeer tor"),
        Case(_silent, "takes the connection and then is silent", "a BGP daemon that hangs"),
        Case(_nobody, "", "`ip neigh`", NOBODY),  # the kernel gives up on the SYN and on ARP at the same time
        Case(_no_route, "Network is unreachable", f"ip route get {ELSEWHERE}", ELSEWHERE),
    ],
    ids=lambda case: case.make.__name__.strip("_"),
)
def test_what_one_router_shows_for_all(scene: Scene, case: Case) -> None:
    case.make(scene)

    scene.refused(case.error, fix=case.fix, address=case.address)


def test_a_secret_that_is_not_there(scene: Scene) -> None:
    scene.neighbor(password="swordfish")
    scene.peer(passwordSecretRef={"name": "missing", "key": "md5"})

    wait_until(lambda: scene.row()["reason"] == "secretMissing", within=REFUSED_SECONDS)

    assert "secretMissing: passwordSecretRef names Secret missing, which cannot be read" in scene.table()
    assert "! secretMissing: Create" in scene.explained()
    scene.never_established()
