"""What our launcher replaces in ExaBGP: each replacement does what it is for, and ExaBGP still needs it.

A test named "without it" shows the fault in ExaBGP as it is: when upstream mends it, the test fails and the replacement
can go.
"""

import asyncio
import contextlib
import itertools
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from bgp.commands import Announce, SendEndOfRib, Withdraw
from bgp.driver.process import CONFIGURATION, environment, launcher, prepare
from bgp.exaevents import CameUp
from bgp.exatext import RELOAD, SHOW_TABLE, command_line, session
from bgp.inside.launcher import EXIT_UNUSABLE
from bgp.model import Family, Peer
from tests.lab.exabgp import ExaBgp
from tests.lab.machines import Host
from tests.lab.speaking import ROOT, entered, peer, route
from tests.lab.topology import Lab
from tests.lab.wait import eventually
from tests.lab.wirepeer import WirePeer
from tests.live.conftest import LabFactory

pytestmark = pytest.mark.live

TOR_ASN = 65001
V4 = "172.18.0.11"


def lines_that_confuse_the_order(one: Peer) -> list[str]:
    """10.2.0.0/24 opens the group of MED 2; then 10.1.0.0/24 is withdrawn and comes back into that group."""
    words = session(one)
    return [
        command_line(Announce((one.address,), route("10.2.0.0/24", V4, med=2)), [words]),
        command_line(Withdraw((one.address,), route("10.1.0.0/24", V4).prefix), [words]),
        command_line(Announce((one.address,), route("10.1.0.0/24", V4, med=2)), [words]),
    ]


async def last_word_about(net: Lab, *, unchanged: bool) -> str:
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with (
        WirePeer(net.router, asn=TOR_ASN) as wire,
        ExaBgp(net.node(1), [one], unchanged=unchanged) as exabgp,
    ):
        await exabgp.up(one)
        exabgp.send(command_line(Announce((one.address,), route("10.1.0.0/24", V4, med=1)), [session(one)]))
        await eventually(lambda: wire.session.of("announce"))
        exabgp.send(*lines_that_confuse_the_order(one))
        exabgp.send(command_line(SendEndOfRib(one.address, Family.IPV4), [session(one)]))
        await eventually(lambda: wire.session.of("end-of-rib"))
        assert len(await exabgp.link.ask(SHOW_TABLE)) == 2
        return [sent.what for sent in wire.session.heard if "10.1.0.0/24" in sent.prefixes][-1]


async def test_the_newest_change_of_a_prefix_is_the_last_that_is_sent(lab: LabFactory) -> None:
    assert await last_word_about(lab(nodes=1), unchanged=False) == "announce"


async def test_without_it_an_older_withdrawal_may_come_last(lab: LabFactory) -> None:
    assert await last_word_about(lab(nodes=1), unchanged=True) == "withdraw"


async def reload_beside_a_dead_peer(net: Lab, *, unchanged: bool) -> bool:
    """Whether a peer that is added while routes wait for a dead one gets a session."""
    node = net.node(1)
    dead = peer(node, ip_address("172.18.0.99"), asn=TOR_ASN)
    alive = peer(node, net.router.address(), asn=TOR_ASN)
    async with WirePeer(net.router, asn=TOR_ASN), ExaBgp(node, [dead], unchanged=unchanged) as exabgp:
        words = session(dead)
        exabgp.send(command_line(Announce((dead.address,), route("10.1.0.0/24", V4)), [words]))
        await eventually(lambda: exabgp.answers == [True])
        exabgp.configure([dead, alive])
        await exabgp.link.ask(RELOAD)
        exabgp.send(command_line(Announce((alive.address,), route("10.1.0.0/24", V4)), [session(alive)]))
        await eventually(lambda: len(exabgp.answers) == 2)
        return exabgp.answers[1]


async def test_a_reload_is_carried_out_while_routes_wait_for_a_dead_peer(lab: LabFactory) -> None:
    assert await reload_beside_a_dead_peer(lab(nodes=1), unchanged=False)


async def test_without_it_the_reload_is_forgotten(lab: LabFactory) -> None:
    assert not await reload_beside_a_dead_peer(lab(nodes=1), unchanged=True)


