"""Readers of values that several custom resources of bgpilot.io/v1alpha1 have: AS numbers, hold times, selectors.

Refuses what the schemas under deploy/crds refuse, with the same meaning, because a cluster may run without them.
Raises `FieldError` and nothing else; what a whole resource is read to stands in `instances`, `routers`, `adverts`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

from agent.cluster.fields import Field
from agent.intent import SecretRef, Selector
from bgp.model import DEFAULT_HOLD_SECONDS, Prefix

AS_TRANS: Final = 23456
"""Stands for a 32-bit number in a 16-bit field; nobody's own (RFC 6793 9)."""
_LARGEST_ASN: Final = 0xFFFF_FFFF
_SHORTEST_HOLD_SECONDS: Final = 3
_OPERATORS_WITH_VALUES: Final = ("In", "NotIn")
_OPERATORS: Final = (*_OPERATORS_WITH_VALUES, "Exists", "DoesNotExist")

_Choice = TypeVar("_Choice", bound=StrEnum)


def asn(field: Field) -> int:
    asn = field.number(1, _LARGEST_ASN)
    if asn == AS_TRANS:
        raise field.error("is AS_TRANS, which is nobody's own (RFC 6793)", "set the real AS number")
    return asn


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
        labels=tuple(sorted((key, value.label_value()) for key, value in field["matchLabels"].members())),
        expressions=tuple(_expression(item) for item in field["matchExpressions"].items()),
    )


def _expression(field: Field) -> tuple[str, str, tuple[str, ...]]:
    operator = field["operator"].text()
    if operator not in _OPERATORS:
        raise field["operator"].error("is no operator of a selector", f"set it to one of {', '.join(_OPERATORS)}")
    values = tuple(item.label_value() for item in field["values"].items())
    if bool(values) is not (operator in _OPERATORS_WITH_VALUES):
        raise field["values"].error(
            f"does not go with operator {operator}",
            "In and NotIn need at least one value; Exists and DoesNotExist take none",
        )
    return field["key"].text(), operator, values


def prefixes(field: Field) -> tuple[Prefix, ...]:
    return tuple(item.prefix() for item in field.items())


def choice(field: Field, choices: type[_Choice], default: _Choice | None = None) -> _Choice:
    if not field and default is not None:
        return default
    if field.value not in list(choices):
        raise field.error("is not known", f"set it to one of {', '.join(choices)}")
    return choices(field.text())


def secret_ref(field: Field) -> SecretRef | None:
    return SecretRef(field["name"].text(), field["key"].text()) if field else None
