"""Runs a program where one directory alone can be written: `python cage.py DIRECTORY PROGRAM ARGUMENT…`

As a container with a read-only root, one volume, and a /dev of its own, whatever became of the machine's (a plain file
in place of /dev/null was seen). All mounts change in one go (mount_setattr(2), Linux 5.12): one by
one that takes seconds on a busy machine. Standard library only; the program takes this process's place.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}
"""Minor numbers of the memory devices, whose major number is 1 (Documentation/admin-guide/devices.txt)."""
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1


def main(directory: str, command: Sequence[str]) -> None:
    libc, here = ctypes.CDLL(None, use_errno=True), directory.encode()

    def done(failed: int) -> None:
        if failed:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def change(path: bytes, flags: int, *, add: int = 0, remove: int = 0) -> None:
        attributes = struct.pack("QQQQ", add, remove, 0, 0)
        done(libc.syscall(MOUNT_SETATTR, AT_FDCWD, path, flags, attributes, len(attributes)))

    done(libc.unshare(CLONE_NEWNS))
    done(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    done(libc.mount(here, here, None, MS_BIND, None))
    done(libc.mount(b"tmpfs", b"/dev", b"tmpfs", 0, b"mode=755"))
    for name, minor in DEVICES.items():
        os.mknod(f"/dev/{name}", stat.S_IFCHR, os.makedev(1, minor))
        Path("/dev", name).chmod(0o666)
    Path("/dev/shm").mkdir()  # noqa: S108
    Path("/dev/fd").symlink_to("/proc/self/fd")
    change(b"/", AT_RECURSIVE, add=MOUNT_ATTR_RDONLY)
    change(here, 0, remove=MOUNT_ATTR_RDONLY)
    os.execvp(command[0], command)  # noqa: S606  # it is what this is for


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
