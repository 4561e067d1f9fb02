"""What a node is like beside what the agent says: the kernel's tables and switches, our files, versions.

Each part is made when it is asked for and raises OSError, or whatever else goes wrong with it, alone.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from agent.support.redact import redacted

CONFIGURATION: Final = "exabgp.conf"
IP_SECONDS: Final = 20.0
IP_MAX_BYTES: Final = 32 * 1024 * 1024
"""Of one table; the rest is cut off, and said."""
TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "link": ("-s", "link"),
    "address": ("address",),
    "route4": ("-4", "route", "show", "table", "all"),
    "route6": ("-6", "route", "show", "table", "all"),
    "rule4": ("-4", "rule"),
    "rule6": ("-6", "rule"),
    "neighbor": ("neighbor",),
}
SYSCTLS: Final = (
    "net/ipv4/ip_forward",
    "net/ipv4/fib_multipath_hash_policy",
    "net/ipv4/fib_multipath_use_neigh",
    "net/ipv4/tcp_l3mdev_accept",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/forwarding",
    "net/ipv4/conf/*/arp_ignore",
    "net/ipv4/neigh/default/gc_thresh3",
    "net/ipv6/conf/*/disable_ipv6",
    "net/ipv6/conf/*/forwarding",
    "net/ipv6/conf/*/accept_ra",
    "net/ipv6/fib_multipath_hash_policy",
    "net/ipv6/route/max_size",
    "net/ipv6/neigh/default/gc_thresh3",
    "net/core/rmem_max",
    "net/core/wmem_max",
)
SYSCTLS_MAX: Final = 5_000

Part = Callable[[], bytes]


def parts(run_dir: Path) -> Iterator[tuple[str, Part]]:
    """By the name of the file that each becomes."""
    yield "about.json", _about
    yield "kernel/sysctls.json", _sysctls
    if shutil.which("ip") is None:
        yield "kernel/netlink.json", _netlink
    else:
        for name, words in TABLES.items():
            yield f"kernel/{name}.json", partial(_ip, words)
    yield "run-dir.json", lambda: _files(run_dir)
    yield CONFIGURATION, lambda: redacted((run_dir / CONFIGURATION).read_text()).encode()


def as_json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"


def _about() -> bytes:
    """Of this command, and of the machine; the agent says which version it is itself."""
    versions = {name: _version(name) for name in ("bgpilot", "exabgp", "aiohttp", "msgspec", "pyroute2", "kubernetes")}
    machine = os.uname()
    return as_json(
        {
            "versions": versions,
            "python": platform.python_version(),
            "kernel": {"release": machine.release, "version": machine.version, "machine": machine.machine},
            "host": machine.nodename,
            "settings": {name: it for name, it in sorted(os.environ.items()) if name.startswith("BGPILOT_")},
        }
    )


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _sysctls(root: Path = Path("/proc/sys")) -> bytes:
    """Those that are not there are left out: kernels differ."""
    found: dict[str, str] = {}
    for pattern in SYSCTLS:
        for path in sorted(root.glob(pattern)):
            if len(found) < SYSCTLS_MAX:
                found[str(path.relative_to(root))] = path.read_text().strip()
    return as_json(found)


def _ip(words: tuple[str, ...]) -> bytes:
    done = subprocess.run(["ip", "-j", "-d", *words], capture_output=True, timeout=IP_SECONDS, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.decode(errors='replace').strip()}")
    if len(done.stdout) > IP_MAX_BYTES:
        return done.stdout[:IP_MAX_BYTES] + b"\n... cut off\n"
    return done.stdout


def _netlink() -> bytes:
    from agent.kernel.inventory import inventory  # noqa: PLC0415  # for nodes without `ip`

    return as_json(dict(inventory()))


def _files(run_dir: Path) -> bytes:
    """Names, sizes and modes: what is in them nobody has to see."""
    found = []
    for path in sorted(run_dir.iterdir()):
        about = path.lstat()
        found.append({"name": path.name, "mode": stat.filemode(about.st_mode), "bytes": about.st_size})
    return as_json(found)
