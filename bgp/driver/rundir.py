"""The run directory: nobody but its owner may enter it, because who can write there can make ExaBGP run what he likes.

It refuses to touch a directory that holds others' things too: `--run-dir /tmp` must not close /tmp to everybody.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o700
OTHERS_MAY_ENTER: Final = 0o077
OTHERS_MAY_WRITE: Final = 0o022
OURS: Final = ("bgpilot.sock", "drain", "exabgp.conf", "speaker.", ".writable", "tmp")
"""How the names of all that agent and ExaBGP put there begin; the last: earlier versions."""


class SharedError(Exception):
    """Others may write there, and that cannot be changed; the text says so and what to do."""


def make_run_dir(path: Path) -> None:
    """Mode 0700, also when it was there before: a volume of a pod (emptyDir) is open to everybody at first.

    Raises OSError when it cannot be made, and SharedError.
    """
    path.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    found = path.stat()
    if found.st_mode & OTHERS_MAY_ENTER and _is_ours_alone(path, found):
        with contextlib.suppress(OSError):  # a read-only mount, say: whoever writes next tells of it
            path.chmod(PRIVATE)
            return
    if found.st_mode & OTHERS_MAY_WRITE:
        raise SharedError(
            f"others may write to the run directory {path} (mode {stat.S_IMODE(found.st_mode):04o}), and it is not "
            "bgpilot's alone to close it: they could give ExaBGP another configuration. Give another --run-dir."
        )


def _is_ours_alone(path: Path, found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and all(entry.name.startswith(OURS) for entry in path.iterdir())
