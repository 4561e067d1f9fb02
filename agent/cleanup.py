"""Takes everything of ours from the node: routes and rules with our protocol number, and what agent and ExaBGP have
left in the run directory. `bgpilot cleanup`, and what an agent does when its DaemonSet is deleted.

Ours is what we would write ourselves: a route or rule of our number in another shape is left alone, and so is a file
of another name, kind or owner.

Invariant: who cleans up holds the lock of the network namespace; an agent would put it all back.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.kernel.forwarded import RoutesAndRules
from agent.kernel.lock import InstanceLock, LockedError, capability_advice, missing_capabilities
from agent.kernel.table import DumpFailedError, RouteChange
from agent.model import FibRoute, RouteType
from agent.orders import FILE_NAME as ORDER
from agent.settings import DEFAULT_RUN_DIR, SOCKET_NAME
from bgp.driver.notes import HUNG, TROUBLE
from bgp.driver.process import CONFIGURATION, SOCKET

ROUNDS: Final = 3
"""Of reading and deleting: at one key there may be a route in each of our tables, and a dump shows one of them."""
SPEAKER_SECONDS: Final = 1.0
"""A bridge that has lost its agent tries to connect five times as often."""
STOP_IT: Final = (
    "stop it first (kubectl -n bgpilot-system delete daemonset bgpilot). To take the node out of routing only: "
    "bgpilot drain"
)
_SOCKETS: Final = frozenset({SOCKET_NAME, SOCKET})
_FILES: Final = frozenset({ORDER, f"{ORDER}.new", CONFIGURATION, f"{CONFIGURATION}.new", TROUBLE, HUNG})
_HALF_WRITTEN: Final = re.compile(
    rf"(?:{re.escape(CONFIGURATION)}(?:\.new)?|{re.escape(TROUBLE)}|{re.escape(HUNG)})(?:\.\d+|\.speaker)?\.tmp"
    r"|\.writable(?:\.\d+)?|tmp[a-z0-9_]{8}"
)
"""What a process that was killed has left; with numbers, and the last, those of earlier versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    removed: tuple[str, ...] = ()
    """Or would be."""
    refused: tuple[str, ...] = ()
    """What of ours is still there, and why."""
    alone: tuple[str, ...] = ()
    """What only looks like ours."""

    def __add__(self, other: Cleaned) -> Cleaned:
        return Cleaned(
            removed=self.removed + other.removed,
            refused=self.refused + other.refused,
            alone=self.alone + other.alone,
        )


class RefusedError(Exception):
    """Something here would put back, or go on announcing, what is to go; or we may not remove it. The text says so."""


def run(*, protocol: int, run_dir: Path, dry_run: bool) -> Cleaned:
    """`bgpilot cleanup`. Raises RefusedError, and then nothing has been touched."""
    if not dry_run and (missing := missing_capabilities()):
        raise RefusedError(capability_advice(missing))
    try:
        with InstanceLock():
            if asyncio.run(is_speaker_there(run_dir)):
                raise RefusedError(
                    f"ExaBGP still runs beside (bgpilot speaker, {run_dir}) and would go on announcing: {STOP_IT}"
                )
            return asyncio.run(clean_up(protocol=protocol, run_dir=run_dir, dry_run=dry_run))
    except LockedError as error:
        raise RefusedError(f"an agent{error.holder} runs here and would put everything back: {STOP_IT}") from error


async def clean_up(*, protocol: int, run_dir: Path, dry_run: bool = False) -> Cleaned:
    """It never raises for what kernel or file system refuse."""
    return await clean_kernel(protocol, dry_run=dry_run) + clean_run_dir(run_dir, dry_run=dry_run)


async def clean_kernel(protocol: int, *, dry_run: bool = False) -> Cleaned:
    table = RoutesAndRules(protocol=protocol)
    try:
        await table.start(_ignore)
    except OSError as error:
        return Cleaned(refused=(f"routes and rules: no netlink socket: {error.strerror}",))
    removed: list[str] = []
    try:
        return await _emptied(table, removed, dry_run=dry_run)
    except DumpFailedError as error:
        return Cleaned(removed=tuple(removed), refused=(f"routes and rules: {error}",))
    finally:
        await table.stop()


