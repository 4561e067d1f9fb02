"""Links, addresses, routes and rules of the network namespace as the kernel tells them, for nodes without `ip`.

Slow and complete, for people: nothing of the agent itself reads them here (`links`, `routes`, `rulesocket` do).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from agent.loading import without_init

with without_init("pyroute2"):
    from pyroute2.iproute.linux import IPRoute

ROWS_MAX: Final = 50_000
FAMILIES: Final = (2, 10)
"""AF_INET, AF_INET6: a dump of rules is of one."""


def inventory() -> Iterator[tuple[str, list[Any]]]:
    """By what `ip` calls them. Raises OSError."""
    with IPRoute() as kernel:
        yield "link", _plain(kernel.get_links())
        yield "address", _plain(kernel.get_addr())
        yield "route", _plain(kernel.get_routes())
        yield "rule", _plain(rule for family in FAMILIES for rule in kernel.get_rules(family=family))


def _plain(messages: Iterable[Any]) -> list[Any]:
    return [_value(message) for message in islice(messages, ROWS_MAX)]


def _value(value: Any) -> Any:
    """As JSON can hold it: attributes by their names, without the frame that they came in."""
    match value:
        case dict():
            attributes = {str(name): _value(it) for name, it in value.get("attrs", ())}
            kept = {name: _value(it) for name, it in value.items() if name not in {"attrs", "header", "event"}}
            return {**kept, **attributes}
        case list() | tuple():
            return [_value(it) for it in value]
        case str() | int() | float() | bool() | None:
            return value
        case _:
            return str(value)
