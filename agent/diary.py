"""What happened on this node lately: the log's own lines about it, kept in memory for `bgpilot events`.

There is no second account of anything: who wants something told here logs it. Kept are the lines that `WORDS` knows,
`ENTRIES_MAX` of them; the oldest goes first, and all are gone with the process. Nothing is in it that the log does not
say.

Pure: it is handed each line as the log is (`agent.log`), with its time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, TypeAlias

ENTRIES_MAX: Final = 1000
"""About 0.5 MB."""
TEXT_MAX: Final = 1000
"""Characters of one entry."""
AGENT: Final = "agent"
"""What an entry is about that is about nothing in particular."""

Line: TypeAlias = Mapping[str, Any]
"""A line of the log by its keys: `event`, `level`, `timestamp` (ISO 8601, UTC), and what it says."""


@dataclass(frozen=True, slots=True)
class Entry:
    number: int
    """Counts from 1 in each process."""
    time: str
    event: str
    """As in the log."""
    about: str
    """An object, or the address of a peer."""
    reason: str
    """The reason word, where there is one."""
    text: str
    fix: str
    warning: bool


class Diary:
    def __init__(self, began: str) -> None:
        """`began`: an instant that no other process of this agent has."""
        self.began = began
        self._entries: deque[Entry] = deque(maxlen=ENTRIES_MAX)
        self._count = 0

    def hear(self, line: Line) -> None:
        """Any line of the log."""
        words = WORDS.get(line.get("event", ""))
        if words is None:
            return
        self._count += 1
        about = line.get("peer") or line.get("subject") or AGENT
        reason = "" if "peer" in line else line.get("reason", "")
        texts = (str(about), str(reason), words(line), str(line.get("fix", "")))
        about, reason, text, fix = (it[:TEXT_MAX] for it in texts)
        warning = line.get("level") not in {"info", "debug"}
        time, event = str(line.get("timestamp", "")), str(line["event"])
        self._entries.append(Entry(self._count, time, event, about, reason, text, fix, warning))

    def after(self, number: int) -> list[Entry]:
        """Those that came after the one with this number, as far as they are kept; the oldest first."""
        return [entry for entry in self._entries if entry.number > number]

    @property
    def count(self) -> int:
        """Entries ever made: the number of the last."""
        return self._count


def _removed(line: Line) -> str:
    return "the session begins anew" if line.get("replaced") else "the session is not wanted any more"


def _drained(line: Line) -> str:
    return f'ordered to drain: "{line["text"]}"' if line.get("text") else "ordered to drain"


def _drifted(line: Line) -> str:
    kinds = ("missing", "changed", "unexpected")
    found = ", ".join(f"{line[kind]} {kind}" for kind in kinds if line.get(kind))
    return f"routes of this node were found other than it had left them, and are put right: {found}"


WORDS: Final[Mapping[str, Callable[[Line], str]]] = MappingProxyType(
    {
        "starting": lambda line: f"bgpilot {line.get('version')} starts",
        "phase": lambda line: f"reached {line.get('phase')}",
        "leaving": lambda _: "says goodbye to all peers",
        "daemon_set_deleted": lambda line: f"DaemonSet {line.get('name')} is deleted",
        "daemon_set_found": lambda line: f"DaemonSet {line.get('name')} is there",
        "peer_up": lambda line: f"established: AS {line.get('asn')}, hold time {line.get('hold_seconds')} s",
        "peer_down": lambda line: f"the session is down: {line.get('reason')}",
        "peer_attempt_failed": lambda line: f"no session: {line.get('reason')}",
        "peer_removed": _removed,
        "problem": lambda line: str(line.get("message")),
        "problem_solved": lambda _: "no more",
        "drain_ordered": _drained,
        "undrain_ordered": lambda _: "ordered to come back from draining",
        "reset_ordered": lambda line: "ordered to send all again" if line.get("soft") else "ordered to begin anew",
        "drift_repaired": _drifted,
        "routes_refused": lambda line: str(line.get("text")),
        "routes_refused_no_more": lambda line: str(line.get("text")),
        "address_not_announced": lambda line: f"{line.get('address')} is not announced",
        "address_announced": lambda line: f"{line.get('address')} is announced",
        "announced_elsewhere": lambda line: f"{line.get('address')} is announced from nodes with an endpoint",
        "addresses_changed": lambda line: f"{line.get('count')} more addresses are announced or not, unlike before",
    }
)
"""By event, what a line says to people."""
