"""What the commands that order something print, word for word, in the states where they make sense."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from agent.plan.leaving import Cause, Leave, Progress
from tests.unit.cli.test_cli import Agent, bgpilot
from tests.unit.cli.test_golden import degraded, empty, healthy, starting, unheard_of
from tests.unit.status.scene import TOR


def drained(agent):
    """All stages are over when the order has been given."""
    healthy(agent)
    agent.on_order = leaving(agent, Progress.OVER)


def ordered(agent):
    """To drain, a while ago."""
    healthy(agent)
    agent.orders = ["rack-7"]


def slow(agent):
    """Services are withdrawn, and no more."""
    degraded(agent)
    agent.on_order = leaving(agent, Progress.SERVICES)


def reflector(agent):
    healthy(agent)
    agent.scene.standpoint = replace(agent.scene.standpoint, cluster_id=ip_address("192.0.2.1"))


def refreshing(agent):
    healthy(agent)
    state = agent.scene.states[TOR]
    agent.scene.states[TOR] = replace(state, up=replace(state.up, route_refresh=True))


def hanging(agent):
    healthy(agent)
    agent.obeys = False


def leaving(agent, progress):
    status = agent.scene.status()
    return {
        "plan": replace(status.plan, leave=Leave(Cause.DRAINED, "rack 7")),
        "progress": progress,
        "peers": {} if progress is Progress.OVER else status.peers,
    }


@pytest.mark.parametrize(
    ("state", "command"),
    [
        (drained, "drain rack-7"),
        (drained, "drain rack-7 --wait 0"),
        (slow, "drain rack-7 --wait 0.1"),
        (starting, "drain rack-7 --wait 0.1"),
        (reflector, "drain rack-7"),
        (healthy, f"drain {'x' * 300}"),
        (ordered, "undrain"),
        (healthy, "undrain"),
        (starting, "undrain"),
        (healthy, "reset tor-a"),
        (healthy, "reset tor-a --soft"),
        (refreshing, "reset tor-a --soft"),
        (hanging, "reset tor-a --wait 0.1"),
        (degraded, "reset tor-b"),
        (empty, "reset tor-a"),
        (unheard_of, "reset tor-a"),
        (unheard_of, "drain rack-7"),
        (unheard_of, "drain rack-7 --force --wait 0"),
    ],
    ids=lambda it: it.split("x")[0] if isinstance(it, str) else it.__name__,
)
def test_what_is_said_to_an_order(tmp_path, snapshot, state, command):
    with Agent(tmp_path) as agent:
        state(agent)
        done = bgpilot(*command.split(), BGPILOT_RUN_DIR=str(tmp_path))

    assert f"exit code {done.returncode}\n{done.stdout}{done.stderr}" == snapshot


@pytest.mark.parametrize("command", ["drain", "undrain", "reset tor-a"])
def test_what_is_said_where_no_agent_is(tmp_path, snapshot, command):
    done = bgpilot(*command.split(), BGPILOT_RUN_DIR=str(tmp_path))

    assert f"exit code {done.returncode}\n{done.stdout}{done.stderr}".replace(str(tmp_path), "RUN-DIR") == snapshot
