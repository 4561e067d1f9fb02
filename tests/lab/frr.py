"""FRR in a namespace of the lab: a real router with zebra and bgpd, asked and told through vtysh.

Its own tables are the judge of what it was announced. Each instance has sockets, pid files and configuration in its
own directory; nothing of the machine's FRR service is used but the programs. It speaks plain eBGP and iBGP: what is
particular to a test comes in as configuration lines.

Seen with FRR 8.4.4: `--vty_socket` and `-z` are all that keeps instances apart; the programs give up root for the user
`frr`, who therefore must own the directory; without `coalesce-time 0` a new session waits a second before its first
UPDATE; of an IPv6 peer's two next hops the kernel gets the link-local one, the table shows both.
"""

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.lab.addresses import family_of
from tests.lab.neighbor import DIAL_SECONDS, Neighbor
from tests.lab.netns import Family, Namespace
from tests.lab.procs import CommandFailedError, Process
from tests.lab.wait import wait_until

PROGRAMS = Path("/usr/lib/frr")
MAXIMUM_PATHS = 64
START_SECONDS = 30.0


class Frr:
    """A running FRR; `stop()` it, or leave it to the lab's end."""

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
        """`announce` are prefixes that it originates; `lines` go into `router bgp`, one level deep."""
        self.namespace = namespace
        self.asn = asn
        self.originated = set(announce)
        """Its own prefixes; in its table a prefix may be without next hops for other reasons, for a moment."""
        self.directory = namespace.run_dir / "frr"
        self.directory.mkdir(exist_ok=True)
        shutil.chown(self.directory, "frr", "frr")
        for left in (*self.directory.glob("*.api"), *self.directory.glob("*.vty")):
            left.unlink()  # of an FRR that was here before: nobody may take them for those of this one
        self.zebra = self._start("zebra")
        self._wait_for(self.zebra, "zserv.api", "zebra.vty")
        log = namespace.run_dir / "bgpd.log"
        self._logged_before = log.stat().st_size if log.exists() else 0
        self.bgpd = self._start("bgpd")
        self._wait_for(self.bgpd, "bgpd.vty")
        wait_until(lambda: self.vtysh("show version"), within=START_SECONDS)
        body = [*_head(asn, router_id), *_network_lines(announce), *lines]
        for neighbor in neighbors:
            body += neighbor_lines(neighbor)
        self.configure(body)

    def vtysh(self, *commands: str) -> str:
        """Output of the commands, one after the other."""
        words = [word for command in commands for word in ("-c", command)]
        return self.namespace.run(["vtysh", "--vty_socket", str(self.directory), *words]).stdout

    def show_json(self, command: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.vtysh(command))
        return answer

    def configure(self, lines: Iterable[str]) -> None:
        """Lines as one would type them after `configure terminal`; raises if one of them is refused."""
        output = self.vtysh("configure terminal", *lines)
        if refused := [line for line in output.splitlines() if line.startswith("%")]:
            raise CommandFailedError(f"FRR refused {refused} in {list(lines)}")

    def add_neighbor(self, neighbor: Neighbor) -> None:
        self.configure([f"router bgp {self.asn}", *neighbor_lines(neighbor)])

    def remove_neighbor(self, neighbor: Neighbor) -> None:
        self.configure([f"router bgp {self.asn}", _removal(neighbor)])

    def announce(self, *prefixes: str) -> None:
        self.configure([f"router bgp {self.asn}", *_network_lines(prefixes)])
        self.originated.update(prefixes)

    def withdraw(self, *prefixes: str) -> None:
        self.configure([f"router bgp {self.asn}", *_network_lines(prefixes, no="no ")])
        self.originated.difference_update(prefixes)

    def neighbors(self) -> Mapping[str, str]:
        """Peer address → RFC 4271 state word, members of ranges included."""
        return {address: peer["bgpState"] for address, peer in self.show_json("show bgp neighbors json").items()}

    def established(self) -> list[str]:
        return sorted(address for address, state in self.neighbors().items() if state == "Established")

    def times_established(self, address: str) -> int:
        """How often the session came up; 1 for one that never flapped. (Instants in bgpd's JSON jitter by a second.)

        Of a member of a range bgpd forgets everything with its session: only its log still says how often it came up.
        What it answers is ahead of its log, so it is asked until the two agree.
        """

        def counted() -> tuple[int]:
            peer = self.show_json("show bgp neighbors json").get(address, {})
            if peer and "peerSubnetRangeGroup" not in peer:
                return (int(peer["connectionsEstablished"]),)
            log = self.bgpd.log.read_bytes()[self._logged_before :].decode()
            found = re.findall(rf"%ADJCHANGE: neighbor \*?{re.escape(address)}\(.* (Up$|Down )", log, re.MULTILINE)
            assert (peer.get("bgpState") == "Established") == (found[-1:] == ["Up"]), found
            return (found.count("Up"),)

        return wait_until(counted)[0]

    def paths(self, prefix: str) -> list[dict[str, Any]]:
        """Every path of one prefix with all attributes (`community`, `med`, `aspath`, `peer` ...); none: empty."""
        family = family_of(prefix.partition("/")[0])
        paths: list[dict[str, Any]] = self.show_json(f"show bgp {family} unicast {prefix} json").get("paths", [])
        return paths

    def routes(self, family: Family) -> Mapping[str, list[str]]:
        """Prefix → next hops of its best path and of those that are equally good; its own prefixes have none."""
        table = self.show_json(f"show bgp {family} unicast json")["routes"]
        return {prefix: _next_hops(paths, family) for prefix, paths in table.items()}

    def stop(self) -> None:
        for process in (self.bgpd, self.zebra):
            process.stop()

    def kill(self) -> None:
        """SIGKILL: bgpd says no goodbye, and its kernel routes stay."""
        for process in (self.bgpd, self.zebra):
            process.kill()

    def _start(self, program: str) -> Process:
        config = self.directory / f"{program}.conf"
        config.write_text("log stdout informational\n")
        shutil.chown(config, "frr", "frr")
        own = f"--vty_socket {self.directory} -f {config} -i {config}.pid -z {self.directory}/zserv.api"
        return self.namespace.start([PROGRAMS / program, "-P", "0", *own.split()])

    def _wait_for(self, process: Process, *sockets: str) -> None:
        def there() -> bool:
            process.require_alive()
            return all((self.directory / socket).exists() for socket in sockets)

        wait_until(there, within=START_SECONDS)


