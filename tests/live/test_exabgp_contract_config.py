"""Every configuration that we can write is one that ExaBGP takes: whatever passes `refusal` passes its `validate`."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bgp.exaconfig import configuration, refusal
from bgp.model import Family, Held, Password, Peer, without_zone, zone_of
from tests.lab.speaking import ROOT

pytestmark = pytest.mark.live

AS_NUMBERS = st.sampled_from([1, 23456, 64512, 65535, 65536, 2**32 - 1]) | st.integers(1, 2**32 - 1)
TEXTS = st.text(max_size=300)
FAMILIES = st.sampled_from([frozenset(Family), *(frozenset({family}) for family in Family), frozenset()])
PORTS = st.integers(0, 65536)
SECONDS = st.none() | st.integers(0, 70000)
HOPS = st.none() | st.none() | st.integers(0, 256)
ADDRESSES = st.one_of(
    st.integers(0x0A000001, 0x0AFFFFFF).map(IPv4Address),
    st.integers(1, 2**64).map(lambda number: IPv6Address((0xFD00 << 112) + number)),
    st.integers(1, 2**64).map(lambda number: IPv6Address((0xFD00 << 112) + number))
    | st.just(IPv6Address("fe80::1%eth0")),
)


def of_the_same_family(peer: Peer) -> Peer:
    """Mostly: one whose address is of another family than ours, or link, is refused, and tests nothing."""
    if zone_of(peer.local_address):
        peer = replace(peer, local_address=without_zone(peer.local_address))
    if zone_of(peer.address):
        peer = replace(peer, source_interface=zone_of(peer.address), passive=False)
    if peer.address.version == peer.local_address.version:
        return peer
    local = ip_address("192.0.2.1") if peer.address.version == 4 else ip_address("fd00::1")
    return replace(peer, local_address=local)


PEERS = st.builds(
    Peer,
    address=ADDRESSES,
    name=TEXTS,
    local_address=ADDRESSES,
    local_asn=AS_NUMBERS,
    peer_asn=st.none() | AS_NUMBERS,
    router_id=st.integers(1, 2**32 - 1).map(IPv4Address),
    families=FAMILIES,
    passive=st.booleans(),
    port=st.just(179) | PORTS,
    hold_seconds=st.just(9) | st.integers(0, 70000),
    restart_seconds=st.just(120) | st.integers(0, 5000),
    password=st.none() | st.text(max_size=30).map(Password),
    mesh=st.booleans(),
    held=st.none()
    | st.none()
    | st.none()
    | st.builds(Held, st.sampled_from(["shutdown", "maxPrefixesExceeded"]), TEXTS),
    description=TEXTS,
    listen_port=st.just(179) | PORTS,
    keepalive_seconds=SECONDS,
    connect_retry_seconds=SECONDS,
    multihop=HOPS,
    ttl_security_hops=HOPS,
    source_interface=st.sampled_from(["", "", "eth0", "bond0.100", "br-lan", "a@b", "wg~1"]) | st.text(max_size=16),
    extended_next_hop=st.booleans(),
).map(of_the_same_family)


def validate(path: Path, peers: Sequence[Peer]) -> "subprocess.CompletedProcess[str]":
    path.write_text(configuration(peers, bridge=[sys.executable, "-I"]))
    command = [sys.executable, "-m", "bgp.inside.launcher", "--validate", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(PEERS, min_size=30, max_size=60, unique_by=lambda peer: peer.address))
def test_a_peer_that_we_do_not_refuse_is_taken_by_exabgp(
    tmp_path_factory: pytest.TempPathFactory, peers: list[Peer]
) -> None:
    taken = [peer for peer in peers if refusal(peer) is None]
    done = validate(tmp_path_factory.mktemp("configuration") / "exabgp.conf", taken)

    assert done.returncode == 0, done.stderr
