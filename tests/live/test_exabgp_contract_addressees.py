"""ExaBGP 5.0.15 with our replacements finds a thousand sessions at once, and exactly those that a command names."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from bgp.addressees import BETWEEN, REST_OF_NAME, look_up, split_at_commas

pytestmark = pytest.mark.live

SESSIONS = [
    f"neighbor 10.250.{n >> 8}.{n & 255} local-ip 10.250.0.1 local-as 64512 peer-as 64512 router-id 10.250.0.1"
    for n in range(1_000)
]
NAMES = [words + REST_OF_NAME for words in SESSIONS]
ROUTE = "announce route 10.1.0.0/24 next-hop 10.250.0.1"


@pytest.fixture
def limit() -> Any:
    return importlib.import_module("exabgp.reactor.api.command.limit")


@pytest.mark.parametrize("count", [1, 2, 20])
def test_a_command_for_several_sessions_is_read_as_exabgp_reads_it(limit: Any, count: int) -> None:
    line = f"{BETWEEN.join(SESSIONS[:count])} {ROUTE}"
    theirs, rest = limit.extract_neighbors(line)

    ours, our_rest = split_at_commas(limit.extract_neighbors)(line)

    assert our_rest == rest == ROUTE
    assert [" ".join(words) for words in ours] == [" ".join(words) for words in theirs] == SESSIONS[:count]


def test_those_named_are_found_as_exabgp_finds_them_and_no_others(limit: Any) -> None:
    named = [words.split(" local-ip")[0:1] for words in SESSIONS[5:8]] + [[SESSIONS[1]], [SESSIONS[10]]]
    theirs = limit.match_neighbors(NAMES, named)

    ours = look_up(limit.match_neighbors)(NAMES, named)

    assert set(ours) == set(theirs) == {NAMES[n] for n in (1, 5, 6, 7, 10)}


def test_a_session_that_is_not_there_is_not_found(limit: Any) -> None:
    stranger = SESSIONS[1].replace("peer-as 64512", "peer-as 64513")

    assert not look_up(limit.match_neighbors)(NAMES, [[stranger]])
