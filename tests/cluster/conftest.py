"""Control planes for the cluster tests; a test that fails on a lab shows its logs."""

from collections.abc import Generator, Iterator

import pytest

from tests.lab.controlplane import ControlPlane
from tests.lab.topology import Lab


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """One per file, on loopback, for tests that leave it as they found it; `nobody` is a user without any right."""
    with ControlPlane(users={"nobody": ()}) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Runs before the fixtures are torn down, so that the logs are still there."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        labs = [getattr(value, "lab", None) for value in item.funcargs.values()]
        report.sections += [(f"logs of {lab.home.id}", lab.logs()) for lab in labs if isinstance(lab, Lab)]
    return report
