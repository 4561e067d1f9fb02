"""What the kernel asks of the DaemonSet's two containers: with the capabilities of deploy/agent.yaml each can do its
work, and it needs those that it has.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.live

MANIFEST = Path(__file__).resolve().parents[2] / "deploy/agent.yaml"

ROUTE = ["ip", "route", "add", "192.0.2.0/24", "dev", "lo", "proto", "179"]
BIND = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 179)); s.listen()"
MD5 = """
import socket, struct
TCP_MD5SIG, IP_MINTTL = 14, 21  # linux/tcp.h, linux/in.h
for family, address in ((socket.AF_INET, socket.inet_aton("192.0.2.1")), (socket.AF_INET6, bytes(16))):
    peer = struct.pack("=HH", family, 0) + (bytes(4) if family == socket.AF_INET6 else b"") + address
    with socket.socket(family) as s:
        s.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, peer.ljust(128, b"\\0") + struct.pack("=2xH4x80s", 6, b"secret"))
with socket.socket() as s:
    s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 3)
    s.setsockopt(socket.IPPROTO_IP, IP_MINTTL, 255)
"""


def capabilities(container: str) -> list[str]:
    (daemon_set,) = (thing for thing in yaml.safe_load_all(MANIFEST.read_text()) if thing["kind"] == "DaemonSet")
    spec = daemon_set["spec"]["template"]["spec"]
    containers = {c["name"]: c for c in (*spec["containers"], *spec["initContainers"])}
    added: list[str] = containers[container]["securityContext"]["capabilities"]["add"]
    return added


def succeeds(command: list[str], granted: list[str]) -> bool:
    """Run as root in a new network namespace with no other capabilities than these."""
    bounding = ",".join(["-all", *(f"+{name.lower()}" for name in granted)])
    confined = ["setpriv", f"--bounding-set={bounding}", "--inh-caps=-all", *command]
    script = 'ip link set lo up && exec "$@"'
    done = subprocess.run(["unshare", "--net", "sh", "-ec", script, "sh", *confined], capture_output=True, check=False)
    return done.returncode == 0


def test_the_agent_writes_routes_with_net_admin_and_not_without() -> None:
    assert succeeds(ROUTE, capabilities("agent"))
    assert not succeeds(ROUTE, [name for name in capabilities("agent") if name != "NET_ADMIN"])


def test_the_speaker_listens_on_port_179_with_net_bind_service_and_not_without() -> None:
    command = [sys.executable, "-c", BIND]

    assert succeeds(command, capabilities("speaker"))
    assert not succeeds(command, [])


def test_the_speaker_sets_passwords_and_ttls_without_net_admin() -> None:
    assert "NET_ADMIN" not in capabilities("speaker")
    assert succeeds([sys.executable, "-c", MD5], capabilities("speaker"))
