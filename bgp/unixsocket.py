"""A unix socket that is its owner's alone, and whether it still has its name: somebody may delete it, and then nobody
who comes finds it, while whoever listens on it hears nothing of that.

It refuses to serve anybody, and to look by itself.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Final

SOCKET_MODE_MASK: Final = 0o177
FOLDER_MODE: Final = 0o700


class UnixSocket:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._bound: tuple[int, int] | None = None

    def bind(self) -> socket.socket:
        """Of mode 0600 from the moment that it exists, in the place of what has that name. Raises OSError.

        Anew also with its folder, should that have gone too.
        """
        if self._bound is not None:
            self.path.parent.mkdir(mode=FOLDER_MODE, exist_ok=True)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(SOCKET_MODE_MASK)
        try:
            self.path.unlink(missing_ok=True)
            made.bind(str(self.path))
            self._bound = self._there()
        except OSError:
            made.close()
            raise
        finally:
            os.umask(before)
        return made

    @property
    def lost(self) -> bool:
        """There is none of that name any more, or another."""
        return self._bound is not None and self._there() != self._bound

    def remove(self) -> None:
        """If it is ours still."""
        if not self.lost:
            self.path.unlink(missing_ok=True)

    def _there(self) -> tuple[int, int] | None:
        """What has the name, which is nobody else's as long as the socket is open."""
        try:
            found = self.path.lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino
