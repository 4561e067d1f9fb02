"""What `Forwarding` says of the sysctls, against the kernel that has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.kernel.forwarding import Forwarding
from bgp.model import Family
from tests.lab.realkernel import fresh_netns
from tests.lab.wait import eventually

pytestmark = pytest.mark.live

SYSCTLS = {Family.IPV4: "ipv4/ip_forward", Family.IPV6: "ipv6/conf/all/forwarding"}
BOTH = frozenset(Family)


def forward(family: Family, value: str) -> None:
    Path("/proc/sys/net", SYSCTLS[family]).write_text(value)


@pytest.fixture
async def said() -> AsyncIterator[list[frozenset[Family]]]:
    with fresh_netns():
        for family in Family:
            forward(family, "0")
        said: list[frozenset[Family]] = []
        forwarding = Forwarding(said.append)
        await forwarding.start()
        try:
            yield said
        finally:
            await forwarding.stop()


async def test_what_is_not_forwarded_is_told_before_start_returns_and_as_it_changes(said):
    assert said == [BOTH]

    forward(Family.IPV4, "1")
    await eventually(lambda: said[1:] == [{Family.IPV6}])
    forward(Family.IPV6, "1")
    await eventually(lambda: said[2:] == [frozenset()])
    forward(Family.IPV4, "0")
    await eventually(lambda: said[3:] == [{Family.IPV4}])
