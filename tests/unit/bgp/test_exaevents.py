"""ExaBGP's JSON, as ExaBGP 5.0.15 wrote it, read into events; and what cannot be read is counted, never raised."""

import json
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgp.exaevents import (
    CameUp,
    EventReader,
    Malformed,
    Notified,
    Opened,
    Refreshed,
    StateChanged,
    WentDown,
)
from bgp.exaupdate import CACHE_MAX
from bgp.model import (
    Attributes,
    Community,
    Direction,
    EndOfRib,
    Family,
    LargeCommunity,
    Origin,
    Path,
    PathsHeard,
    SessionState,
)

HEAD = (
    '{ "exabgp": "5.0.0", "time": 1795257657.0997581, "host" : "vm", "pid" : 23950, "ppid" : 1, "counter": 10, '
    '"type": "%s", "neighbor": { "address": { "local": "10.99.0.1", "peer": "10.99.0.2" }, '
    '"asn": { "local": 64512, "peer": 65001 }, "router-id": "10.99.0.1" , %s } }'
)
PEER = ip_address("10.99.0.2")

OPEN = (
    '"direction": "receive", "open": { "version": 4, "asn": 23456, "hold_time": 9, "router_id": "10.99.0.2", '
    '"capabilities": { "1": { "name": "multiprotocol", "families": [ "ipv4/unicast", "ipv6/unicast", "ipv4/flow" ] }, '
    '"128": { "name": "route-refresh", "variant": "Cisco" }, "2": { "name": "route-refresh", "variant": "RFC" }, '
    '"65": { "name": "asn4", "asn4": 4200000001 }, "6": { "name": "extended-message", "size": 65535 }, '
    '"69": { "name": "addpath", "ipv4/unicast": "receive","ipv6/unicast": "receive" }, '
    '"73": { "host-name": "vm", "domain-name": "" }, '
    '"64": { "name": "graceful restart", "time": 120, '
    '"address-family-flags": { "ipv4/unicast": [ "restart" ] , "ipv6/unicast": [ ] }, '
    '"restart-flags": [ "forwarding" ]  }, '
    '"71": { "name": "unknown", "iana": "unassigned", "value": 71, "raw": "0001018000000000020180000000" } } } '
)
UPDATE = (
    '"direction": "receive", "message": { "update": { "attribute": { "origin": "incomplete", '
    '"as-path": {"0": {"element": "as-sequence", "value": [65001, 64512]}, '
    '"1": {"element": "as-set", "value": [5, 6]}, "2": {"element": "as-sequence", "value": [9]}}, '
    '"med": 0, "local-preference": 200, "atomic-aggregate": true, '
    '"community": [ [ 1, 2 ], [ 65535, 0 ] ], "large-community": [ [ 1, 2 , 3 ] ], "originator-id": "192.0.2.3", '
    '"cluster-list": [ "192.0.2.4", "192.0.2.5" ] }, '
    '"announce": { "ipv4 unicast": { "10.99.0.2": [ "10.50.0.0/24", "10.51.0.1/24" ] } }, '
    '"withdraw": { "ipv6 unicast": [ "fd50::/64" ], "ipv4 flow": [ "flow destination 10.0.0.0/8" ] } } } '
)


INTERNAL = HEAD.replace('"peer": 65001', '"peer": 64512')


def read(kind: str, rest: str, head: str = HEAD) -> object:
    return EventReader().read((head % (kind, rest)).encode())


def test_an_open_has_the_real_as_and_flags_under_their_right_names() -> None:
    assert read("open", OPEN) == Opened(
        peer=PEER,
        direction=Direction.RECEIVED,
        asn=4200000001,
        hold_seconds=9,
        router_id=IPv4Address("10.99.0.2"),
        families=frozenset(Family),
        restart_seconds=120,
        restarting=True,
        restart_families=frozenset(Family),
        forwarding_kept=frozenset({Family.IPV4}),
        route_refresh=True,
    )


