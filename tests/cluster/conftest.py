"""Control planes for the cluster tests; a test that fails on a lab shows its logs."""

from collections.abc import Generator, Iterator

import pytest

from tests.lab.apikinds import CRDS
from tests.lab.controlplane import ControlPlane
from tests.lab.kubeapi import KubeApi
from tests.lab.topology import Lab


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """One per file, on loopback, for tests that leave it as they found it; `nobody` is a user without any right."""
    with ControlPlane(users={"nobody": ()}) as running:
        yield running


@pytest.fixture(scope="session")
def crds() -> Iterator[ControlPlane]:
    """One for all files, with the definitions of our kinds and no object of any."""
    with ControlPlane() as running:
        running.apply(*sorted(CRDS.glob("bgp*.yaml")))
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield running


@pytest.fixture(scope="session")
def crds_api(crds: ControlPlane) -> KubeApi:
    return crds.api()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Runs before the fixtures are torn down, so that the logs are still there."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        labs = [getattr(value, "lab", None) for value in item.funcargs.values()]
        report.sections += [(f"logs of {lab.home.id}", lab.logs()) for lab in labs if isinstance(lab, Lab)]
    return report
