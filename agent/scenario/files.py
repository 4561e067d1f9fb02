"""Finds the scenario in a file: YAML or JSON, compressed or not, or the archive that `bgpilot tech-support` writes."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, Final

from agent.scenario.form import Scenario, ScenarioError
from agent.scenario.read import read_text

MEMBER: Final = "scenario.json"
"""What it is called in an archive, in whatever folder."""
SCENARIO_MAX_BYTES: Final = 512 * 1024 * 1024
"""One of 5,000 nodes has some 10 MB; more than this nobody has written on purpose."""
STDIN: Final = Path("-")
_GZIP: Final = b"\x1f\x8b"


def load(path: Path) -> Scenario:
    """`-` is what comes on standard input. Raises ScenarioError, with the file's name."""
    try:
        return read_text(_text(path))
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror or error}") from None
    except (UnicodeDecodeError, EOFError, tarfile.TarError, zlib.error):
        raise ScenarioError(f"{path}: neither text nor a whole archive of `bgpilot tech-support`") from None
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from None


def _text(path: Path) -> str:
    found = io.BytesIO(sys.stdin.buffer.read(SCENARIO_MAX_BYTES + 1)) if path == STDIN else None
    with found or path.open("rb") as file:
        if file.read(len(_GZIP)) != _GZIP:
            file.seek(0)
            return _bounded(file)
        file.seek(0)
        try:
            return _in_archive(file)
        except tarfile.ReadError:
            file.seek(0)
            with gzip.GzipFile(fileobj=file) as plain:
                return _bounded(plain)


def _in_archive(file: IO[bytes]) -> str:
    with tarfile.open(fileobj=file, mode="r:gz") as archive:
        for member in archive:
            if member.isfile() and PurePosixPath(member.name).name == MEMBER:
                found = archive.extractfile(member)
                if found is not None:
                    return _bounded(found)
    raise ScenarioError(f"the archive has no {MEMBER}: the agent did not answer when it was written")


def _bounded(file: IO[bytes] | gzip.GzipFile) -> str:
    text = file.read(SCENARIO_MAX_BYTES + 1)
    if len(text) > SCENARIO_MAX_BYTES:
        raise ScenarioError(f"longer than {SCENARIO_MAX_BYTES} bytes: no scenario is")
    return text.decode()
