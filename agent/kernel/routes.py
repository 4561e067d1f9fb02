"""The kernel's routing table: dump ours, write changes in batches, say who holds a key, hear of drift.

All routes we write carry our protocol number, which is what makes them ours. It decides nothing: what to write, and
when to try again, is the driver's (`agent.kernel.fib`). It never replaces or deletes a route of another protocol,
although the kernel's own rules would: RTM_NEWROUTE with NLM_F_REPLACE takes the first route of the same prefix, TOS and
metric (IPv6: the first of those that has, like the new one, a gateway or none; failing that the first; with all its
siblings), whatever its protocol (fib_table_insert, fib6_add_rt2node; kernel 6.18). As we create with NLM_F_EXCL, we are
alone at a key at first; keys at which the monitor, or a scan of the table, saw another are not replaced but deleted,
which does heed the protocol, and created again with NLM_F_EXCL.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from agent.kernel.heard import Heard, decode_error, decode_route, protocol_of
from agent.kernel.monitor import Monitor
from agent.kernel.netlink import (
    BATCH_MESSAGES,
    DISCARD_TABLE,
    FORWARDED,
    MAIN_TABLE,
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_NEWROUTE,
    Encoder,
    MalformedError,
    Operation,
    Step,
    dump_request,
    messages,
)
from agent.kernel.nlsocket import RECEIVE_BYTES, open_netlink
from agent.kernel.table import WRITTEN_METRICS, Dump, DumpFailedError, Holder, KernelError, RouteChange
from agent.model import DISCARD_METRIC, FibKey, FibRoute, Problem, RouteType
from bgp.model import Prefix

DEFAULT_PROTOCOL: Final = 179
ANSWER_SECONDS: Final = 5.0
"""Longest wait for one datagram. The kernel answers within the send; it never answers what it took for noise."""
DUMP_ATTEMPTS: Final = 5
"""A dump that the kernel marks as interrupted by a change is thrown away; so often it is tried."""
DUMP_PARTS_MAX: Final = 10_000
"""Datagrams of one dump, of some hundred routes each."""
FOREIGN_REPORTED_MAX: Final = 50
LARGE_BATCH: Final = 32
"""Messages from which on a batch is sent from a thread, so that the event loop does not wait for the kernel: it works
within the send, 2–4 ms for a full batch, and now and then rebuilds its IPv4 trie there (20–30 ms of processor time at
30,000 routes, 40–80 ms at 100,000, when they come as when they go; kernel 6.18). Below, a thread costs more than it
saves."""
_SEQ_MAX: Final = 1 << 31
_PROTOCOL_NAMES: Final = {
    0: "unspecified",
    1: "redirect",
    2: "kernel",
    3: "boot",
    4: "static",
    9: "ra",
    11: "zebra",
    12: "bird",
    16: "dhcp",
    18: "keepalived",
    186: "bgp",
    187: "isis",
    188: "ospf",
    189: "rip",
}
"""As in linux/rtnetlink.h and iproute2's rt_protos."""


