"""ExaBGP's configuration without passwords.

It keeps what it knows to be none, line by line, and nothing else: somebody may have edited the file, and a statement
with a slip in its name still has the password behind it. Pure.
"""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Final

REDACTED: Final = "redacted"
FOUND_MIN_CHARACTERS: Final = 6
"""Shorter ones are not looked for elsewhere: they are part of too much that is none."""
_STATEMENTS: Final = frozenset(
    {
        "process",
        "run",
        "encoder",
        "neighbor",
        "router-id",
        "local-address",
        "local-as",
        "peer-as",
        "hold-time",
        "passive",
        "listen",
        "connect",
        "source-interface",
        "outgoing-ttl",
        "incoming-ttl",
        "md5-base64",
        "description",
        "manual-eor",
        "adj-rib-in",
        "adj-rib-out",
        "api",
        "processes",
        "neighbor-changes",
        "receive",
        "send",
        "capability",
        "family",
        "nexthop",
    }
)
_QUOTED: Final = re.compile(r'run( "[^"]*")+;|description "([a-z-]+=\d{1,9} ?)*(name=[A-Za-z0-9.-]{1,253})?";')
"""The only ones with quotes in them; a description is of words that we make ourselves."""
_FAREWELL: Final = re.compile(r"# farewell \S+ \d{1,2}( [0-9a-f]+)?")
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_VALUE: Final = re.compile(r'[^\s";{}\[\]]+')


def redacted(configuration: str) -> str:
    return "".join(f"{_line(line)}\n" for line in configuration.splitlines())


def secrets_in(configuration: str) -> frozenset[str]:
    """What `redacted` takes away, in the forms in which it stands there."""
    lost = (line for line in configuration.splitlines() if _line(line) != line.rstrip())
    values = [value for line in lost for value in _VALUE.findall(line)[1:]]
    return frozenset(value for value in (*values, *map(_decoded, values)) if len(value) >= FOUND_MIN_CHARACTERS)


def _decoded(value: str) -> str:
    """As it was before ExaBGP's file had it in base64; empty: it was not."""
    try:
        return b64decode(value, validate=True).decode()
    except ValueError:
        return ""


def without(text: str, secrets: frozenset[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return text


def _line(line: str) -> str:
    """A statement twice on a line, or a line without its end, is not one that is known."""
    said = line.strip()
    head = said.split(maxsplit=1)[0].rstrip(";{}") if said else ""
    if not head or (head in _STATEMENTS and not _is_doubtful(said)) or _FAREWELL.fullmatch(said):
        return line.rstrip()
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}{head if _NAME.fullmatch(head) else '#'} {REDACTED};"


def _is_doubtful(said: str) -> bool:
    """It may have more in it than the statement that it begins with."""
    if '"' in said:
        return _QUOTED.fullmatch(said) is None
    return "password" in said or "md5" in said.removeprefix("md5-base64")
