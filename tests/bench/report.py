"""How figures are shown: a table of rows and contestants, medians over runs, and ratios ours/theirs.

A row is one thing measured, in one unit; a contestant may have no figure for it. It refuses to judge: a bench prints
what it saw, and no exit code hangs on it.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

OURS = "bgpilot"
ABSENT = "–"


class Add(Protocol):
    def __call__(self, what: str, unit: str, figure: float) -> None: ...


@dataclass(slots=True)
class Row:
    what: str
    unit: str
    samples: dict[str, list[float]] = field(default_factory=dict)

    def median(self, who: str) -> float | None:
        samples = self.samples.get(who)
        return statistics.median(samples) if samples else None


class Table:
    """`add` as often as there are runs; `show` prints medians, and how far the runs lie apart."""

    def __init__(self, title: str, *contestants: str) -> None:
        self.title = title
        self.contestants = contestants or (OURS,)
        self.rows: dict[str, Row] = {}

    def add(self, what: str, unit: str, figure: float, *, who: str = OURS) -> None:
        self.rows.setdefault(what, Row(what, unit)).samples.setdefault(who, []).append(figure)

    def column(self, who: str) -> Add:
        """`add` for one contestant."""
        return partial(self.add, who=who)

    def show(self) -> None:
        others = [who for who in self.contestants if who != OURS] if OURS in self.contestants else []
        head = ["", *self.contestants, *(f"ours/{who}" for who in others)]
        body = [self._cells(row, others) for row in self.rows.values()]
        widths = [max(len(line[place]) for line in [head, *body]) for place in range(len(head))]
        print(f"\n{self.title}")
        for line in [head, *body]:
            print("  " + _line(line, widths))
        sys.stdout.flush()

    def _cells(self, row: Row, others: Iterable[str]) -> list[str]:
        ours = row.median(OURS)
        ratios = []
        for who in others:
            theirs = row.median(who)
            ratios.append(f"{ours / theirs:.2f}" if ours is not None and theirs else ABSENT)
        return [row.what, *(_figure(row, who) for who in self.contestants), *ratios]


def _figure(row: Row, who: str) -> str:
    samples = row.samples.get(who)
    if not samples:
        return ABSENT
    text = f"{_digits(statistics.median(samples))} {row.unit}"
    if len(samples) > 1:
        text += f" ({_digits(min(samples))}…{_digits(max(samples))})"
    return text


def _digits(figure: float) -> str:
    """Three digits that count: more would be noise on a shared machine."""
    size = abs(figure)
    if size >= 100 or figure == 0:
        return f"{figure:,.0f}"
    return f"{figure:.1f}" if size >= 10 else f"{figure:.2f}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]).rstrip()
