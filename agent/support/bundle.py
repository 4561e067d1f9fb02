"""The archive: parts one after the other, each of which may fail, and at its end a list of those that did.

Nothing of a secret gets in: what is known to be one is taken out of every part again, although none should have it.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from agent.support.node import Part
from agent.support.redact import without

READ_ME: Final = """This is what `bgpilot tech-support` found on a node. Passwords and Secrets are not in it.

    scenario.json    the cluster as the agent saw it, what peers said, and how far its plan was carried out
    answers/         what the agent answered: status, peers, routes, fib, diff, events, metrics, probes
    kernel/          links, addresses, routes, rules and switches of the node
    exabgp.conf      the sessions as ExaBGP has them, without passwords
    about.json       versions and settings
    failures.txt     what could not be had, and why

Ask it, without an agent:

    bgpilot explain --from THIS-FILE PREFIX|NAMESPACE/SERVICE|PEER
    bgpilot plan --from THIS-FILE
"""
PART_MAX_BYTES: Final = 256 * 1024 * 1024


@dataclass(slots=True)
class Made:
    parts: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    """(part, why)."""


def write(file: IO[bytes], parts: Iterable[tuple[str, Part]], *, folder: str, secrets: frozenset[str]) -> Made:
    """Goes on after each failure. Raises OSError when the file itself cannot be written."""
    made = Made()
    with tarfile.open(fileobj=file, mode="w|gz") as archive:
        for name, content in _contents(parts, made):
            text = without(content.decode(errors="replace"), secrets)
            _add(archive, f"{folder}/{name}", text.encode())
        made.failures = [(name, without(why, secrets)) for name, why in made.failures]
        failures = "".join(f"{name}: {why}\n" for name, why in made.failures) or "none\n"
        _add(archive, f"{folder}/failures.txt", failures.encode())
        _add(archive, f"{folder}/README.txt", READ_ME.encode())
    return made


def _contents(parts: Iterable[tuple[str, Part]], made: Made) -> Iterator[tuple[str, bytes]]:
    for name, make in parts:
        try:
            content = make()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other parts may be what somebody needs
            made.failures.append((name, " ".join(str(error).split()) or type(error).__name__))
            continue
        if len(content) > PART_MAX_BYTES:
            made.failures.append((name, f"{len(content)} bytes, which is more than anybody reads"))
            continue
        made.parts += 1
        yield name, content


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size, about.mode, about.mtime = len(content), 0o600, int(time.time())
    archive.addfile(about, io.BytesIO(content))


@contextmanager
def create(path: Path) -> Iterator[IO[bytes]]:
    """For its owner alone, from the start. Raises OSError; what is there already is not written over.

    Half a file is of no use, and would be in the way of the next: it goes.
    """
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise
