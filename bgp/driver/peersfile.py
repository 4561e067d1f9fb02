"""The peers that ExaBGP is to have, as its configuration file: what is in it, what the agent before us has left there,
and why it is not what was wanted.

It refuses to know ExaBGP's language (`bgp.exaconfig`), and to tell ExaBGP that there is something to read.

Invariant: nothing is put in place that ExaBGP's own `validate` has not passed.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path

from bgp import exaconfig, exafound
from bgp.background import in_turns
from bgp.driver import process
from bgp.driver.notes import write_private
from bgp.driver.validator import NoVerdictError, Validator
from bgp.model import Address, Peer, PeerRemoved


class PeersFile:
    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._validator = Validator()
        self._text = ""
        self._placed: tuple[int, int] | None = None
        self.peers: Mapping[Address, Peer] | None = None
        """Peers in it that there may be sessions with; None: it has not been written."""
        self.refused: str | None = None
        """Why it is not what was wanted last."""

    def start(self) -> None:
        """Be ready for the first `put`, which everybody waits for."""
        self._validator.warm_up()

    async def stop(self) -> None:
        await self._validator.stop()

    @property
    def lost(self) -> bool:
        """Somebody has deleted it, or put another in its place."""
        return bool(self._text) and self._placed != _identity(self._run_dir / process.CONFIGURATION)

    def forget(self) -> None:
        """Have the next `put` write it."""
        self._text = ""

    def nodes_before(self, wanted: Container[Address]) -> tuple[Peer, ...]:
        """Of these, the other nodes that are in the file before the first `put`."""
        try:
            text = (self._run_dir / process.CONFIGURATION).read_text()
        except (OSError, UnicodeDecodeError):  # no ExaBGP was ever started here, or nobody can know with what
            return ()
        return tuple(exafound.nodes(text, wanted))

    async def put(self, peers: Mapping[Address, Peer]) -> tuple[PeerRemoved, ...] | None:
        """Answers with the peers that are in it no more, or have become others; None: it is as it was.

        Raises OSError when it cannot be checked or written: worth another try, which a refusal is not.
        """
        sections = exaconfig.sections(peers.values(), bridge=process.bridge_command(self._run_dir))
        text = "\n".join([section async for section in in_turns(sections)])
        if text == self._text and not self.lost:
            self.refused = None
            return None
        try:
            self.refused = await self._put(text)
        except NoVerdictError as error:
            self.refused = f"cannot check the configuration: {error}"
            raise
        except OSError as error:
            self.refused = f"cannot write the configuration: {error}"
            raise
        if self.refused is not None:
            return None
        before, self.peers = self.peers or {}, {one.address: one for one in peers.values() if one.held is None}
        self._text = text
        judged = [found async for found in in_turns(map(self._removed, before.values()))]
        return tuple(found for found in judged if found is not None)

    async def _put(self, text: str) -> str | None:
        """Put the text in place if ExaBGP would take it; otherwise why not, and the file stays as it was."""
        candidate = self._run_dir / f"{process.CONFIGURATION}.new"
        write_private(candidate, text)
        try:
            why = await self._validator.complaint(candidate)
            if why is None:
                placed = _identity(candidate)
                candidate.replace(self._run_dir / process.CONFIGURATION)
                self._placed = placed
        finally:
            candidate.unlink(missing_ok=True)
        return why

    def _removed(self, peer: Peer) -> PeerRemoved | None:
        """None: it still is what it was."""
        now = (self.peers or {}).get(peer.address)
        if now is not None and exaconfig.identity(now) == exaconfig.identity(peer):
            return None
        return PeerRemoved(peer.address, replaced=now is not None and not _is_elsewhere(peer, now))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_elsewhere(peer: Peer, now: Peer) -> bool:
    """A router that is said to be in another AS than before: what it has told is not believed until it tells it again.

    Nodes change their AS on purpose, and forward on.
    """
    return not peer.mesh and None not in (peer.peer_asn, now.peer_asn) and peer.peer_asn != now.peer_asn
