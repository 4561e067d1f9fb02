"""A probe: a numbered UDP packet every 10 ms from a namespace to an echo server elsewhere, and what was lost.

It does not say why a packet was lost; an unreachable network counts as lost like any other.
"""

import json
import sys
import time
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Self

from tests.lab import sender
from tests.lab.netns import Namespace
from tests.lab.pods import ECHO_PORT
from tests.lab.wait import wait_until

READY_SECONDS = 30.0
STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """`longest_gap_ms` is from the first lost packet's time to the next answered one's (or to the end), at worst."""

    sent: int
    lost: int
    longest_gap_ms: float


class Probe:
    """Counts from the first answer, for which construction waits, to `stop()`.

    `pods.serve_echo` must run at the target. `flows` source ports take turns, so that ECMP uses more than one path.
    """

    def __init__(
        self, source: Namespace, target: IPv4Address | IPv6Address, *, flows: int = 1, port: int = ECHO_PORT
    ) -> None:
        log = f"probe-{time.monotonic_ns()}"
        script = [sys.executable, "-I", "-S", sender.__file__, str(target), str(port), str(flows)]
        self._process = source.start(script, log=log)
        wait_until(self._answered, within=READY_SECONDS, every=0.01)

    def stop(self) -> ProbeResult:
        self._process.terminate()
        self._process.wait(within=STOP_SECONDS)
        return ProbeResult(**json.loads(self._process.output().splitlines()[-1]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.alive:
            self._process.kill()

    def _answered(self) -> bool:
        self._process.require_alive()
        return sender.ANSWERED in self._process.output()
