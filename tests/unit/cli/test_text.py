"""Text: columns, durations as routers print them, and colour that never stands alone."""

from __future__ import annotations

import io

import pytest

from agent.cli.text import age, table, uptime, wants_colour


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "never"),
        (-1, "never"),
        (0, "00:00:00"),
        (1882, "00:31:22"),
        (86_399, "23:59:59"),
        (3 * 86_400 + 4 * 3600 + 12 * 60, "3d04h12m"),
        (86_400 * (7 * 12 + 3) + 4 * 3600, "12w3d04h"),
    ],
)
def test_uptime_is_printed_as_frr_prints_it(seconds, text):
    assert uptime(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d")])
def test_an_age_has_one_unit(seconds, text):
    assert age(seconds) == text


def test_columns_are_aligned_numbers_to_the_right_and_lines_have_no_tail():
    assert table(["NAME", "N", "STATE"], [["a", "5", ""], ["long", "12", "sent"]], colour=False).split("\n") == [
        "NAME   N  STATE",
        "a      5  -",
        "long  12  sent",
    ]


def test_colour_adds_to_the_words_and_changes_no_width():
    rows = [["a", "Established"], ["b", "Idle"]]
    painted = table(["N", "STATE"], rows, colour=True)

    assert "\x1b[32mEstablished\x1b[0m" in painted
    bare = painted
    for code in ("\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[0m"):
        bare = bare.replace(code, "")
    assert bare == table(["N", "STATE"], rows, colour=False)


@pytest.mark.parametrize(
    ("environment", "terminal", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colour_is_for_terminals_and_for_who_asks_for_it(monkeypatch, environment, terminal, wanted):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    stream.isatty = lambda: terminal

    assert wants_colour(stream) is wanted
