"""What our replacements do in ExaBGP, apart from ExaBGP: only what no router can see. The rest is tested live."""

from collections import deque
from dataclasses import dataclass, field

import pytest

from bgp.inside.patches import end_well
from bgp.inside.sockets import syn_ttl


class Losses:
    count = 0
    cap_seconds: float | None = None

    def lost(self) -> None:
        self.count += 1


@dataclass
class Neighbor:
    eor: deque[str] = field(default_factory=lambda: deque(["ipv4"]))
    description: str = "connect-retry=5"

    def __getitem__(self, word: str) -> object:
        return getattr(self, word)


@dataclass
class Session:
    """What `end_well` touches of ExaBGP's Peer."""

    fsm: str
    neighbor: Neighbor = field(default_factory=Neighbor)
    closed: list[str] = field(default_factory=list)
    _delay: Losses = field(default_factory=Losses)
    _teardown: int | None = None

    def close(self, message: str, _error: object) -> None:
        self.closed.append(message)


@pytest.mark.parametrize("fsm", ["up", "connecting"])
def test_end_of_rib_does_not_outlive_its_session_and_only_an_established_one_is_lost(fsm: str) -> None:
    session = Session(fsm)
    end_well(Session.close, "up")(session, "the end", None)

    assert session.closed == ["the end"]
    assert not session.neighbor.eor
    assert session._delay.count == (fsm == "up")
    assert session._delay.cap_seconds == 5


def test_a_session_that_we_end_ourselves_is_not_lost() -> None:
    session = Session("up", _teardown=3)
    end_well(Session.close, "up")(session, "the end", None)

    assert session._delay.count == 0


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