async def _emptied(table: RoutesAndRules, removed: list[str], *, dry_run: bool) -> Cleaned:
    """`removed` grows as things go."""
    refused: dict[str, None] = {}
    dump = await table.dump()
    for _ in range(ROUNDS):
        routes, rules = dump.routes.values(), table.rules
        if dry_run:
            removed += [*map(_in_words, routes), *sorted(map(str, rules))]
            break
        if not routes and not rules:
            break
        failed = await table.write([RouteChange(route, None) for route in routes])
        before, dump = dump.routes, await table.dump()
        removed += [_in_words(route) for key, route in before.items() if key not in failed and key not in dump.routes]
        removed += sorted(str(rule) for rule in rules - table.rules)
        refused = {f"{_in_words(before[key])}: {error.text}": None for key, error in failed.items()}
        if refused:
            break
    if not dry_run and not refused:
        refused = dict.fromkeys([*map(_in_words, dump.routes.values()), *sorted(map(str, table.rules))])
    alone = tuple(f"{problem.subject}: {problem.message}" for problem in (*dump.foreign, *dump.odd.values()))
    return Cleaned(removed=tuple(removed), refused=tuple(refused), alone=alone)


def clean_run_dir(run_dir: Path, *, dry_run: bool = False) -> Cleaned:
    """The directory goes too when it is empty then and ours: files of ours were there, or it is the usual one."""
    removed, refused, alone = list[str](), list[str](), list[str]()
    for path, ours in _known(run_dir):
        if not ours:
            alone.append(f"file {path}: not of the kind and owner that bgpilot's has")
            continue
        try:
            if not dry_run:
                path.unlink(missing_ok=True)
        except OSError as error:
            refused.append(f"file {path}: {error.strerror}")
        else:
            removed.append(f"file {path}")
    if (removed or str(run_dir) == DEFAULT_RUN_DIR) and _is_left_empty(run_dir, removed if dry_run else ()):
        try:
            if not dry_run:
                run_dir.rmdir()
        except OSError:  # a mount point, as in a pod: whoever has mounted it takes it away
            pass
        else:
            removed.append(f"directory {run_dir}")
    return Cleaned(removed=tuple(removed), refused=tuple(refused), alone=tuple(alone))


def _known(run_dir: Path) -> Iterator[tuple[Path, bool]]:
    """What has a name of ours, and whether it is ours."""
    try:
        paths = sorted(run_dir.iterdir())
    except OSError:  # there is none, or nobody could write there
        return
    for path in paths:
        name = path.name
        if name not in _SOCKETS | _FILES and not _HALF_WRITTEN.fullmatch(name):
            continue
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        of_our_kind = stat.S_ISSOCK(found.st_mode) if name in _SOCKETS else stat.S_ISREG(found.st_mode)
        yield path, of_our_kind and found.st_uid == os.geteuid()


def _is_left_empty(run_dir: Path, going: tuple[str, ...] | list[str]) -> bool:
    try:
        found = run_dir.lstat()
        return (
            stat.S_ISDIR(found.st_mode)
            and found.st_uid == os.geteuid()
            and not run_dir.is_mount()
            and all(f"file {path}" in going for path in run_dir.iterdir())
        )
    except OSError:
        return False


async def is_speaker_there(run_dir: Path, *, within: float = SPEAKER_SECONDS) -> bool:
    """Whether an ExaBGP of this run directory runs without an agent: its bridge connects to the agent's socket.

    For that the socket is here for a moment, in place of the dead one that an agent may have left.
    """
    path = run_dir / SOCKET
    if not (run_dir / CONFIGURATION).exists():
        return False  # whoever starts ExaBGP writes it first
    left_behind = path.is_socket()
    came = asyncio.Event()

    def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        writer.close()

    try:
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(hear, path)
    except OSError:  # nothing can be written here: that shows when the files shall go
        return False
    try:
        async with asyncio.timeout(within):
            await came.wait()
    except TimeoutError:
        return False
    finally:
        server.close()
        if not left_behind:
            path.unlink(missing_ok=True)
    return True


def _in_words(route: FibRoute) -> str:
    if route.type is not RouteType.UNICAST:
        return f"route {route.prefix} {route.type}"
    return f"route {route.prefix} via {', '.join(str(hop.gateway) for hop in route.next_hops)}"


def _ignore() -> None:
    """Drift: who else writes our routes now?"""
