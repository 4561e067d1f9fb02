"""What the kernels of some machines are told to change of their routes and rules, from now on until `stop`."""

from __future__ import annotations

import time
from collections.abc import Iterable

from tests.lab.topology import Host
from tests.lab.wait import wait_until

MARK = "192.0.2.1"
"""A route to this shows that all that was changed before it has been written down."""

NO_CHANGE = "Error: Peer netns reference is invalid."
"""Seen in between with iproute2 6.1 on a busy machine: a complaint of `ip`, no route or rule."""


class Writes:
    def __init__(self, machines: Iterable[Host]) -> None:
        self._monitors = {
            machine: machine.start(["ip", "monitor", "route", "rule"], log=f"writes-{time.monotonic_ns()}")
            for machine in machines
        }
        wait_until(lambda: all(self._shows(machine) for machine in self._monitors))

    def stop(self) -> dict[str, list[str]]:
        """By machine, the lines of `ip monitor`; machines without any are left out."""
        wait_until(lambda: all(self._shows(machine) for machine in self._monitors))
        for monitor in self._monitors.values():
            monitor.stop()
        told = {machine.name: monitor.output().splitlines() for machine, monitor in self._monitors.items()}
        return {
            name: found
            for name, lines in told.items()
            if (found := [line for line in lines if MARK not in line and line != NO_CHANGE])
        }

    def _shows(self, machine: Host) -> bool:
        """A change that was made just now, and with it all before."""
        before = self._monitors[machine].output().count("Deleted " + MARK)
        for verb in ("add", "del"):
            machine.ip("route", verb, MARK, "dev", "lo", "proto", "static")
        return self._monitors[machine].output().count("Deleted " + MARK) > before
