"""The map as one HTML page that needs nothing else: no script, no font, no request to anybody. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

from agent.kubectl.drawing import HEALTH_WORDS, SIGNS, drawing
from agent.kubectl.picture import Look, Picture

LEGEND: Final = {
    Look.UP: "established",
    Look.DOWN: "not there, and missed",
    Look.MEANT: "not there, as somebody wants it",
    Look.UNKNOWN: "its agent is not heard of: what it said last",
}


def page(picture: Picture, *, title: str, at: str, problems: Sequence[str]) -> str:
    """`problems`: one line each, with what to do."""
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>",
            '<meta name="viewport" content="width=device-width"/>',
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            f"<h1>{escape(title)}</h1>",
            f"<p>{escape(at)}: {escape(summed_up(picture))}.</p>",
            '<ul class="legend">',
            *(_legend(look) for look in Look),
            "</ul>",
            *_problems(problems),
            f'<div class="map">\n{drawing(picture)}\n</div>',
            "</body>\n</html>\n",
        ]
    )


def summed_up(picture: Picture) -> str:
    """`3 nodes (2 healthy, 1 degraded); 6 sessions (5 up, 1 down) with routers`."""
    counts = {HEALTH_WORDS[word]: sum(card.health == word for card in picture.cards) for word in HEALTH_WORDS}
    looks = {str(look): sum(it.look is look for it in picture.sessions) for look in Look}
    return f"{_counted(counts, 'node')}; {_counted(looks, 'session')} with routers"


def _counted(counts: Mapping[str, int], what: str) -> str:
    total = sum(counts.values())
    told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{total} {what}{'' if total == 1 else 's'}" + (f" ({told})" if told else "")


def _legend(look: Look) -> str:
    line = f'<g class="session {look}"><path d="M0 5H40"/></g>'
    return f'<li><svg viewBox="0 0 40 10" width="40" height="10">{line}</svg> {SIGNS[look]} {LEGEND[look]}</li>'


def _problems(problems: Sequence[str]) -> Iterator[str]:
    if problems:
        yield f"<details{' open' * (len(problems) <= OPEN_MAX)}><summary>To be mended ({len(problems)})</summary>\n<ul>"
        yield from (f"<li>{escape(it)}</li>" for it in problems)
        yield "</ul></details>"


OPEN_MAX: Final = 10
"""Of more, the list is folded, for the map to be seen."""
STYLE: Final = """
:root { color-scheme: light dark;
  --ground: #fff; --band: #f3f4f6; --card: #fff; --edge: #c9ced6; --text: #1b1f24; --faint: #57606a;
  --up: #1a7f37; --down: #c0202c; --meant: #656d76; --unknown: #8a5d00; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #0d1117; --band: #151b23; --card: #212830; --edge: #3d444d; --text: #e6edf3; --faint: #9aa4b0;
  --up: #3fb950; --down: #ff7b72; --meant: #9198a1; --unknown: #d9a32b; } }
body { background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto;
  max-width: 1400px; padding: 0 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; } summary { font-weight: 600; } p { color: var(--faint); margin: .2rem 0 .8rem; }
li { overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.6rem; list-style: none; padding: 0; margin: 0 0 1rem; }
.map { overflow-x: auto; margin-top: 1rem; } .map > svg { display: block; width: 100%; min-width: 960px; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--text); }
svg .rack { font-size: 14px; font-weight: 600; } svg .name { font-size: 14px; font-weight: 600; }
svg .fact { fill: var(--faint); } svg .bad { fill: var(--down); } svg .end { text-anchor: end; }
.band { fill: var(--band); } .card { fill: var(--card); stroke: var(--edge); }
.session path { fill: none; stroke-width: 1.6; }
.up path { stroke: var(--up); }
.down path { stroke: var(--down); stroke-width: 2.2; stroke-dasharray: 7 4; }
.meant path { stroke: var(--meant); stroke-dasharray: 1.5 4; stroke-linecap: round; }
.unknown path { stroke: var(--unknown); stroke-dasharray: 12 4 2 4; }
svg .down .label { fill: var(--down); } svg .unknown .label { fill: var(--unknown); }
.session:hover path { stroke-width: 4; } .session:hover .label { font-weight: 600; }
.yes .health { fill: var(--up); } .no .health { fill: var(--down); }
.degraded .health, .unknown .health { fill: var(--unknown); }
"""
