"""Removes what a lab leaves behind: its processes, its network namespaces, its directory.

Three callers use the same code: a lab that ends as it should, the janitor process that each lab starts and that
outlives a `kill -9` of its owner, and the sweep before each lab that finds what even the janitor did not survive.

It refuses to touch anything whose name is not a lab's name: the name carries the owner's pid and start time, so that
"is the owner dead?" needs no register that could be lost. It uses the standard library only, so that `python -I -S`
starts it in a few milliseconds.
"""

import contextlib
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

NAMESPACES = Path("/run/netns")
LAB_ID = re.compile(r"bgplab\.(?P<pid>\d+)\.(?P<started>\d+)\.[0-9a-f]{6}")
KILL_SECONDS = 20.0
KILL_PAUSE_SECONDS = 0.01


def new_lab_id() -> str:
    """Unique among all labs of this machine, and saying whose it is."""
    pid = os.getpid()
    return f"bgplab.{pid}.{_start_time(pid)}.{secrets.token_hex(3)}"


def lab_directory(lab_id: str) -> Path:
    return Path(tempfile.gettempdir()) / lab_id


def sweep() -> list[str]:
    """Removes every lab whose owner is dead; answers with their ids."""
    found = [*NAMESPACES.glob("bgplab.*"), *Path(tempfile.gettempdir()).glob("bgplab.*")]
    ids = {match.group() for path in found if (match := LAB_ID.match(path.name))}
    dead = sorted(lab_id for lab_id in ids if not _owner_alive(lab_id))
    for lab_id in dead:
        remove_lab(lab_id)
    return dead


def remove_lab(lab_id: str) -> None:
    """Safe to run twice and by two processes at once: whatever is gone already is fine."""
    match = LAB_ID.fullmatch(lab_id)
    if match is None:
        raise ValueError(f"{lab_id!r} is not the id of a lab")
    paths = sorted(NAMESPACES.glob(f"{lab_id}.*"))
    remove_namespaces(paths, spare=int(match["pid"]))
    shutil.rmtree(lab_directory(lab_id), ignore_errors=True)


def remove_namespaces(paths: Iterable[Path], *, spare: int) -> None:
    """Kills all that runs inside, then deletes; a process that slipped in while deleting is killed too."""
    paths = list(paths)
    inodes = frozenset(inode for path in paths if (inode := _inode(path)) is not None)
    kill_inside(inodes, spare=spare)
    if paths:
        lines = "".join(f"netns del {path.name}\n" for path in paths)
        # -force: go on after one that another remover was quicker with.
        subprocess.run(["ip", "-force", "-batch", "-"], input=lines, text=True, capture_output=True, check=False)
    kill_inside(inodes, spare=spare)


def kill_inside(inodes: frozenset[int], *, spare: int) -> None:
    """SIGKILL until nothing but zombies lives in the namespaces with these inodes. `spare` is the lab's owner."""
    ends_at = time.monotonic() + KILL_SECONDS
    while inside := [pid for pid in pids_inside(inodes) if pid not in (spare, os.getpid())]:
        if time.monotonic() > ends_at:
            raise RuntimeError(f"processes {inside} survived SIGKILL")
        for pid in inside:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(KILL_PAUSE_SECONDS)


def pids_inside(inodes: frozenset[int]) -> list[int]:
    """Processes whose network namespace is one of these. A zombie has none any more and does not count."""
    wanted = {f"net:[{inode}]" for inode in inodes}
    inside = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - thousands of Path objects would cost more than the scan
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{name}/ns/net") in wanted:  # noqa: PTH115
                    inside.append(int(name))
    return inside


def _inode(path: Path) -> int | None:
    """None for a file that is gone or that is not (or not yet) a mounted namespace."""
    with contextlib.suppress(OSError):
        if path.stat().st_dev != path.parent.stat().st_dev:
            return path.stat().st_ino
    return None


def _owner_alive(lab_id: str) -> bool:
    match = LAB_ID.fullmatch(lab_id)
    return match is not None and _start_time(int(match["pid"])) == int(match["started"])


def _start_time(pid: int) -> int | None:
    """Clock ticks since boot at which the process started (field 22 of proc(5) stat); None if it is dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def main(lab_id: str) -> None:
    """Waits for the owner's end, or for the end of stdin (which the owner closes when the lab is over); then removes.

    The pidfd matters: a process that the owner forked without exec may hold the pipe open after the owner's death.
    """
    match = LAB_ID.fullmatch(lab_id)
    if match is None:
        raise ValueError(f"{lab_id!r} is not the id of a lab")
    with contextlib.suppress(ProcessLookupError):
        owner = os.pidfd_open(int(match["pid"]))
        if _owner_alive(lab_id):  # else the number belongs to somebody else by now
            poll = select.poll()
            poll.register(owner, select.POLLIN)
            poll.register(sys.stdin.fileno(), select.POLLIN | select.POLLHUP)
            poll.poll()
    remove_lab(lab_id)


if __name__ == "__main__":
    main(sys.argv[1])
