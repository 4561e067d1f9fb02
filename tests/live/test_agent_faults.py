"""Faults one by one, as they happen to operators: each is named with its cause and its fix, moves a metric, and is gone
from all that when it is mended; and the alerts that are for it, and no others, would fire if it lasted.

Most are seen within a second; how long each takes is not judged here. The tests run in order: what was scraped of each
fault is judged when all have been.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pytest

from tests.lab.alertrules import Scrapes, lasting, verdicts
from tests.lab.fault import Fault
from tests.lab.nodefaults import NODE_FAULTS
from tests.lab.sessionfaults import SESSION_FAULTS
from tests.lab.topology import Lab, Node
from tests.lab.wait import wait_until
from tests.lab.ward import Ward

pytestmark = pytest.mark.live

FAULTS = {**SESSION_FAULTS, **NODE_FAULTS}
SEEN_SECONDS = 90.0
"""A watch whose API server's machine is gone is noticed after 30 s."""
WELL_SECONDS = 90.0
SCRAPE_SECONDS = 10
"""As with a Prometheus: an agent that is busy is there all the same."""


@pytest.fixture(scope="module")
def ward() -> Iterator[Ward]:
    with Lab(nodes=2, routers=1, families=("ipv4",)) as lab:
        ward = Ward(lab)
        yield ward
        ward.cluster.close()


@pytest.fixture(scope="module")
def scraped() -> dict[str, Scrapes]:
    """By fault, what a Prometheus on the other node had of ours."""
    return {}


def is_well(ward: Ward) -> bool:
    done = ward.agent.cli("check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOTE" not in done.stdout, done.stdout
    return ward.cluster.meshed(besides=ward.besides)


def metrics(ward: Ward, at: Node) -> dict[str, str]:
    """Empty where it cannot be had."""
    url = f"http://{'127.0.0.1' if at is ward.node else ward.us}:9817/metrics"
    text = at.run(["curl", "-sS", "-m", str(SCRAPE_SECONDS), url], check=False).stdout
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines}


def named(ward: Ward, fault: Fault, before: Mapping[str, str]) -> bool:
    """By `check` and by the command that one asks next; and a sample of the metrics has changed."""
    if fault.check:
        done = ward.agent.cli("check")
        is_well = fault.check.startswith("PASS")
        assert done.returncode == (0 if is_well else 3), done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("PASS") is is_well]
        assert any(re.search(fault.check, line) for line in lines), done.stdout
    told = ward.agent.cli(*fault.asked).stdout
    assert re.search(fault.cause, told), told
    assert re.search(fault.fix, told), told
    now = metrics(ward, ward.node)
    moved = [name for name in now.keys() | before.keys() if now.get(name) != before.get(name)]
    assert any(re.fullmatch(fault.moves, name) for name in moved), sorted(moved)
    return True


def goes_on(ward: Ward, fault: Fault, during: Mapping[str, str]) -> bool:
    """One of the samples that are to rise has risen since."""
    now = metrics(ward, ward.node)
    rising = [name for name in during if re.fullmatch(fault.goes_on, name)]
    assert any(float(now[name]) > float(during[name]) for name in rising), fault.goes_on
    return True


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_cause_and_fix_and_is_gone_from_all_that_when_it_is_mended(
    ward: Ward, name: str, scraped: dict[str, Scrapes]
) -> None:
    wait_until(lambda: is_well(ward), within=WELL_SECONDS, every=0.2)
    before, fault = metrics(ward, ward.other), FAULTS[name]

    unnamed, during = None, before
    with fault.harm(ward):  # undone in any case: others come after it
        try:
            wait_until(lambda: named(ward, fault, before), within=SEEN_SECONDS, every=0.2)
            during = metrics(ward, ward.other)
            if fault.goes_on:
                wait_until(lambda: goes_on(ward, fault, during), within=SEEN_SECONDS)
        except AssertionError as error:
            unnamed = error
    assert unnamed is None, unnamed
    wait_until(lambda: is_well(ward), within=WELL_SECONDS, every=0.2)
    scraped[name] = Scrapes(before, during, metrics(ward, ward.other))


@pytest.fixture(scope="module")
def judged(scraped: Mapping[str, Scrapes], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """By fault what promtool says to its alerts."""
    tests = {
        name: lasting(scrapes, FAULTS[name].alerts, goes_on=FAULTS[name].goes_on, lasts=FAULTS[name].lasts)
        for name, scrapes in scraped.items()
    }
    return verdicts(tmp_path_factory.mktemp("alerts"), tests)


@pytest.mark.parametrize("name", FAULTS)
def test_the_right_alerts_would_fire_and_no_others(name: str, judged: Mapping[str, str]) -> None:
    assert judged.get(name, "was not named, so nothing was scraped") == "SUCCESS"
