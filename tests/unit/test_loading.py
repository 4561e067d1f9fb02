"""What is loaded when, and what never: each claim in a Python of its own, since this one has everything loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent.loading import absent, without_init

HEAVY = ("aiohttp", "kubernetes", "pyroute2", "prometheus_client", "yaml", "rich", "exabgp")


def loaded(program: str) -> set[str]:
    """Modules that are there after it."""
    tail = "\nimport sys; print('loaded', *[name for name, module in sys.modules.items() if module is not None])"
    done = subprocess.run([sys.executable, "-c", program + tail], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded ")[2].split())


def packages(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def test_nothing_heavy_is_loaded_before_exabgp_is_started() -> None:
    assert packages(loaded("import agent.start")).isdisjoint(HEAVY)


def test_the_agent_loads_neither_the_synchronous_client_nor_what_only_that_needs() -> None:
    there = loaded("import agent.cluster.kube")

    assert "kubernetes.aio.client.api_client" in there
    assert there.isdisjoint({"kubernetes.client", "kubernetes.dynamic", "kubernetes.aio.dynamic"})
    assert packages(there).isdisjoint({"requests", "urllib3", "oauthlib", "jsonschema"})


def test_the_agent_loads_no_database_of_pyroute2() -> None:
    there = loaded("import agent.kernel.links")

    assert "pyroute2.netlink.rtnl" in there
    assert there.isdisjoint({"pyroute2.ndb", "pyroute2.ipdb", "pyroute2.ethtool", "pyroute2.netlink.nl80211"})


def test_the_log_does_without_rich_and_others_can_have_it() -> None:
    assert "rich" not in packages(loaded("import agent.log"))
    assert "rich" in loaded("import agent.log, rich")


def test_other_modules_of_a_package_can_still_be_imported() -> None:
    there = loaded("import agent.cluster.kube\nfrom kubernetes.aio import watch\nfrom kubernetes import config")

    assert {"kubernetes.aio.watch", "kubernetes.config.kube_config"} <= there


def test_of_the_package_only_what_is_asked_for_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "outer_of_test" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner.parent, inner):
        (folder / "__init__.py").write_text("raise ImportError('is not to be run')")
    (inner / "wanted.py").write_text("value = 7")
    monkeypatch.syspath_prepend(tmp_path)

    with without_init("outer_of_test", "outer_of_test.inner"):
        import outer_of_test.inner.wanted  # type: ignore[import-not-found]

    assert outer_of_test.inner.wanted.value == 7


def test_a_package_that_is_loaded_already_stays_as_it_is() -> None:
    before = sys.modules["json"]

    with without_init("json"):
        pass
    with absent("json"):
        import json as there

    assert there is before


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"), without_init("no_such_package"):
        pass
