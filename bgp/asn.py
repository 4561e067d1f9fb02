"""AS numbers as people write them: plain (4200000001) or asdot (64086.59905), RFC 5396.

It refuses numbers that nobody may have as their own. Whether a number is the right one is not known here.
"""

from __future__ import annotations

import re
from typing import Final

LARGEST_ASN: Final = 0xFFFF_FFFF
AS_TRANS: Final = 23456
"""Stands for a 32-bit number in a 16-bit field; nobody's own (RFC 6793 9)."""

_PLAIN: Final = re.compile(r"[0-9]{1,10}")
_DOTTED: Final = re.compile(r"([0-9]{1,5})\.([0-9]{1,5})")
_HALF: Final = 1 << 16


def read_asn(text: str) -> int:
    """ValueError says in words what is wrong, to go on after the text itself: `is no AS number`."""
    if dotted := _DOTTED.fullmatch(text):
        high, low = map(int, dotted.groups())
        if high >= _HALF or low >= _HALF:
            raise ValueError("has a half greater than 65535")
        return own_asn(high * _HALF + low)
    if not _PLAIN.fullmatch(text):
        raise ValueError("is no AS number")
    return own_asn(int(text))


def own_asn(number: int) -> int:
    if not 1 <= number <= LARGEST_ASN:
        raise ValueError(f"is not between 1 and {LARGEST_ASN}")
    if number == AS_TRANS:
        raise ValueError("is AS_TRANS, which is nobody's own (RFC 6793)")
    return number
