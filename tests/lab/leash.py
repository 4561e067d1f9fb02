"""A folder and programs that belong to the test process and go with it, for what runs in no lab of its own.

The kernel kills each program when the *thread* that started it ends (PR_SET_PDEATHSIG, set by `setpriv`), which happens
also when the test process is killed. So one thread of the leash starts them all: the end of any other thread, of an
event loop's executor say, does not count. The folder of a killed process is removed by the next leash that is made.

It refuses to restart what died: the owner asks, and learns the exit code and the end of the log.
"""

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.lab.procs import Process
from tests.lab.wait import wait_until

FOLDER_PREFIX = "bgpilot-leash-"
FREEZE_SECONDS = 20.0


class Leash:
    """Starts programs that die with it, that is at `release()` or with this process, whichever way that ends.

    `folder` is where they run and log.
    """

    def __init__(self, netns: Path | None = None) -> None:
        """`netns` is the file of the network namespace that the programs run in."""
        self.folder, self._lock = _own_folder()
        self._enter = inside(netns)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="leash")
        self._started: list[Process] = []

    def start(self, name: str, argv: Sequence[str | Path]) -> Process:
        """The log is `NAME.log` in the folder, appended over restarts."""
        command = [*self._enter, "setpriv", "--pdeathsig", "KILL", *argv]
        process = self._thread.submit(Process, command, log=self.folder / f"{name}.log", cwd=self.folder).result()
        self._started.append(process)
        return process

    def release(self) -> None:
        """Kill what still runs, the last first, and remove the folder. May be called again."""
        while self._started:
            self._started.pop().kill()
        self._thread.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)  # what cannot be removed now is left to the next leash
        self._lock.close()


def inside(netns: Path | None) -> list[str]:
    """Start of a command line that runs the rest in the network namespace, with this process's mounts."""
    return [] if netns is None else ["nsenter", f"--net={netns}", "--"]


@contextmanager
def frozen(process: Process) -> Iterator[None]:
    """Inside, every thread of the program stands still: its connections stay open, and nobody answers."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        wait_until(lambda: _stands_still(process.pid), within=FREEZE_SECONDS, every=0.002)
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    threads = Path(f"/proc/{pid}/task").glob("*/stat")
    return all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in threads)


def _own_folder() -> tuple[Path, IO[str]]:
    """A new folder and its lock, which the kernel frees when this process ends; folders without owner are removed."""
    temporary = Path(tempfile.gettempdir())
    with (temporary / f"{FOLDER_PREFIX}lock").open("w") as all_folders:
        fcntl.flock(all_folders, fcntl.LOCK_EX)  # else one could be taken for ownerless before it has its lock
        for folder in temporary.glob(f"{FOLDER_PREFIX}*/"):
            _remove_ownerless(folder)
        own = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        lock = (own / "lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        return own, lock


def _remove_ownerless(folder: Path) -> None:
    try:
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except (BlockingIOError, FileNotFoundError):
        return  # its owner lives, or is removing it right now
