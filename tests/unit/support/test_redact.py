"""ExaBGP's configuration for others' eyes: everything but the password, also where somebody has spoiled the file."""

from __future__ import annotations

import base64
import re
from ipaddress import ip_address

import pytest

from agent.support.redact import REDACTED, redacted, secrets_in, without
from bgp.exaconfig import configuration
from bgp.model import Family, Held, Password, Peer

SECRET = "swordfish-4711"
ENCODED = base64.b64encode(SECRET.encode()).decode()


def peer(**fields):
    given = {"address": ip_address("192.0.2.254"), "name": "BGPPeer/tor", "local_address": ip_address("192.0.2.1")}
    usual = {"local_asn": 64512, "peer_asn": 65001, "router_id": ip_address("192.0.2.1")}
    return Peer(**{**given, **usual, "families": frozenset(Family), **fields})


PEERS = [
    peer(password=Password(SECRET), multihop=3, keepalive_seconds=3, connect_retry_seconds=9),
    peer(
        address=ip_address("fe80::1%eth0"),
        source_interface="eth0",
        extended_next_hop=True,
        mesh=True,
        name="node/a.b-4",
    ),
    peer(address=ip_address("192.0.2.253"), held=Held("shutdown", "tea"), ttl_security_hops=2),
]
TEXT = configuration(PEERS, bridge=["/usr/bin/python3", "-m", "bridge"])


def leaks(text):
    return [form for form in (SECRET, ENCODED, ENCODED.rstrip("=")) if form in text]


def test_of_a_file_of_ours_one_line_differs():
    lost = [(old, new) for old, new in zip(TEXT.splitlines(), redacted(TEXT).splitlines(), strict=True) if old != new]

    assert lost == [(f'  md5-password "{ENCODED}";', f"  md5-password {REDACTED};")]


NUMBERS = range(len(TEXT.splitlines()))


@pytest.mark.parametrize("number", [number for number in NUMBERS if "md5" in TEXT.splitlines()[number]])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line.replace("password", "passwort"),
        lambda line: line.replace("md5-", "mdfive-"),
        lambda line: line.rstrip(" ;"),
        lambda line: line * 2,
        lambda line: f"# {line}",
        lambda line: f"hold-time 9; {line}",
        lambda line: f'hold-time 9; key "{ENCODED}";',
        lambda line: f"md5-base64 true; {line}",
        lambda line: line.replace("md5-password ", ""),
        lambda line: line.replace("md5-password", "description"),
        lambda line: line.replace(" ", ""),
        str.upper,
        lambda line: line.replace('"', "'"),
    ],
)
def test_a_line_that_somebody_has_spoiled_gives_no_password_away(number, spoil):
    lines = TEXT.splitlines()
    lines[number] = spoil(lines[number])
    text = "\n".join(lines)

    assert not leaks(redacted(text))


def test_what_is_taken_away_is_known_in_both_its_forms():
    assert {SECRET, ENCODED} <= secrets_in(TEXT)


def test_what_is_kept_is_no_secret():
    kept = set(re.findall(r"[\w.:%/-]+", redacted(TEXT))) - {REDACTED}

    assert not kept & secrets_in(TEXT)


def test_a_secret_that_got_elsewhere_is_taken_out_there():
    assert without(f"near '{SECRET}', {ENCODED}", secrets_in(TEXT)) == "near 'redacted', redacted"
