"""BIRD in a namespace of the lab: a second kind of real router, asked through birdc and told by its configuration.

The configuration is always generated from the whole plan and loaded with `birdc configure`, which leaves protocols
that did not change alone. It installs what it learns into the kernel with merged paths (ECMP), and announces only
what it originates or learned by BGP. Seen with BIRD 2.0.12.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from tests.lab.addresses import family_of
from tests.lab.neighbor import DIAL_SECONDS, Neighbor
from tests.lab.netns import Family, Namespace
from tests.lab.procs import CommandFailedError
from tests.lab.wait import wait_until

MAXIMUM_PATHS = 64
START_SECONDS = 30.0
TABLE: Mapping[Family, str] = {"ipv4": "4", "ipv6": "6"}
PREFIX = re.compile(r"^(\S+/\d+)?\s+(?:unicast|blackhole|unreachable|prohibit)\s+\[")
NEXT_HOP = re.compile(r"^\s+via (\S+) on ")
NEIGHBOR = re.compile(r"^\s+Neighbor address:\s+(\S+?)(?:%\S+)?$")
RECEIVED = re.compile(r"^\s+Import (?:updates|withdraws):\s+(\d+)")
BGP_STATE = re.compile(r"^\s+BGP state:\s+(\S+)$")


class Bird:
    """A running BIRD; `stop()` it, or leave it to the lab's end."""

    def __init__(
        self,
        namespace: Namespace,
        *,
        asn: int,
        router_id: str,
        neighbors: Sequence[Neighbor] = (),
        announce: Sequence[str] = (),
        lines: Sequence[str] = (),
    ) -> None:
        """`announce` are prefixes that it originates; `lines` are put before the sessions, as they are."""
        self.namespace = namespace
        self.asn = asn
        self.router_id = router_id
        self.peers = {neighbor.address: neighbor for neighbor in neighbors}
        self.originated = list(announce)
        self.lines = tuple(lines)
        self.directory = namespace.run_dir / "bird"
        self.directory.mkdir(exist_ok=True)
        self._control = self.directory / "bird.ctl"
        self._config = self.directory / "bird.conf"
        self._start()

    def _start(self) -> None:
        self._config.write_text(self.config())
        self.process = self.namespace.start(["bird", "-f", "-c", self._config, "-s", self._control])
        wait_until(self._answers, within=START_SECONDS)

    def restart(self) -> None:
        """With the peers of now; what was disabled by hand is no more."""
        self.process.stop()
        self._start()

    def birdc(self, command: str) -> str:
        return self.namespace.run(["birdc", "-s", self._control, *command.split()]).stdout

    def configure(self) -> None:
        """Loads what `peers`, `originated` and `lines` are now."""
        self._config.write_text(self.config())
        answer = self.birdc("configure")
        if "Reconfigured" not in answer and "Reconfiguration in progress" not in answer:
            raise CommandFailedError(f"birdc configure: {answer}\n{self.config()}")

    def add_neighbor(self, neighbor: Neighbor) -> None:
        self.peers[neighbor.address] = neighbor
        self.configure()

    def remove_neighbor(self, neighbor: Neighbor) -> None:
        del self.peers[neighbor.address]
        self.configure()

    def announce(self, *prefixes: str) -> None:
        self.originated += prefixes
        self.configure()

    def withdraw(self, *prefixes: str) -> None:
        self.originated = [prefix for prefix in self.originated if prefix not in prefixes]
        self.configure()

    def neighbors(self) -> Mapping[str, str]:
        """Peer address → RFC 4271 state word; sessions out of a range show once they are there."""
        found: dict[str, str] = {}
        state = ""
        for line in self.birdc("show protocols all").splitlines():
            if match := BGP_STATE.match(line):
                state = match[1]
            elif match := NEIGHBOR.match(line):
                found[match[1]] = state
        return found

    def established(self) -> list[str]:
        return sorted(address for address, state in self.neighbors().items() if state == "Established")

    def routes(self, family: Family) -> Mapping[str, list[str]]:
        """Prefix → next hops as BIRD exports them to the kernel, equally good paths merged; only learned ones."""
        found: dict[str, list[str]] = {}
        prefix = ""
        for line in self.birdc(f"show route export kernel{TABLE[family]}").splitlines():
            if match := PREFIX.match(line):
                prefix = match[1] or prefix
                found.setdefault(prefix, [])
            elif match := NEXT_HOP.match(line):
                found[prefix].append(match[1])
        return {prefix: sorted(hops) for prefix, hops in found.items()}

    def route_text(self, prefix: str) -> str:
        """Every path of a prefix with its attributes, as BIRD prints it."""
        return self.birdc(f"show route {prefix} all")

    def changes_heard(self) -> int:
        """How many prefixes peers have announced and withdrawn, also when it was the same again."""
        found = map(RECEIVED.match, self.birdc("show protocols all").splitlines())
        return sum(int(match[1]) for match in found if match)

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def config(self) -> str:
        return "\n".join(self._config_lines()) + "\n"

    def _config_lines(self) -> Iterator[str]:
        yield f"router id {self.router_id};"
        yield "log stderr all;"
        yield "timeformat route iso long us;"
        yield "protocol device {}"
        yield "protocol direct { ipv4; ipv6; }"  # interior next hops are resolved through connected routes
        for family, table in TABLE.items():
            yield from _kernel(family, table)
            routes = " ".join(f"route {prefix} unreachable;" for prefix in self.originated if _is(prefix, family))
            # Better than `direct`, or the node's own pod bridge would hide its pod CIDR from the export filter.
            yield f"protocol static originated{table} {{ {family} {{ preference 250; }}; {routes} }}"
        yield from self.lines
        for neighbor in self.peers.values():
            yield from _session(neighbor, self.asn)

    def _answers(self) -> bool:
        self.process.require_alive()
        return self._control.exists() and "Daemon is up" in self.birdc("show status")


