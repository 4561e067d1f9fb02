"""A real agent with two routers: FRR, an ordinary one, and a peer that says byte by byte what it likes.

All that could be allowed is allowed, so that the import rules of the BGPPeer hide nothing. The node's kernel is what a
test compares; whether anybody else was harmed, `Scene.unharmed` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.lab.hostile import ASN, Builder, HostilePeer
from tests.lab.minicluster import LAB_HOLD_SECONDS, MiniCluster, custom, tor, tor_peer
from tests.lab.netns import Family
from tests.lab.topology import Lab
from tests.lab.wait import eventually, wait_until

ANYTHING = {"allowed": [{"prefix": "0.0.0.0/0", "ge": 0, "le": 32}, {"prefix": "::/0", "ge": 0, "le": 128}]}
INSTANCE = custom("BGPInstance", "default", {"mesh": {"holdSeconds": LAB_HOLD_SECONDS}})
BESIDE = "192.0.2.0/24"
"""FRR's own route, which stays whatever the other one does."""
MARK, MARK_NLRI = "203.0.113.255/32", bytes.fromhex("20cb0071ff")
RESTLESS = 1
"""Seconds to the next dial, however often the session has ended."""
HOLD_SECONDS = 90
"""The peer lives in the test's own thread, and says nothing while that asks others: for seconds on a busy machine."""


class Scene:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node, self.router, self.hostile = lab.node(1), *lab.routers
        self.build = Builder(self.hostile)
        self.cluster = MiniCluster(lab)
        more = {"import": ANYTHING}
        self.cluster.api.apply(INSTANCE, tor_peer(self.router, **more))
        self.cluster.api.apply(
            tor_peer(
                self.hostile,
                name="hostile",
                **{**more, "asn": ASN, "connectRetrySeconds": RESTLESS, "holdSeconds": HOLD_SECONDS},
            )
        )
        self.frr = tor(self.router)
        self.cluster.start()
        self.agent = self.cluster.agent(self.node)
        wait_until(lambda: len(self.frr.established()) == 1, within=60)
        self.frr.announce(BESIDE)
        wait_until(lambda: BESIDE in self.learned("ipv4"))
        self.processes = self.pids()

    @property
    def peer(self) -> str:
        return str(self.hostile.address())

    def learned(self, family: Family) -> Mapping[str, list[str]]:
        return self.cluster.learned(self.node, family)

    def pids(self) -> tuple[int, int]:
        """The agent's, and its ExaBGP's."""
        (exabgp,) = (
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and _is_exabgp(entry, str(self.agent.run_dir))
        )
        return self.agent.process.pid, exabgp

    def unharmed(self) -> bool:
        assert self.agent.process.alive
        assert self.pids() == self.processes
        assert self.frr.times_established(str(self.node.address())) == 1
        assert self.agent.ask("status")["phase"] == "IN_SYNC"
        return True

    def kernel(self) -> dict[str, list[str]]:
        """All that was learned, but FRR's route and the mark."""
        found = {**self.learned("ipv4"), **self.learned("ipv6")}
        assert found.pop(BESIDE) == [str(self.router.address())]
        found.pop(MARK, None)
        return found

    def reasons(self, subject: str) -> set[str]:
        return {hop["reason"] for hop in self.agent.ask("explain", subject)["hops"] if not hop["ok"]}

    def problem(self) -> str:
        """What is said of the peer for an UPDATE that was treated as a withdrawal."""
        problems = self.agent.ask("status")["problems"]
        return next((one["message"] for one in problems if one["reason"] == "malformedUpdate"), "")


@dataclass
class Attack:
    """The session with the hostile peer."""

    scene: Scene
    wire: HostilePeer

    async def up(self) -> None:
        """There is a session, and it has begun with nothing."""
        await eventually(lambda: self.wire.session.open and not self.wire.session.ended, within=60)
        await self.settled()

    async def settled(self) -> None:
        """All that was sent before has been judged: what is sent last is in the kernel, and then not any more."""
        self.wire.update(self.scene.build.announce(MARK_NLRI))
        await eventually(lambda: MARK in self.scene.learned("ipv4"))
        self.wire.withdraw([MARK])
        await eventually(lambda: MARK not in self.scene.learned("ipv4"))

    async def restart(self) -> None:
        session = self.wire.session
        session.writer.close()
        await eventually(lambda: self.wire.session is not session, within=60)
        await self.up()


def _is_exabgp(entry: Path, run_dir: str) -> bool:
    try:
        words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return "bgp.inside.launcher" in words and any(word.startswith(run_dir) for word in words)
