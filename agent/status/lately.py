"""What happened on this node lately (`agent.diary`), as plain values that JSON can hold."""

from __future__ import annotations

from agent.diary import ENTRIES_MAX, Diary, Entry
from agent.status.peers import View
from agent.status.status import Status
from agent.status.views import answer


def events_view(status: Status, diary: Diary, *, after: int = 0, last: int = ENTRIES_MAX) -> View:
    """The `last` of those after the one with this number; what is left out is older."""
    entries = diary.after(after)
    names = {str(peer.address): peer.name for peer in status.plan.peers.values()}
    shown = entries[max(0, len(entries) - last) :]
    rows = [_row(entry, names.get(entry.about)) for entry in shown]
    left_out = diary.count - min(after, diary.count) - len(rows)
    return answer(status, "events", {"began": diary.began, "rows": rows, "left_out": left_out, "last": diary.count})


def _row(entry: Entry, name: str | None) -> View:
    return {
        "number": entry.number,
        "time": entry.time,
        "event": entry.event,
        "about": entry.about,
        "name": name,
        "reason": entry.reason or None,
        "text": entry.text,
        "fix": entry.fix or None,
        "warning": entry.warning,
    }
