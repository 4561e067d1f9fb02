"""What the log tells of, kept for `bgpilot events`: which lines, in which words, how many, and at which log level."""

from __future__ import annotations

import ast
import json
import logging
from pathlib import Path

import pytest
import structlog

from agent.diary import ENTRIES_MAX, TEXT_MAX, WORDS, Diary
from agent.log import set_up_logging
from agent.settings import LogFormat
from agent.status.lately import events_view
from tests.unit.status.scene import TOR, Scene

AT = {"timestamp": "2026-01-02T03:04:05.678901Z", "level": "info"}
HERE = Path(__file__).parents[2]


@pytest.fixture
def diary():
    return Diary("2026-01-02T03:00:00Z")


@pytest.mark.parametrize(
    ("line", "about", "reason", "text"),
    [
        (
            {"event": "peer_up", "peer": "192.0.2.254", "asn": 65000, "hold_seconds": 9},
            "192.0.2.254",
            "",
            "established: AS 65000, hold time 9 s",
        ),
        (
            {"event": "peer_down", "peer": "192.0.2.254", "reason": 'received 6/2 "tea"'},
            "192.0.2.254",
            "",
            'the session is down: received 6/2 "tea"',
        ),
        (
            {"event": "problem", "reason": "secretMissing", "subject": "BGPPeer tor", "message": "no.", "fix": "Do."},
            "BGPPeer tor",
            "secretMissing",
            "no.",
        ),
        (
            {"event": "problem_solved", "reason": "secretMissing", "subject": "BGPPeer tor"},
            "BGPPeer tor",
            "secretMissing",
            "no more",
        ),
        ({"event": "drain_ordered", "text": "rack 7"}, "agent", "", 'ordered to drain: "rack 7"'),
        (
            {"event": "drift_repaired", "missing": 2, "changed": 1},
            "agent",
            "",
            "routes of this node were found other than it had left them, and are put right: 2 missing, 1 changed",
        ),
    ],
)
def test_a_line_of_the_log_is_said_in_words(diary, line, about, reason, text):
    diary.hear(AT | line)

    (entry,) = diary.after(0)
    assert (entry.about, entry.reason, entry.text, entry.time) == (about, reason, text, AT["timestamp"])


def test_what_it_has_no_words_for_is_left_to_the_log(diary):
    diary.hear(AT | {"event": "answer_failed", "path": "/v1/status"})

    assert diary.after(0) == []


def test_every_line_that_it_has_words_for_is_logged_somewhere():
    """By its constant; `Change` is logged by `agent.main`."""
    constants = {
        node.value
        for path in (HERE / "agent").rglob("*.py")
        if path.name != "diary.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
    }

    assert WORDS.keys() - constants == set()


@pytest.mark.parametrize("event", WORDS)
def test_a_line_without_its_keys_is_still_a_line(diary, event):
    diary.hear({"event": event})

    assert len(diary.after(0)) == 1


def test_its_memory_is_bounded_in_entries_and_in_each(diary):
    for _ in range(ENTRIES_MAX + 5):
        diary.hear(AT | {"event": "phase", "phase": "x" * 5_000})

    assert [entry.number for entry in diary.after(0)] == list(range(6, ENTRIES_MAX + 6))
    assert {len(entry.text) for entry in diary.after(0)} == {TEXT_MAX}


def test_it_hears_what_the_log_is_too_quiet_to_write(diary, capsys):
    set_up_logging(log_format=LogFormat.JSON, log_level="error", hear=diary.hear)
    try:
        log = structlog.get_logger()
        log.info("drain_ordered", text="a")
        log.warning("peer_down", peer="192.0.2.254", reason="b")
        log.error("problem", subject="c", reason="d", message="e", fix="")
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers.clear()

    assert [entry.event for entry in diary.after(0)] == ["drain_ordered", "peer_down", "problem"]
    assert [entry.warning for entry in diary.after(0)] == [False, True, True]
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["problem"]


def test_the_last_are_shown_and_the_earlier_ones_counted(diary):
    for number in range(10):
        diary.hear(AT | {"event": "peer_down", "peer": str(TOR), "reason": number})
    view = events_view(Scene().status(), diary, last=3)

    assert json.loads(json.dumps(view)) == view
    assert [row["number"] for row in view["rows"]] == [8, 9, 10]
    assert (view["left_out"], view["last"]) == (7, 10)
    assert {row["name"] for row in view["rows"]} == {"BGPPeer/tor-a"}
    assert [row["number"] for row in events_view(Scene().status(), diary, after=9)["rows"]] == [10]
    assert events_view(Scene().status(), diary, after=10)["left_out"] == 0
    assert events_view(Scene().status(), diary, last=0)["rows"] == []
