"""What every command of the plugin takes: which cluster, which nodes; and how nodes are named in what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer

from agent.kubectl.client import Kubectl
from agent.settings import DEFAULT_NAMESPACE

ContextOption = Annotated[str, typer.Option("--context", help="As kubectl has it.", show_default=False)]
KubeconfigOption = Annotated[str, typer.Option("--kubeconfig", help="As kubectl has it.", show_default=False)]
NamespaceOption = Annotated[str, typer.Option("-n", "--namespace", help="That of the agents' pods.")]
NodesOption = Annotated[
    list[str] | None,
    typer.Option("--node", metavar="NODE", help="Only this node; may be given again.", show_default=False),
]
NAMESPACE: Final = DEFAULT_NAMESPACE
OF_KUBECTL: Final = ("--context", "--kubeconfig", "-n", "--namespace")
"""Each with a value."""
NAMES_MAX: Final = 6


def kubectl_of(context: str, kubeconfig: str, namespace: str) -> Kubectl:
    given = {"--context": context, "--kubeconfig": kubeconfig}
    return Kubectl(tuple(f"{flag}={value}" for flag, value in given.items() if value), namespace)


def in_order(arguments: Sequence[str]) -> list[str]:
    """Flags of kubectl that stand before the command go behind it: people write `kubectl --context` first."""
    rest, flags = list(arguments), list[str]()
    while rest and rest[0].partition("=")[0] in OF_KUBECTL:
        many = 1 if "=" in rest[0] else 2
        flags, rest = [*flags, *rest[:many]], rest[many:]
    return [*rest[:1], *flags, *rest[1:]]


def named(nodes: Sequence[str], of: int) -> str:
    """`node-1, node-3`; `all 3 nodes`; of many the first ones."""
    if len(nodes) == of > 1:
        return f"all {of} nodes"
    shown, more = ", ".join(nodes[:NAMES_MAX]), len(nodes) - NAMES_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def sentence(text: str, fix: str) -> str:
    words = text.rstrip(". ")
    return f"{words}. Fix: {fix.rstrip('. ')}." if fix else f"{words}."
