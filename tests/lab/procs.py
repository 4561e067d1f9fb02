"""Programs of a lab: run one to its end, or start one and keep it.

Output of a started program goes to a file in the lab's directory, and the end of that file goes into every failure.
No program gets PR_SET_PDEATHSIG: that signal comes when the *thread* that started it ends, and tests start programs
from worker threads. The janitor kills by network namespace instead.
"""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

STOP_SECONDS = 30.0
"""For a busy machine: who means to assert that something ends sooner says so."""
RUN_SECONDS = 60.0
TAIL_LINES = 40


class CommandFailedError(AssertionError):
    """A program ended with an error or not in time: the command, its exit code and what it printed."""


def run(
    argv: Sequence[str | Path],
    *,
    check: bool = True,
    timeout: float = RUN_SECONDS,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs to the end. `env` is added to this process's environment."""
    command = [str(word) for word in argv]
    try:
        done = subprocess.run(
            command, input=stdin, text=True, capture_output=True, timeout=timeout, check=False, env=_environment(env)
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(f"{shlex.join(command)}: not done within {timeout:g} s") from error
    if check and done.returncode != 0:
        raise CommandFailedError(f"{shlex.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Process:
    """A program that runs until it is stopped. `kill()` is SIGKILL; `stop()` is SIGTERM, and SIGKILL after a bound."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.argv = [str(word) for word in argv]
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(env),
                cwd=cwd,
                start_new_session=True,  # Ctrl-C at the terminal is for the test run, which then ends this in order
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def terminate(self) -> None:
        self.popen.terminate()

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def wait(self, *, within: float) -> int:
        """The exit code; negative is the signal that ended it."""
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired as error:
            raise CommandFailedError(f"{self}: still running after {within:g} s\n{self.tail()}") from error

    def stop(self, *, within: float = STOP_SECONDS) -> int:
        """Answers with the exit code: a program that had to be killed shows as -9."""
        self.terminate()
        try:
            return self.popen.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.popen.returncode

    def require_alive(self) -> None:
        if not self.alive:
            raise CommandFailedError(f"{self}: ended with exit {self.popen.returncode}\n{self.tail()}")

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = TAIL_LINES) -> str:
        return "\n".join(self.output().splitlines()[-lines:])

    def __str__(self) -> str:
        return f"{shlex.join(self.argv)} (pid {self.pid}, log {self.log})"


def _environment(extra: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if extra is None else {**os.environ, **extra}
