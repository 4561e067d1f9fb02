"""Nothing of a lab stays on the machine, however its owner ends; and labs that run at once do not meet."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import janitor
from tests.lab.pods import curl, ping, serve_http
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

KILLED_OWNER = """
import sys, time
from tests.lab.pods import serve_http
from tests.lab.topology import Lab

lab = Lab(nodes=1)
server = serve_http(lab.node(1).add_pod())
print(lab.home.id, server.pid, flush=True)
time.sleep(600)
"""


def test_labs_that_run_at_once_have_the_same_addresses_and_do_not_meet(lab: LabFactory) -> None:
    nets = [lab(nodes=1), lab(nodes=1)]
    for number, net in enumerate(nets):
        serve_http(net.node(1).add_pod(), f"lab {number}")
        net.add_static_pod_routes()

    addresses = [net.node(1).pods[0].address() for net in nets]

    assert addresses[0] == addresses[1]
    assert [curl(net.client, address) for net, address in zip(nets, addresses, strict=True)] == ["lab 0", "lab 1"]


def test_a_closed_lab_leaves_no_namespace_process_or_file() -> None:
    with Lab(nodes=1) as net:
        server = serve_http(net.node(1).add_pod())
        orphan = int(net.node(1).run(["sh", "-c", "sleep 600 > /dev/null 2>&1 & echo $!"]).stdout)

    assert _leftovers(net.home.id) == []
    assert not server.alive
    assert not _runs(orphan)


async def test_a_lab_whose_owner_is_killed_disappears() -> None:
    owner = _start_owner()
    lab_id, server = _told(owner)
    assert _leftovers(lab_id)

    owner.kill()
    owner.wait()

    await eventually(lambda: not _leftovers(lab_id), within=60)
    assert not _runs(server)


def test_a_lab_whose_owner_and_janitor_are_killed_is_swept_by_the_next() -> None:
    owner = _start_owner()
    lab_id, server = _told(owner)

    os.kill(_janitor_of(lab_id), signal.SIGKILL)
    owner.kill()
    owner.wait()

    with Lab(nodes=0):
        assert _leftovers(lab_id) == []
        assert not _runs(server)


def test_the_sweep_leaves_a_living_lab_alone(lab: LabFactory) -> None:
    net = lab(nodes=1)

    assert net.home.id not in janitor.sweep()
    assert ping(net.node(1), net.router.address())


@pytest.mark.parametrize("name", ["", "bgplab", "bgplab.1.2", "bgplab.1.2.abcdef.node-1", "default"])
def test_the_janitor_refuses_what_is_not_the_id_of_a_lab(name: str) -> None:
    with pytest.raises(ValueError, match="not the id of a lab"):
        janitor.remove_lab(name)


def _start_owner() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED_OWNER], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )


def _told(owner: subprocess.Popen[str]) -> tuple[str, int]:
    assert owner.stdout is not None
    with owner.stdout as output:
        lab_id, server = output.readline().split()
    return lab_id, int(server)


def _leftovers(lab_id: str) -> list[Path]:
    namespaces = [*janitor.NAMESPACES.glob(f"{lab_id}*")]
    directory = janitor.lab_directory(lab_id)
    return [*namespaces, directory] if directory.exists() else namespaces


def _janitor_of(lab_id: str) -> int:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # ended meanwhile
            words = path.read_bytes().split(b"\0")
            if lab_id.encode() in words and janitor.__file__.encode() in words:
                return int(path.parent.name)
    raise LookupError(f"no janitor of {lab_id}")


def _runs(pid: int) -> bool:
    """Not a zombie: an orphan's zombie waits for a parent that this machine may not have."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
