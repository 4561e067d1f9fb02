"""Pods that answer (HTTP with their name, UDP echo), and the client's tools: curl, ping, traceroute."""

import re
import sys
from ipaddress import IPv4Address, IPv6Address

from tests.lab import servers
from tests.lab.netns import Namespace
from tests.lab.procs import Process
from tests.lab.wait import wait_until

HTTP_PORT = 80
ECHO_PORT = 7007
CURL_SECONDS = 10
PING_SECONDS = 5
"""For a busy machine."""
READY_SECONDS = 30.0
HOP = re.compile(r"^\s*\d+\s+(\S+)")


def serve_http(namespace: Namespace, text: str = "", *, port: int = HTTP_PORT) -> Process:
    """Answers every request in `namespace` with `text` (the namespace's name) and a line feed. It listens on return."""
    return _serve(namespace, "http", str(port), text or namespace.name)


def serve_echo(namespace: Namespace, *, port: int = ECHO_PORT) -> Process:
    """Sends every UDP packet back. It listens on return."""
    return _serve(namespace, "echo", str(port))


def _serve(namespace: Namespace, *words: str) -> Process:
    log = "-".join(words[:2])
    (namespace.run_dir / f"{log}.log").unlink(missing_ok=True)  # an earlier server's "listening" must not count
    server = namespace.start([sys.executable, "-I", "-S", servers.__file__, *words], log=log)

    def listening() -> bool:
        server.require_alive()
        return servers.LISTENING in server.output()

    wait_until(listening, within=READY_SECONDS, every=0.01)
    return server


def curl(namespace: Namespace, host: str | IPv4Address | IPv6Address, *, port: int = HTTP_PORT) -> str | None:
    """The body without its line feed, or None when there was no good answer in time."""
    name = f"[{host}]" if ":" in str(host) else str(host)
    words = ["curl", "--silent", "--fail", "--globoff", "--max-time", str(CURL_SECONDS), f"http://{name}:{port}/"]
    done = namespace.run(words, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def ping(namespace: Namespace, address: IPv4Address | IPv6Address) -> bool:
    """Whether one echo came back."""
    done = namespace.run(["ping", "-n", "-c1", f"-W{PING_SECONDS}", str(address)], check=False)
    return done.returncode == 0


def traceroute(namespace: Namespace, address: IPv4Address | IPv6Address, *, port: int | None = None) -> list[str]:
    """Hops in order, `*` for one that did not answer; the last is the address itself if it was reached.

    `port`: of TCP, as a client that connects.
    """
    how = [] if port is None else ["-T", "-p", str(port)]
    output = namespace.run(["traceroute", "-n", "-q1", "-w2", "-m8", *how, str(address)]).stdout
    return [match[1] for line in output.splitlines() if (match := HOP.match(line))]