async def test_end_of_rib_survives_a_reload_that_comes_right_behind_it(lab: LabFactory) -> None:
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, ExaBgp(net.node(1), [one]) as exabgp:
        await exabgp.up(one)
        markers = [command_line(SendEndOfRib(one.address, family), [session(one)]) for family in Family]
        for _ in range(5):
            exabgp.send(*markers, RELOAD)
        await eventually(lambda: len(exabgp.answers) == 15)
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 10)

        assert len(wire.sessions) == 1


RELOAD_BEFORE_IT_BEGINS = """
from exabgp.reactor.peer import Peer
establish = Peer._establish
def _establish(self):
    yield from establish(self)
    self.reactor.reload()
Peer._establish = _establish
"""
"""As a signal or a command may: the state is ESTABLISHED by then, and `Peer._main` comes at the peer's next turn."""


async def test_a_reload_between_established_and_the_first_update_does_not_end_the_session(lab: LabFactory) -> None:
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with (
        WirePeer(net.router, asn=TOR_ASN) as wire,
        ExaBgp(net.node(1), [one], before=RELOAD_BEFORE_IT_BEGINS) as exabgp,
    ):
        await exabgp.up(one)
        exabgp.send(*(command_line(SendEndOfRib(one.address, family), [session(one)]) for family in Family))
        await eventually(lambda: len(wire.session.of("end-of-rib")) == 2)

        assert len(wire.sessions) == 1


async def test_without_it_the_session_ends_again_and_again(lab: LabFactory) -> None:
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with (
        WirePeer(net.router, asn=TOR_ASN) as wire,
        ExaBgp(net.node(1), [one], unchanged=True, before=RELOAD_BEFORE_IT_BEGINS),
    ):
        await eventually(lambda: len(wire.sessions) > 2)


async def test_end_of_rib_for_a_peer_without_a_session_is_refused(lab: LabFactory) -> None:
    node = lab(nodes=1).node(1)
    one = peer(node, ip_address("172.18.0.99"), asn=TOR_ASN)
    async with ExaBgp(node, [one]) as exabgp:
        exabgp.send(command_line(SendEndOfRib(one.address, Family.IPV4), [session(one)]))
        await eventually(lambda: exabgp.answers == [False])


async def test_a_peer_that_was_away_is_back_within_three_seconds(lab: LabFactory) -> None:
    """ExaBGP as it is would dial again after 9 s or more by then."""
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with ExaBgp(net.node(1), [one]) as exabgp:
        started_at = time.monotonic()
        await eventually(lambda: time.monotonic() - started_at > 20.0, every=1.0)
        async with WirePeer(net.router, asn=TOR_ASN):
            back_at = time.monotonic()
            await exabgp.up(one)

        assert time.monotonic() - back_at < 4.0  # 2 s of delay, and a busy machine


async def test_a_peer_that_was_silent_is_back_within_six_seconds(lab: LabFactory) -> None:
    """Nothing answers, not even with a reset: the kernel as it is would try again after 16 s or more by then."""
    net = lab(nodes=1)
    rule = "add table inet silent; add chain inet silent in { type filter hook input priority 0; }"
    net.router.run(["nft", f"{rule}; add rule inet silent in tcp dport 179 drop"])
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with WirePeer(net.router, asn=TOR_ASN), ExaBgp(net.node(1), [one]) as exabgp:
        started_at = time.monotonic()
        await eventually(lambda: time.monotonic() - started_at > 17.0, every=1.0)
        net.router.run(["nft", "delete table inet silent"])
        back_at = time.monotonic()
        await exabgp.up(one)

        assert time.monotonic() - back_at < 7.0  # 3 s of a dial, 2 s of delay, and a busy machine


async def greeting_seconds(net: Lab, *, unchanged: bool) -> float:
    """How long it takes until thirty peers that dial at once have all been sent an OPEN."""
    node = net.node(1)
    sources = [f"172.18.0.{number}" for number in range(100, 130)]
    net.router.configure(ip=[f"addr add {source}/24 dev eth0" for source in sources])
    peers = [peer(node, ip_address(source), asn=TOR_ASN, passive=True) for source in sources]
    async with ExaBgp(node, peers, unchanged=unchanged):
        with entered(net.router):
            dialers = [socket.socket() for _ in sources]
        with contextlib.ExitStack() as stack:
            for dialer, source in zip(dialers, sources, strict=True):
                stack.enter_context(dialer)
                dialer.bind((source, 0))
                dialer.setblocking(False)
            loop = asyncio.get_running_loop()
            started_at = time.monotonic()
            await asyncio.gather(*(loop.sock_connect(dialer, (V4, 179)) for dialer in dialers))
            greetings = await asyncio.gather(*(loop.sock_recv(dialer, 1) for dialer in dialers))
            assert greetings == [b"\xff"] * len(sources)
            return time.monotonic() - started_at


