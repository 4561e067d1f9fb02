"""`kubectl-bgpilot`, which kubectl runs as `kubectl bgpilot`: the commands by name. It starts as fast as `bgpilot`.

What a command does stands in the other files of this folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

from agent.cli.commands import launch, program, written_out
from agent.kubectl import check, explain, peers, status
from agent.kubectl import map as map_page
from agent.kubectl.options import in_order

COMMANDS: Final[Mapping[str, Callable[..., None]]] = {
    "status": status.status,
    "peers": peers.peers,
    "explain": explain.explain,
    "check": check.check,
    "map": map_page.map_,
}
PROGRAM: Final = "kubectl bgpilot"
app = program(
    PROGRAM,
    "BGP of all nodes of a cluster, through your own kubectl. Any unique beginning of a command's name will do.",
    COMMANDS,
)


def main() -> None:
    launch(app, PROGRAM, written_out(in_order(sys.argv[1:]), COMMANDS), COMMANDS)
