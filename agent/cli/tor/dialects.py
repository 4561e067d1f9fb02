"""One session as lines of a router's configuration: a function per router system, values in, lines out.

Each says the same: the neighbor with its AS, timers, password and TTL; ECMP over nodes; only what the node announces is
taken, and only so much of it; nothing is told to the node until somebody says what (`OUT`). The order is the one in
which the system takes lines; `!` and `#` begin remarks.

Help with graceful restart is what FRR, SONiC, NVUE and EOS do by default; BIRD, NX-OS and Junos are told to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from agent.cli.tor.session import BGP_PORT, FAMILIES, Family, Session

PASSWORD: Final = "PASSWORD-OF-THE-SECRET"  # noqa: S105  # stands for it
MAXIMUM_PATHS: Final = 64
WARN_PERCENT: Final = 80
RESTART_MINUTES: Final = 5
BITS: Final[Mapping[Family, int]] = {"ipv4": 32, "ipv6": 128}
ANY: Final[Mapping[Family, str]] = {"ipv4": "0.0.0.0/0 le 32", "ipv6": "::/0 le 128"}
IP: Final[Mapping[Family, str]] = {"ipv4": "ip", "ipv6": "ipv6"}


def frr(one: Session) -> Iterator[str]:
    peer = one.neighbor
    yield from _prefix_lists(one)
    yield f"router bgp {one.router_as}"
    yield " bgp bestpath as-path multipath-relax"
    yield f" neighbor {peer} remote-as {one.node_as}"
    yield f" neighbor {peer} description {one.node}"
    yield f" neighbor {peer} timers {one.keepalive_seconds} {one.hold_seconds}"
    if one.password:
        yield f" neighbor {peer} password {PASSWORD}"
    if one.ttl_security_hops is not None:
        yield f" neighbor {peer} ttl-security hops {one.ttl_security_hops}"
    elif one.multihop is not None:
        yield f" neighbor {peer} ebgp-multihop {one.multihop}"
    if one.port != BGP_PORT:
        yield f" neighbor {peer} port {one.port}"
    paths = f"maximum-paths {'ibgp ' if one.internal else ''}{MAXIMUM_PATHS}"
    for family in FAMILIES:
        yield f" address-family {family} unicast"
        if family not in one.families:
            yield f"  no neighbor {peer} activate"
        else:
            yield f"  {paths}"
            yield f"  neighbor {peer} activate"
            yield f"  neighbor {peer} prefix-list {_in(one, family)} in"
            yield f"  neighbor {peer} prefix-list {_out(one, family)} out"
            yield f"  neighbor {peer} maximum-prefix {one.maximum[family]} {WARN_PERCENT} restart {RESTART_MINUTES}"
        yield " exit-address-family"
    yield "exit"


def bird(one: Session) -> Iterator[str]:
    name = one.label.replace("-", "_").lower() + "_" + _word(one.neighbor)
    yield "# In `protocol kernel`: merge paths on; for ECMP over nodes."
    yield f"protocol bgp {name} {{"
    yield f'  description "{one.node}";'
    yield f"  local {one.router} as {one.router_as};"
    port = f" port {one.port}" if one.port != BGP_PORT else ""
    yield f"  neighbor {one.neighbor}{port} as {one.node_as};"
    yield f"  hold time {one.hold_seconds};"
    yield f"  keepalive time {one.keepalive_seconds};"
    yield "  graceful restart on;"
    if one.password:
        yield f'  password "{PASSWORD}";'
    if one.ttl_security_hops is not None:
        yield f"  multihop {one.ttl_security_hops};" if one.ttl_security_hops > 1 else "  direct;"
        yield "  ttl security on;"
    elif one.multihop is not None:
        yield f"  multihop {one.multihop};"
    for family in one.families:
        wanted = ", ".join(f"{prefix}+" for prefix in one.told[family])
        yield f"  {family} {{"
        yield f"    import {f'where net ~ [ {wanted} ]' if wanted else 'none'};"
        yield f"    import limit {one.maximum[family]} action restart;"
        yield "    export none;"
        yield "  };"
    yield "}"


def eos(one: Session) -> Iterator[str]:
    peer = one.neighbor
    for family in one.families:
        yield f"{IP[family]} prefix-list {_in(one, family)}"
        for number, prefix in enumerate(one.told[family], 1):
            yield f"   seq {10 * number} permit {prefix}{_longer(prefix, f' le {BITS[family]}')}"
        if not one.told[family]:
            yield f"   seq 10 deny {ANY[family]}"
        yield f"{IP[family]} prefix-list {_out(one, family)}"
        yield f"   seq 10 deny {ANY[family]}"
    yield f"router bgp {one.router_as}"
    yield f"   maximum-paths {MAXIMUM_PATHS} ecmp {MAXIMUM_PATHS}"
    yield "   bgp bestpath as-path multipath-relax"
    yield f"   neighbor {peer} remote-as {one.node_as}"
    yield f"   neighbor {peer} description {one.node}"
    yield f"   neighbor {peer} timers {one.keepalive_seconds} {one.hold_seconds}"
    yield f"   neighbor {peer} graceful-restart-helper"
    if one.password:
        yield f"   neighbor {peer} password 0 {PASSWORD}"
    if one.ttl_security_hops is not None:
        yield f"   neighbor {peer} ttl maximum-hops {one.ttl_security_hops - 1}"
    elif one.multihop is not None:
        yield f"   neighbor {peer} ebgp-multihop {one.multihop}"
    if one.port != BGP_PORT:
        yield f"   neighbor {peer} transport remote-port {one.port}"
    most = max(one.maximum.values())
    yield f"   neighbor {peer} maximum-routes {most} warning-limit {WARN_PERCENT} percent"
    for family in FAMILIES:
        yield f"   address-family {family}"
        if family in one.families:
            yield f"      neighbor {peer} activate"
            yield f"      neighbor {peer} prefix-list {_in(one, family)} in"
            yield f"      neighbor {peer} prefix-list {_out(one, family)} out"
        else:
            yield f"      no neighbor {peer} activate"


def nxos(one: Session) -> Iterator[str]:
    peer = one.neighbor
    yield "feature bgp"
    yield from _prefix_lists(one)
    yield f"router bgp {one.router_as}"
    yield "  bestpath as-path multipath-relax"
    yield "  graceful-restart-helper"
    for family in one.families:
        yield f"  address-family {family} unicast"
        yield f"    maximum-paths {'ibgp ' if one.internal else ''}{MAXIMUM_PATHS}"
    yield f"  neighbor {peer}"
    yield f"    remote-as {one.node_as}"
    yield f"    description {one.node}"
    yield f"    timers {one.keepalive_seconds} {one.hold_seconds}"
    if one.password:
        yield f"    password 0 {PASSWORD}"
    if one.ttl_security_hops is not None:
        yield f"    ttl-security hops {one.ttl_security_hops}"
    elif one.multihop is not None:
        yield f"    ebgp-multihop {one.multihop}"
    if one.port != BGP_PORT:
        yield f"    ! {_dials(one)}"
    for family in one.families:
        yield f"    address-family {family} unicast"
        yield f"      prefix-list {_in(one, family)} in"
        yield f"      prefix-list {_out(one, family)} out"
        yield f"      maximum-prefix {one.maximum[family]} {WARN_PERCENT} restart {RESTART_MINUTES}"


def junos(one: Session) -> Iterator[str]:
    yield from _junos_policy(one)
    top = f"set protocols bgp group {one.label}-{_word(one.neighbor)}"
    yield f"{top} type {'internal' if one.internal else 'external'}"
    yield f"{top} multipath{'' if one.internal else ' multiple-as'}"
    peer = f"{top} neighbor {one.neighbor}"
    yield f'{peer} description "{one.node}"'
    yield f"{peer} peer-as {one.node_as}"
    yield f"{peer} hold-time {one.hold_seconds}"
    yield f"{peer} import {one.label}-IN"
    yield f"{peer} export {one.label}-OUT"
    if one.password:
        yield f'{peer} authentication-key "{PASSWORD}"'
    if one.ttl_security_hops is not None:
        yield f"{peer} multihop ttl 255" if one.ttl_security_hops > 1 else f"{peer} ttl 255"
        least = 256 - one.ttl_security_hops
        yield f"# GTSM: a firewall filter on lo0 that drops BGP of {one.neighbor} with a TTL below {least}."
    elif one.multihop is not None:
        yield f"{peer} multihop ttl {one.multihop}"
    if one.port != BGP_PORT:
        yield f"# {_dials(one)}"
    for family in one.families:
        limit = f"{peer} family {'inet' if family == 'ipv4' else 'inet6'} unicast prefix-limit"
        yield f"{limit} maximum {one.maximum[family]}"
        yield f"{limit} teardown {WARN_PERCENT} idle-timeout {RESTART_MINUTES}"


def _junos_policy(one: Session) -> Iterator[str]:
    policy = f"set policy-options policy-statement {one.label}-IN"
    for family in one.families:
        for prefix in one.told[family]:
            yield f"{policy} term take from route-filter {prefix} orlonger"
    if any(one.told.values()):
        yield f"{policy} term take then accept"
    yield f"{policy} term rest then reject"
    yield f"set policy-options policy-statement {one.label}-OUT then reject"
    yield "set policy-options policy-statement BGPILOT-ECMP then load-balance per-flow"
    yield "set routing-options forwarding-table export BGPILOT-ECMP"
    yield f"set routing-options autonomous-system {one.router_as}"
    yield "set routing-options graceful-restart"


def nvue(one: Session) -> Iterator[str]:
    bgp = "nv set vrf default router bgp"
    peer = f"{bgp} neighbor {one.neighbor}"
    for family in one.families:
        rules = f"nv set router policy prefix-list {_in(one, family)}"
        yield f"{rules} type {family}"
        for number, prefix in enumerate(one.told[family], 1):
            longest = f" max-prefix-len {BITS[family]}" if _longer(prefix, "+") else ""
            yield f"{rules} rule {10 * number} match {prefix}{longest}"
            yield f"{rules} rule {10 * number} action permit"
        for name in (_out(one, family), *(() if one.told[family] else (_in(one, family),))):
            nothing = f"nv set router policy prefix-list {name}"
            yield f"{nothing} type {family}"
            yield f"{nothing} rule 10 match any"
            yield f"{nothing} rule 10 action deny"
    yield f"{bgp} autonomous-system {one.router_as}"
    yield f"{bgp} path-selection multipath aspath-ignore on"
    yield f"{peer} remote-as {one.node_as}"
    yield f"{peer} description {one.node}"
    yield f"{peer} timers keepalive {one.keepalive_seconds}"
    yield f"{peer} timers hold {one.hold_seconds}"
    if one.password:
        yield f"{peer} password {PASSWORD}"
    if one.ttl_security_hops is not None:
        yield f"{peer} ttl-security enable on"
        yield f"{peer} ttl-security hops {one.ttl_security_hops}"
    elif one.multihop is not None:
        yield f"{peer} multihop-ttl {one.multihop}"
    if one.port != BGP_PORT:
        yield f"# {_dials(one)}"
    for family in FAMILIES:
        there = f"{peer} address-family {family}-unicast"
        yield f"{there} enable {'on' if family in one.families else 'off'}"
        if family in one.families:
            kind = "ibgp" if one.internal else "ebgp"
            yield f"{bgp} address-family {family}-unicast multipaths {kind} {MAXIMUM_PATHS}"
            yield f"{there} policy inbound prefix-list {_in(one, family)}"
            yield f"{there} policy outbound prefix-list {_out(one, family)}"
            yield f"{there} prefix-limits inbound maximum {one.maximum[family]}"
            yield f"{there} prefix-limits inbound warning-threshold {WARN_PERCENT}"
            yield f"{there} prefix-limits inbound reestablish-wait {RESTART_MINUTES}"
    yield "nv config apply"


DIALECTS: Final[Mapping[str, Callable[[Session], Iterator[str]]]] = {
    "frr": frr,
    "sonic": frr,
    "eos": eos,
    "nxos": nxos,
    "junos": junos,
    "nvue": nvue,
    "bird": bird,
}
RUN: Final = frozenset({"frr", "bird"})
"""What the project's tests load into the real router; the others are written after their manuals."""
REMARK: Final[Mapping[str, str]] = {"frr": "!", "sonic": "!", "eos": "!", "nxos": "!"}
"""Others: `#`."""


def _prefix_lists(one: Session) -> Iterator[str]:
    """A line each, as FRR and NX-OS take them."""
    for family in one.families:
        taken, told = (f"{IP[family]} prefix-list {name(one, family)} seq" for name in (_in, _out))
        for number, prefix in enumerate(one.told[family], 1):
            yield f"{taken} {5 * number} permit {prefix}{_longer(prefix, f' le {BITS[family]}')}"
        if not one.told[family]:  # a list without lines may permit everything
            yield f"{taken} 5 deny {ANY[family]}"
        yield f"{told} 5 deny {ANY[family]}"


def _in(one: Session, family: Family) -> str:
    return f"{one.label}-{family[-1]}-IN"


def _out(one: Session, family: Family) -> str:
    return f"{one.label}-{family[-1]}-OUT"


def _longer(prefix: str, words: str) -> str:
    """Unless it is one host's: then there is nothing longer."""
    length, bits = int(prefix.partition("/")[2]), 128 if ":" in prefix else 32
    return words if length < bits else ""


def _dials(one: Session) -> str:
    return f"The node listens on port {one.port}; this system dials 179: let the node dial (BGPPeer without passive)."


def _word(address: str) -> str:
    return address.replace(".", "_").replace(":", "_").partition("%")[0]