class KernelRoutes:
    """One routing table of the network namespace that the calling thread is in at `start`."""

    def __init__(self, *, protocol: int = DEFAULT_PROTOCOL, table: int = MAIN_TABLE) -> None:
        self._protocol = protocol
        self._table = table
        self._encoder = Encoder(protocol=protocol, table=table)
        self._next_seq = 1
        self._odd: frozenset[Prefix] = frozenset()
        """Prefixes that also have a route with our number which we would never write, as of the last dump."""
        self._concerns: Callable[[FibKey], bool] = lambda _key: True

    async def start(self, on_drift: Callable[[], None], *, also_ours: tuple[int, ...] = ()) -> None:
        """Raises OSError. `on_drift` is called from the event loop, at most once per read; it must not block.

        `also_ours`: other sockets' port ids, whose writes are no drift either.
        """
        self._on_drift = on_drift
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kernel-routes")
        self._writer = open_netlink()
        try:
            self._monitor = Monitor(
                protocol=self._protocol,
                table=self._table,
                ignored_ports=(self._writer.getsockname()[0], *also_ours),
                concerns=lambda key: self._concerns(key),  # noqa: PLW0108  # it may be set later
                on_drift=on_drift,
            )
        except OSError:
            self._writer.close()
            raise

    async def stop(self) -> None:
        self._monitor.close()
        self._thread.shutdown()
        self._writer.close()

    def concern(self, concerns: Callable[[FibKey], bool]) -> None:
        self._concerns = concerns

    async def dump(self) -> Dump:
        routes: dict[FibKey, FibRoute] = {}
        odd: list[tuple[Heard, str]] = []
        for version in (4, 6):
            for part in await self._dump(version, protocol=self._protocol):
                odd += [(heard, why) for heard in part if (why := self._take(heard, routes))]
                await asyncio.sleep(0)
        self._odd = frozenset(heard.key.prefix for heard, _ in odd if heard.table == self._table)
        in_place = {
            heard.key: self._problem(heard, f"{why}: left alone until we want a route there")
            for heard, why in odd
            if heard.key not in routes and self._is_place_of_ours(heard)
        }
        others = [one for one in odd if one[0].key not in in_place][:FOREIGN_REPORTED_MAX]
        told = tuple(self._problem(heard, f"{why}: it is not ours and left alone") for heard, why in others)
        return Dump(routes, told, in_place)

    async def holders(self, keys: Collection[FibKey]) -> Mapping[FibKey, Holder]:
        found: dict[FibKey, Holder] = {}
        discards = {key.prefix.version for key in keys if key.metric == DISCARD_METRIC}
        tables = [(version, DISCARD_TABLE) for version in discards]
        for version, table in (*tables, *((version, self._table) for version in {key.prefix.version for key in keys})):
            for part in await self._dump(version, table=table):
                for heard in part:
                    if heard.key in keys and heard.key not in found:
                        found[heard.key] = self._holder(heard)
                await asyncio.sleep(0)
        return found

    async def write(self, changes: Sequence[RouteChange]) -> Mapping[FibKey, KernelError]:
        failed: dict[FibKey, KernelError] = {}
        for start in range(0, len(changes), BATCH_MESSAGES):
            some = changes[start : start + BATCH_MESSAGES]
            try:
                await self._write_some(some, failed)
            except DumpFailedError as error:  # what had to be known before the first of them was sent is not known
                failed |= {change.key: KernelError(errno.EBUSY, str(error)) for change in some}
            await asyncio.sleep(0)
        return failed

    async def _write_some(self, changes: Sequence[RouteChange], failed: dict[FibKey, KernelError]) -> None:
        changes = await self._without_misleading(changes)
        if odd := {change.key for change in changes if _is_odd(change)}:  # who else came there did not concern us then
            self._monitor.shared -= odd
            self._monitor.blind = True
        if self._monitor.blind and any(change.old and change.new for change in changes):
            await self._scan()
        self._monitor.drain()
        shared = self._monitor.shared
        recreated = {change.key for change in changes if change.key in shared} if shared else set()
        self._monitor.shared -= recreated  # alone again, if the creation succeeds
        steps = [step for change in changes for step in _steps(change, recreated)]
        if self._next_seq + len(steps) > _SEQ_MAX:
            self._next_seq = 1
        first_seq, self._next_seq = self._next_seq, self._next_seq + len(steps)
        done = 0
        for data, count in self._encoder.batches(steps, first_seq):
            await self._send(data, steps[done : done + count], first_seq + done, failed)
            done += count
        if lost := recreated & failed.keys():
            self._monitor.shared |= lost
            self._on_drift()

    async def _without_misleading(self, changes: Sequence[RouteChange]) -> Sequence[RouteChange]:
        """Leave out deletes that would meet another route with our number, because ours is not there any more.

        In IPv4 a delete with metric 0 takes the lowest metric there is, of our protocol and type. That is ours, unless
        ours was lost unseen and somebody made one with another metric.
        """
        if not self._odd or not any(change.new is None and change.key.prefix in self._odd for change in changes):
            return changes
        here = (await self.dump()).routes
        return [change for change in changes if change.new is not None or change.key in here]

    async def _scan(self) -> None:
        """Find the keys of ours at which another protocol has a route as well: after start, and after lost events."""
        self._monitor.blind = False  # first, so that what is lost from now on counts
        try:
            for version in (4, 6):
                for part in await self._dump(version, table=self._table, skip=self._protocol):
                    self._monitor.shared |= {heard.key for heard in part if self._concerns(heard.key)}
                    await asyncio.sleep(0)
        except DumpFailedError:
            self._monitor.blind = True
            raise

    async def _send(
        self, data: bytes, steps: Sequence[Step], first_seq: int, failed: dict[FibKey, KernelError]
    ) -> None:
        """Send one batch and read its answers: the errors, in order, and one answer to the last message."""
        answered = -1
        try:
            if len(steps) >= LARGE_BATCH:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.send, data)
            else:
                self._writer.send(data)
            while answered < len(steps) - 1:
                for message in messages(await self._receive(self._writer)):
                    at = message.seq - first_seq
                    if message.type != NLMSG_ERROR or not 0 <= at < len(steps):
                        continue  # left over from a batch that was given up
                    answered = max(answered, at)
                    number, text = decode_error(message)
                    absent = number == errno.ESRCH and steps[at].operation is Operation.DELETE
                    if number and not absent:
                        failed[steps[at].route.key] = KernelError(number, text or os.strerror(number))
        except OSError as error:  # TimeoutError; ENOBUFS when answers were dropped
            for step in steps[answered + 1 :]:
                failed[step.route.key] = KernelError(error.errno or errno.ETIMEDOUT, _words(error))
            self._on_drift()  # some of them may be done

    async def _dump(self, version: int, *, protocol: int = 0, table: int = 0, skip: int = 0) -> list[list[Heard]]:
        """In the parts in which it was read. The kernel heeds `protocol` and `table`; `skip` leaves a protocol out."""
        for _ in range(DUMP_ATTEMPTS):
            try:
                heard = await self._dump_once(version, dump_request(version, 1, protocol=protocol, table=table), skip)
            except (OSError, MalformedError) as error:
                raise DumpFailedError(f"reading the IPv{version} routes: {_words(error)}") from error
            if heard is not None:
                return heard
        raise DumpFailedError(f"reading the IPv{version} routes: changed by others each of {DUMP_ATTEMPTS} times")

    async def _dump_once(self, version: int, request: bytes, skip: int) -> list[list[Heard]] | None:
        """None: interrupted by a change. A socket for each dump: no answer to an earlier one can be left in it."""
        parts: list[list[Heard]] = []
        interrupted = False
        with open_netlink() as sock:
            sock.send(request)
            while len(parts) < DUMP_PARTS_MAX:
                parts.append([])
                for message in messages(await self._receive(sock)):
                    interrupted = interrupted or bool(message.flags & NLM_F_DUMP_INTR)
                    if message.type in (NLMSG_DONE, NLMSG_ERROR):
                        number, text = decode_error(message)
                        if number not in (0, errno.ENOENT):  # ENOENT: the table does not exist (yet)
                            raise OSError(number, text or os.strerror(number))
                        return None if interrupted else parts
                    if message.type != RTM_NEWROUTE or (skip and protocol_of(message.body) == skip):
                        continue
                    heard = decode_route(message.body)
                    if heard is not None and heard.key.prefix.version == version:  # without IPv6 it answers with all
                        parts[-1].append(heard)
                await asyncio.sleep(0)
        raise OSError(errno.E2BIG, f"more than {DUMP_PARTS_MAX} parts")

    @staticmethod
    async def _receive(sock: socket.socket) -> bytes:
        try:
            return sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.get_running_loop().sock_recv(sock, RECEIVE_BYTES)

    def _take(self, heard: Heard, routes: dict[FibKey, FibRoute]) -> str:
        """Take a route with our number among `routes`, or say why it is not one that we wrote."""
        if heard.route is None:
            return heard.oddity
        forwarded = heard.route.type in FORWARDED
        if heard.table != self._table and not forwarded:
            return f"table {heard.table}"
        if heard.key.metric not in ({DISCARD_METRIC} if forwarded else WRITTEN_METRICS):
            return f"metric {heard.key.metric}"
        there = routes.get(heard.key)
        others = there is not None and (there.type in FORWARDED) is not forwarded
        if there is None or (others and not forwarded):
            routes[heard.key] = heard.route  # one in the other table is left over from a change, and does no harm
        return "" if there is None or others else "a second route for this prefix and metric"

    def _is_place_of_ours(self, heard: Heard) -> bool:
        metrics = {self._table: WRITTEN_METRICS, DISCARD_TABLE: {DISCARD_METRIC}}.get(heard.table, frozenset())
        return heard.key.metric in metrics and not heard.beside

    def _problem(self, heard: Heard, why: str) -> Problem:
        return Problem(
            reason="foreignShapedRoute",
            subject=f"Route {heard.key.prefix}",
            message=f"carries our protocol number {self._protocol}, but has {why} "
            f"(table {heard.table}, metric {heard.key.metric})",
            fix=f"Remove it (ip -{heard.key.prefix.version} route del {heard.key.prefix} table {heard.table} "
            f"proto {self._protocol}) or give one of the two programs another protocol number.",
        )

    def _holder(self, heard: Heard) -> Holder:
        if heard.protocol != self._protocol:
            name = _PROTOCOL_NAMES.get(heard.protocol)
            return Holder(f"protocol {heard.protocol} ({name})" if name else f"protocol {heard.protocol}")
        if heard.route is None:
            return Holder(f"protocol {heard.protocol} (our number, but {heard.oddity})")
        return Holder(f"protocol {heard.protocol} (ours)", heard.route)


