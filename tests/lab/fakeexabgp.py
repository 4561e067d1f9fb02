"""An ExaBGP that is only its API: the far end of the speaker's socket, for tests that need neither root nor a network.

It keeps a table per neighbor of the configuration file as of the last reload, answers in the order asked, and can lose
answers, refuse routes, go away and come back as itself or as another. A command for a neighbor that it does
not have is a `fault`.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bgp.driver.process import CONFIGURATION, SOCKET
from bgp.inside.addressees import BETWEEN

BOTH_FAMILIES = ("ipv4/unicast", "ipv6/unicast")
NEIGHBOR = re.compile(
    r"^neighbor (?P<address>\S+) \{\n\s+router-id (?P<id>\S+);\n\s+local-address (?P<local>\S+);\n"
    r"\s+local-as (?P<local_as>\d+);\n\s+peer-as (?P<peer_as>\d+);",
    re.MULTILINE,
)
COMMAND = re.compile(
    r"^(neighbor (\S+) local-ip .* router-id \S+) (announce|withdraw) (route|eor|route-refresh) (\S+)(.*)$"
)


class FakeExaBgp:
    """One process after the other; `connect()` is its bridge."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._generation = 0
        self.refusing: set[str] = set()
        self.reads_late = False
        """A reload is answered, and its file read when the next command comes: it has to wait for a processor."""
        self.read: list[list[str]] = []
        """The peers in the file, each time that it was read."""
        self._reload_due = False
        self.hides_table = False
        """Answer `error` when asked for the table."""
        self.mute_after: int | None = None
        """Carry out commands, but answer only so many more."""
        self.faults: list[str] = []
        self.heard: list[str] = []
        """Commands; how often it was asked for a sign of life is `asked`."""
        self.asked = 0
        self.markers: list[str] = []
        self.refreshed: list[str] = []
        self.eager = ""
        """A peer whose session is up as soon as it is configured: the news stands right behind the reload's answer."""
        self.last_words = ""
        """A peer whose session is told to be over right behind the reload's answer."""
        self.after_reload: Callable[[], None] | None = None
        """When the next reload has been answered the bridge goes away, this is done, and a bridge comes."""
        self.up: dict[str, list[str]] = {}
        self.past: dict[str, dict[str, object]] = {}
        """What the bridge has kept of peers besides the session that is up, as it stands in its hello."""
        self.new_process()

    def new_process(self) -> None:
        self._generation += 1
        self._bridge = 0
        self.table: dict[str, dict[str, str]] = {}
        self.up = {}
        self._pending = 0

    def new_bridge(self) -> None:
        """The next to connect knows nothing of what came before; `up` may be changed in between, unheard."""
        self._bridge += 1

    async def connect(self, *, dropped: int = 0) -> None:
        self._reader, self._writer = await asyncio.open_unix_connection(self._run_dir / SOCKET)
        hello = {
            "instance": f"fake:{self._generation}",
            "bridge": f"bridge:{self._generation}.{self._bridge}",
            "dropped": dropped,
            "pending": self._pending,
            "peers": {} if self._bridge else self._kept(),
        }
        self.say(json.dumps(hello))
        self._task = asyncio.create_task(self._serve())

    def _kept(self) -> dict[str, dict[str, object]]:
        return {
            peer: {"lines": self.up.get(peer, []), "told": [], **self.past.get(peer, {})}
            for peer in {**self.up, **self.past}
        }

    async def disconnect(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\n" for line in lines).encode())

    def comes_up(
        self, peer: str, families: Sequence[str] = BOTH_FAMILIES, *, offered: Sequence[str] = BOTH_FAMILIES
    ) -> None:
        """`families` are those that the peer offers, `offered` what ExaBGP does."""
        said = {"address": {"local": "192.0.2.9", "peer": peer}}
        sent, received = _open(offered), _open(families)
        lines = [
            {"type": "open", "time": 1, "neighbor": {**said, "direction": "send", "open": sent}},
            {"type": "open", "time": 1, "neighbor": {**said, "direction": "receive", "open": received}},
            {"type": "state", "time": f"{self._generation}.{len(self.heard)}", "neighbor": {**said, "state": "up"}},
        ]
        self.up[peer] = [json.dumps(line) for line in lines]
        if not self._writer.is_closing():
            self.say(*self.up[peer])

    def goes_down(self, peer: str) -> None:
        said = {"address": {"local": "192.0.2.9", "peer": peer}, "state": "down", "reason": "stop, message [removed]"}
        self.up.pop(peer, None)
        self.say(json.dumps({"type": "state", "time": 1, "neighbor": said}))

    def routes(self, peer: str) -> dict[str, str]:
        """Prefix → the words it was told with."""
        return self.routes_of(peer) or {}

    def routes_of(self, peer: str) -> dict[str, str] | None:
        """The same; None when it is not configured."""
        return next((table for words, table in self.table.items() if words.startswith(f"neighbor {peer} ")), None)

    async def _serve(self) -> None:
        while line := (await self._reader.readline()).decode().rstrip("\n"):
            if self._reload_due:
                self._reload()
            if line == "version":
                self.asked += 1
            else:
                self.heard.append(line)
            self._answer(self._carry_out(line))
            if line == "reload" and self.routes_of(self.eager) is not None:
                self.comes_up(self.eager)
            if line == "reload" and self.last_words:
                self.goes_down(self.last_words)
            if line == "reload" and (then := self.after_reload) is not None:
                self.after_reload = None
                self._writer.close()
                then()
                await self.connect()
                return

    def _answer(self, ok: bool) -> None:
        if self.mute_after == 0:
            return
        if self.mute_after is not None:
            self.mute_after -= 1
        self.say("done" if ok else "error")

    def _carry_out(self, line: str) -> bool:
        if line == "reload":
            self._reload_due = True
            if not self.reads_late:
                self._reload()
            return True
        if line.startswith("show adj-rib out"):
            if self.hides_table:
                return False
            self.say(
                *(
                    f"{words} family-allowed in-open {said}"
                    for words, table in self.table.items()
                    for said in table.values()
                )
            )
            return True
        if line == "version":
            return True
        if line == "show neighbor summary":
            peers = [words.split()[1] for words in self.table]
            self.say(
                "Peer            AS        up/down state       |     #sent     #recvd",
                *(
                    f"{peer} 65001 {'1:00:00 established' if peer in self.up else 'down idle'} 0 0"
                    for peer in dict.fromkeys([*peers, *self.up])
                ),
            )
            return True
        *others, last = line.split(BETWEEN)
        if (found := COMMAND.match(last)) is None or any(words not in self.table for words in (*others, found[1])):
            self.faults.append(line)
            return False
        last, _, verb, what, subject, rest = found.groups()
        done = [self._command(words, words.split()[1], f"{verb} {what}", subject, rest) for words in (*others, last)]
        return all(done)

    def _command(self, words: str, peer: str, verb: str, subject: str, rest: str) -> bool:
        match verb:
            case "announce route" if subject in self.refusing:
                return False
            case "announce route":
                family = "ipv6" if ":" in subject else "ipv4"
                # ExaBGP reads an AS path out with the brackets of sets and sequences exchanged.
                said = rest.replace("as-path [", "as-path (", 1).replace("]", ")", 1)
                self.table[words][subject] = f"{family} unicast {subject}{said}"
            case "withdraw route":
                self.table[words].pop(subject, None)
            case "announce eor":
                self.markers.append(f"{peer} {subject}")
            case "announce route-refresh":
                self.refreshed.append(f"{peer} {subject}")
        return True

    def _reload(self) -> None:
        self._reload_due = False
        text = (self._run_dir / CONFIGURATION).read_text()
        wanted = [
            f"neighbor {found['address']} local-ip {found['local']} local-as {found['local_as']} "
            f"peer-as {found['peer_as']} router-id {found['id']}"
            for found in NEIGHBOR.finditer(text)
        ]
        self.table = {words: self.table.get(words, {}) for words in wanted}
        self.read.append([words.split()[1] for words in wanted])


def _open(families: Sequence[str]) -> dict[str, object]:
    capabilities = {
        "1": {"name": "multiprotocol", "families": list(families)},
        "2": {"name": "route-refresh", "variant": "RFC"},
    }
    return {"asn": 65001, "hold_time": 90, "router_id": "192.0.2.1", "capabilities": capabilities}
