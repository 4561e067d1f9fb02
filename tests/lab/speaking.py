"""A `Speaker` in this process whose ExaBGP runs on a machine of the lab, and what is needed to ask about both.

The agent's side stays in the test's own namespace: unix sockets know no network namespaces. As a child ExaBGP inherits
the namespace of the thread that starts it, which for that reason is the node's while the speaker runs.
"""

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from bgp.model import (
    Address,
    Attributes,
    BgpEvent,
    Family,
    Peer,
    Route,
    RouteKey,
    SessionState,
    SpeakerPlan,
)
from bgp.speaker import AUDIT_SECONDS, Speaker, SpeakerMode
from tests.lab.machines import Host
from tests.lab.netns import Namespace
from tests.lab.procs import Process
from tests.lab.wait import eventually

ROOT = Path(__file__).resolve().parents[2]
NODE_ASN = 64512
PATIENCE_SECONDS = 30.0
EXTERNAL = """
import asyncio, pathlib, sys
from bgp.driver.beside import run_external
asyncio.run(run_external(pathlib.Path(sys.argv[1]), asyncio.Event()))
"""


Event = TypeVar("Event")


class Speaking:
    """Use as an async context manager. Every change of `peers` and `routes` is told by `apply`."""

    def __init__(
        self, node: Host, *, mode: SpeakerMode = SpeakerMode.CHILD, audit_seconds: float = AUDIT_SECONDS
    ) -> None:
        self.node = node
        self.run_dir = node.run_dir / "bgpilot"
        self.events: list[BgpEvent] = []
        self.peers: dict[Address, Peer] = {}
        self.routes: dict[RouteKey, Route] = {}
        self.woken = 0
        self._mode = mode
        self._audit_seconds = audit_seconds
        self._stack = contextlib.ExitStack()
        self.speaker = self._new()

    def _new(self) -> Speaker:
        return Speaker(
            run_dir=self.run_dir,
            mode=self._mode,
            put=self.events.append,
            wake=self._wake,
            clock=time.monotonic,
            audit_seconds=self._audit_seconds,
        )

    def _wake(self) -> None:
        self.woken += 1

    async def __aenter__(self) -> Self:
        if self._mode is SpeakerMode.CHILD:
            self._stack.enter_context(entered(self.node))
        await self.speaker.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with self._stack:  # whatever happens: the next test must not begin in this one's namespace
            await self.speaker.stop()

    async def restart_agent(self) -> None:
        """The agent ends and a new one starts with nothing but the run directory."""
        await self.speaker.stop()
        self.events.clear()
        self.speaker = self._new()
        await self.speaker.start()

    async def apply(
        self,
        *,
        dirty: Iterable[RouteKey] | None = None,
        hold_back: Callable[[RouteKey], bool] = lambda _key: False,
        peers_changed: bool = True,
    ) -> None:
        plan = SpeakerPlan(self.peers, self.routes)
        await self.speaker.apply(plan, peers_changed=peers_changed, dirty=dirty, hold_back=hold_back)

    async def tell(self, *, within: float = PATIENCE_SECONDS) -> None:
        """Apply, and wait until ExaBGP has all of it."""
        await self.apply()
        await eventually(lambda: self.speaker.in_sync, within=within)

    def add_peer(self, added: Peer) -> Peer:
        self.peers[added.address] = added
        return added

    def add_route(self, told: Peer, added: Route) -> RouteKey:
        key = RouteKey(told.address, added.prefix)
        self.routes[key] = added
        return key

    def heard(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    async def established(self, *peers: Peer, within: float = PATIENCE_SECONDS) -> None:
        await eventually(
            lambda: all(self.state(peer) is SessionState.ESTABLISHED for peer in peers),
            within=within,
        )

    def state(self, peer: Peer) -> SessionState:
        return self.speaker.states[peer.address].state

    def exabgp_pid(self) -> int:
        """The one ExaBGP that uses this run directory."""
        commands = {int(path.name): _command(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
        wanted = str(self.run_dir / "exabgp.conf")
        (pid,) = [pid for pid, words in commands.items() if "bgp.inside.launcher" in words and words[-1] == wanted]
        return pid


class Meshed:
    """Two speakers whose nodes peer with each other; the first dials. Use as an async context manager."""

    def __init__(self, one: Host, other: Host, **more: object) -> None:
        start_external(one)
        start_external(other)
        self.first = Speaking(one, mode=SpeakerMode.EXTERNAL)
        self.second = Speaking(other, mode=SpeakerMode.EXTERNAL)
        self.first.add_peer(peer(one, other.address(), asn=NODE_ASN, mesh=True, **more))
        self.second.add_peer(peer(other, one.address(), asn=NODE_ASN, mesh=True, passive=True, **more))

    async def __aenter__(self) -> tuple[Speaking, Speaking]:
        for speaking in (self.first, self.second):
            await speaking.__aenter__()
            await speaking.apply()
        return self.first, self.second

    async def __aexit__(self, *_: object) -> None:
        for speaking in (self.first, self.second):
            await speaking.speaker.stop()


def peer(
    host: Host,
    remote: Address,
    *,
    asn: int | None,
    families: Iterable[Family] = Family,
    hold_seconds: int = 9,
    **more: object,
) -> Peer:
    """A session of the host with `remote`, from the host's address of the same family."""
    family = "ipv4" if remote.version == 4 else "ipv6"
    wanted: Mapping[str, object] = {"local_asn": NODE_ASN, "name": f"test/{remote}", **more}
    return Peer(
        address=remote,
        local_address=host.address(family),
        peer_asn=asn,
        router_id=IPv4Address(f"192.0.2.{host.number}"),
        families=frozenset(families),
        hold_seconds=hold_seconds,
        **wanted,  # type: ignore[arg-type]  # what a test names are fields of Peer
    )


def route(prefix: str, next_hop: Address | str, **attributes: object) -> Route:
    """Announced by an eBGP speaker of NODE_ASN unless the attributes say otherwise."""
    wanted: Mapping[str, object] = {"as_path": (NODE_ASN,), **attributes}
    return Route(ip_network(prefix), ip_address(str(next_hop)), Attributes(**wanted))  # type: ignore[arg-type]  # fields


def start_external(node: Host) -> Process:
    """What `bgpilot speaker` runs."""
    return node.start([sys.executable, "-c", EXTERNAL, node.run_dir / "bgpilot"], log="speaker", cwd=ROOT)


@contextlib.contextmanager
def entered(namespace: Namespace) -> Iterator[None]:
    """This thread, and what it starts, lives in the namespace meanwhile (setns(2); Python 3.11 does not have it)."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(libc, there)
        yield
    finally:
        _setns(libc, home)
        os.close(there)
        os.close(home)


def _setns(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _command(entry: Path) -> list[str]:
    try:
        return (entry / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []
