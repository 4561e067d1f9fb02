"""A Grafana dashboard drawn as SVG from what its own queries answered: as much of it as `deploy/monitoring` uses.

Pure: it is handed the dashboard and the answers, and returns text. Grafana itself is not needed, and not imitated but
for what a reader of the README has to see: which panels there are, and what they show of a real run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

Points = Sequence[tuple[float, float]]
Series = Mapping[str, Points]
"""Legend → (Unix time, value)."""

WIDTH, UNIT, GAP = 1200, 23, 6
COLUMN = WIDTH / 24
PALETTE = ("#5b9e4d", "#d9a520", "#3aa6bd", "#e07b39", "#d6453d", "#2f6fb5", "#a63a9b", "#7a6bb0", "#6b7280")
NAMED = {"green": "#3f9142", "red": "#d6453d", "orange": "#e07b39", "blue": "#2f6fb5"}
TEXT, FAINT, GRID, PAPER, CARD = "#1f2937", "#6b7280", "#e5e7eb", "#f3f4f6", "#ffffff"
LEGENDS = 6
"""Names that a legend has room for."""


@dataclass(frozen=True, slots=True)
class Box:
    """Of a panel, and the time that it is about."""

    width: float
    height: float
    start: float
    end: float

    def across(self, at: float, left: float, right: float) -> float:
        return left + (right - left) * (at - self.start) / (self.end - self.start)


def draw(dashboard: Mapping[str, Any], answers: Mapping[int, Series], *, start: float, end: float) -> str:
    """`answers` by the panels' ids."""
    panels = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * UNIT + GAP
    body = "".join(_placed(panel, answers.get(panel["id"], {}), start, end) for panel in panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>\n{body}</svg>\n'
    )


def _placed(panel: Mapping[str, Any], series: Series, start: float, end: float) -> str:
    place = panel["gridPos"]
    x, y = place["x"] * COLUMN + GAP / 2, place["y"] * UNIT + GAP / 2
    width, height = place["w"] * COLUMN - GAP, place["h"] * UNIT - GAP
    if panel["type"] == "row":
        return _text(x + 4, y + 14, panel["title"], size=13, weight=600)
    inside = f'<rect width="{width:.0f}" height="{height}" rx="3" fill="{CARD}" stroke="{GRID}"/>'
    inside += _text(8, 16, panel["title"], size=11, weight=600)
    inside += _CONTENT[panel["type"]](panel, series, Box(width, height, start, end))
    return f'<g transform="translate({x:.0f},{y:.0f})">{inside}</g>\n'


def _stat(panel: Mapping[str, Any], series: Series, box: Box) -> str:
    value = next((points[-1][1] for points in series.values() if points), math.nan)
    defaults = panel["fieldConfig"]["defaults"]
    steps = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
    card = (
        f'<rect y="24" width="{box.width:.0f}" height="{box.height - 24}" rx="3" fill="{NAMED[steps[-1]["color"]]}"/>'
    )
    shown = _number(value, defaults["unit"])
    return card + _text(
        box.width / 2, 24 + (box.height - 24) / 2 + 10, shown, size=28, weight=600, fill="#fff", anchor="middle"
    )


def _table(panel: Mapping[str, Any], series: Series, box: Box) -> str:
    rows = [name for name, points in series.items() if points and points[-1][0] >= box.end - 5]
    return "".join(_text(12, 40 + 18 * number, row, size=11) for number, row in enumerate(rows[:6])) or _text(
        12, 40, "none", size=11, fill=FAINT
    )


def _states(panel: Mapping[str, Any], series: Series, box: Box) -> str:
    left, right, top = 170.0, box.width - 12, 30.0
    each = min(24.0, (box.height - 56) / max(1, len(series)))
    colours = {
        int(word): NAMED[how["color"]]
        for word, how in panel["fieldConfig"]["defaults"]["mappings"][0]["options"].items()
    }
    drawn = ""
    for number, (name, points) in enumerate(sorted(series.items())):
        y = top + number * each
        drawn += _text(left - 8, y + each / 2 + 3, name, size=10, anchor="end")
        for begin, until, value in _runs(points):
            x, till = box.across(begin, left, right), box.across(until, left, right)
            size = f'width="{till - x:.1f}" height="{each - 4:.1f}"'
            drawn += f'<rect x="{x:.1f}" y="{y:.1f}" {size} fill="{colours[int(value)]}"/>'
    return drawn + _times(box, left, right, top + len(series) * each + 12)


