"""How answers look as text: columns without boxes, durations as routers print them, colour only where it helps.

Knows nothing of what the columns mean, but for a few words that have a colour.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import Final, TextIO

_COLOURS: Final = {
    "Established": "32",
    "installed": "32",
    "sent": "32",
    "yes": "32",
    "ok": "32",
    "Idle": "31",
    "Active": "31",
    "Connect": "33",
    "OpenSent": "33",
    "OpenConfirm": "33",
    "failing": "31",
    "conflict": "31",
    "refused": "33",
    "missing": "33",
    "pending": "33",
    "held": "33",
    "leaving": "33",
    "degraded": "33",
    "unknown": "33",
    "no": "33",
    "NO": "31",
}
"""Word → SGR code. The word itself always says the same: colour is never alone."""
_DAY: Final = 86_400
_SGR: Final = re.compile(r"\x1b\[[0-9;]*m")
HANG: Final = 4


def wants_colour(stream: TextIO) -> bool:
    """NO_COLOR (no-color.org) wins over FORCE_COLOR, which wins over being no terminal."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


def room() -> int | None:
    """Columns of the terminal that is printed to; None: it is none, and lines may be of any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    colour: bool,
    spare: Sequence[str] = (),
    room: int | None = None,
) -> str:
    """Lines with a header; columns of numbers to the right. Empty cells show as `-`.

    Where there is no room for all columns, those in `spare` are left out, the first ones first, and a line below says
    which; the last column may be of any length, and is folded by whoever prints (`fold`).
    """
    lost: Sequence[str] = ()
    if room is not None:
        headers, rows, lost = _fitting(headers, rows, spare, room)
    cells = [[cell or "-" for cell in row] for row in rows]
    columns = [[row[at] for row in cells] for at in range(len(headers))]
    widths = [max(map(len, (header, *column))) for header, column in zip(headers, columns, strict=True)]
    right = [any(map(str.isdigit, column)) and all(it.isdigit() or it == "-" for it in column) for column in columns]

    def line(row: Sequence[str], *, paint: bool) -> str:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        padded[-1] = padded[-1].rstrip()
        return "  ".join(_paint(cell) if paint else cell for cell in padded).rstrip()

    head = line(headers, paint=False)
    below = [f"… no room for {', '.join(lost)}: see `-o wide`"] if lost else []
    return "\n".join([f"\x1b[1m{head}\x1b[0m" if colour else head, *(line(row, paint=colour) for row in cells), *below])


def _fitting(
    headers: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str], room: int
) -> tuple[Sequence[str], Sequence[Sequence[str]], Sequence[str]]:
    """Headers and rows with the columns for which there is room, and the names of the others.

    A wide one for which there is none leaves room for others.
    """
    widths = _widths(headers, rows)
    kept = {at for at, name in enumerate(headers) if name not in spare}
    for name in reversed(spare):
        wider = kept | {headers.index(name)}
        if sum(widths[at] for at in wider) + 2 * (len(wider) - 1) <= room:
            kept = wider
    at = sorted(kept)
    lost = [name for name in headers if name in spare and headers.index(name) not in kept]
    return [headers[it] for it in at], [[row[it] for it in at] for row in rows], lost


def _widths(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Of the columns; the last one must have room for the first word of each cell."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    return [*widths[:-1], max(len(headers[-1]), *(len(row[-1].partition(" ")[0]) for row in rows), 0)]


def grouped(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, colour: bool, spare: Sequence[str], room: int | None
) -> str:
    """A table; where there is no room even without the spare columns, what is in the first stands above its rows."""
    widths = zip(headers, _widths(headers, rows), strict=True)
    kept = [width for name, width in widths if name not in spare]
    if room is None or sum(kept) + 2 * (len(kept) - 1) <= room:
        return table(headers, rows, colour=colour, spare=spare, room=room)
    rest = [row[1:] for row in rows]
    head, *lines = table(headers[1:], rest, colour=colour, spare=spare, room=room - 2).split("\n")
    found = [f"  {head}"]
    for at, line in enumerate(lines):
        if at < len(rows) and (at == 0 or rows[at][0] != rows[at - 1][0]):
            found.append(rows[at][0])
        found.append(f"  {line}")
    return "\n".join(found)


def fold(text: str, room: int) -> str:
    """No line longer than that, but for single words: the rest of a line goes on below, set in."""
    return "\n".join(part for line in text.split("\n") for part in _folded(line, room))


def _folded(line: str, room: int) -> Iterator[str]:
    plain = _SGR.sub("", line)
    hang, begin = _hang(plain, room), 0
    while len(plain) > room and (at := plain.rfind(" ", begin + 1, room + 1)) > begin:
        cut = _place(line, at)
        yield line[:cut].rstrip()
        line, begin = " " * hang + line[cut:].lstrip(), hang
        plain = _SGR.sub("", line)
    yield line


def _hang(plain: str, room: int) -> int:
    """Where the rest goes on: below the last column, if that begins in the left half."""
    if plain.startswith("! "):
        return 2
    begin = plain.rstrip().rfind("  ") + 2
    return begin if 2 < begin <= room // 2 else HANG


def _place(line: str, at: int) -> int:
    """Where the character is that people see as the one at this place."""
    for escape in _SGR.finditer(line):
        if escape.start() > at:
            break
        at += len(escape[0])
    return at


def _paint(cell: str) -> str:
    code = _COLOURS.get(cell.strip())
    return cell if code is None else f"\x1b[{code}m{cell}\x1b[0m"


def uptime(seconds: int | None) -> str:
    """As FRR prints it: `00:31:22`, `3d04h12m`, `12w3d04h`, `never`."""
    if seconds is None or seconds < 0:
        return "never"
    days, rest = divmod(seconds, _DAY)
    hours, minutes, secs = rest // 3600, rest // 60 % 60, rest % 60
    if days == 0:
        return f"{hours:02}:{minutes:02}:{secs:02}"
    if days < 7:
        return f"{days}d{hours:02}h{minutes:02}m"
    return f"{days // 7}w{days % 7}d{hours:02}h"


def age(seconds: float) -> str:
    """One unit: `12s`, `4m`, `3h`, `2d`."""
    for unit, size in (("d", _DAY), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def fact_lines(facts: Sequence[tuple[str, str]]) -> list[str]:
    """A line without a name goes on with the one before."""
    width = max(len(name) for name, _ in facts) + 1
    return [f"{name + ':' if name else '':<{width}} {value}" for name, value in facts]
