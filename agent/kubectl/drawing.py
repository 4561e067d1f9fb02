"""The map as one SVG: routers left, nodes right, a line for each session, which says at its end how it is. Pure.

Colour never says anything alone: a session that is not there is dashed, has another sign and says why. What others
wrote (names, errors) is text here and nothing else: every bit of it goes through `_clean`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from agent.kubectl.picture import Card, Group, Look, Picture, Router, Session

SVG: Final = "http://www.w3.org/2000/svg"
SIGNS: Final = {Look.UP: "✓", Look.DOWN: "✗", Look.MEANT: "–", Look.UNKNOWN: "?"}
WIDTH: Final = 1280
_ROUTER_LEFT, _ROUTER_WIDTH, _ROUTER_HEIGHT = 36, 260, 66
_LABEL_LEFT: Final = 460
_CARD_LEFT, _CARD_WIDTH = 870, 300
_PAD, _GAP = 12, 12
_TITLE_HEIGHT: Final = 34
_LINE, _ERROR_LINE = 26, 15
"""Height of a session with its label, and of a line of the error below."""
_LABEL_CHARS, _ERROR_LINES, _FACT_CHARS, _NAME_CHARS = 57, 2, 38, 22
"""As many as there is room for with a wide font."""
_FACT: Final = 18


@dataclass(frozen=True, slots=True)
class _Placed:
    card: Card
    top: int
    height: int


def drawing(picture: Picture) -> str:
    """An <svg> element; as high as it takes."""
    reach = _reach(picture)
    top, parts = 0, list[str]()
    for group in picture.groups:
        height = _height(group)
        parts += [*_band(picture, group, top, height), *_group(group, top, height, reach)]
        top += height + _GAP
    size = f'viewBox="0 0 {WIDTH} {max(top - _GAP, 1)}"'
    head = f'<svg xmlns="{SVG}" {size} role="group" aria-label="Routers, nodes and the sessions between them">'
    return "\n".join([head, *parts, "</svg>"])


def _reach(picture: Picture) -> dict[Router, str]:
    """With how many nodes a router has a session, of all that are to have one."""
    looks: dict[Router, list[Look]] = {}
    for session in picture.sessions:
        looks.setdefault(session.router, []).append(session.look)
    return {router: f"up with {it.count(Look.UP)} of {len(it)} nodes" for router, it in looks.items()}


def _group(group: Group, top: int, height: int, reach: Mapping[Router, str]) -> Iterator[str]:
    placed, y = list[_Placed](), top + _TITLE_HEIGHT
    for card in group.cards:
        placed.append(_Placed(card, y, _card_height(card)))
        y += _card_height(card) + _GAP
    share = (height - _TITLE_HEIGHT) / max(len(group.routers), 1)
    at = {it: round(top + _TITLE_HEIGHT - _GAP / 2 + share * (n + 0.5)) for n, it in enumerate(group.routers)}
    for router, middle in at.items():
        yield from _router(router, middle, reach[router])
    for one in placed:
        yield from _sessions(one, at)
    for one in placed:
        yield from _card(one)
    yield from _arcs(placed)


def _height(group: Group) -> int:
    cards = sum(_card_height(card) + _GAP for card in group.cards)
    return _TITLE_HEIGHT + max(cards, len(group.routers) * (_ROUTER_HEIGHT + _GAP))


def _card_height(card: Card) -> int:
    sessions = sum(_session_height(it) for it in card.sessions)
    facts = 1 + bool(card.facts) + bool(card.words) + len(card.missing) + bool(card.more)
    return max(sessions, facts * _FACT) + 2 * _PAD


def _session_height(session: Session) -> int:
    return _LINE + _ERROR_LINE * len(_lines(session.error))


def _band(picture: Picture, group: Group, top: int, height: int) -> Iterator[str]:
    yield f'<rect class="band" x="1" y="{top + 1}" width="{WIDTH - 2}" height="{height - 2}" rx="8"/>'
    if group.rack:
        name = f"{picture.label.rpartition('/')[2]} {group.rack}"
    else:
        name = f"Nodes without {picture.label}" if picture.label else "All nodes"
    if len(group.cards) < group.of:
        count = f"nodes {group.first} to {group.first + len(group.cards) - 1} of {group.of}"
    else:
        count = f"{group.of} node{'s' if group.of > 1 else ''}"
    yield _text(16, top + 22, f"{name} · {count}", "rack", chars=120)


def _router(router: Router, middle: int, reach: str) -> Iterator[str]:
    x, y = _ROUTER_LEFT + _PAD, middle - _ROUTER_HEIGHT // 2
    about = f"{router.address} · AS {router.asn}" if router.asn else router.address
    yield f"<g><title>{_clean(f'{router.name}, {about}, {reach}')}</title>"
    yield _box(_ROUTER_LEFT, y, _ROUTER_WIDTH, _ROUTER_HEIGHT)
    yield _text(x, y + 20, router.name, "name", chars=_NAME_CHARS)
    yield _text(x, y + 38, about, "fact", chars=34)
    yield _text(x, y + 55, reach, "fact", chars=34) + "</g>"


def _sessions(it: _Placed, at: Mapping[Router, int]) -> Iterator[str]:
    y = it.top + _PAD
    for session in it.card.sessions:
        height = _session_height(session)
        end = y + _LINE - 7
        start, left = at[session.router], _ROUTER_LEFT + _ROUTER_WIDTH
        bend = (left + _LABEL_LEFT) // 2
        path = f"M{left} {start}C{bend} {start} {bend} {end} {_LABEL_LEFT} {end}H{_CARD_LEFT}"
        told = f"{session.router.name} ({session.router.address}) – {it.card.name}: {session.words}"
        told += f". {session.error}" if session.error else ""
        yield f'<g class="session {session.look}"><title>{_clean(told)}</title>'
        yield f'<path d="{path}"/>'
        yield _text(_LABEL_LEFT + 6, end - 5, f"{SIGNS[session.look]} {session.words}", "label", chars=_LABEL_CHARS)
        for number, line in enumerate(_lines(session.error), start=1):
            yield _text(_LABEL_LEFT + 6, end - 1 + _ERROR_LINE * number, line, "label", chars=_LABEL_CHARS)
        yield "</g>"
        y += height


def _card(it: _Placed) -> Iterator[str]:
    card, x = it.card, _CARD_LEFT
    yield f'<g class="node {_clean(card.health)}">'
    yield _box(x, it.top, _CARD_WIDTH, it.height)
    yield f'<rect class="health" x="{x}" y="{it.top}" width="5" height="{it.height}" rx="2"/>'
    y = it.top + _PAD + 13
    yield _text(x + 16, y, card.name, "name", chars=_NAME_CHARS)
    yield _text(x + _CARD_WIDTH - 10, y, HEALTH_WORDS.get(card.health, card.health), "fact end", chars=14)
    for words, kind in ((card.facts, "fact"), (card.words, "fact bad")):
        if words:
            y += _FACT
            yield _text(x + 16, y, words, kind, chars=_FACT_CHARS)
    for one in card.missing:
        y += _FACT
        yield _text(x + 16, y, f"✗ {one.other}: {one.words}", "fact bad", chars=_FACT_CHARS)
    if card.more:
        yield _text(x + 16, y + _FACT, f"✗ … and {card.more} nodes more", "fact bad", chars=_FACT_CHARS)
    yield "</g>"


HEALTH_WORDS: Final = {"yes": "healthy", "no": "not healthy", "degraded": "degraded", "unknown": "unknown"}


def _arcs(placed: Sequence[_Placed]) -> Iterator[str]:
    """Sessions between these nodes that are missing, on the right; each once, whoever of the two says so."""
    at = {it.card.name: it for it in placed}
    drawn: set[frozenset[str]] = set()
    right = _CARD_LEFT + _CARD_WIDTH
    for it in placed:
        for one in it.card.missing:
            other = at.get(one.other)
            pair = frozenset({it.card.name, one.other})
            if other is None or pair in drawn:
                continue
            drawn.add(pair)
            start, end = it.top + it.height // 2, other.top + other.height // 2
            bulge = right + min(120, 30 + abs(end - start) // 8)
            yield f'<g class="session down"><title>{_clean(f"{it.card.name} – {one.other}: {one.words}")}</title>'
            yield f'<path d="M{right} {start}C{bulge} {start} {bulge} {end} {right} {end}"/></g>'


def _box(x: int, y: int, width: int, height: int) -> str:
    return f'<rect class="card" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'


def _text(x: int, y: int, text: str, kind: str, *, chars: int) -> str:
    cut = _cut(text, chars)
    title = f"<title>{_clean(text)}</title>" if cut != text else ""
    return f'<text class="{kind}" x="{x}" y="{y}">{title}{_clean(cut)}</text>'


def _lines(text: str) -> list[str]:
    """Broken between words; the last line has all that is left, to be cut off."""
    lines = list[str]()
    while len(text) > _LABEL_CHARS and len(lines) < _ERROR_LINES - 1:
        at = text.rfind(" ", 1, _LABEL_CHARS + 1)
        if at < 0:
            break
        lines, text = [*lines, text[:at]], text[at + 1 :]
    return [*lines, text] if text else lines


def _cut(text: str, chars: int) -> str:
    """As much as there is room for; characters of East Asia take two places."""
    room = chars
    for number, it in enumerate(text):
        room -= 2 if unicodedata.east_asian_width(it) in "WF" else 1
        if room < 0:
            return text[: max(number - 1, 0)] + "…"
    return text


def _clean(text: str) -> str:
    return escape(text, quote=True)
