"""Replacements in ExaBGP: which sessions a command is for, found at once among a thousand; and all of them but a few.

They run inside ExaBGP; `bgp.inside.launcher` puts each in its place and hands it what it replaces (seen with ExaBGP
5.0.15; tests in tests/live/test_exabgp_contract_addressees.py). Refuses to import ExaBGP and to know what a command
says.

ExaBGP reads 16 kB of commands in a turn, and the words for one session are 110 bytes: what a reflector tells a thousand
clients of one route would take seven turns to read. So a command may also name those whom it is not for.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

BETWEEN: Final = " , "
"""Between the words of two sessions in one command."""
ALL_BUT: Final = "neighbor * but"
"""Before the addresses of those that a command is not for, when it is for all others that ExaBGP has."""
_EXCEPTED: Final = "* but"
REST_OF_NAME: Final = " family-allowed in-open"
"""What ExaBGP's name of a session has after the words that we select it by."""

Description = list[str]
Extract = Callable[[str], tuple[list[Description], str]]
Match = Callable[[Collection[str], Sequence[Description]], Collection[str]]


def split_at_commas(extract: Extract) -> Extract:
    """Around `limit.extract_neighbors`: it cuts one word after the other off the whole line.

    For a command to a thousand sessions that takes 74 ms; so, a tenth of a millisecond.
    """

    @functools.wraps(extract)
    def extract_neighbors(command: str) -> tuple[list[Description], str]:
        if command.startswith(ALL_BUT):
            before, verb, rest = re.split(r" (announce|withdraw)\b", command, maxsplit=1)
            return [[_EXCEPTED, *before.removeprefix(ALL_BUT).split()]], verb + rest
        *first, last = command.split(BETWEEN)
        descriptions, rest = extract(last)
        return [[words] for words in first] + descriptions, rest

    return extract_neighbors


def look_up(match: Match) -> Match:
    """Around `limit.match_neighbors`: it searches each session's name with a regular expression for each word.

    With a thousand sessions one command takes 51 ms, so that End-of-RIB alone for all of them takes minutes. Answers
    with a dict: ExaBGP asks for each session it has whether it is among those found.
    """

    @functools.wraps(match)
    def match_neighbors(peers: Collection[str], descriptions: Sequence[Description]) -> Collection[str]:
        if descriptions and descriptions[0][0] == _EXCEPTED:
            excepted = tuple(f"neighbor {address} " for address in descriptions[0][1:])
            return {name: None for name in peers if not name.startswith(excepted)}
        known = frozenset(peers)
        found: dict[str, None] = {}
        for description in descriptions:
            name = " ".join(description) + REST_OF_NAME
            if name in known:
                found[name] = None
            else:
                found.update(dict.fromkeys(match(peers, [description])))
        return found if descriptions else peers

    return match_neighbors
