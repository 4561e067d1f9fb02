"""Control planes for the cluster tests."""

from collections.abc import Iterator

import pytest

from tests.lab.controlplane import ControlPlane


@pytest.fixture(scope="module")
def control_plane() -> Iterator[ControlPlane]:
    """One per file, on loopback, for tests that leave it as they found it; `nobody` is a user without any right."""
    with ControlPlane(users={"nobody": ()}) as running:
        yield running
