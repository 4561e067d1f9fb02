"""Readers of values that several custom resources of bgpilot.io/v1alpha1 have: AS numbers, ids, timers, selectors.

Refuses what the schemas under deploy/crds refuse, with the same meaning, because a cluster may run without them.
Raises `FieldError` and nothing else; what a whole resource is read to stands in `instances`, `routers`, `adverts`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from ipaddress import IPv4Address, ip_address
from typing import Final, TypeVar

from agent.cluster.fields import Field
from agent.intent import NodeValue, SecretRef, Selector
from bgp.asn import LARGEST_ASN, own_asn, read_asn
from bgp.model import DEFAULT_HOLD_SECONDS, Prefix

_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
"""Of labels and annotations (apimachinery: IsQualifiedName)."""
_KEY_MAX: Final = 253 + 1 + 63
_LABEL_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")
_SECRET_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SECRET_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_SECRET_MAX: Final = 253
_SHORTEST_HOLD_SECONDS: Final = 3
_OPERATORS_WITH_VALUES: Final = ("In", "NotIn")
_OPERATORS: Final = (*_OPERATORS_WITH_VALUES, "Exists", "DoesNotExist")

_Choice = TypeVar("_Choice", bound=StrEnum)


def asn(field: Field, *words: str) -> int:
    """A number, or a text in asplain or asdot (RFC 5396). `words` are what else may stand there, for the fix."""
    value = field.value
    if isinstance(value, float):
        raise field.error("is no AS number", f'put quotes around an AS number in asdot, such as "{value}"')
    written = field.text() if isinstance(value, str) else field.number(1, LARGEST_ASN)
    try:
        return own_asn(written) if isinstance(written, int) else read_asn(written)
    except ValueError as error:
        fix = 'set the real AS number: 1 to 4294967295 without quotes, or asdot in quotes, such as "64086.59905"'
        raise field.error(str(error), "; or ".join([fix, " or ".join(words)] if words else [fix])) from None


def node_value(field: Field) -> NodeValue:
    """Exactly one of `label` and `annotation`."""
    label, annotation = field["label"], field["annotation"]
    if bool(label) is bool(annotation):
        both = "names both a label and an annotation" if label else "names neither a label nor an annotation"
        raise field.error(both, "give it exactly one of `label` and `annotation`")
    return NodeValue(annotation=bool(annotation), key=key(annotation or label, "a label or annotation"))


def key(field: Field, of: str) -> str:
    """Of labels, annotations and taints: an optional DNS name and a slash before the name."""
    if not _is_key(field.text()):
        raise field.error(f"is no key of {of}", "write it as on the Node, such as example.com/rack")
    return field.text()


def _is_key(text: str) -> bool:
    return len(text) <= _KEY_MAX and _KEY.fullmatch(text) is not None


def router_id(field: Field) -> IPv4Address:
    """An IPv4 address of class A to C: routers that follow RFC 4271 rather than RFC 6286 refuse others."""
    try:
        found = ip_address(field.text())
    except ValueError:
        found = None
    if not isinstance(found, IPv4Address) or not 1 <= found.packed[0] <= _LAST_UNICAST_OCTET:
        raise field.error(
            "is no id in the form of an IPv4 address", "set it to an address from 1.0.0.0 to 223.255.255.255"
        )
    return found


_LAST_UNICAST_OCTET: Final = 223


def hold_seconds(field: Field) -> int:
    """0 turns hold and keepalive timers off; 1 and 2 are not allowed (RFC 4271 4.2)."""
    seconds = field.number(0, 65535, DEFAULT_HOLD_SECONDS)
    if 0 < seconds < _SHORTEST_HOLD_SECONDS:
        raise field.error(
            "is shorter than BGP allows (RFC 4271 4.2)",
            f"set it to {_SHORTEST_HOLD_SECONDS} or more, or to 0 to turn it off",
        )
    return seconds


def selector(field: Field) -> Selector:
    return Selector(
        labels=tuple(sorted(_label(key, value) for key, value in field["matchLabels"].members())),
        expressions=tuple(_expression(item) for item in field["matchExpressions"].items()),
    )


def _label(key: str, value: Field) -> tuple[str, str]:
    if not _is_key(key):
        raise value.error(
            "has a key that no label can have", "write it as in metadata.labels, such as example.com/rack"
        )
    return key, _value(value)


def _value(field: Field) -> str:
    text = field.label_value()
    if not _LABEL_VALUE.fullmatch(text):
        raise field.error(
            "is no value that a label can have",
            "use up to 63 letters, digits, -, _ and . only, with a letter or digit at both ends",
        )
    return text


def _expression(field: Field) -> tuple[str, str, tuple[str, ...]]:
    operator = field["operator"].text()
    if operator not in _OPERATORS:
        raise field["operator"].error("is no operator of a selector", f"set it to one of {', '.join(_OPERATORS)}")
    values = tuple(_value(item) for item in field["values"].items())
    if bool(values) is not (operator in _OPERATORS_WITH_VALUES):
        raise field["values"].error(
            f"does not go with operator {operator}",
            "In and NotIn need at least one value; Exists and DoesNotExist take none",
        )
    key = field["key"]
    if not _is_key(key.text()):
        raise key.error("is no key of a label", "write it as in metadata.labels, such as example.com/rack")
    return key.text(), operator, values


def prefixes(field: Field) -> tuple[Prefix, ...]:
    return tuple(item.prefix() for item in field.items())


def choice(field: Field, choices: type[_Choice], default: _Choice | None = None) -> _Choice:
    if not field and default is not None:
        return default
    if field.value not in list(choices):
        raise field.error("is not known", f"set it to one of {', '.join(choices)}")
    return choices(field.text())


def secret_ref(field: Field) -> SecretRef | None:
    if not field:
        return None
    name, key = field["name"], field["key"]
    if len(name.text()) > _SECRET_MAX or not _SECRET_NAME.fullmatch(name.text()):
        raise name.error("is no name of a Secret", "name one in the agent's namespace, without that namespace")
    if len(key.text()) > _SECRET_MAX or not _SECRET_KEY.fullmatch(key.text()):
        raise key.error("is no key of a Secret", "use letters, digits, -, _ and . only")
    return SecretRef(name.text(), key.text())
