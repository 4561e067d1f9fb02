"""What an agent and `bgpilot speaker`, which runs ExaBGP beside it, tell each other by files in the run directory.

The one who runs ExaBGP says what keeps it from running (`Trouble`). The agent, which alone can tell that ExaBGP hangs
(`bgp.silence`), says which one does (`Hung`), for the other to end it.

It refuses to end anything, and to know what is wrong.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TypeVar

import msgspec

TROUBLE: Final = "speaker.trouble"
"""What keeps ExaBGP from running, for an agent that is not its parent; absent: nothing."""
HUNG: Final = "speaker.hung"
"""The ExaBGP that hangs; absent: none does."""

T = TypeVar("T")


class Trouble(msgspec.Struct, frozen=True):
    """Why ExaBGP is not there or not listening, with the reason word, and what to do."""

    reason: str
    message: str
    fix: str


class Hung(msgspec.Struct, frozen=True):
    instance: str
    """As the bridge names it: another one is not meant (`bgp.inside.bridge.instance_of`)."""
    trouble: Trouble


def tell_trouble(run_dir: Path, trouble: Trouble | None) -> None:
    _tell(run_dir / TROUBLE, trouble)


def read_trouble(run_dir: Path) -> Trouble | None:
    return _read(run_dir / TROUBLE, Trouble)


def tell_hung(run_dir: Path, hung: Hung | None) -> None:
    """None: it has spoken again, or is no more."""
    _tell(run_dir / HUNG, hung)


def read_hung(run_dir: Path) -> Hung | None:
    return _read(run_dir / HUNG, Hung)


def write_private(path: Path, text: str, *, beside: bool = False) -> None:
    """Atomically, mode 0600. What a process that was killed leaves half written the next one overwrites.

    `beside`: by `bgpilot speaker`, where the agent may write the same at the same time.
    """
    temporary = path.with_name(f"{path.name}{'.speaker' if beside else ''}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _tell(path: Path, what: msgspec.Struct | None) -> None:
    if what is None:
        path.unlink(missing_ok=True)
    else:
        write_private(path, msgspec.json.encode(what).decode())


def _read(path: Path, of: type[T]) -> T | None:
    """What was told last."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=of)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