def test_an_open_without_capabilities_is_ipv4_only() -> None:
    bare = '"open": { "version": 4, "asn": 1, "hold_time": 0, "router_id": "1.2.3.4", "capabilities": {  } }'
    opened = read("open", f'"direction": "send", {bare}')

    assert isinstance(opened, Opened)
    assert (opened.direction, opened.families) == (Direction.SENT, frozenset({Family.IPV4}))
    assert (opened.restart_seconds, opened.restarting, opened.route_refresh) == (None, False, False)


def test_an_update_is_read_with_all_its_attributes() -> None:
    attributes = Attributes(
        origin=Origin.INCOMPLETE,
        as_path=(65001, 64512, frozenset({5, 6}), 9),
        local_pref=200,
        med=0,
        communities=frozenset({Community(1, 2), Community(65535, 0)}),
        large_communities=frozenset({LargeCommunity(1, 2, 3)}),
        originator_id=IPv4Address("192.0.2.3"),
        cluster_list=(IPv4Address("192.0.2.4"), IPv4Address("192.0.2.5")),
    )

    assert read("update", UPDATE, INTERNAL) == PathsHeard(
        PEER,
        withdrawn=(ip_network("fd50::/64"),),
        announced=((Path(PEER, PEER, attributes), (ip_network("10.50.0.0/24"), ip_network("10.51.0.0/24"))),),
    )


LINK, GLOBAL = "fe80::1", "2001:db8::1"


@pytest.mark.parametrize(
    ("peer", "hops", "taken"),
    [
        ("10.99.0.2", [GLOBAL, LINK], GLOBAL),
        ("10.99.0.2", [LINK], LINK),
        ("fe80::2%eth0", [GLOBAL, LINK], "fe80::1%eth0"),
        ("fe80::2%eth0", ["::", LINK], "fe80::1%eth0"),
        ("fe80::2%eth0", [LINK], "fe80::1%eth0"),
        ("fe80::2%eth0", [GLOBAL], GLOBAL),
    ],
)
def test_of_two_next_hops_the_one_counts_that_is_known_to_be_reached(peer: str, hops: list[str], taken: str) -> None:
    by_hop = ", ".join(f'"{hop}": [ "2001:db8:1::/48" ]' for hop in hops)
    attributes = '{ "origin": "igp", "as-path": {"0": {"element": "as-sequence", "value": [65001]}} }'
    announce = f'"attribute": {attributes}, "announce": {{ "ipv6 unicast": {{ {by_hop} }} }}'
    update = f'"message": {{ "update": {{ {announce} }} }}'
    line = (HEAD % ("update", update)).replace("10.99.0.2", peer)
    heard = EventReader().read(line.encode())

    assert isinstance(heard, PathsHeard)
    assert heard.peer == ip_address(peer)
    assert [path.next_hop for path, _ in heard.announced] == [ip_address(taken)]


@pytest.mark.parametrize(
    ("kind", "rest", "expected"),
    [
        ("state", '"state": "up"', CameUp(PEER, "1795257657.0997581")),
        ("state", '"state": "down", "reason": "closing connection"', WentDown(PEER, "closing connection")),
        ("state", '"state": "connected"', None),
        ("fsm", '"state": "OPENSENT"', StateChanged(PEER, SessionState.OPEN_SENT)),
        ("fsm", '"state": "ESTABLISHED"', None),
        ("update", '"message": { "eor": { "afi" : "ipv6", "safi" : "unicast" } }', EndOfRib(PEER, Family.IPV6)),
        ("update", '"message": { "eor": { "afi" : "ipv4", "safi" : "flow" } }', None),
        ("update", '"message": { "eor": { "afi" : "unknown-afi-0x9", "safi" : "unicast" } }', None),
        ("update", '"message": { "update": { "attribute": { "origin": "igp" } } }', None),
        (
            "refresh",
            '"direction": "receive", "route-refresh": { "afi": "ipv4", "safi": "unicast", "subtype": "end" }',
            Refreshed(PEER, Family.IPV4),
        ),
        ("refresh", '"route-refresh": { "afi": "ipv4", "safi": "unicast", "subtype": "begin" }', None),
        (
            "notification",
            '"direction": "receive", "notification": { "code": 6, "subcode": 2, "message": "bye\\u001b[2J\\n" } ',
            Notified(PEER, Direction.RECEIVED, 6, 2, "bye [2J"),
        ),
        (
            "notification",
            '"direction": "receive", "notification": { "code": 2, "subcode": 2, "message": "\\ufffd\\u0001" } ',
            Notified(PEER, Direction.RECEIVED, 2, 2, ""),
        ),
        (
            "notification",
            '"direction": "send", "notification": { "code": 2, "subcode": 2, "message": "AS 7" } ',
            Notified(PEER, Direction.SENT, 2, 2, "AS 7"),
        ),
        ("keepalive", '"direction": "receive" ', None),
    ],
)
def test_a_line_is_read(kind: str, rest: str, expected: object) -> None:
    assert read(kind, rest) == expected


