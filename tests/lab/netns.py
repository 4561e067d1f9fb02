"""One network namespace with a name: run programs in it, give it settings and addresses, read its routes.

Programs enter by `nsenter --net`, which changes nothing but the network: the file system, /sys included, is the
machine's, so whatever writes files needs a directory of its own (`run_dir`). It knows no topology.
"""

import ctypes
import ipaddress
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, TypeVar

from tests.lab import janitor, procs

T = TypeVar("T")
Family = Literal["ipv4", "ipv6"]
FAMILY_FLAG: Mapping[str, str] = {"ipv4": "-4", "ipv6": "-6"}
DEFAULT_PREFIX: Mapping[str, str] = {"ipv4": "0.0.0.0/0", "ipv6": "::/0"}
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True)
class Home:
    """What the namespaces of one lab share. `started` has every program ever started: their zombies must be reaped."""

    id: str
    directory: Path
    started: list[procs.Process] = field(default_factory=list)


class Namespace:
    """`name` is the short name within the lab, `full_name` the one under /run/netns."""

    def __init__(self, home: Home, name: str) -> None:
        self.home = home
        self.name = name
        self.full_name = f"{home.id}.{name}"
        self.path = janitor.NAMESPACES / self.full_name
        self.run_dir = home.directory / name
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.processes: list[procs.Process] = []
        procs.run(["ip", "netns", "add", self.full_name])

    def inside(self, argv: Sequence[str | Path]) -> list[str]:
        """The command that runs `argv` in here. nsenter executes it in its own place, so the pid is the program's."""
        return ["nsenter", f"--net={self.path}", "--", *map(str, argv)]

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        check: bool = True,
        timeout: float = procs.RUN_SECONDS,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return procs.run(self.inside(argv), check=check, timeout=timeout, stdin=stdin, env=env)

    def start(
        self,
        argv: Sequence[str | Path],
        *,
        log: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> procs.Process:
        """Output goes to `log` (default: the program's name) in `run_dir`; several starts append to the same file."""
        path = self.run_dir / f"{log or Path(argv[0]).name}.log"
        process = procs.Process(self.inside(argv), log=path, env=env, cwd=cwd)
        self.processes.append(process)
        self.home.started.append(process)
        return process

    def make(self, make: Callable[[], T]) -> T:
        """What `make` returns: a socket or file of this namespace, held by this process (see `make_in`)."""
        return make_in(self.path, make)

    def configure(self, *, sysctls: Mapping[str, str | int] | None = None, ip: Sequence[str] = ()) -> None:
        """Sets sysctls (dotted names), then runs lines of `ip -batch`: all in one go, because starts are what costs."""
        settings = "".join(f"echo {value} > /proc/sys/{_sysctl(name)}\n" for name, value in (sysctls or {}).items())
        batch = "ip -batch - <<'END'\n" + "".join(f"{line}\n" for line in ip) + "END\n" if ip else ""
        self.run(["sh", "-e"], stdin=settings + batch)

    def ip(self, *words: str) -> None:
        procs.run(["ip", "-n", self.full_name, *words])

    def ip_json(self, *words: str) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = json.loads(procs.run(["ip", "-j", "-n", self.full_name, *words]).stdout or "[]")
        return answer

    def kernel_routes(self, family: Family, *filters: str) -> dict[str, list[str]]:
        """Prefix → next hops in order (empty for a connected or discard route), as the kernel has them now.

        Of several routes to one prefix the one with the lowest metric counts, as it does for packets. `filters` are
        words for `ip route show`, as in `kernel_routes("ipv4", "proto", "179")`. Link-local and multicast routes
        of the kernel's own are left out.
        """
        best: dict[str, tuple[int, list[str]]] = {}
        for route in self.ip_json(FAMILY_FLAG[family], "route", "show", *filters):
            prefix = canonical_prefix(route["dst"], family)
            if prefix.startswith(("fe80:", "ff00:")):
                continue
            hops = [hop for leg in route.get("nexthops", [route]) if (hop := _gateway(leg))]
            found = (route.get("metric", 0), sorted(hops, key=ipaddress.ip_address))
            best[prefix] = min(best.get(prefix, found), found, key=itemgetter(0))
        return {prefix: hops for prefix, (_, hops) in best.items()}

    def kill_all(self) -> None:
        """SIGKILL to all that runs in here, whoever started it."""
        janitor.kill_inside(frozenset({self.path.stat().st_ino}), spare=os.getpid())
        self._reap()

    def delete(self) -> None:
        janitor.remove_namespaces([self.path], spare=os.getpid())
        self._reap()

    def _reap(self) -> None:
        for process in self.processes:
            process.kill()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.full_name}>"


def make_in(netns: Path | None, make: Callable[[], T]) -> T:
    """What `make` returns in the namespace of that file; None: in our own.

    A socket, or a file under /proc/thread-self/net, stays in the namespace it was made in, whichever thread uses it
    afterwards; so only a thread that ends right away enters it (setns(2); Python 3.11 does not have it).
    """
    if netns is None:
        return make()

    def entered() -> T:
        with netns.open() as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
                error = ctypes.get_errno()
                raise OSError(error, f"cannot enter the network namespace: {os.strerror(error)}", str(netns))
        return make()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="netns") as thread:
        return thread.submit(entered).result()


def canonical_prefix(text: str, family: Family) -> str:
    """`ip` writes host routes without a length and the default route as a word."""
    return DEFAULT_PREFIX[family] if text == "default" else str(ipaddress.ip_network(text))


def _gateway(leg: Mapping[str, Any]) -> str | None:
    gateway: str | None = leg.get("gateway") or leg.get("via", {}).get("host")
    return gateway


def _sysctl(name: str) -> str:
    return name.replace(".", "/")
