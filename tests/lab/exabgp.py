"""A real ExaBGP on a machine of the lab, with the bridge and the agent's end of it, but without a speaker.

For tests of what ExaBGP does with our words: the test writes its configuration and its commands itself.
"""

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Self, TypeVar

from bgp.driver.link import Hello, Link
from bgp.driver.notes import write_private
from bgp.driver.process import CONFIGURATION, SOCKET, bridge_command
from bgp.exaconfig import configuration
from bgp.exaevents import CameUp, Heard
from bgp.model import Peer
from tests.lab.machines import Host
from tests.lab.procs import Process
from tests.lab.speaking import ROOT
from tests.lab.wait import eventually

Event = TypeVar("Event", bound=Heard)


class ExaBgp:
    """Use as an async context manager."""

    def __init__(self, host: Host, peers: Iterable[Peer], *, unchanged: bool = False, before: str = "") -> None:
        """`unchanged`: ExaBGP as it is, with our settings but without the launcher's replacements.

        `before`: Python that is run inside it before anything else, so that something happens at just one moment.
        """
        self.host = host
        self.run_dir = host.run_dir / "exabgp"
        self.run_dir.mkdir(exist_ok=True)
        self.events: list[Heard] = []
        self.answers: list[bool] = []
        self.hellos: list[Hello] = []
        self._launcher = ["-c", BEGIN + before + (UNCHANGED if unchanged else AS_WE_RUN_IT)]
        self.link = Link(
            self.run_dir / SOCKET,
            on_hello=self.hellos.append,
            on_event=self.events.append,
            on_answer=self.answers.append,
            on_pause=lambda: None,
            on_lost=lambda: None,
        )
        self.configure(peers)

    async def __aenter__(self) -> Self:
        await self.link.start()
        self.start()
        await eventually(lambda: self.link.connected)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.process.kill()
        await self.link.stop()

    def start(self) -> Process:
        command = [sys.executable, *self._launcher, self.run_dir / CONFIGURATION]
        self.process = self.host.start(command, log="exabgp", cwd=ROOT)
        return self.process

    def configure(self, peers: Iterable[Peer]) -> None:
        """The file only: a reload is another matter."""
        write_private(self.run_dir / CONFIGURATION, configuration(peers, bridge=bridge_command(self.run_dir)))

    def send(self, *lines: str) -> None:
        self.link.send(list(lines))

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    async def up(self, peer: Peer) -> None:
        await eventually(lambda: any(event.peer == peer.address for event in self.of(CameUp)))


BEGIN = """
import os, sys
from bgp.inside import launcher
os.environ.update(launcher.SETTINGS)
"""
UNCHANGED = """
from exabgp.application.main import main
sys.argv[:] = ["exabgp", "server", sys.argv[1]]
sys.exit(main())
"""
AS_WE_RUN_IT = """
sys.exit(launcher.main())
"""
