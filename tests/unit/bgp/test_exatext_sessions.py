"""ExaBGP's own list of its sessions, line by line."""

from ipaddress import ip_address

import pytest

from bgp.exatext import SessionLine, read_session_line

ESTABLISHED = "192.0.2.1       65001     {} established             3          4"
DAY = 24 * 3600


@pytest.mark.parametrize(
    ("up_for", "seconds"),
    [("0:00:12", 12), ("13:01:02", 46862), ("1 day, 0:00:12", DAY + 12), ("400 days, 1:00:00", 400 * DAY + 3600)],
)
def test_a_session_that_is_established_says_for_how_long(up_for: str, seconds: int) -> None:
    assert read_session_line(ESTABLISHED.format(up_for)) == SessionLine(ip_address("192.0.2.1"), seconds)


def test_one_that_has_just_come_up_says_down_and_is_up_all_the_same() -> None:
    assert read_session_line(ESTABLISHED.format("down")) == SessionLine(ip_address("192.0.2.1"), 0)


@pytest.mark.parametrize("state", ["idle", "active", "connect", "opensent", "openconfirm"])
def test_one_that_is_not_established_is_not_up(state: str) -> None:
    line = f"fd18::1         65001        down {state}                  0          0"

    assert read_session_line(line) == SessionLine(ip_address("fd18::1"), None)


@pytest.mark.parametrize(
    "line", ["", "Peer            AS        up/down state       |     #sent     #recvd", "192.0.2.1"]
)
def test_the_head_and_what_is_no_session_say_nothing(line: str) -> None:
    assert read_session_line(line) is None
