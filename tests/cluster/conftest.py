"""Control planes for the cluster tests."""

from collections.abc import Iterator

import pytest

from tests.lab.apikinds import CRDS
from tests.lab.controlplane import ControlPlane
from tests.lab.kubeapi import KubeApi


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
