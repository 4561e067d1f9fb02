"""What our replacements do in ExaBGP, apart from ExaBGP: only what no router can see. The rest is tested live."""

from collections import deque
from dataclasses import dataclass, field

import pytest

from bgp.inside.patches import end_well, start_over
from bgp.inside.sockets import syn_ttl


class Delay:
    cap_seconds: float | None = None

    def __init__(self) -> None:
        self.told: list[str] = []

    def lost(self) -> None:
        self.told.append("lost")

    def refused(self, *, node: bool) -> None:
        self.told.append("refused by a node" if node else "refused")

    def forgive(self) -> None:
        self.told.append("forgive")


@dataclass
class Notification(Exception):  # noqa: N818 - as in ExaBGP
    code: int
    subcode: int


@dataclass
class Neighbor:
    eor: deque[str] = field(default_factory=lambda: deque(["ipv4"]))
    description: str = "connect-retry=5"

    def __getitem__(self, word: str) -> object:
        return getattr(self, word)


@dataclass
class Session:
    """What `end_well` and `start_over` touch of ExaBGP's Peer."""

    fsm: str
    neighbor: Neighbor = field(default_factory=Neighbor)
    closed: list[str] = field(default_factory=list)
    _delay: Delay = field(default_factory=Delay)
    _teardown: int | None = None
    proto: object = "a connection"

    def close(self, message: str, _error: object) -> None:
        self.closed.append(message)

    def reestablish(self, _neighbor: Neighbor) -> None:
        pass


@pytest.mark.parametrize("fsm", ["up", "connecting"])
def test_end_of_rib_does_not_outlive_its_session_and_only_an_established_one_is_lost(fsm: str) -> None:
    session = Session(fsm)
    end_well(Session.close, "up", Notification)(session, "the end", None)

    assert session.closed == ["the end"]
    assert not session.neighbor.eor
    assert session._delay.told == (["forgive", "lost"] if fsm == "up" else [])
    assert session._delay.cap_seconds == 5


def test_a_session_that_we_end_ourselves_is_not_lost() -> None:
    session = Session("up", _teardown=3)
    end_well(Session.close, "up", Notification)(session, "the end", None)

    assert session._delay.told == ["forgive"]


@pytest.mark.parametrize(
    ("fsm", "code", "description", "told"),
    [
        ("connecting", 2, "", ["refused"]),
        ("connecting", 6, "", ["refused"]),
        ("connecting", 2, "node=1", ["refused by a node"]),
        ("connecting", 6, "node=1", []),
        ("connecting", 4, "", []),
        ("up", 6, "", ["forgive", "lost"]),
    ],
)
def test_only_an_attempt_that_a_notification_answers_is_refused(
    fsm: str, code: int, description: str, told: list[str]
) -> None:
    session = Session(fsm, Neighbor(description=description))
    end_well(Session.close, "up", Notification)(session, "the end", Notification(code, 5))

    assert session._delay.told == told


def test_what_was_refused_with_another_configuration_says_nothing_any_more() -> None:
    session = Session("idle")
    start_over(Session.reestablish, ("connecting",))(session, session.neighbor)

    assert session._delay.told == ["forgive"]


@pytest.mark.parametrize(
    ("saved", "ttl"),
    [
        (b"\x45\xc0\x00\x3c\x00\x00\x40\x00\xfe\x06" + bytes(50), 254),
        (b"\x60\x00\x00\x00\x00\x28\x06\x01" + bytes(72), 1),
        (b"", 0),
    ],
    ids=["ipv4", "ipv6", "nothing kept"],
)
def test_the_ttl_of_a_saved_syn(saved: bytes, ttl: int) -> None:
    assert syn_ttl(saved) == ttl
