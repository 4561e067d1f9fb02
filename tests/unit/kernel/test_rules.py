"""The codec of the two rules: what is written is read, and no other rule is taken for one of ours."""

from __future__ import annotations

import struct
from contextlib import suppress
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.kernel.netlink import MalformedError, messages
from agent.kernel.rules import (
    HeardRule,
    Rule,
    add_request,
    decode_rule,
    delete_request,
    length_of,
    protocol_of_rule,
    rules_for,
)

RULES = st.builds(Rule, st.sampled_from([4, 6]), st.none() | st.integers(0, 127))


def body_of(rule: Rule, protocol: int = 179) -> bytes:
    (message,) = messages(add_request(rule, 1, protocol=protocol))
    return message.body


@given(RULES, st.integers(1, 255))
def test_a_rule_written_is_the_rule_read(rule, protocol):
    body = body_of(rule, protocol)

    assert decode_rule(body) == HeardRule(protocol, rule.preference, rule, rule.version, body)
    assert protocol_of_rule(body) == protocol


@given(RULES)
def test_a_deletion_names_all_there_is_to_a_rule(rule):
    (message,) = messages(delete_request(rule, 1, protocol=179))

    assert (message.type, message.body) == (33, body_of(rule))


@pytest.mark.parametrize(
    ("what", "more"),
    [
        ("destination", struct.pack("=HH4s", 8, 1, bytes(4))),
        ("mark", struct.pack("=HHI", 8, 10, 1)),
        ("other table", struct.pack("=HHI", 8, 15, 7)),
        ("other place", struct.pack("=HHI", 8, 6, 100)),
        ("other interface", struct.pack("=HH4s", 7, 3, b"e0\0\0")),
    ],
)
def test_a_rule_with_something_else_to_it_is_none_of_ours(what, more):
    assert decode_rule(body_of(Rule(4, 15)) + more).rule is None, what


@pytest.mark.parametrize(("at", "value"), [(1, 16), (2, 16), (3, 8), (7, 7), (8, 0)])
def test_a_rule_with_another_header_is_none_of_ours(at, value):
    """Lengths of destination and source, TOS, another action, and one that is not turned round."""
    body = bytearray(body_of(Rule(6, 63)))
    body[at] = value

    assert decode_rule(bytes(body)).rule is None


@given(st.binary(max_size=200), RULES, st.integers(0, 80))
def test_any_body_is_a_rule_or_malformed(junk, rule, at):
    for body in (junk, body_of(rule)[:at] + junk):
        with suppress(MalformedError):
            decode_rule(body)
        with suppress(MalformedError):
            protocol_of_rule(body)


def test_the_shortest_discard_of_each_family_says_which_routes_of_main_count():
    lengths = [length_of(ip_network(it)) for it in ("10.96.0.0/16", "203.0.113.0/24", "fd00::/48")]

    assert rules_for(lengths) == {Rule(4, 15), Rule(4, None), Rule(6, 47), Rule(6, None)}
    assert rules_for([]) == frozenset()
