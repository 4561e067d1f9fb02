"""The builder of the Go programs, each test in a small checkout of its own so that nothing is cached there yet."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.gobuild import PROJECT

pytestmark = pytest.mark.cluster

BUILD_SECONDS = 600


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "tests/lab").mkdir(parents=True)
    shutil.copytree(PROJECT / "tests/cluster/go/cni", tmp_path / "tests/cluster/go/cni")
    for name in ("tests/__init__.py", "tests/lab/__init__.py", "tests/lab/gobuild.py"):
        shutil.copy(PROJECT / name, tmp_path / name)
    return tmp_path


def start(checkout: Path, *names: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.lab.gobuild", *names]
    return subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def build(checkout: Path, *names: str) -> tuple[int, str]:
    with start(checkout, *names) as process:
        said, _ = process.communicate(timeout=BUILD_SECONDS)
    return process.returncode, said


def programs(checkout: Path) -> list[str]:
    return sorted(path.name for path in (checkout / ".cache/go-bin").glob("*/*"))


def test_it_builds_once_and_then_says_cached(checkout: Path) -> None:
    first = build(checkout, "loopback")
    second = build(checkout, "loopback")

    assert first[0] == 0
    assert re.fullmatch(r"\[1/1] loopback built in \d+ s\n", first[1])
    assert second == (0, "[1/1] loopback cached\n")


def test_builders_at_the_same_time_wait_for_each_other(checkout: Path) -> None:
    both = [start(checkout, "loopback"), start(checkout, "loopback")]
    for process in both:
        with process:
            process.communicate(timeout=BUILD_SECONDS)

    assert [process.returncode for process in both] == [0, 0]
    assert programs(checkout) == ["loopback"]


def test_another_go_sum_is_another_build(checkout: Path) -> None:
    build(checkout, "loopback")
    with (checkout / "tests/cluster/go/cni/go.sum").open("a") as sums:
        sums.write("\n")

    assert "built in" in build(checkout, "loopback")[1]


def test_a_module_whose_sums_are_missing_is_refused_by_name_and_leaves_nothing(checkout: Path) -> None:
    (checkout / "tests/cluster/go/cni/go.sum").write_text("")

    code, said = build(checkout, "loopback")

    assert code == 1
    assert "loopback: `go build github.com/containernetworking/plugins/plugins/main/loopback`" in said
    assert "missing go.sum entry" in said
    assert programs(checkout) == []


def test_an_unknown_name_is_answered_with_the_names_there_are(checkout: Path) -> None:
    code, said = build(checkout, "kubelett")

    assert code == 2
    assert "no such program: kubelett (there are: etcd, kube-apiserver," in said
