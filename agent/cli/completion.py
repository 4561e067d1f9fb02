"""`bgpilot completion`: the script with which a shell completes our command line, and what names it is offered.

The shell runs `bgpilot` itself at each Tab, with variables that say how far the line is (typer's protocol). Names of
peers come from the agent; who cannot reach it is offered none and told nothing, as the line is being typed.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from agent.cli.client import RefusedError, UnreachableError, fetch
from agent.settings import DEFAULT_RUN_DIR, SOCKET_NAME

PROGRAM: Final = "bgpilot"
ASKED_BY_SHELL: Final = "_BGPILOT_COMPLETE"
"""The environment variable that says so."""
_LINES: Final = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")
"""The line so far: of bash, of the others."""
_COMMAND: Final = re.compile(r"(\S+\s+)(\S+)(\s.*)", re.DOTALL)
"""Of a line in which the command's name is not what is being typed; bash parts the words by newlines."""
PATIENCE_SECONDS: Final = 1.0


class Shell(enum.StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="Whose script.")]) -> None:
    """Print the script with which a shell completes commands, options and peers.

    bash: source <(bgpilot completion bash) · zsh: the same with zsh, after compinit · fish: bgpilot completion fish |
    source. For good: the same line in ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish.
    """
    from typer._completion_shared import get_completion_script  # noqa: PLC0415  # 80 ms, for this alone

    typer.echo(get_completion_script(prog_name=PROGRAM, complete_var=ASKED_BY_SHELL, shell=shell))


def prepare(environment: MutableMapping[str, str], full_name: Callable[[Sequence[str]], list[str]]) -> None:
    """Have typer answer the shell: with the command's name written out, as the user need not write it."""
    from typer._completion_classes import completion_init  # noqa: PLC0415  # as above

    completion_init()
    for name in _LINES:
        if (line := _COMMAND.match(environment.get(name, ""))) is not None:
            environment[name] = line[1] + full_name([line[2]])[0] + line[3]


def peers(context: typer.Context, incomplete: str) -> list[str]:
    """Names and IPv4 addresses: to bash, what comes after a colon is another word."""
    asked = str(context.params.get("run_dir") or DEFAULT_RUN_DIR)
    try:
        said = fetch(Path(asked) / SOCKET_NAME, "/v1/peers", timeout_seconds=PATIENCE_SECONDS, refusals=False)
    except (UnreachableError, RefusedError, ValueError):
        return []
    return [it for it in dict.fromkeys(_names(said)) if it.startswith(incomplete)]


def _names(said: bytes) -> Iterator[str]:
    for address, peer in json.loads(said)["peers"].items():
        yield peer["name"].rpartition("/")[2]
        if ":" not in address:
            yield address
