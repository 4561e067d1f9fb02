"""ExaBGP's configuration file: its text, whose change means a new neighbor, and who may not be in it."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from itertools import permutations

import pytest

from bgp.exaconfig import configuration, identity, refusal
from bgp.model import Family, Held, Password
from tests.unit.bgp.tor import TOR as PLAIN

TOR = replace(PLAIN, port=1790, password=Password("s3cret"))
NODE = replace(
    TOR,
    address=ip_address("fd00::2"),
    local_address=ip_address("fd00::9"),
    peer_asn=64512,
    passive=True,
    password=None,
    families=frozenset({Family.IPV6}),
)
ON_LINK: dict[str, object] = {
    "address": ip_address("fe80::1%e0"),
    "local_address": ip_address("fe80::2"),
    "source_interface": "e0",
}
BRIDGE = ["/usr/bin/python3", "-I", "/opt/with space/bridge.py"]

TEXT = """\
process bgpilot {
  run "/usr/bin/python3" "-I" "/opt/with space/bridge.py";
  encoder json;
}

neighbor 192.0.2.1 {
  router-id 192.0.2.9;
  local-address 192.0.2.9;
  local-as 64512;
  peer-as 65001;
  hold-time 90;
  passive false;
  listen 179;
  connect 1790;
  md5-password "czNjcmV0";
  md5-base64 true;
  manual-eor true;
  adj-rib-in false;
  adj-rib-out true;
  capability { asn4 enable; route-refresh enable; graceful-restart 120; }
  family { ipv4 unicast; ipv6 unicast; }
  api peer-192.0.2.1 {
    processes [ bgpilot ];
    neighbor-changes; fsm;
    receive { parsed; open; update; notification; refresh; }
    send { parsed; open; notification; }
  }
}

