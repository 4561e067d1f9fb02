"""Connections that do not come about, or over which nothing comes: what we say of it names cause and fix."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from agent.settings import DEFAULT_NAMESPACE
from tests.lab.bird import Bird
from tests.lab.frr import Frr
from tests.lab.gobgp import GoBgp
from tests.lab.refused import KINDS, Router, Scene, refusing

pytestmark = pytest.mark.live


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__.lower())
def built(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with refusing(request.param) as scene:
        yield scene


@pytest.fixture
def scene(built: Scene) -> Iterator[Scene]:
    yield built
    built.begin_anew()


@pytest.mark.parametrize(("ours", "theirs"), [("swordfish", "mackerel"), ("", "mackerel"), ("swordfish", "")])
def test_passwords_that_differ_are_silence_and_named_as_a_possible_cause(scene: Scene, ours: str, theirs: str) -> None:
    scene.neighbor(password=theirs)
    if ours:
        scene.cluster.api.apply(secret(ours))
    scene.peer(**({"passwordSecretRef": {"name": "tor", "key": "md5"}} if ours else {}))

    scene.refused("Connection timed out", fix=f"here: with{'' if ours else 'out'} a password")
    scene.never_established()
    assert scene.router.neighbors()[scene.us] in {"Active", "Idle", "Passive", "Connect"}


def test_ttl_security_at_the_router_alone_is_named_as_a_possible_cause(scene: Scene) -> None:
    lines: dict[type[Router], str] = {
        Frr: "ttl-security hops 1",
        Bird: "ttl security on;",
        GoBgp: "[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255",
    }
    scene.neighbor(lines[type(scene.router)])
    scene.peer()

    scene.refused("", fix="`ttlSecurityHops` of BGPPeer tor is not set here")
    scene.never_established()


def test_ttl_security_on_our_side_alone_is_named_as_a_possible_cause(scene: Scene) -> None:
    if isinstance(scene.router, GoBgp):
        scene.neighbor("[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 9")
    else:
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


def secret(password: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"namespace": DEFAULT_NAMESPACE, "name": "tor"},
        "data": {"md5": base64.b64encode(password.encode()).decode()},
    }
