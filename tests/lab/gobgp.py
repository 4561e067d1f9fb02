"""GoBGP in a namespace of the lab: a third kind of real router, told by its configuration, asked through its command.

It is a speaker with a table and no more: it installs nothing into the kernel, so it is never on the way of a packet.
Built from its Go module (`tests.lab.gobuild`), because no distribution of ours carries it. Seen with GoBGP 4.8.0: it
reads its configuration again on SIGHUP, and resets only the neighbors that have changed; a neighbor that is not
passive dials after 10 s at the earliest, which is what all sessions of the lab's passive neighbors are spared.
"""

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab.addresses import family_of
from tests.lab.gobuild import binary
from tests.lab.neighbor import DIAL_SECONDS, Neighbor
from tests.lab.netns import Family, Namespace
from tests.lab.wait import wait_until

START_SECONDS = 30.0
API = "127.0.0.1:50051"
STATES: Mapping[int, str] = dict(
    enumerate(("Unknown", "Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"))
)


class GoBgp:
    """A running GoBGP; `stop()` it, or leave it to the lab's end."""

    def __init__(
        self,
        namespace: Namespace,
        *,
        asn: int,
        router_id: str,
        neighbors: Sequence[Neighbor] = (),
        announce: Sequence[str] = (),
    ) -> None:
        """`announce` are prefixes that it originates."""
        self.namespace = namespace
        self.asn = asn
        self.router_id = router_id
        self.peers = {neighbor.address: neighbor for neighbor in neighbors}
        self.directory = namespace.run_dir / "gobgp"
        self.directory.mkdir(exist_ok=True)
        self._config = self.directory / "gobgpd.toml"
        self._config.write_text(self.config())
        self._originated = list(announce)
        self._start()

    def _start(self) -> None:
        flags: list[str | Path] = ["-f", self._config, "--api-hosts", API, "--pprof-disable", "--log-plain"]
        self.process = self.namespace.start([binary("gobgpd"), *flags])
        wait_until(self._answers, within=START_SECONDS)
        self.announce(*self._originated)

    def restart(self) -> None:
        """With the peers of now. GoBGP 4.8.0 keeps the password of a removed peer on its listening socket, and drops
        what that peer's successor sends without one."""
        self.process.stop()
        self._config.write_text(self.config())
        self._start()

    def gobgp(self, *words: str) -> str:
        return self.namespace.run([binary("gobgp"), *words]).stdout

    def show_json(self, *words: str) -> Any:
        return json.loads(self.gobgp(*words, "-j"))

    def configure(self) -> None:
        """Loads what `peers` are now."""
        self._config.write_text(self.config())
        self.process.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: self._known() == {it for it in self.peers if "/" not in it}, within=START_SECONDS)

    def add_neighbor(self, neighbor: Neighbor) -> None:
        self.peers[neighbor.address] = neighbor
        self.configure()

    def remove_neighbor(self, neighbor: Neighbor) -> None:
        del self.peers[neighbor.address]
        self.configure()

    def announce(self, *prefixes: str) -> None:
        for prefix in prefixes:
            self.gobgp("global", "rib", "add", "-a", family_of(prefix.partition("/")[0]), prefix)

    def withdraw(self, *prefixes: str) -> None:
        for prefix in prefixes:
            self.gobgp("global", "rib", "del", "-a", family_of(prefix.partition("/")[0]), prefix)

    def neighbors(self) -> Mapping[str, str]:
        """Peer address → RFC 4271 state word."""
        return {one["state"]["neighbor_address"]: STATES[one["state"].get("session_state", 0)] for one in self._show()}

    def established(self) -> list[str]:
        return sorted(address for address, state in self.neighbors().items() if state == "Established")

    def routes(self, family: Family) -> Mapping[str, list[str]]:
        """Prefix → next hops of its paths; its own prefixes have none."""
        found: dict[str, list[str]] = {}
        for prefix, paths in self.show_json("global", "rib", "-a", family).items():
            hops = {attribute["nexthop"] for path in paths for attribute in path["attrs"] if "nexthop" in attribute}
            found[prefix] = sorted(hops - {"0.0.0.0", "::"})
        return found

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def config(self) -> str:
        return "\n".join(self._config_lines()) + "\n"

    def _config_lines(self) -> Iterator[str]:
        yield "[global.config]"
        yield f'as = {self.asn}\nrouter-id = "{self.router_id}"'
        for neighbor in self.peers.values():
            yield from _session(neighbor)

    def _answers(self) -> bool:
        self.process.require_alive()
        return bool(self.gobgp("global"))

    def _known(self) -> set[str]:
        return {one["conf"]["neighbor_address"] for one in self._show() if "conf" in one}

    def _show(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] | None = self.show_json("neighbor")
        return found or []


def _session(neighbor: Neighbor) -> Iterator[str]:
    """A range is a peer group of dynamic neighbors. `extra` are lines in TOML, each with the table it is in."""
    name, keyed = neighbor.address, "neighbors"
    if neighbor.is_range:
        keyed, name = "peer-groups", f"range-{neighbor.address}"
        yield f'[[dynamic-neighbors]]\n[dynamic-neighbors.config]\nprefix = "{neighbor.address}"\npeer-group = "{name}"'
    yield f"[[{keyed}]]\n[{keyed}.config]"
    yield f'peer-group-name = "{name}"' if neighbor.is_range else f'neighbor-address = "{name}"'
    yield f"peer-as = {neighbor.asn}"
    if neighbor.password:
        yield f'auth-password = "{neighbor.password}"'
    yield f"[{keyed}.timers.config]"
    yield f"hold-time = {neighbor.hold_seconds}\nkeepalive-interval = {max(1, neighbor.hold_seconds // 3)}"
    yield f"connect-retry = {DIAL_SECONDS}\nidle-hold-time-after-reset = {DIAL_SECONDS}"
    yield f"[{keyed}.transport.config]\npassive-mode = {str(neighbor.passive or neighbor.is_range).lower()}"
    yield from neighbor.extra
    for family in neighbor.families:
        yield f'[[{keyed}.afi-safis]]\n[{keyed}.afi-safis.config]\nafi-safi-name = "{family}-unicast"'
