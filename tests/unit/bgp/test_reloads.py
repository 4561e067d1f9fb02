"""What ExaBGP has read, and what the next configuration may take the place of."""

from __future__ import annotations

import time
from pathlib import Path

from bgp.model import SpeakerPlan
from bgp.speaker import Speaker, SpeakerMode
from tests.lab.fakeexabgp import FakeExaBgp
from tests.lab.wait import eventually
from tests.unit.bgp.tor import TOR


async def test_a_peer_that_goes_and_comes_back_is_gone_in_between_however_late_exabgp_reads(tmp_path: Path) -> None:
    """Its session would go on, of which the agent believes that it has ended, and hears nothing more."""
    speaker = Speaker(
        run_dir=tmp_path, mode=SpeakerMode.EXTERNAL, put=lambda _: None, wake=lambda: None, clock=time.monotonic
    )
    exabgp = FakeExaBgp(tmp_path)
    exabgp.reads_late = True
    await speaker.start()
    await exabgp.connect()
    for count, peers in enumerate(([TOR], [], [TOR]), 1):
        plan = SpeakerPlan({peer.address: peer for peer in peers}, {})
        await speaker.apply(plan, peers_changed=True, dirty=None, hold_back=lambda _key: False)
        await eventually(lambda count=count: exabgp.heard.count("reload") == count)
    await eventually(lambda: speaker.in_sync)
    await speaker.stop()
    await exabgp.disconnect()

    assert exabgp.read == [["192.0.2.1"], [], ["192.0.2.1"]]
