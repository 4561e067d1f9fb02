"""What somebody has ordered on this node: to drain it. Kept in the run directory, so that it outlives the agent.

Everything else in the run directory is output; this alone is read back, because an operator's word must not be undone
by a crash. The pod's end takes it away (the directory is the pod's own): who wants more annotates the Node.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from agent.plan.leaving import TEXT_MAX

FILE_NAME: Final = "drain"
FILE_MODE: Final = 0o600


class Orders:
    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / FILE_NAME

    def drain(self) -> str | None:
        """The text of the order to drain, empty when the file cannot be read; None: there is no order."""
        try:
            return self._path.read_bytes()[:TEXT_MAX].decode(errors="ignore")
        except FileNotFoundError:
            return None
        except OSError:
            return ""

    def keep(self, text: str | None) -> None:
        """Raises OSError, and then what was kept before stays."""
        if text is None:
            self._path.unlink(missing_ok=True)
            return
        half = self._path.with_suffix(".new")
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        half.replace(self._path)
