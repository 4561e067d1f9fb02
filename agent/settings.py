"""Settings of the process: what `bgpilot run` is told by flags or by BGPILOT_… variables, parsed once and frozen.

Intent of the cluster (peers, advertisements, AS numbers) is not here: it comes from the cluster's own objects.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

DEFAULT_RUN_DIR: Final = "/run/bgpilot"
DEFAULT_METRICS_ADDRESS: Final = ":9817"
DEFAULT_HEALTH_ADDRESS: Final = "127.0.0.1:9818"
DEFAULT_ROUTE_PROTOCOL: Final = 179
DEFAULT_NAMESPACE: Final = "bgpilot-system"
DEFAULT_DAEMON_SET: Final = "bgpilot"
SOCKET_NAME: Final = "bgpilot.sock"
OFF: Final = "off"
_SOCKET_PATH_MAX_BYTES: Final = 107
"""Room for a path in `sockaddr_un` (Linux, unix(7)), without its closing zero."""
_NODE_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
"""RFC 1123 subdomain: what Kubernetes takes as a node's name, and a DaemonSet's."""
_OTHERS_PROTOCOLS: Final = {
    0: "unspec",
    1: "redirect",
    2: "kernel",
    3: "boot",
    4: "static",
    9: "ra",
    11: "zebra",
    12: "bird",
    14: "xorp",
    16: "dhcp",
    18: "keepalived",
    42: "babel",
    84: "ovn",
    186: "bgp",
    187: "isis",
    188: "ospf",
    189: "rip",
    192: "eigrp",
}
"""Numbers in /etc/iproute2/rt_protos that others write routes with: we own, and sweep, all routes of our number."""


class SettingsError(ValueError):
    """A setting that cannot be; the message names the flag, its value, and what would be right."""


class SpeakerMode(enum.StrEnum):
    CHILD = "child"
    """The agent starts ExaBGP."""
    EXTERNAL = "external"
    """`bgpilot speaker` runs it, with the same run dir."""


class LogFormat(enum.StrEnum):
    AUTO = "auto"
    """Console on a terminal, else JSON."""
    JSON = "json"
    CONSOLE = "console"


class LogLevel(enum.StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Listen(NamedTuple):
    """Where to listen on TCP. An empty host: all addresses of the node."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    node_name: str
    kubeconfig: Path | None = None
    """None: the service account of the pod."""
    run_dir: Path = Path(DEFAULT_RUN_DIR)
    metrics_address: Listen | None = None
    """None: no metrics."""
    metrics_mesh_peers: bool = False
    """Series for each session with another node, too."""
    health_address: Listen | None = None
    """None: no probes."""
    speaker: SpeakerMode = SpeakerMode.CHILD
    route_protocol: int = DEFAULT_ROUTE_PROTOCOL
    log_format: LogFormat = LogFormat.AUTO
    log_level: str = LogLevel.INFO
    dry_run: bool = False
    namespace: str = DEFAULT_NAMESPACE
    """Where the agent's Secrets are, and its DaemonSet."""
    cleanup_on_uninstall: bool = False
    """Stopped when its DaemonSet is deleted, the agent leaves nothing behind."""
    daemon_set: str = DEFAULT_DAEMON_SET

    @property
    def socket_path(self) -> Path:
        """The API that the CLI asks."""
        return self.run_dir / SOCKET_NAME


def parse_settings(
    *,
    node_name: str,
    kubeconfig: str = "",
    run_dir: str = DEFAULT_RUN_DIR,
    metrics_address: str = DEFAULT_METRICS_ADDRESS,
    metrics_mesh_peers: bool = False,
    health_address: str = DEFAULT_HEALTH_ADDRESS,
    speaker: str = SpeakerMode.CHILD,
    route_protocol: str = str(DEFAULT_ROUTE_PROTOCOL),
    log_format: str = LogFormat.AUTO,
    log_level: str = LogLevel.INFO,
    dry_run: bool = False,
    namespace: str = "",
    cleanup_on_uninstall: bool = False,
    daemon_set: str = DEFAULT_DAEMON_SET,
) -> Settings:
    """Settings from what stands in flags and environment; raises SettingsError. Looks at no file."""
    return Settings(
        node_name=_parse_node_name(node_name),
        kubeconfig=Path(kubeconfig) if kubeconfig else None,
        run_dir=parse_run_dir(run_dir),
        metrics_address=parse_listen("--metrics-address", metrics_address),
        metrics_mesh_peers=metrics_mesh_peers,
        health_address=parse_listen("--health-address", health_address),
        speaker=_parse_word("--speaker", SpeakerMode, speaker),
        route_protocol=parse_protocol(route_protocol),
        log_format=_parse_word("--log-format", LogFormat, log_format),
        log_level=_parse_word("--log-level", LogLevel, log_level),
        dry_run=dry_run,
        namespace=namespace or DEFAULT_NAMESPACE,
        cleanup_on_uninstall=cleanup_on_uninstall,
        daemon_set=_parse_daemon_set(daemon_set),
    )


def parse_listen(flag: str, text: str) -> Listen | None:
    """`:9817`, `127.0.0.1:9817`, `[::1]:9817`; `off` is None."""
    if text == OFF:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65535:
        raise SettingsError(f"{flag} {text!r} is not HOST:PORT, :PORT or `off`: say for example {flag} 127.0.0.1:9817")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise SettingsError(f"{flag} {text!r}: put an IPv6 address into brackets, as in [::1]:9817")
    return Listen(host, int(port))


def _parse_node_name(text: str) -> str:
    if not _NODE_NAME.fullmatch(text):
        raise SettingsError(
            f"--node-name {text!r} is not a node's name: say what `kubectl get nodes` calls this machine"
        )
    return text


def _parse_daemon_set(text: str) -> str:
    if not _NODE_NAME.fullmatch(text):
        raise SettingsError(
            f"--daemonset {text!r} is not a DaemonSet's name: say what `kubectl get daemonsets` calls the agent's"
        )
    return text


def parse_run_dir(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise SettingsError(f"--run-dir {text!r} is not an absolute path: ExaBGP runs in another directory")
    if len(str(path / SOCKET_NAME).encode()) > _SOCKET_PATH_MAX_BYTES:
        raise SettingsError(f"--run-dir {text!r} is too long: a unix socket's path has at most 107 bytes")
    return path


def parse_protocol(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 255:
        raise SettingsError(f"--route-protocol {text!r} is not a number between 5 and 255")
    number = int(text)
    if owner := _OTHERS_PROTOCOLS.get(number):
        raise SettingsError(
            f"--route-protocol {number} is the number of `{owner}`: routes of its number that it does not want are "
            f"removed by the agent, so take one that nobody else uses (default {DEFAULT_ROUTE_PROTOCOL})"
        )
    return number


_Word = TypeVar("_Word", bound=enum.StrEnum)


def _parse_word(flag: str, words: type[_Word], text: str) -> _Word:
    try:
        return words(text)
    except ValueError:
        raise SettingsError(f"{flag} {text!r} is not one of {', '.join(words)}") from None