async def test_thirty_peers_that_dial_at_once_are_greeted_at_once(lab: LabFactory) -> None:
    """With turns of 100 ms and one connection a turn it would be 3 s."""
    assert await greeting_seconds(lab(nodes=1), unchanged=False) < 2.0


async def idle_cpu_seconds(net: Lab, host: Host) -> float:
    peers = [peer(host, ip_address(f"172.18.0.{number}"), asn=TOR_ASN, passive=True) for number in range(100, 120)]
    one = peer(host, net.router.address(), asn=TOR_ASN)
    async with WirePeer(net.router, asn=TOR_ASN), ExaBgp(host, [one, *peers]) as exabgp:
        await exabgp.up(one)
        before, started_at = _cpu_seconds(exabgp.process.pid), time.monotonic()
        await eventually(lambda: time.monotonic() - started_at > 5.0, every=1.0)
        return (_cpu_seconds(exabgp.process.pid) - before) / (time.monotonic() - started_at)


async def test_idle_costs_little(lab: LabFactory) -> None:
    net = lab(nodes=1)

    assert await idle_cpu_seconds(net, net.node(1)) < 0.05


async def test_a_session_that_comes_up_and_falls_is_dialed_less_and_less(lab: LabFactory) -> None:
    net = lab(nodes=1)
    one = peer(net.node(1), net.router.address(), asn=TOR_ASN)
    async with WirePeer(net.router, asn=TOR_ASN) as wire, ExaBgp(net.node(1), [one]) as exabgp:
        ups: list[float] = []
        for count in range(1, 6):
            await eventually(lambda count=count: len(exabgp.of(CameUp)) == count)
            ups.append(time.monotonic())
            wire.notify(6, 4)
        gaps = [later - earlier for earlier, later in itertools.pairwise(ups)]

        least = (0.0, 0.35, 0.7, 1.4)  # seconds, of 0, 0.5, 1 and 2 with jitter
        assert [gap >= wait for gap, wait in zip(gaps, least, strict=True)] == [True] * 4, gaps


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def launch(*arguments: str, path: Path) -> "subprocess.CompletedProcess[str]":
    environment = {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}", "PATH": os.environ["PATH"]}
    command = [sys.executable, *arguments, "-m", "bgp.inside.launcher", "nowhere.conf"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_a_parent_that_is_gone_before_we_can_follow_it_leaves_no_orphan(tmp_path: Path) -> None:
    prepare(tmp_path, keep=False)
    start = f"{shlex.join(launcher([]))} --die-with-parent $$ {tmp_path / CONFIGURATION} &"
    with subprocess.Popen(["sh", "-c", start], stdout=subprocess.PIPE, env=environment(), start_new_session=True) as sh:
        assert sh.wait(60) == 0  # Python has not even started by then
        try:
            sh.communicate(timeout=60)  # the pipe is held as long as anything that was started
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(sh.pid, signal.SIGKILL)


@pytest.mark.parametrize("version", ["5.0.14", "6.0.0", "4.2.21"])
def test_another_version_of_exabgp_is_refused_with_the_way_out(tmp_path: Path, version: str) -> None:
    described = tmp_path / f"exabgp-{version}.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: exabgp\nVersion: {version}\n")
    done = launch(path=tmp_path)

    assert done.returncode == EXIT_UNUSABLE
    wanted = "exabgp>=5.0.15,<6"
    assert done.stderr == f"bgpilot: ExaBGP {version} is installed, {wanted} is needed: pip install '{wanted}'\n"


def test_no_exabgp_is_refused_with_the_way_out(tmp_path: Path) -> None:
    done = launch("-S", path=tmp_path)  # without site packages

    assert done.returncode == EXIT_UNUSABLE
    assert done.stderr == "bgpilot: ExaBGP is not installed: pip install 'exabgp>=5.0.15,<6'\n"


def test_the_oldest_version_that_we_take_is_the_one_that_is_pinned() -> None:
    assert 'exabgp>=5.0.15,<6"' in (ROOT / "pyproject.toml").read_text()
