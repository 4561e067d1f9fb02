"""All watches of one agent: one per kind over the whole cluster, one per Secret that is needed right now, and that of
the agent's own DaemonSet where somebody wants to know of its end.

Each waits for an API server that is away on its own, so that one of many soon finds it back; that one tells the others.

It refuses to read Secrets that nobody named, so that the agent's role needs to name no others either.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from agent.cluster.health import Limits
from agent.cluster.reflector import Reflector, Transport
from agent.model import (
    ALWAYS_WATCHED,
    ClusterChange,
    Gone,
    Key,
    Kind,
)


class Cluster:
    """`put` is called from the event loop with every change; it must not block.

    A reflector that raises has met a bug of ours: `failed` completes with its exception, for the owner to raise.
    """

    def __init__(
        self,
        transport: Transport,
        put: Callable[[ClusterChange], None],
        namespace: str,
        *,
        limits: Limits | None = None,
        random: Random | None = None,
    ) -> None:
        """`namespace` is the agent's own: the only one whose Secrets and DaemonSet are read."""
        self._transport = transport
        self._put = put
        self._namespace = namespace
        self._limits = limits
        self._random = random
        self._running: dict[asyncio.Task[None], Reflector] = {}
        self._kinds: dict[Kind, asyncio.Task[None]] = {}
        self._secrets: dict[Key, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] | None = None

    async def start(self) -> None:
        self._failed = asyncio.get_running_loop().create_future()
        for kind in sorted(ALWAYS_WATCHED):
            self._kinds[kind] = self._run(kind, None)

    @property
    def failed(self) -> asyncio.Future[None]:
        """Never completes while all is well. Exists once started."""
        assert self._failed is not None, "start() comes first"  # noqa: S101  # our own bug
        return self._failed

    def watch_secrets(self, names: frozenset[str]) -> None:
        """Watch these Secrets of the agent's namespace from now on, and no others."""
        wanted = {Key(Kind.SECRET, self._namespace, name) for name in names}
        for key in self._secrets.keys() - wanted:
            self._secrets.pop(key).cancel()
            self._put(Gone(key))
        for key in sorted(wanted - self._secrets.keys()):
            self._secrets[key] = self._run(Kind.SECRET, key)

    def watch_daemon_set(self, name: str) -> None:
        """Watch this one of the agent's namespace from now on."""
        self._kinds[Kind.DAEMON_SET] = self._run(Kind.DAEMON_SET, Key(Kind.DAEMON_SET, self._namespace, name))

    async def stop(self) -> None:
        tasks = [*self._kinds.values(), *self._secrets.values()]
        self._kinds.clear()
        self._secrets.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # all are cancelled; one that raised has said so before

    def _run(self, kind: Kind, only: Key | None) -> asyncio.Task[None]:
        reflector = Reflector(
            kind,
            self._transport,
            self._put,
            only=only,
            limits=self._limits,
            random=self._random,
            mended=self._mended,
        )
        task = asyncio.create_task(reflector.run(), name=f"watch {only or kind}")
        self._running[task] = reflector
        task.add_done_callback(self._ended)
        return task

    def _mended(self) -> None:
        """One works again. It hears of it, too, which changes nothing: nothing is wrong with it now."""
        for reflector in self._running.values():
            reflector.mended_elsewhere()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)
