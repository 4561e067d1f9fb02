"""A real Prometheus, and promtool: of the distribution's package, without installing it, so that no service is started.

`program("promtool")` answers its path: what is on PATH, else what this checkout has unpacked, which it does once (19
MB, ten seconds, no root needed). apt checks what it downloads. It is not built from Go modules as `tests.lab.gobuild`
does it: of v0.316 (Prometheus 3.16) the go.mod names commits that the module proxy does not give. Debian 12 has 2.42,
which knows all that `deploy/monitoring` makes use of.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import yaml

from tests.lab.netns import Namespace
from tests.lab.procs import CommandFailedError, run
from tests.lab.wait import wait_until

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".cache/prometheus"
PACKAGE = "prometheus"
APT_SECONDS = 300.0
START_SECONDS = 30.0
PORT = 9090

Labels = Mapping[str, str]


def program(name: str) -> Path:
    """`prometheus` or `promtool`."""
    if (found := shutil.which(name)) is not None:
        return Path(found)
    path = CACHE / "unpacked/usr/bin" / name
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _unpack(CACHE / "unpacked")
    return path


def _unpack(folder: Path) -> None:
    """With apt's own lists if they have the package and its server still does, else with lists of this checkout's."""
    partial, apt = CACHE / "partial", ["apt-get", "-qq", "-o", "APT::Sandbox::User=root"]
    try:
        _download(apt)
    except CommandFailedError:
        for place in ("lists/partial", "archives/partial"):
            (CACHE / place).mkdir(parents=True, exist_ok=True)
        apt += ["-o", f"Dir::State::lists={CACHE}/lists", "-o", f"Dir::Cache={CACHE}"]
        run([*apt, "update"], timeout=APT_SECONDS)
        _download(apt)
    (package,) = CACHE.glob("*.deb")
    shutil.rmtree(partial, ignore_errors=True)
    run(["dpkg-deb", "-x", package, partial])
    package.unlink()
    partial.rename(folder)


def _download(apt: Sequence[str]) -> None:
    for left_over in CACHE.glob("*.deb"):
        left_over.unlink()
    run(["env", "-C", CACHE, *apt, "download", PACKAGE], timeout=APT_SECONDS)


def promtool(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Its verdict is the exit code and what it prints, complaints and all in `stdout`."""
    return run(["sh", "-c", 'exec "$@" 2>&1', "sh", program("promtool"), *words], check=False, stdin=stdin)


class Prometheus:
    """One that runs in a namespace, scrapes `targets` each `interval` (name → host:port), and evaluates `groups`.

    The targets have the labels that `deploy/monitoring/podmonitor.yaml` gives them: `instance` is the name.
    """

    def __init__(
        self,
        namespace: Namespace,
        *,
        targets: Mapping[str, str],
        groups: Sequence[Mapping[str, Any]] = (),
        interval: str = "1s",
    ) -> None:
        self.namespace = namespace
        self.directory = namespace.run_dir / "prometheus"
        self.directory.mkdir(exist_ok=True)
        (self.directory / "rules.yaml").write_text(yaml.safe_dump({"groups": list(groups)}))
        scraped = [{"targets": [where], "labels": {"instance": name}} for name, where in targets.items()]
        settings = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "bgpilot", "static_configs": scraped}],
        }
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(settings))
        self.process = namespace.start(
            [
                program("prometheus"),
                f"--config.file={self.directory}/prometheus.yml",
                f"--storage.tsdb.path={self.directory}/data",
                f"--web.listen-address=127.0.0.1:{PORT}",
                "--log.level=warn",
            ],
            log="prometheus",
        )
        wait_until(lambda: self._ask("status/buildinfo"), within=START_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stop()

    def query(self, expression: str) -> dict[frozenset[tuple[str, str]], float]:
        """What the expression is now, by labels (without the name)."""
        found = self._ask("query", query=expression)["result"]
        return {_labels(one["metric"]): float(one["value"][1]) for one in found}

    def history(self, expression: str, *, start: float, end: float, step: float) -> dict[frozenset[Any], list[Any]]:
        """What it was: by labels, (Unix time, value)."""
        found = self._ask("query_range", query=expression, start=str(start), end=str(end), step=str(step))["result"]
        return {_labels(one["metric"]): [(float(at), float(value)) for at, value in one["values"]] for one in found}

    def alerts(self, state: str = "firing") -> list[dict[str, str]]:
        """Labels of the alerts that are `firing` or `pending`."""
        return [alert["labels"] for alert in self._ask("alerts")["alerts"] if alert["state"] == state]

    def targets(self) -> dict[str, str]:
        """Instance → health: `up` once it has been scraped."""
        return {one["labels"]["instance"]: one["health"] for one in self._ask("targets")["activeTargets"]}

    def _ask(self, what: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{PORT}/api/v1/{what}"
        more = ["--data", urlencode(parameters)] if parameters else []
        answer = json.loads(self.namespace.run(["curl", "-sS", "--fail-with-body", *more, url]).stdout)
        assert answer["status"] == "success", answer
        return answer["data"]


def _labels(metric: Labels) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in metric.items() if name != "__name__")


def sooner(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same rules, but that a minute of their `for` lasts a second."""
    return [{**group, "rules": [_sooner(rule) for rule in group["rules"]]} for group in groups]


def _sooner(rule: Mapping[str, Any]) -> dict[str, Any]:
    return {**rule, "for": f"{int(rule['for'].removesuffix('m'))}s"} if "for" in rule else dict(rule)
