# ruff: noqa: INP001  # a script, no package
"""Renders deploy/base into deploy/agent.yaml (one file for `kubectl apply -f`, with the comments of its parts), and
the schemas in deploy/crds into the README's tables of settings.

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
from reference import README, ReadmeError, rendered_readme

DEPLOY = Path(__file__).resolve().parent
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


def results() -> dict[Path, str]:
    """Every file that is made of others, as it should be."""
    return {DEPLOY / "agent.yaml": rendered("base"), README: rendered_readme()}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Render deploy/agent.yaml, and the tables of settings in README.md.")
    parser.add_argument("--check", action="store_true", help="only say whether what is there is up to date")
    check = parser.parse_args(arguments).check
    try:
        wanted = results()
    except (RenderError, ReadmeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if not check:
        for path in stale:
            path.write_text(wanted[path])
        return 0
    if stale:
        names = ", ".join(str(path.relative_to(DEPLOY.parent)) for path in stale)
        sys.stderr.write(f"not up to date: {names}. Run: make render\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