def _kernel(family: Family, table: str) -> Iterator[str]:
    yield f"protocol kernel kernel{table} {{"
    yield f"  merge paths on limit {MAXIMUM_PATHS};"
    yield f"  {family} {{ import none; export filter {{ if source = RTS_BGP then accept; reject; }}; }};"
    yield "}"


def _session(neighbor: Neighbor, asn: int) -> Iterator[str]:
    name = "peer_" + "".join(char if char.isalnum() else "_" for char in neighbor.address)
    yield f"protocol bgp {name} {{"
    yield f"  local as {asn};"
    if neighbor.is_range:
        yield f"  neighbor range {neighbor.address} as {neighbor.asn};"
        yield f'  dynamic name "{name}_";'
    else:
        yield f"  neighbor {neighbor.address} as {neighbor.asn};"
    yield f"  hold time {neighbor.hold_seconds}; keepalive time {max(1, neighbor.hold_seconds // 3)};"
    yield f"  connect delay time {DIAL_SECONDS}; connect retry time {DIAL_SECONDS}; error wait time 1, 2;"
    if neighbor.password:
        yield f'  password "{neighbor.password}";'
    if neighbor.passive and not neighbor.is_range:
        yield "  passive on;"
    yield from (f"  {line}" for line in neighbor.extra)
    for family in neighbor.families:
        yield f"  {family} {{"
        yield "    import all; next hop self;"
        yield "    export filter {"
        # Only a MED that the filter sets is told to another AS.
        yield "      if source = RTS_STATIC && defined(bgp_med) then bgp_med = bgp_med;"
        yield "      if source ~ [ RTS_STATIC, RTS_BGP ] then accept; reject;"
        yield "    };"
        yield "  };"
    yield "}"


def _is(prefix: str, family: Family) -> bool:
    return family_of(prefix.partition("/")[0]) == family