def _lines(panel: Mapping[str, Any], series: Series, box: Box) -> str:
    left, right, top, bottom = 44.0, box.width - 10, 26.0, box.height - 34
    unit = panel["fieldConfig"]["defaults"]["unit"]
    values = [value for points in series.values() for _, value in points if not math.isnan(value)]
    most = _round(max(values, default=0.0))
    drawn = ""
    for part in range(5):
        y = bottom - (bottom - top) * part / 4
        drawn += f'<path d="M{left:.0f} {y:.1f}H{right:.0f}" stroke="{GRID}"/>'
        drawn += _text(left - 5, y + 3, _number(most * part / 4, unit), size=9, fill=FAINT, anchor="end")
    shown = sorted(series.items(), key=lambda one: (not any(value > 0 for _, value in one[1]), one[0]))
    for number, (_, points) in enumerate(shown):
        colour = PALETTE[number % len(PALETTE)]
        places = [
            (box.across(at, left, right), bottom - (bottom - top) * min(1.0, value / most), at)
            for at, value in points
            if not math.isnan(value)
        ]
        drawn += f'<path d="{_path(places)}" fill="none" stroke="{colour}" stroke-width="1.4"/>'
    return drawn + _times(box, left, right, bottom + 12) + _legend([name for name, _ in shown], box)


def _legend(names: Sequence[str], box: Box) -> str:
    drawn, x = "", 44.0
    for number, name in enumerate(names):
        wide = 16 + len(name) * 5.0
        if x + wide > box.width - 30 or number == LEGENDS:
            return drawn + _text(x, box.height - 6, f"+{len(names) - number}", size=9, fill=FAINT)
        drawn += (
            f'<rect x="{x:.0f}" y="{box.height - 12}" width="8" height="3" fill="{PALETTE[number % len(PALETTE)]}"/>'
        )
        drawn += _text(x + 11, box.height - 7, name, size=9, fill=FAINT)
        x += wide
    return drawn


_CONTENT = {"stat": _stat, "table": _table, "state-timeline": _states, "timeseries": _lines}


def legend(target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """As Grafana makes it of `legendFormat`; without one the labels themselves."""
    if target["legendFormat"] == "__auto":
        return " ".join(value for _, value in sorted(labels.items()))
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), target["legendFormat"])


def _runs(points: Points) -> Iterable[tuple[float, float, float]]:
    """Begin, end and value of stretches of the same value."""
    begin: tuple[float, float] | None = None
    for at, value in points:
        if begin is not None and value != begin[1]:
            yield begin[0], at, begin[1]
        if begin is None or value != begin[1]:
            begin = at, value
    if begin is not None:
        yield begin[0], points[-1][0], begin[1]


def _path(places: Sequence[tuple[float, float, float]]) -> str:
    """Without points on a level stretch; a gap in time is a gap in the line."""
    words: list[str] = []
    for number, (x, y, at) in enumerate(places):
        before = places[number - 1] if number else None
        after = places[number + 1] if number + 1 < len(places) else None
        if before is None or at - before[2] > 10:
            words.append(f"M{x:.1f} {y:.1f}")
        elif after is None or abs(before[1] - y) > 0.05 or abs(after[1] - y) > 0.05:
            words.append(f"L{x:.1f} {y:.1f}")
    return "".join(words)


def _times(box: Box, left: float, right: float, y: float) -> str:
    minutes = range(int((box.end - box.start) // 60) + 1)
    return "".join(
        _text(box.across(box.start + 60 * it, left, right), y, f"{it}:00", size=9, fill=FAINT, anchor="middle")
        for it in minutes
    )


def _round(most: float) -> float:
    """A number at or above it that four lines divide well."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= most * 0.999)


def _number(value: float, unit: str) -> str:
    if math.isnan(value):
        return "–"
    if unit == "s":
        return (
            f"{value:.0f} s"
            if value >= 10 or value == 0
            else f"{value * 1000:.0f} ms"
            if value < 1
            else f"{value:.1f} s"
        )
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    return f"{value:.3g}" + ("/s" if unit == "cps" else "")


def _text(
    x: float, y: float, text: str, *, size: int, weight: int = 400, fill: str = TEXT, anchor: str = "start"
) -> str:
    style = f'font-size="{size}" fill="{fill}"' + (f' font-weight="{weight}"' if weight != 400 else "")
    where = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" {style}{where}>{escape(text)}</text>'
