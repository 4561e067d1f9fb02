"""A fault as it happens to operators, and what must be said of it: what `bgpilot check` fails with, which command names
cause and fix, which sample of the metrics moves, and which alerts would fire if it lasted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, TypeAlias

from tests.lab.ward import Ward

Harm: TypeAlias = Callable[[Ward], AbstractContextManager[None]]


class Fault(NamedTuple):
    harm: Harm
    check: str
    """In a line of `bgpilot check` that fails; or one that begins with PASS, where all is as it should be."""
    asked: tuple[str, ...]
    """The command that names the cause,"""
    cause: str
    """so, in a regular expression,"""
    fix: str
    """and what to do."""
    moves: str
    """A sample of the metrics, in a regular expression, that is another one then."""
    alerts: tuple[str, ...]
    """Those that fire, with their scope, if it lasts 20 minutes; no other does."""
    goes_on: str = ""
    """Samples that rise for as long as it lasts, or comes again."""
    lasts: bool = True
    """False: it is put right within seconds, and comes again."""


PEERS = ("peers",)
