"""The real kernel, in a network namespace of its own, does what the driver relies on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.lab.realkernel import RealKernel, fresh_netns

pytest.register_assert_rewrite("tests.lab.kernelcontract")

from tests.lab.kernelcontract import (  # noqa: E402
    Bench,
    DiscardsForForwardedPackets,
    OneRouteOfEachFamily,
    WholeTable,
    running,
)

pytestmark = pytest.mark.live


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    with fresh_netns():
        async with running(RealKernel()) as bench:
            yield bench


class TestOneRouteOfEachFamily(OneRouteOfEachFamily):
    pass


class TestWholeTable(WholeTable):
    pass


class TestDiscardsForForwardedPackets(DiscardsForForwardedPackets):
    pass
