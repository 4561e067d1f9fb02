"""The real kube-apiserver passes the cases that the embedded one is held to: what we believe of it, said by it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.api_contract import CASES, Case, Scratch
from tests.lab.apikinds import CRDS
from tests.lab.controlplane import ControlPlane

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        running.apply(*(path for path in sorted(CRDS.glob("bgp*.yaml"))))
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield running


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_contract(cluster: ControlPlane, case: Case) -> None:
    scratch = Scratch(cluster.api())
    try:
        case(scratch)
    finally:
        scratch.clean()
