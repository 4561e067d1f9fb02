"""The build stage of the Dockerfile, run without a container: from the lock alone comes a `bgpilot` that starts.

It needs the package index, and no container runtime. That the base image is Debian with Python is not tested here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.gobuild import PROJECT

pytestmark = pytest.mark.cluster

STEP_SECONDS = 600.0
BASE_PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"


def steps() -> Iterator[tuple[str, str]]:
    """Instructions of the first stage."""
    text = (PROJECT / "Dockerfile").read_text().replace("\\\n", " ")
    first = text.split("\nFROM ")[1]
    for line in first.splitlines()[1:]:
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word, rest


def copy(words: str, target: Path) -> None:
    """As COPY does: files by their names, of a folder its contents."""
    *names, where = words.split()
    for name in names:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, target / where, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, target / where)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What becomes /opt/bgpilot."""
    root = tmp_path_factory.mktemp("image")
    source = root / "src"
    source.mkdir()
    for word, rest in steps():
        match word:
            case "COPY":
                copy(rest, source)
            case "RUN":
                command = re.sub(r"(?<![\w/.])/(opt|src)\b", rf"{root}/\1", rest)
                command = re.sub(r"\bpython -m", f"{BASE_PYTHON} -m", command)
                done = subprocess.run(
                    ["sh", "-ec", command],
                    cwd=source,
                    capture_output=True,
                    text=True,
                    timeout=STEP_SECONDS,
                    check=False,
                )
                assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            case _:
                assert word in {"WORKDIR", "ENV"}
    return root / "opt/bgpilot"


def test_the_program_starts_without_anything_of_the_checkout(built: Path, tmp_path: Path) -> None:
    said = subprocess.run([built / "bin/bgpilot", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert "speaker" in said.stdout


def test_the_image_has_exactly_the_packages_of_the_lock(built: Path) -> None:
    code = "import importlib.metadata as m; print(*sorted(d.name.lower() for d in m.distributions()))"
    said = subprocess.run([built / "bin/python", "-I", "-c", code], capture_output=True, text=True, check=True)
    pins = re.findall(r"^(\S+)==(?!.*win32)", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)

    assert {normal(name) for name in said.stdout.split()} == {normal(name) for name in [*pins, "bgpilot"]}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