def test_a_line_about_no_session_says_nothing() -> None:
    line = b'{ "exabgp": "5.0.0", "time": 1, "host" : "vm", "type": "notification", "notification": "shutdown" }'

    assert EventReader().read(line) is None


@pytest.mark.parametrize(
    ("kind", "rest"),
    [
        ("update", UPDATE.replace("10.50.0.0/24", "10.50.0.0/33")),
        ("update", UPDATE.replace("fd50::/64", "10.50.0.0/24")),
        ("open", OPEN.replace('"receive"', '"sideways"')),
        ("open", OPEN.replace('"time": 120', '"time": "long"')),
        ("open", OPEN.replace('"10.99.0.2"', '"None"')),
        ("update", '"message": { "update": { , "announce": {} } }'),
    ],
)
def test_a_malformed_line_is_counted_and_the_next_one_is_read(kind: str, rest: str) -> None:
    reader = EventReader()

    assert isinstance(reader.read((HEAD % (kind, rest)).encode()), Malformed)
    assert reader.read((HEAD % ("update", UPDATE)).encode()) == read("update", UPDATE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=200))
def test_no_bytes_raise(line: bytes) -> None:
    assert EventReader().read(line) is None or isinstance(EventReader().read(line), Malformed)


@given(st.data())
def test_no_change_of_any_value_raises(data: st.DataObject) -> None:
    kind, rest = data.draw(st.sampled_from([("open", OPEN), ("update", UPDATE)]))
    line: Any = json.loads(HEAD % (kind, rest))
    at: Any = line
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not (isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans())):
            break
        at = at[key]
    at[key] = data.draw(json_values)

    EventReader().read(json.dumps(line, allow_nan=False, default=str).encode() if _finite(at[key]) else b"{}")


def test_a_line_of_any_depth_is_malformed_and_the_next_one_is_read() -> None:
    deep = '"message": { "update": { "attribute": ' + "[" * 100_000 + "]" * 100_000 + " } }"

    assert isinstance(read("update", deep), Malformed)
    test_a_malformed_line_is_counted_and_the_next_one_is_read("open", OPEN.replace('"receive"', '"sideways"'))


def _finite(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def test_caches_are_bounded() -> None:
    reader = EventReader()
    so_far = (f"{number >> 16}.{number >> 8 & 255}.{number & 255}.0/24" for number in range(CACHE_MAX - 500))
    reader._updates._prefixes.update(dict.fromkeys(so_far, ip_network("0.0.0.0/24")))  # reading them takes seconds
    prefixes = [f"{10 + (number >> 8)}.{number & 255}.0.0/16" for number in range(1000)]
    announce = json.dumps({"ipv4 unicast": {"10.99.0.2": prefixes}})
    reader.read((HEAD % ("update", f'"message": {{ "update": {{ "announce": {announce} }} }}')).encode())

    assert 0 < len(reader._updates._prefixes) <= CACHE_MAX
