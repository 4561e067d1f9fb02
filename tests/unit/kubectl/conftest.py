"""Clusters to ask: nobody in it, all well, or some of it not."""

from __future__ import annotations

import platform
import shutil

import pytest

from tests.unit.cli.test_golden import degraded, healthy
from tests.unit.kubectl.fakecluster import CRASHED, FakeCluster, said_of

if platform.freedesktop_os_release()["ID"] != "debian" and not shutil.which("chromium"):
    collect_ignore = ["test_map_browser.py"]  # `.ci/system-packages` says why


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What nodes that are well, and one that is not, say of themselves."""
    return {
        name: said_of(tmp_path_factory.mktemp(name), change, node=name)
        for name, change in (("worker-1", healthy), ("worker-2", degraded), ("worker-3", healthy))
    }


@pytest.fixture
def cluster(tmp_path):
    return FakeCluster(tmp_path)


@pytest.fixture
def mixed(cluster, said):
    """Two nodes are well, one is not, and of three nothing is to be heard."""
    for name, (state, answers) in said.items():
        cluster.node(name, state=state)
        for question, done in answers.items():
            cluster.agent_says(name, question, done.stdout, code=done.returncode, error=done.stderr + ended(done))
    state, answers = said["worker-1"]
    cluster.node("worker-4", pod=CRASHED)
    cluster.node("worker-5", state=state, age=1000)
    for question in answers:
        cluster.agent_says("worker-5", question, code=1, error=UNREACHED)
    cluster.node("worker-10", pod=None)
    return cluster


UNREACHED = "Error from server: error dialing backend: dial tcp 192.0.2.5:10250: connect: connection refused\n"


def ended(done):
    """What kubectl adds to the words of a command that it has run in a pod."""
    return f"command terminated with exit code {done.returncode}\n" if done.returncode else ""


@pytest.fixture
def well(cluster, said):
    for name in ("worker-1", "worker-3"):
        state, answers = said[name]
        cluster.node(name, state=state)
        for question, done in answers.items():
            cluster.agent_says(name, question, done.stdout, code=done.returncode, error=done.stderr + ended(done))
    return cluster