def neighbor_lines(neighbor: Neighbor) -> list[str]:
    """A range becomes a peer group of its own, named after the network."""
    name = _name(neighbor)
    lines = [f"neighbor {name} peer-group"] if neighbor.is_range else []
    lines += [
        f"neighbor {name} remote-as {neighbor.asn}",
        f"neighbor {name} timers {max(1, neighbor.hold_seconds // 3)} {neighbor.hold_seconds}",
        f"neighbor {name} timers connect {DIAL_SECONDS}",
        f"neighbor {name} advertisement-interval 0",
    ]
    if neighbor.password:
        lines.append(f"neighbor {name} password {neighbor.password}")
    if neighbor.passive:
        lines.append(f"neighbor {name} passive")
    lines += [f"neighbor {name} {extra}" for extra in neighbor.extra]
    for family in ("ipv4", "ipv6"):
        verb = "" if family in neighbor.families else "no "
        lines += [f"address-family {family} unicast", f"{verb}neighbor {name} activate", "exit-address-family"]
    if neighbor.is_range:
        lines.append(f"bgp listen range {neighbor.address} peer-group {name}")
    return lines


def _head(asn: int, router_id: str) -> list[str]:
    families = [
        line
        for family in ("ipv4", "ipv6")
        for line in (
            f"address-family {family} unicast",
            f"maximum-paths {MAXIMUM_PATHS}",
            f"maximum-paths ibgp {MAXIMUM_PATHS}",
            "exit-address-family",
        )
    ]
    return [
        f"router bgp {asn}",
        f"bgp router-id {router_id}",
        "no bgp ebgp-requires-policy",  # RFC 8212 would drop everything without a route map
        "no bgp network import-check",
        "bgp log-neighbor-changes",
        "coalesce-time 0",
        "bgp bestpath as-path multipath-relax",
        *families,
    ]


def _network_lines(prefixes: Iterable[str], no: str = "") -> list[str]:
    lines: list[str] = []
    for prefix in prefixes:
        family = family_of(prefix.partition("/")[0])
        lines += [f"address-family {family} unicast", f"{no}network {prefix}", "exit-address-family"]
    return lines


def _removal(neighbor: Neighbor) -> str:
    if neighbor.is_range:
        return f"no neighbor {_name(neighbor)} peer-group"
    return f"no neighbor {neighbor.address}"


def _name(neighbor: Neighbor) -> str:
    if not neighbor.is_range:
        return neighbor.address
    return "range-" + "".join(char if char.isalnum() else "-" for char in neighbor.address)


def _next_hops(paths: Iterable[Mapping[str, Any]], family: Family) -> list[str]:
    """bgpd marks the best path and its equals; of two next hops of one IPv6 path the global one counts."""
    hops = set()
    for path in paths:
        if path.get("bestpath") or path.get("multipath"):
            legs = [leg["ip"] for leg in path["nexthops"] if leg.get("scope") != "link-local"]
            hops |= {leg for leg in legs if leg not in ("0.0.0.0", "::")}
    return sorted(hops, key=lambda hop: (family, hop))
