"""Asks the cluster through the user's own `kubectl`, so that contexts, credentials and proxies are those it has.

It refuses to talk to the API server itself, and to print what others wrote as they wrote it: no text that comes from
here holds a control character, with which a hostile node could write on the user's terminal.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import typer

from agent.cli.client import RefusedError, UnreachableError

Object: TypeAlias = Mapping[str, Any]

CONTAINER: Final = "agent"
REQUEST_SECONDS: Final = 15
"""Of one request to the API server."""
ANSWER_SECONDS: Final = 30.0
"""Of one agent, by way of API server and kubelet."""
PATIENCE_SECONDS: Final = 1.0
"""After so long without an answer kubectl's words are shown as they come: it may be asking the user to log in."""


class NoAnswer(NamedTuple):
    """Why nothing is known of one node."""

    reason: str
    text: str
    fix: str


class SilentError(Exception):
    """One agent does not answer."""

    def __init__(self, why: NoAnswer) -> None:
        super().__init__(why.text)
        self.why = why


class _Said(NamedTuple):
    code: int
    out: bytes
    err: str


@dataclass(frozen=True, slots=True)
class Kubectl:
    flags: tuple[str, ...]
    """As the user gave them: --context, --kubeconfig."""
    namespace: str
    """That of the agents."""

    def get(self, *words: str, patient: bool = False) -> list[Object]:
        """Items of `kubectl get WORDS -o json`. Raises UnreachableError or RefusedError with kubectl's own words.

        `patient`: credentials may be asked for, as long as it takes.
        """
        said = self._run("get", *words, "-o", "json", f"--request-timeout={REQUEST_SECONDS}s", patient=patient)
        if said.code:
            raise _failure(f"kubectl get {words[0]}", _words(said.err))
        try:
            items: list[Object] = _clean(json.loads(said.out))["items"]
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(f"what `kubectl get {words[0]} -o json` prints is no list of objects") from error
        return items

    def ask(self, pod: str, *words: str) -> dict[str, Any]:
        """The JSON answer of `bgpilot WORDS` in this pod. Raises SilentError, or RefusedError in the agent's words."""
        try:
            said = self._run(
                "exec", "-n", self.namespace, pod, "-c", CONTAINER, "--", "bgpilot", *words, seconds=ANSWER_SECONDS
            )
        except subprocess.TimeoutExpired:
            text = f"pod {pod} has not answered for {ANSWER_SECONDS:.0f} s"
            raise SilentError(NoAnswer("execTimeout", text, "see if `kubectl exec` into it works")) from None
        try:
            answer = _clean(json.loads(said.out))
        except ValueError:
            answer = None
        if isinstance(answer, dict) and answer.get("schema") == (wanted := f"bgpilot.{words[0]}/1"):
            return answer
        if isinstance(answer, dict):
            text = f"pod {pod} answers {answer.get('schema')} (bgpilot {answer.get('version')}), not {wanted}"
            raise SilentError(NoAnswer("answerUnreadable", text, "use the plugin of the same version"))
        text = _words(said.err)
        if own := text.partition("bgpilot: ")[2]:  # the agent's CLI speaks, from inside the pod
            if said.code == 1:
                raise RefusedError(own)
            raise SilentError(NoAnswer("agentUnreachable", own, f"see `{self.command('logs', pod, '-c', CONTAINER)}`"))
        if said.code == 0:
            raise SilentError(NoAnswer("answerUnreadable", f"pod {pod} answers no JSON", "is another bgpilot in it?"))
        fix = _fix(_EXEC_FIXES, text) or "see if `kubectl exec` into it works"
        raise SilentError(NoAnswer("execFailed", text or f"kubectl exec ended with {said.code}", fix))

    def command(self, *words: str) -> str:
        """For the user to type."""
        return " ".join(["kubectl", *self.flags, "-n", self.namespace, *words])

    def _run(self, *words: str, seconds: float | None = None, patient: bool = False) -> _Said:
        program = shutil.which("kubectl")
        if program is None:
            raise UnreachableError("there is no kubectl on PATH; all that is asked of the cluster goes through it")
        stdin = None if patient else subprocess.DEVNULL
        # Flags of ours come first: behind `--` they would be the pod's.
        with subprocess.Popen(
            [program, words[0], *self.flags, *words[1:]], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                out, err = _patiently(process) if patient else process.communicate(timeout=seconds)
            except BaseException:
                process.kill()
                raise
        return _Said(process.returncode, out, err.decode(errors="replace"))


def _patiently(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    shown = 0
    while True:
        try:
            return process.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as waiting:
            said: bytes = waiting.stderr or b""
            for line in said[shown:].decode(errors="replace").splitlines():
                if not _LOGGED.match(line):
                    typer.echo(_printable(line), err=True)
            shown = len(said)


_LOGGED: Final = re.compile(r"[EWI]\d{4} [\d:.]+ ")
"""How a line of kubectl's own log begins (klog): its last line says the same for people."""
_OF_EXEC: Final = re.compile(r"command terminated with exit code \d+$|Defaulted container ")


def _words(err: str) -> str:
    lines = [_printable(line).strip() for line in err.splitlines()]
    told = [line for line in lines if line and not _LOGGED.match(line) and not _OF_EXEC.match(line)]
    return " ".join(told).removeprefix("error: ").removeprefix("Error from server: ")


_NOT_REACHED: Final = (
    "unable to connect",
    "connection to the server",
    "was refused",
    "timeout",
    "timed out",
    "deadline exceeded",
    "no such host",
    "no route to host",
    "x509",
)
_RIGHTS: Final = "the rights that it takes are in the README under `kubectl bgpilot`"
_Fixes: TypeAlias = tuple[tuple[tuple[str, ...], str], ...]
_GET_FIXES: Final[_Fixes] = (
    (_NOT_REACHED, "see if `kubectl get nodes` works with the same --context and --kubeconfig"),
    (("forbidden",), _RIGHTS),
    (("logged in", "unauthorized", "credentials"), "log in to the cluster again"),
    (
        ("doesn't have a resource type", "could not find the requested resource"),
        "bgpilot is not in this cluster (`kubectl apply -f deploy/agent.yaml`), or this is not the right --context",
    ),
    (("context",), "`kubectl config get-contexts` lists those that there are"),
)
_EXEC_FIXES: Final[_Fixes] = (
    (("forbidden",), _RIGHTS),
    (
        ("dialing backend", "error sending request", "kubelet", ":10250"),
        "the API server does not reach the node's kubelet: see the Node",
    ),
    (("not found", "no such"), "the pod is being replaced: ask again"),
    (_NOT_REACHED, "ask again"),
)
"""By words in what kubectl says, in small letters; the first that fits."""


def _fix(fixes: _Fixes, text: str) -> str:
    return next((fix for words, fix in fixes if any(word in text.lower() for word in words)), "")


def _failure(what: str, text: str) -> UnreachableError | RefusedError:
    fix = _fix(_GET_FIXES, text)
    kind = UnreachableError if any(word in text.lower() for word in _NOT_REACHED) else RefusedError
    return kind(f"{what}: {text.rstrip('. ') or 'failed without a word'}" + (f". Fix: {fix}" if fix else ""))


def _clean(part: Any) -> Any:
    if isinstance(part, str):
        return _printable(part)
    if isinstance(part, dict):
        return {_printable(key): _clean(it) for key, it in part.items()}
    return [_clean(it) for it in part] if isinstance(part, list) else part


def _printable(text: str) -> str:
    """On one line, without what moves the cursor or turns the direction of writing."""
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else " " if it.isspace() else "\N{REPLACEMENT CHARACTER}" for it in text)


def unanswered(why: Sequence[NoAnswer]) -> UnreachableError:
    first, more = why[0], len(why) - 1
    return UnreachableError(
        f"no agent answers: {first.reason}: {first.text.rstrip('. ')}. Fix: {first.fix}"
        + (f" (and {more} more)" if more else "")
    )
