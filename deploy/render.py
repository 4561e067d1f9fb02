# ruff: noqa: INP001  # a script, no package
"""Renders deploy/base into deploy/agent.yaml: one file for `kubectl apply -f`, with the comments of its parts.

`python deploy/render.py` writes it, `--check` says whether it is up to date (exit 1 if not) and writes nothing.

It does what kustomize does with a list of resources, and refuses every other key of a kustomization: nothing may make
the two differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parent
RENDERED = {"agent.yaml": "base"}
HEADER = (
    "# bgpilot, complete. Rendered from deploy/{folder} by deploy/render.py: change the parts there, not this file.\n"
)
KNOWN_KEYS = {"apiVersion", "kind", "resources"}


class RenderError(Exception):
    """A kustomization that this cannot render; the text names file and fix."""


def rendered(folder: str) -> str:
    documents = [path.read_text().removeprefix("---\n").rstrip("\n") + "\n" for path in parts(DEPLOY / folder)]
    return HEADER.format(folder=folder) + "---\n" + "---\n".join(documents)


def parts(folder: Path) -> Iterator[Path]:
    """The files that a kustomization lists, in its order, through other kustomizations."""
    file = folder / "kustomization.yaml"
    wanted = yaml.safe_load(file.read_text())
    if unknown := sorted(set(wanted) - KNOWN_KEYS):
        raise RenderError(f"{file}: cannot render {', '.join(unknown)}: use an overlay, which is not rendered")
    for name in wanted["resources"]:
        path = folder / name
        if path.is_dir():
            yield from parts(path)
        else:
            yield path


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Render deploy/base into deploy/agent.yaml.")
    parser.add_argument("--check", action="store_true", help="only say whether what is there is up to date")
    check = parser.parse_args(arguments).check
    stale = []
    for name, folder in RENDERED.items():
        text, path = rendered(folder), DEPLOY / name
        if not path.exists() or path.read_text() != text:
            stale.append(f"deploy/{name}")
            if not check:
                path.write_text(text)
    if stale and check:
        sys.stderr.write(f"not up to date: {', '.join(stale)}. Run: python deploy/render.py\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