def _words(error: OSError | MalformedError) -> str:
    if isinstance(error, TimeoutError):
        return f"the kernel did not answer within {ANSWER_SECONDS:g} s"
    return error.strerror or str(error) if isinstance(error, OSError) else f"not understood: {error}"


def _is_odd(change: RouteChange) -> bool:
    return change.old is not None and change.old.type is RouteType.ODD


def _steps(change: RouteChange, recreated: set[FibKey]) -> list[Step]:
    match change:
        case RouteChange(old=FibRoute(type=RouteType.ODD), new=FibRoute() as new):
            return [Step(Operation.CREATE if new.key in recreated else Operation.REPLACE, new)]
        case RouteChange(old=None, new=FibRoute() as new):
            return [Step(Operation.CREATE, new)]
        case RouteChange(old=FibRoute() as old, new=None):
            return [Step(Operation.DELETE, old)]
        case RouteChange(old=FibRoute() as old, new=FibRoute() as new) if new.key in recreated:
            return [Step(Operation.DELETE, old), Step(Operation.CREATE, new)]
        case RouteChange(old=FibRoute() as old, new=FibRoute() as new) if (old.type in FORWARDED) is not (
            new.type in FORWARDED
        ):
            return [Step(Operation.CREATE, new), Step(Operation.DELETE, old)]  # they are in two tables
        case RouteChange(old=FibRoute(), new=FibRoute() as new):
            return [Step(Operation.REPLACE, new)]
        case _:
            raise ValueError("a change of nothing into nothing")
