"""`bgpilot completion`: the script with which a shell completes our command line, and what names it is offered.

The shell runs `bgpilot` itself at each Tab, with variables that say how far the line is (typer's protocol). Names of
peers come from the agent; who cannot reach it is offered none and told nothing, as the line is being typed.
"""

from __future__ import annotations

import enum
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from agent.cli.client import RefusedError, UnreachableError, fetch
from agent.settings import DEFAULT_RUN_DIR, SOCKET_NAME

PROGRAM: Final = "bgpilot"
ASKED_BY_SHELL: Final = "_BGPILOT_COMPLETE"
"""The environment variable that says so."""
_LINE: Final = "_TYPER_COMPLETE_ARGS"
"""The same for the line so far."""
_COMMAND: Final = re.compile(r"(\S+\s+)(\S+)(\s.*)", re.DOTALL)
"""Of a line in which the command's name is not what is being typed."""
_BASH: Final = """\
_bgpilot_completion() {
    local IFS=$'\\n' line=${COMP_LINE:0:COMP_POINT}
    local kept=${line##*[[:space:]=]}
    # To bash a colon ends a word: of an address only what comes behind the last one is replaced.
    [[ $COMP_WORDBREAKS == *:* && $kept != [\\"\\']* ]] && kept=${kept%"${kept##*:}"} || kept=
    local -x _BGPILOT_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS=$line
    COMPREPLY=($("$1"))
    COMPREPLY=("${COMPREPLY[@]%%$'\\t'*}")
    COMPREPLY=("${COMPREPLY[@]#"$kept"}")
}
complete -o default -F _bgpilot_completion bgpilot"""
"""Asks as fish does, whose answers are a line each, with a tab before what is said of it."""
_ZSH: Final = """\
#compdef bgpilot
_bgpilot_completion() {
    local line="${words[1,CURRENT]}"
    compset -P '--*='  # of --peer=2001 only what comes behind the = is replaced
    eval "$(_BGPILOT_COMPLETE=complete_zsh _TYPER_COMPLETE_ARGS=$line bgpilot)"
}
compdef _bgpilot_completion bgpilot"""
_FISH: Final = """\
function __bgpilot_asked
    env _BGPILOT_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv _TYPER_COMPLETE_ARGS=(commandline -cp) bgpilot
end
function __bgpilot_offered
    # To fish --peer=2001 is one word: what is offered must begin as it does.
    __bgpilot_asked get-args | string replace -r '^' -- (commandline -ct | string match -r '^--.*?=' || echo)
end
complete --command bgpilot --no-files --arguments '(__bgpilot_offered)' --condition '__bgpilot_asked is-args'"""
PATIENCE_SECONDS: Final = 1.0


class Shell(enum.StrEnum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_SCRIPTS: Final[Mapping[Shell, str]] = {Shell.BASH: _BASH, Shell.ZSH: _ZSH, Shell.FISH: _FISH}


def completion(shell: Annotated[Shell, typer.Argument(help="Whose script.")]) -> None:
    """Print the script with which a shell completes commands, options and peers.

    bash: source <(bgpilot completion bash) · zsh: the same with zsh, after compinit · fish: bgpilot completion fish |
    source. For good: the same line in ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish.
    """
    typer.echo(_SCRIPTS[shell])


def prepare(environment: MutableMapping[str, str], full_name: Callable[[Sequence[str]], list[str]]) -> None:
    """Have typer answer the shell: with the command's name written out, as the user need not write it."""
    from typer._completion_classes import completion_init  # noqa: PLC0415  # 80 ms, for this alone

    completion_init()
    if (line := _COMMAND.match(environment.get(_LINE, ""))) is not None:
        environment[_LINE] = line[1] + full_name([line[2]])[0] + line[3]


def peers(context: typer.Context, incomplete: str) -> list[str]:
    """Addresses, and the names that stand for one peer."""
    return _offered(context, incomplete, most=1)


def subjects(context: typer.Context, incomplete: str) -> list[str]:
    """The same with names that several have: `explain` answers for all of them."""
    return _offered(context, incomplete, most=None)


def _offered(context: typer.Context, incomplete: str, *, most: int | None) -> list[str]:
    asked = str(context.params.get("run_dir") or DEFAULT_RUN_DIR)
    try:
        said = fetch(Path(asked) / SOCKET_NAME, "/v1/peers", timeout_seconds=PATIENCE_SECONDS, refusals=False)
    except (UnreachableError, RefusedError, ValueError):
        return []
    found = {address: peer["name"] for address, peer in json.loads(said)["peers"].items()}
    return [it for it in dict.fromkeys(_names(found, most, full=incomplete != "")) if it.startswith(incomplete)]


def _names(found: Mapping[str, str], most: int | None, *, full: bool) -> Iterator[str]:
    """Of each peer its address and its name, in full (`BGPPeer/tor-a`) where that is needed or asked for."""
    many = Counter(form for name in found.values() for form in {name, _short(name)})
    for address, name in found.items():
        forms = [it for it in (_short(name), name) if most is None or many[it] <= most]
        yield from forms if full else forms[:1]
        yield address


def _short(name: str) -> str:
    return name.rpartition("/")[2]
