"""The rules that lead forwarded packets, and no others, to the discards (fib_rules): which there must be, their bytes.

A discard route in table main would take service addresses from the node itself: the kernel (6.18) looks the route of a
packet that is sent from here up before it asks kube-proxy's rules for OUTPUT, so that a connection to any address in it
ends with EHOSTUNREACH, the API server's ClusterIP among them. What comes from elsewhere meets kube-proxy's PREROUTING
first: who is looked up then is a pod. So the discards are in a table of their own, and for each family that has any

    32764: not from all iif lo lookup main suppress_prefixlength (length of the shortest discard - 1)
    32765: not from all iif lo lookup 179179

Why so, all of it measured on kernel 6.18, with rp_filter 0 and 1:
- `not` turns the whole rule round: `not iif lo to PREFIX unreachable` ends all packets but those from here to PREFIX.
  So the rule says what is not from here, and the table says where to.
- No `goto` round the discards for the node's own packets: when somebody removes its target alone, they meet them.
  Any of these two rules, and any route of the table, can go without harm to what the node itself sends.
- Two rules for any number of prefixes: a forwarded packet pays some 40 ns for each rule that it passes.
- Routes of main that are at least as long as the shortest discard win; of the others it is the default route that
  matters. A discard that is longer than the shortest loses to a route of main in between.
- Addresses of the node itself (IPVS has all service addresses so) are in table local, which is asked first. The source
  of a packet is checked (rp_filter) as if for one from here: with main alone.
- kube-proxy's REJECT for a Service without endpoints, and its DROP for one with policy Local and none here, come after
  the route is looked up: who connects from elsewhere to an address in a discard is told that it is unreachable, instead
  of that the port is. Instead of a DROP it would be told as well, and give up; so there the discard is a blackhole.
- A discard of a single address changes nothing for others: the first rule then lets host routes of main win alone, and
  what is for other addresses finds nothing in the table and goes on to main.
- The last places before main (32766): whatever rules of others say of a packet is heard first. Who adds one without a
  number, as WireGuard does, gets one below ours; Cilium's are 9 to 110, Calico's 99, the AWS CNI's 512 to 1536, that of
  VRFs 1000 (not measured: the kernel at hand has none).

Pure: the socket is in `agent.kernel.rulesocket`. Rules of another protocol number are not even looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from agent.kernel.netlink import (
    AF_INET,
    AF_INET6,
    DISCARD_TABLE,
    FAMILY,
    MAIN_TABLE,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    NLMSGHDR,
    RTMSG,
    U32,
    MalformedError,
    attribute,
    attributes_of,
    number_in,
)
from bgp.model import Prefix

RULE_PREFERENCE: Final = 32_764
PREFERENCES: Final = frozenset({RULE_PREFERENCE, RULE_PREFERENCE + 1})
RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33
_RTM_GETRULE: Final = 34
_FRA_IIFNAME, _FRA_PRIORITY, _FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_PROTOCOL = 3, 6, 14, 15, 21
_KNOWN: Final = {_FRA_IIFNAME, _FRA_PRIORITY, _FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_PROTOCOL, 18}
"""And FRA_PAD."""
_FR_ACT_TO_TBL: Final = 1
_FIB_RULE_INVERT: Final = 2
_FIB_RULE_UNRESOLVED_OR_DETACHED: Final = 0xC
_LOOPBACK: Final = b"lo\0"
_NO_LENGTH: Final = 0xFFFF_FFFF


class Rule(NamedTuple):
    """One of the two, as it is written above."""

    version: int
    suppressed: int | None
    """Routes of main of this length, and shorter ones, do not count. None: the rule that leads to the discards."""

    def __str__(self) -> str:
        return f"IPv{self.version} rule {self.preference}"

    @property
    def preference(self) -> int:
        return RULE_PREFERENCE + (self.suppressed is None)


class Length(NamedTuple):
    """Of a prefix. There are few, however many discards there are."""

    version: int
    length: int


def length_of(prefix: Prefix) -> Length:
    return Length(prefix.version, prefix.prefixlen)


class HeardRule(NamedTuple):
    protocol: int
    preference: int
    rule: Rule | None
    """None: not one that we would write."""
    version: int
    body: bytes
    """As the kernel told it."""

    @property
    def in_place_of_ours(self) -> bool:
        return self.preference in PREFERENCES


def rules_for(lengths: Iterable[Length]) -> frozenset[Rule]:
    """What discards of these need. A default route is none of them: nothing of main would count beside it."""
    shortest: dict[int, int] = {}
    for version, length in lengths:
        shortest[version] = min(length, shortest.get(version, length))
    return frozenset(
        rule for version, length in shortest.items() for rule in (Rule(version, length - 1), Rule(version, None))
    )


def add_request(rule: Rule, seq: int, *, protocol: int) -> bytes:
    return _request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, seq, _body(rule, protocol))


def delete_request(rule: Rule, seq: int, *, protocol: int) -> bytes:
    """It names all there is to a rule, the protocol too: the same of another's is not met (tested on kernel 6.18)."""
    return _request(RTM_DELRULE, NLM_F_ACK, seq, _body(rule, protocol))


