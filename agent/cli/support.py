"""`bgpilot tech-support`: everything that a support engineer asks for, in one file; see `agent.support`.

It asks the agent like every other command, and goes on when it does not answer.
"""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer

from agent.cli.client import fetch
from agent.cli.present import EXIT_DEGRADED, EXIT_ERROR, RUN_DIR, RunDirOption
from agent.settings import SOCKET_NAME

if TYPE_CHECKING:
    from agent.support.bundle import Made
    from agent.support.node import Part

ANSWERS: Final = {
    "answers/status.json": "/v1/status",
    "answers/peers.json": "/v1/peers",
    "answers/routes-received.json": "/v1/routes?side=received",
    "answers/routes-advertised.json": "/v1/routes?side=advertised",
    "answers/fib.json": "/v1/fib",
    "answers/diff.json": "/v1/diff",
    "answers/events.json": "/v1/events",
    "answers/metrics.txt": "/metrics",
    "answers/livez.txt": "/livez",
    "answers/readyz.txt": "/readyz",
    "scenario.json": "/v1/scenario",
}
"""Tables have at most 5,000 rows and say how many they leave out; the scenario has all that fits into 200,000."""
SCENARIO_SECONDS: Final = 60.0
VERDICTS: Final = frozenset({"/livez", "/readyz"})
"""Their answer is one also when it is no."""
STDOUT: Final = Path("-")


def tech_support(
    *,
    to: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to; -: to standard output. Not over another file."),
    ] = None,
    run_dir: RunDirOption = RUN_DIR,
) -> None:
    """Write all that is known here into one file, without passwords: for `explain --from` and `plan --from`.

    In a pod: kubectl exec … -- bgpilot tech-support -o - > FILE. Exit code 3: some of it could not be had; what is
    missing is said here and in the file.
    """
    from agent.support import bundle  # noqa: PLC0415  # no other command needs what it loads

    if to == STDOUT and sys.stdout.isatty():
        raise typer.BadParameter("an archive is nothing for a terminal: > FILE, or -o FILE")
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = f"bgpilot-{os.uname().nodename}-{at}"
    path = Path(f"{folder}.tar.gz") if to is None else to
    try:
        with _opened(path) as file:
            made = bundle.write(file, _parts(run_dir), folder=folder, secrets=_secrets(run_dir))
    except OSError as error:
        typer.echo(f"bgpilot: {path}: {error.strerror or error}; say with -o where to write", err=True)
        raise typer.Exit(EXIT_ERROR) from None
    _tell(path, made)
    if made.failures:
        raise typer.Exit(EXIT_DEGRADED)


def _opened(path: Path) -> AbstractContextManager[IO[bytes]]:
    from agent.support.bundle import create  # noqa: PLC0415

    return nullcontext(sys.stdout.buffer) if path == STDOUT else create(path)


def _parts(run_dir: Path) -> Iterator[tuple[str, Part]]:
    from agent.support.node import parts  # noqa: PLC0415

    for name, target in ANSWERS.items():
        yield name, partial(_asked, run_dir / SOCKET_NAME, target)
    yield from parts(run_dir)


def _asked(socket: Path, target: str) -> bytes:
    return fetch(socket, target, timeout_seconds=SCENARIO_SECONDS, refusals=target in VERDICTS)


def _secrets(run_dir: Path) -> frozenset[str]:
    """What ExaBGP's configuration has, as far as it can be read: that is looked for everywhere else."""
    from agent.support.node import CONFIGURATION  # noqa: PLC0415
    from agent.support.redact import secrets_in  # noqa: PLC0415

    try:
        return secrets_in((run_dir / CONFIGURATION).read_text())
    except (OSError, UnicodeDecodeError):
        return frozenset()


def _tell(path: Path, made: Made) -> None:
    """Aside: standard output may be the file. What is missing for one reason stands in one line."""
    where = "standard output" if path == STDOUT else path
    typer.echo(f"{where}: {made.parts} parts, without passwords", err=True)
    missing = defaultdict[str, list[str]](list)
    for name, why in made.failures:
        missing[why].append(name)
    for why, (first, *others) in missing.items():
        what = f"{', '.join([first, *others[:-1]])} and {others[-1]} are" if others else f"{first} is"
        typer.echo(f"! {what} missing: {why}", err=True)
