"""What tests of watches over real connections share: a kubeconfig for a server, a reflector that fills a World."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.cluster.api import ApiServer
from agent.cluster.health import Limits
from agent.cluster.reflector import Reflector
from agent.cluster.world import World
from agent.model import (
    ClusterChange,
    Key,
    Kind,
    Listed,
    Node,
    WatchState,
)

FAST = Limits(
    backoff_first_seconds=0.04,
    backoff_least_seconds=0.02,
    backoff_most_seconds=0.2,
    resync_spread_seconds=0.05,
    reopen_spread_seconds=0.05,
    absent_again_seconds=0.2,
    short_seconds=0.05,
    fresh_seconds=0.05,
)
"""Pauses are short, so that a test is; what says that something is dead is as patient as ever."""


def kubeconfig(folder: Path, server: str, *, ca: Path | str | None = None, **user: Any) -> Path:
    """`ca`: its file, or itself in base64."""
    path = folder / "kubeconfig.json"  # JSON is YAML
    cluster = {"server": server, **({} if ca is None else authority(ca))}
    path.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": user or {"token": "t0"}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    return path


def authority(ca: Path | str) -> dict[str, str]:
    return {"certificate-authority": str(ca)} if isinstance(ca, Path) else {"certificate-authority-data": ca}


class Watched:
    """A World, and all that was put into it."""

    def __init__(self) -> None:
        self.world = World()
        self.changes: list[ClusterChange] = []

    def put(self, change: ClusterChange) -> None:
        self.changes.append(change)
        self.world.apply(change)

    @property
    def lists(self) -> list[Listed]:
        return [change for change in self.changes if isinstance(change, Listed)]

    @property
    def state(self) -> WatchState:
        return next(change for change in reversed(self.changes) if isinstance(change, WatchState))

    def nodes(self) -> set[str]:
        return {record.name for record in self.world.records(Kind.NODE).values() if isinstance(record, Node)}

    def reasons(self) -> set[str]:
        """Of all problems so far."""
        states = (change for change in self.changes if isinstance(change, WatchState))
        return {state.problem.reason for state in states if state.problem is not None}

    def restarts(self) -> dict[str, int]:
        return dict(self.state.restarts)


@asynccontextmanager
async def watching(
    config: Path, kind: Kind = Kind.NODE, *, only: Key | None = None, limits: Limits = FAST
) -> AsyncIterator[Watched]:
    watched = Watched()
    api = await ApiServer.open(config)
    task = asyncio.create_task(Reflector(kind, api, watched.put, only=only, limits=limits).run())
    try:
        yield watched
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await api.close()