def delete_heard_request(heard: HeardRule, seq: int) -> bytes:
    """By all that was told of it, the protocol too."""
    return _request(RTM_DELRULE, NLM_F_ACK, seq, heard.body)


def rules_request(version: int, seq: int) -> bytes:
    """Ask for all rules of one IP version: the kernel has no filter for them."""
    return _request(_RTM_GETRULE, NLM_F_DUMP, seq, RTMSG.pack(FAMILY[version], *[0] * 8))


def _request(kind: int, flags: int, seq: int, body: bytes) -> bytes:
    return NLMSGHDR.pack(NLMSGHDR.size + len(body), kind, flags | NLM_F_REQUEST, seq, 0) + body


def _body(rule: Rule, protocol: int) -> bytes:
    """Struct fib_rule_hdr has the shape of rtmsg: its table is too small for ours and left to the attribute."""
    table = DISCARD_TABLE if rule.suppressed is None else MAIN_TABLE
    body = RTMSG.pack(FAMILY[rule.version], 0, 0, 0, 0, 0, 0, _FR_ACT_TO_TBL, _FIB_RULE_INVERT)
    body += attribute(_FRA_PRIORITY, U32.pack(rule.preference)) + attribute(_FRA_IIFNAME, _LOOPBACK)
    body += attribute(_FRA_TABLE, U32.pack(table)) + attribute(_FRA_PROTOCOL, bytes((protocol,)))
    if rule.suppressed is not None:
        body += attribute(_FRA_SUPPRESS_PREFIXLEN, U32.pack(rule.suppressed))
    return body


def protocol_of_rule(body: bytes) -> int:
    if len(body) < RTMSG.size:
        raise MalformedError("a rule shorter than its header")
    return _byte(attributes_of(body, RTMSG.size))


def decode_rule(body: bytes) -> HeardRule:
    if len(body) < RTMSG.size:
        raise MalformedError("a rule shorter than its header")
    family, *conditions, action, flags = RTMSG.unpack_from(body)
    found = attributes_of(body, RTMSG.size)
    preference, table = number_in(found, _FRA_PRIORITY), number_in(found, _FRA_TABLE)
    length = number_in(found, _FRA_SUPPRESS_PREFIXLEN) if _FRA_SUPPRESS_PREFIXLEN in found else _NO_LENGTH
    rule = Rule({AF_INET: 4, AF_INET6: 6}.get(family, 0), None if length == _NO_LENGTH else length)
    usual = (
        rule.version
        and found.keys() <= _KNOWN
        and not any(conditions[:3])  # lengths of destination and source, TOS
        and action == _FR_ACT_TO_TBL
        and flags & ~_FIB_RULE_UNRESOLVED_OR_DETACHED == _FIB_RULE_INVERT
        and found.get(_FRA_IIFNAME) == _LOOPBACK
        and table == (DISCARD_TABLE if rule.suppressed is None else MAIN_TABLE)
        and preference == rule.preference
    )
    return HeardRule(_byte(found), preference, rule if usual else None, rule.version, body)


def _byte(found: dict[int, bytes]) -> int:
    """The protocol; kernels before 4.17 know of none."""
    value = found.get(_FRA_PROTOCOL, b"\0")
    if len(value) != 1:
        raise MalformedError(f"a protocol of {len(value)} bytes")
    return value[0]
