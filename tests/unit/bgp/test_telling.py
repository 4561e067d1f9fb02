"""What ExaBGP is told, apart from ExaBGP: what becomes of many peers at once leaves others their turns."""

from __future__ import annotations

import asyncio
import time
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from bgp.background import TURN_SECONDS, in_turns
from bgp.driver.link import Link
from bgp.driver.telling import Telling
from bgp.model import Family, Route, RouteKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Obedient(Link):
    """An ExaBGP that says `done` to everything, at once."""

    def __init__(self) -> None:
        """Without a socket."""

    async def ask(self, line: str, *, at_done: Callable[[], None] | None = None) -> list[str]:
        if at_done is not None:
            at_done()
        return []


async def turns_during(task: asyncio.Task[None]) -> int:
    turns = 0
    while not task.done():
        await asyncio.sleep(0)
        turns += 1
    return turns


async def test_a_reload_with_many_peers_that_are_to_be_told_much_leaves_others_their_turns() -> None:
    telling = Telling(Obedient(), clock=time.monotonic, changed=lambda: None)
    peers = [ip_address(f"192.0.2.{number}") for number in range(1, 101)]
    routes = [Route(ip_network(f"10.{number}.0.0/24"), ip_address("192.0.2.254")) for number in range(250)]
    for peer in peers:
        for route in routes:
            telling.want(RouteKey(peer, route.prefix), route)
    words, families = {peer: f"neighbor {peer}" for peer in peers}, dict.fromkeys(peers, tuple(Family))
    reload = asyncio.create_task(telling.reload(words, families, lambda: None))

    assert await turns_during(reload) > 3
    assert telling.peers == set(peers)
    assert not telling.idle


async def test_work_is_done_in_order_and_others_have_their_turn_as_soon_as_it_has_taken_a_while() -> None:
    done: list[int] = []

    def work() -> Iterator[int]:
        for number in range(5):
            until = time.monotonic() + TURN_SECONDS
            while time.monotonic() < until:
                pass
            yield number

    async def all_of_it() -> None:
        done.extend([number async for number in in_turns(work())])

    assert await turns_during(asyncio.create_task(all_of_it())) >= 5
    assert done == [0, 1, 2, 3, 4]
