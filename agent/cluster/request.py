"""The requests that a watch makes of the API server, as values.

It refuses to know when which one is due: `agent.cluster.listwatch` does.
"""

from __future__ import annotations

import enum
from random import Random
from typing import NamedTuple

from agent.cluster.health import Limits
from agent.model import Key


class Mode(enum.Enum):
    WATCH_LIST = "watch list"
    """A watch that begins with every object and marks their end."""
    LIST = "list"
    """Every object, from the API server's cache and in one piece (it does not cut lists at resourceVersion=0)."""
    PROBE = "probe"
    """A list of one object, for the revision that the store is at, and for what it has of that object."""
    WATCH = "watch"


class Request(NamedTuple):
    mode: Mode
    only: Key | None
    """The one object to ask for; None: all of the kind."""
    query: tuple[tuple[str, str], ...]
    answer_seconds: float
    """How long to wait for the answer's header."""


class Pause(NamedTuple):
    until: float


def make_request(mode: Mode, revision: str, only: Key | None, limits: Limits, random: Random) -> Request:
    """`revision` is where a WATCH goes on; the others do not look at it."""
    query = (("fieldSelector", f"metadata.name={only.name}"),) if only else ()
    seconds = str(random.randint(limits.watch_least_seconds, limits.watch_most_seconds))
    stream = (*query, ("watch", "1"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", seconds))
    match mode:
        case Mode.LIST:
            return Request(mode, only, (*query, ("resourceVersion", "0")), limits.sync_silence_seconds)
        case Mode.PROBE:
            return Request(mode, only, (*query, ("limit", "1")), limits.probe_seconds)
        case Mode.WATCH_LIST:
            initial = (("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan"))
            return Request(mode, only, (*stream, *initial), limits.sync_silence_seconds)
        case Mode.WATCH:
            return Request(mode, only, (*stream, ("resourceVersion", revision)), limits.connect_seconds)