neighbor fd00::2 {
  router-id 192.0.2.9;
  local-address fd00::9;
  local-as 64512;
  peer-as 64512;
  hold-time 90;
  passive true;
  listen 179;
  connect 1790;
  manual-eor true;
  adj-rib-in false;
  adj-rib-out true;
  capability { asn4 enable; route-refresh enable; graceful-restart 120; }
  family { ipv6 unicast; }
  api peer-fd00--2 {
    processes [ bgpilot ];
    neighbor-changes; fsm;
    receive { parsed; open; update; notification; refresh; }
    send { parsed; open; notification; }
  }
}
"""


def test_the_text_of_two_peers() -> None:
    assert configuration([TOR, NODE], bridge=BRIDGE) == TEXT


def test_a_peer_on_a_link_is_written_without_its_zone_and_nothing_listens_for_it() -> None:
    text = configuration([replace(TOR, **ON_LINK)], bridge=BRIDGE)  # type: ignore[arg-type]

    assert "neighbor fe80::1 {\n" in text
    assert "  local-address fe80::2;\n" in text
    assert "  source-interface e0;\n" in text
    assert "listen" not in text
    assert "%" not in text


def test_peers_with_one_address_on_two_links_are_two_neighbors_in_any_order() -> None:
    other = {"address": ip_address("fe80::1%e0.1"), "source_interface": "e0.1"}
    peers = [replace(TOR, **{**ON_LINK, **change}) for change in ({}, other)]  # type: ignore[arg-type]
    text = configuration(peers, bridge=BRIDGE)

    assert configuration(peers[::-1], bridge=BRIDGE) == text
    assert len({line for line in text.splitlines() if line.strip().startswith("api ")}) == 2
    assert identity(peers[0]) != identity(peers[1])


def test_a_peer_on_a_link_that_is_held_is_told_goodbye_by_its_full_name() -> None:
    held = replace(TOR, **ON_LINK, held=Held("shutdown"))  # type: ignore[arg-type]

    assert "# farewell fe80::1%e0 2\n" in configuration([held], bridge=BRIDGE)


def lines_of(**change: object) -> set[str]:
    """What the change adds to the text of TOR."""
    changed = configuration([replace(TOR, **change)], bridge=BRIDGE)  # type: ignore[arg-type]
    return {line.strip() for line in changed.splitlines()} - {line.strip() for line in TEXT.splitlines()}


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"peer_asn": None}, {"peer-as auto;"}),
        ({"listen_port": 1791}, {"listen 1791;"}),
        ({"keepalive_seconds": 5}, {'description "keepalive=5";'}),
        ({"connect_retry_seconds": 7}, {'description "connect-retry=7";'}),
        ({"mesh": True, "name": "node/worker-3"}, {'description "node=1 name=worker-3";'}),
        ({"mesh": True, "name": 'node/"; }'}, {'description "node=1";'}),
        ({"forwarding_lost": True}, {'description "forwarding-lost=1";'}),
        ({"multihop": 4}, {"outgoing-ttl 4;"}),
        ({"ttl_security_hops": 1}, {"incoming-ttl 255;"}),
        ({"ttl_security_hops": 254}, {"incoming-ttl 2;"}),
        ({"source_interface": "eth1"}, {"source-interface eth1;"}),
        (
            {"extended_next_hop": True},
            {
                "capability { asn4 enable; route-refresh enable; graceful-restart 120; nexthop enable; }",
                "nexthop { ipv4 unicast ipv6; }",
            },
        ),
        ({"extended_next_hop": True, "families": frozenset({Family.IPV6})}, set()),
        ({"description": '"; }', "allowas_in": 3, "client": True}, set()),
    ],
)
def test_what_each_setting_adds(change: dict[str, object], lines: set[str]) -> None:
    assert lines_of(**change) == lines


@pytest.mark.parametrize(
    ("held", "line"),
    [
        (Held("shutdown"), "# farewell 192.0.2.1 2"),
        (Held("shutdown", "neu"), "# farewell 192.0.2.1 2 6e6575"),
        (Held("secretMissing", "a\nneighbor"), "# farewell 192.0.2.1 2 610a6e65696768626f72"),
        (Held("maxPrefixesExceeded", "for us"), "# farewell 192.0.2.1 1"),
    ],
)
def test_a_peer_that_is_held_is_left_out_with_what_it_is_told(held: Held, line: str) -> None:
    text = configuration([replace(TOR, held=held)], bridge=BRIDGE)

    assert "neighbor" not in text
    assert text.splitlines()[-1] == line


def test_the_order_of_peers_changes_nothing() -> None:
    peers = [TOR, NODE, replace(TOR, address=ip_address("10.0.0.1"))]

    assert len({configuration(order, bridge=BRIDGE) for order in permutations(peers)}) == 1


def test_names_and_other_people_s_words_are_not_in_it() -> None:
    evil = replace(TOR, name='}\nneighbor 1.2.3.4 { "', password=Password('";\n}'))
    text = configuration([evil], bridge=BRIDGE)

    assert text.count("neighbor ") == 1
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize("path", ['/a"b', "/a\\b", "/a\nb"])
def test_a_path_that_cannot_be_quoted_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="quote"):
        configuration([], bridge=[path])


@pytest.mark.parametrize(
    "change",
    [
        {"local_address": ip_address("192.0.2.8")},
        {"local_asn": 1},
        {"peer_asn": 1},
        {"router_id": IPv4Address("192.0.2.8")},
    ],
)
def test_what_makes_a_new_neighbor_of_a_peer(change: dict[str, object]) -> None:
    assert identity(replace(TOR, **change)) != identity(TOR)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"hold_seconds": 9}, {"password": None}, {"port": 179}, {"passive": True}, {"families": frozenset({Family.IPV4})}],
)
def test_what_leaves_a_peer_the_same_neighbor(change: dict[str, object]) -> None:
    assert identity(replace(TOR, **change)) == identity(TOR)  # type: ignore[arg-type]


def test_peers_as_they_should_be_are_not_refused() -> None:
    assert refusal(TOR) is None
    assert refusal(NODE) is None
    assert refusal(replace(TOR, hold_seconds=0)) is None
    assert refusal(replace(TOR, peer_asn=None, multihop=254, source_interface="eth0.100")) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"local_address": ip_address("fd00::9")}, "not of one family"),
        ({"hold_seconds": 2}, "hold time 2"),
        ({"hold_seconds": 65536}, "hold time 65536"),
        ({"restart_seconds": 0}, "restart time 0"),
        ({"restart_seconds": 4096}, "restart time 4096"),
        ({"families": frozenset()}, "no address family"),
        ({"port": 0}, "port 0"),
        ({"listen_port": 65536}, "listen port 65536"),
        ({"keepalive_seconds": 0}, "keepalive time 0"),
        ({"connect_retry_seconds": 65536}, "connect retry time 65536"),
        ({"multihop": 255}, "multihop of 255 hops"),
        ({"ttl_security_hops": 0}, "TTL security of 0 hops"),
        ({"ttl_security_hops": 1, "multihop": 2}, "exclude each other"),
        ({"source_interface": "eth 0"}, "'eth 0' is no interface"),
        ({"source_interface": "x" * 16}, "is no interface"),
        ({"address": ip_address("fe80::1"), "local_address": ip_address("fe80::2")}, "needs its interface"),
        ({"address": ip_address("fe80::1%e0"), "local_address": ip_address("fe80::2")}, "as source interface"),
        ({**ON_LINK, "source_interface": "e1"}, "as source interface"),
        ({**ON_LINK, "passive": True}, "must be dialed"),
        ({**ON_LINK, "local_address": ip_address("fe80::2%e0")}, "local address fe80::2%e0 names an interface"),
        ({**ON_LINK, "address": ip_address("fd00::1%e0")}, "is not link-local"),
        ({**ON_LINK, "address": ip_address("fe80::1%xhelp"), "source_interface": "xhelp"}, "ends like a command"),
        ({"password": Password("")}, "password of 0 bytes"),
        ({"password": Password("ü" * 41)}, "password of 82 bytes"),
    ],
)
def test_a_peer_that_would_spoil_the_file_is_refused_in_words(change: dict[str, object], says: str) -> None:
    why = refusal(replace(TOR, **change))  # type: ignore[arg-type]

    assert why is not None
    assert says in why
    assert "ü" not in why
