"""The fake kernel passes the contract that the real one is held to, so that tests of others may trust it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.lab.fakekernel import FakeKernel

pytest.register_assert_rewrite("tests.lab.kernelcontract", "tests.lab.kernelspoiled")

from tests.lab.kernelcontract import (  # noqa: E402
    Bench,
    DiscardsForForwardedPackets,
    OneRouteOfEachFamily,
    WholeTable,
    running,
)
from tests.lab.kernelspoiled import RefusedNextHops, RoutesWithMore, SpoiledRoutes, SpoiledRules  # noqa: E402


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with running(FakeKernel()) as bench:
        yield bench


class TestOneRouteOfEachFamily(OneRouteOfEachFamily):
    pass


class TestWholeTable(WholeTable):
    pass


class TestDiscardsForForwardedPackets(DiscardsForForwardedPackets):
    pass


class TestSpoiledRoutes(SpoiledRoutes):
    pass


class TestRoutesWithMore(RoutesWithMore):
    pass


class TestSpoiledRules(SpoiledRules):
    pass


class TestRefusedNextHops(RefusedNextHops):
    pass
