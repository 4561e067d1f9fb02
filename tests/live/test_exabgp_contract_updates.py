"""Contract tests: what ExaBGP 5.0.15, as we run it, does with malformed UPDATEs, and what of that we mend (`updates`).

The cases and their outcomes are in `tests.lab.hostile`. A new ExaBGP that does something else fails here by name.
"""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from bgp.exaevents import Heard
from bgp.model import PathsHeard
from tests.bench.usage import cpu_seconds
from tests.lab.exabgp import ExaBgp
from tests.lab.hostile import ASN, BODY_MAX, IGNORED, KEPT, NLRI, WITHDRAWN, Builder, Case, HostilePeer, segment, update
from tests.lab.speaking import peer
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import attribute
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

MARK, MARK_NLRI = ip_network("203.0.113.255/32"), bytes.fromhex("20cb0071ff")
PREFIX_SID = bytes.fromhex("d028000a050007") + bytes(7)


class Outcomes:
    """Sends one case after the other, each on a session that is up, and says what came of it."""

    def __init__(self, exabgp: ExaBgp, wire: HostilePeer, build: Builder) -> None:
        self.exabgp, self.wire, self.build = exabgp, wire, build

    async def of(self, case: Case) -> str:
        """The mark behind the case is heard, or the session ends."""
        await eventually(lambda: self.wire.session.open and not self.wire.session.ended)
        session = self.wire.session
        await self._marked(session.ended)
        self.exabgp.events.clear()
        self.wire.update(case.body, self.build.announce(MARK_NLRI))
        await eventually(lambda: session.ended or self._heard_mark())
        if session.ended:
            said = [sent.data for sent in session.of("notification")]
            await eventually(lambda: self.wire.session is not session)
            return " ".join(f"{data[0]}/{data[1]}" for data in said)
        return _outcome(self.exabgp.events, case)

    async def _marked(self, ended: bool) -> None:
        """The session is up: what is sent before that would be an error of another kind."""
        assert not ended
        self.exabgp.events.clear()
        self.wire.update(self.build.announce(MARK_NLRI))
        await eventually(self._heard_mark)

    def _heard_mark(self) -> bool:
        return any(MARK in prefixes for heard in self.exabgp.of(PathsHeard) for _, prefixes in heard.announced)


def _outcome(events: list[Heard], case: Case) -> str:
    prefix = ip_network(case.prefix)
    about = [event for event in events if isinstance(event, PathsHeard)]
    if any(prefix in prefixes for heard in about for _, prefixes in heard.announced):
        return KEPT
    return WITHDRAWN if any(prefix in heard.withdrawn for heard in about) else IGNORED


async def outcomes(net: Lab, cases: list[Case], *, unchanged: bool = False) -> dict[str, str]:
    one = peer(net.node(1), net.router.address(), asn=ASN, connect_retry_seconds=1)
    async with HostilePeer(net.router, asn=ASN) as wire, ExaBgp(net.node(1), [one], unchanged=unchanged) as exabgp:
        await exabgp.up(one)
        pid = exabgp.process.pid
        told = Outcomes(exabgp, wire, Builder(net.router))
        found = {case.name: await told.of(case) for case in cases}
        assert (exabgp.process.alive, exabgp.process.pid) == (True, pid)
        return found


async def test_each_malformed_update_has_the_outcome_that_was_measured(lab: LabFactory) -> None:
    net = lab(nodes=1)
    cases = Builder(net.router).cases()

    assert await outcomes(net, cases) == {case.name: case.outcome for case in cases}


async def test_a_header_that_is_wrong_would_end_the_session_without_a_word(lab: LabFactory) -> None:
    net = lab(nodes=1)
    case = Case("too long", bytes(BODY_MAX + 1), "1/2")

    assert await outcomes(net, [case], unchanged=True) == {"too long": ""}
    assert await outcomes(net, [case]) == {"too long": "1/2"}


async def test_an_attribute_that_is_written_as_no_json_would_hide_the_update(lab: LabFactory) -> None:
    net = lab(nodes=1)
    case = Case("Prefix-SID", update(Builder(net.router).good + PREFIX_SID, NLRI), KEPT)

    assert await outcomes(net, [case], unchanged=True) == {"Prefix-SID": IGNORED}
    assert await outcomes(net, [case]) == {"Prefix-SID": KEPT}


async def test_prefixes_that_cannot_be_found_would_stay_as_they_were(lab: LabFactory) -> None:
    net = lab(nodes=1)
    case = Case("overrun", update(b"\x40\1\x40\0" + Builder(net.router).reach, b""), "3/1")

    assert await outcomes(net, [case], unchanged=True) == {"overrun": IGNORED}
    assert await outcomes(net, [case]) == {"overrun": "3/1"}


@pytest.mark.parametrize("unchanged", [True, False])
async def test_as4_path_would_hide_our_as_in_the_path(lab: LabFactory, unchanged: bool) -> None:
    net = lab(nodes=1)
    one, build = peer(net.node(1), net.router.address(), asn=ASN), Builder(net.router)
    hidden = build.announce(NLRI, path=b"\x40\2\x0a" + segment(ASN, 64512))
    lie = b"\xc0\x11\x0a" + segment(ASN, 7)
    attributes = hidden[4:-4] + lie
    async with HostilePeer(net.router, asn=ASN) as wire, ExaBgp(net.node(1), [one], unchanged=unchanged) as exabgp:
        await exabgp.up(one)
        wire.update(update(attributes, NLRI))
        await eventually(lambda: exabgp.of(PathsHeard))
        ((path, _),) = exabgp.of(PathsHeard)[0].announced

    assert path.attributes.as_path == ((ASN, 7) if unchanged else (ASN, 64512))


async def test_many_communities_would_cost_more_than_there_is_time_for(lab: LabFactory) -> None:
    """Three thousand, in a long message (RFC 8654). With ten thousand nobody would be heard for half a minute."""
    net = lab(nodes=1)
    one, build = peer(net.node(1), net.router.address(), asn=ASN), Builder(net.router)
    body = update(build.good + attribute(0xC0, 8, build.many(3_000)), NLRI)
    seconds = {}
    for unchanged in (True, False):
        async with (
            HostilePeer(net.router, asn=ASN, long_messages=True) as wire,
            ExaBgp(net.node(1), [one], unchanged=unchanged) as exabgp,
        ):
            await exabgp.up(one)
            before = cpu_seconds(exabgp.process.pid)
            wire.update(body)
            await eventually(lambda exabgp=exabgp: exabgp.of(PathsHeard), within=60)  # type: ignore[misc]
            seconds[unchanged] = cpu_seconds(exabgp.process.pid) - before
            ((path, _),) = exabgp.of(PathsHeard)[0].announced
            assert len(path.attributes.communities) == 3_000

    assert seconds[True] > 3 * seconds[False]
