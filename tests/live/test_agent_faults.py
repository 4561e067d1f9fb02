"""Faults one by one, as they happen to operators: each is named with its cause and its fix, moves a metric, and is gone
from all that when it is mended.

Most are seen within a second; how long each takes is not judged here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.lab.faults import FAULTS, Fault, Ward
from tests.lab.topology import Lab
from tests.lab.wait import wait_until

pytestmark = pytest.mark.live

SEEN_SECONDS = 90.0
"""A watch whose API server's machine is gone is noticed after 30 s."""
WELL_SECONDS = 90.0


@pytest.fixture(scope="module")
def ward() -> Iterator[Ward]:
    with Lab(nodes=2, routers=1, families=("ipv4",)) as lab:
        ward = Ward(lab)
        yield ward
        ward.cluster.close()


def is_well(ward: Ward) -> bool:
    done = ward.agent.cli("check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOTE" not in done.stdout, done.stdout
    return ward.cluster.meshed(besides=ward.besides)


def metrics(ward: Ward) -> dict[str, str]:
    text = ward.node.run(["curl", "-sS", "http://127.0.0.1:9817/metrics"]).stdout
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}


def named(ward: Ward, fault: Fault, before: dict[str, str]) -> bool:
    """By `check` and by the command that one asks next; and a sample of the metrics has changed."""
    if fault.check:
        done = ward.agent.cli("check")
        wanted = 0 if fault.check.startswith("NOTE") else 3
        assert done.returncode == wanted, done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if not line.startswith("PASS")]
        assert any(re.search(fault.check, line) for line in lines), done.stdout
    told = ward.agent.cli(*fault.asked).stdout
    assert re.search(fault.cause, told), told
    assert re.search(fault.fix, told), told
    now = metrics(ward)
    moved = [name for name in now.keys() | before.keys() if now.get(name) != before.get(name)]
    assert any(re.fullmatch(fault.moves, name) for name in moved), sorted(moved)
    return True


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_cause_and_fix_and_is_gone_from_all_that_when_it_is_mended(ward: Ward, name: str) -> None:
    wait_until(lambda: is_well(ward), within=WELL_SECONDS, every=0.2)
    before = metrics(ward)

    unnamed = None
    with FAULTS[name].harm(ward):  # undone in any case: others come after it
        try:
            wait_until(lambda: named(ward, FAULTS[name], before), within=SEEN_SECONDS, every=0.2)
        except AssertionError as error:
            unnamed = error
    assert unnamed is None, unnamed
    wait_until(lambda: is_well(ward), within=WELL_SECONDS, every=0.2)
