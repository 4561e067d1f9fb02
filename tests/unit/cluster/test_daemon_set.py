"""Whether the agent is uninstalled: what of the API server's answers says so, and what does not."""

from __future__ import annotations

from typing import Any

import pytest

from agent.model import DaemonSet, Key, Kind
from tests.unit.cluster.machine import Run, event

OWN = Key(Kind.DAEMON_SET, "agent", "bgpilot")


def daemon_set(revision: int = 11, **meta: str) -> dict[str, Any]:
    return {"metadata": {"name": "bgpilot", "namespace": "agent", "resourceVersion": str(revision), **meta}}


def seen() -> Run:
    """The agent has seen its DaemonSet."""
    run = Run(Kind.DAEMON_SET, OWN).sync(daemon_set())
    assert run.world.get(OWN) == DaemonSet(name="bgpilot")
    assert not run.world.uninstalled
    return run


def test_it_is_watched_by_its_name():
    assert Run(Kind.DAEMON_SET, OWN).query()["fieldSelector"] == "metadata.name=bgpilot"


def test_a_daemon_set_that_is_deleted_is_an_uninstall_until_it_is_there_again():
    run = seen()
    run.hear(event("DELETED", daemon_set(12)))
    deleted = run.world.uninstalled
    run.hear(event("ADDED", daemon_set(13)))

    assert deleted
    assert not run.world.uninstalled


def test_one_that_is_about_to_be_deleted_counts_as_deleted():
    run = seen()
    run.hear(event("MODIFIED", daemon_set(12, deletionTimestamp="2026-01-01T00:00:00Z")))

    assert run.world.uninstalled


def test_one_that_is_changed_is_no_uninstall():
    run = seen()
    run.hear(event("MODIFIED", daemon_set(12)))

    assert not run.world.uninstalled


def test_a_complete_list_without_it_says_that_it_is_deleted():
    run = seen()
    run.end(after=400)
    run.ask()
    run.refuse(410)
    run.sync()

    assert run.world.uninstalled


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_no_refusal_says_that_it_is_deleted(status: int):
    run = seen()
    run.end(after=400)
    for _ in range(5):
        run.ask()
        run.refuse(status, b'{"message":"no","code":%d}' % status)

    assert not run.world.uninstalled
    assert run.world.get(OWN) == DaemonSet(name="bgpilot")


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_before_anything_was_seen_makes_no_record(status: int):
    run = Run(Kind.DAEMON_SET, OWN)
    run.ask()
    run.refuse(status, b'{"message":"no","code":%d}' % status)

    assert run.world.get(OWN) is None
    assert not run.world.uninstalled


def test_an_object_that_does_not_parse_exists():
    run = seen()
    run.end(after=400)
    run.ask()
    run.refuse(410)
    run.sync({"metadata": {"name": "bgpilot", "namespace": "agent", "resourceVersion": "12", "labels": 7}})

    assert not run.world.uninstalled


def test_one_that_never_was_there_is_a_problem_and_no_uninstall():
    run = Run(Kind.DAEMON_SET, OWN).sync()
    (problem,) = run.world.problems
    uninstalled = run.world.uninstalled
    run.hear(event("ADDED", daemon_set()))

    assert not uninstalled
    assert (problem.reason, problem.subject) == ("daemonSetNotFound", "DaemonSet agent/bgpilot")
    assert "--daemonset" in problem.fix
    assert not run.world.problems
