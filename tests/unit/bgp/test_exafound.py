"""Other nodes read back from the file that was written for ExaBGP: what it was, or nothing."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp.exaconfig import configuration
from bgp.exafound import nodes
from bgp.model import Family, Held, Password, Peer

NODE = Peer(
    address=ip_address("192.0.2.3"),
    name="node/worker-3.example",
    local_address=ip_address("192.0.2.9"),
    local_asn=64512,
    peer_asn=64512,
    router_id=IPv4Address("192.0.2.9"),
    families=frozenset(Family),
    mesh=True,
)
IPV6 = replace(NODE, address=ip_address("fd00::3"), local_address=ip_address("fd00::9"))
BRIDGE = ["bridge"]


def found(text: str) -> list[Peer]:
    return list(nodes(text, {NODE.address, IPV6.address}))


@given(
    st.builds(
        replace,
        st.sampled_from([NODE, IPV6]),
        name=st.from_regex(r"node/[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True),
        local_asn=st.integers(1, 2**32 - 1),
        peer_asn=st.integers(1, 2**32 - 1),
        families=st.frozensets(st.sampled_from(Family), min_size=1),
        passive=st.booleans(),
        port=st.integers(1, 65535),
        listen_port=st.integers(1, 65535),
        hold_seconds=st.integers(3, 65535),
        restart_seconds=st.integers(1, 4095),
        password=st.none() | st.builds(Password, st.text(min_size=1, max_size=20)),
    )
)
def test_a_node_is_found_as_it_was(node: Peer) -> None:
    others = [
        replace(NODE, address=ip_address("192.0.2.4")),
        replace(NODE, address=ip_address("192.0.2.1"), mesh=False),
    ]

    assert found(configuration([*others, node], bridge=BRIDGE)) == [node]


@pytest.mark.parametrize(
    "peer",
    [
        replace(NODE, mesh=False, name="BGPPeer/tor"),
        replace(NODE, held=Held("shutdown")),
        replace(NODE, name="node/of another make"),
        replace(NODE, ttl_security_hops=1),
        replace(NODE, peer_asn=None),
    ],
    ids=["router", "held", "name", "setting that no node has", "any AS"],
)
def test_what_is_no_node_or_cannot_be_known_is_not_found(peer: Peer) -> None:
    assert found(configuration([peer], bridge=BRIDGE)) == []


@pytest.mark.parametrize(
    ("this", "by_that"),
    [
        (" name=worker-3.example", ""),
        ("hold-time 90", "hold-time ninety"),
        ("  local-as 64512;\n", ""),
        ("179", "0179"),
    ],
    ids=["an older version's", "a word", "missing", "otherwise written"],
)
def test_a_file_that_we_would_not_write_so_says_nothing(this: str, by_that: str) -> None:
    text = configuration([NODE], bridge=BRIDGE)
    assert this in text

    assert found(text.replace(this, by_that)) == []
