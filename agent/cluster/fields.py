"""Reading of single fields out of decoded JSON that nobody has checked: a typed value, or a `FieldError` that helps.

The schema of the custom resources refuses most mistakes at the API server, but it may be absent or older than we are,
so every rule that our records rely on is checked here once more. Absent and `null` are the same, as in the API.

It refuses to know any kind (`agent.cluster.spec` does), and to mend input: what has two meanings is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from bgp.model import Address, Prefix, known_address

QUOTED_CHARACTERS: Final = 60
"""How much of a wrong value an error quotes."""
_LEADING_ZEROS: Final = re.compile(r"\b0+(?=\d)")


class FieldError(ValueError):
    """One field cannot be read: what is wrong with it (its name and value included), and what to do."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Field:
    """A value and where it stands in its object, for example `spec.import.allowed[0].ge`."""

    path: str
    value: object
    secret: bool = False
    """True: errors never quote the value, nor any inside it."""

    def __bool__(self) -> bool:
        """Whether it is there at all: empty and zero are."""
        return self.value is not None

    def __getitem__(self, name: str) -> Field:
        """The member `name` of an object; absent ones and those of an absent object are absent fields."""
        path = f"{self.path}.{name}"
        if self.value is None:
            return Field(path, None, self.secret)
        if not isinstance(self.value, dict):
            raise self.error("is not an object", f"give it members such as `{name}`")
        return Field(path, self.value.get(name), self.secret)

    def members(self) -> Iterator[tuple[str, Field]]:
        """All members of an object in its order; none when it is absent."""
        if self.value is None:
            return
        if not isinstance(self.value, dict):
            raise self.error("is not an object", "give it members, or remove it")
        for name, value in self.value.items():
            yield name, Field(f"{self.path}[{name}]", value, self.secret)

    def items(self) -> Iterator[Field]:
        """All items of a list; none when it is absent."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.error("is not a list", "make it a list")
        for index, value in enumerate(self.value):
            yield Field(f"{self.path}[{index}]", value, self.secret)

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value:
            raise self.error("is not a text", "set it to a text that is not empty")
        return self.value

    def label_value(self) -> str:
        """A text that may be empty."""
        if not isinstance(self.value, str):
            raise self.error("is not a text", "put quotes around it")
        return self.value

    def flag(self, default: bool) -> bool:
        if self.value is None:
            return default
        if not isinstance(self.value, bool):
            raise self.error("is not true or false", "set it to true or false, without quotes")
        return self.value

    def number(self, low: int, high: int, default: int | None = None) -> int:
        """An integer from `low` to `high`; without a default it must be there."""
        if self.value is None and default is not None:
            return default
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            raise self.error("is not a number in range", f"set it to a number from {low} to {high}, without quotes")
        return self.value

    def address(self) -> Address:
        text = self.text()
        try:
            address = known_address(text)
        except ValueError:
            raise self.error("is not an IP address", "write an IPv4 or IPv6 address without a prefix length") from None
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise self.error("is an address with a zone", "remove the zone (from % on)")
        return unmapped(address)

    def prefix(self) -> Prefix:
        """A prefix without host bits, with its length written out."""
        address, _, length = self.text().partition("/")
        if not length.isdecimal() or "%" in address:
            raise self.error("is not a prefix", "write an address and a length, such as 192.0.2.0/24 or 2001:db8::/64")
        try:
            prefix = ip_network(self.text(), strict=False)
        except ValueError:
            raise self.error("is not a prefix", "write a prefix such as 192.0.2.0/24 or 2001:db8::/64") from None
        if ip_address(address) != prefix.network_address:
            raise self.error(f"has bits set after its length of {prefix.prefixlen}", f"did you mean {prefix}?")
        return unmapped_prefix(prefix)

    def error(self, what: str, fix: str) -> FieldError:
        """`what` goes on after the field's name and value: `is not a list`."""
        if self.value is None:
            return FieldError(f"{self.path} is missing", fix)
        return FieldError(f"{self.path} {what}" if self.secret else f"{self.path} = {quoted(self.value)} {what}", fix)


def quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= QUOTED_CHARACTERS else text[: QUOTED_CHARACTERS - 1] + "…"


def core_address(text: str, path: str) -> Address:
    """An address of a core object, canonical.

    As the API's own components do (netutils.ParseIPSloppy), leading zeros are dropped: old clusters hold such objects.
    """
    return Field(path, _LEADING_ZEROS.sub("", text) if ":" not in text else text).address()


def core_prefix(text: str, path: str) -> Prefix:
    """A prefix of a core object, canonical: without host bits and leading zeros, as netutils.ParseCIDRSloppy has it."""
    try:
        return unmapped_prefix(ip_network(_LEADING_ZEROS.sub("", text) if ":" not in text else text, strict=False))
    except ValueError:
        raise Field(path, text).error("is not a prefix", "set it to a prefix such as 10.244.1.0/24") from None


def unmapped(address: Address) -> Address:
    """IPv4 in IPv6's clothes (::ffff:a.b.c.d) is IPv4, as in Go's net package, which the API server uses."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def unmapped_prefix(prefix: Prefix) -> Prefix:
    mapped = prefix.network_address.ipv4_mapped if isinstance(prefix, IPv6Network) else None
    if mapped is None or prefix.prefixlen < _MAPPED_BITS:
        return prefix
    return ip_network((IPv4Address(mapped), prefix.prefixlen - _MAPPED_BITS))


_MAPPED_BITS: Final = 96
