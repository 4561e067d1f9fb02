"""Which name was meant by one that nobody has: that of somebody in other letters, or a Service's in another namespace.

Kubernetes has no capital letters in names: no two differ by those alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from agent.model import Kind
from agent.status.status import Status


def peer_meant(status: Status, name: str) -> str | None:
    """`tor-a`, `BGPPeer/tor-a`, `node/worker-2`."""
    return _alike(name, _peers(status))


def meant(status: Status, subject: str) -> str | None:
    """A peer, a Node or a Service, as `explain` takes it."""
    nodes = (form for key in status.nodes for form in (key.name, f"{Kind.NODE} {key.name}"))
    return _alike(subject, chain(_peers(status), nodes)) or _service(status, subject)


def did_you_mean(name: str | None, otherwise: str) -> str:
    return otherwise if name is None else f"did you mean {name}?"


def _peers(status: Status) -> Iterator[str]:
    """With the BGPPeers of which no session comes here."""
    for peer in status.sessions():
        yield from (peer.name.rpartition("/")[2], peer.name)
    for key in status.routers:
        yield from (key.name, f"{Kind.PEER}/{key.name}", str(key))


def _alike(name: str, names: Iterable[str]) -> str | None:
    return next((it for it in names if it.lower() == name.lower()), None)


def _service(status: Status, subject: str) -> str | None:
    """The one that has this name, in the namespace that is given or else in whichever."""
    wanted = subject.lower().removeprefix("service ")
    there = [f"{key.namespace}/{key.name}" for key in status.services if key.name == wanted.rpartition("/")[2]]
    return wanted if wanted in there else there[0] if len(there) == 1 else None
