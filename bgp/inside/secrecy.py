"""What a process does so that the passwords in its memory stay there. Standard library only.

It refuses to hide anything from who may do everything on this machine (CAP_SYS_PTRACE).
"""

from __future__ import annotations

import ctypes
import resource
from typing import Final

PR_SET_DUMPABLE: Final = 4


def keep_memory() -> None:
    """No core dump, whatever the machine does with them, and no other process of the same user reads this one's memory.

    A limit of 0 is not enough: a core_pattern that is a pipe (systemd-coredump) is handed everything all the same
    (core(5), prctl(2)). It is to be called in every process anew, since the start of a program resets it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0)
