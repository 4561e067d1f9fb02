"""What `plan` and `tech-support` print, word for word: of a file, and of a node where all, some or nothing answers."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext

import pytest

from tests.unit.cli.test_golden import LINES_MAX
from tests.unit.cli.test_support import SCENARIOS, Agent, bgpilot, support, write_configuration


def shortened(said):
    lines = [f"exit code {said.exit_code}", *(said.stdout + said.stderr).splitlines()]
    if (more := len(lines) - LINES_MAX) > 0:
        half = LINES_MAX // 2
        lines[half:-half] = [f"[{more} lines]"]
    return "\n".join(lines)


def large(nodes):
    """A scenario of so many nodes, each of which has told its pod CIDR."""
    names = [f"worker-{number}" for number in range(1, nodes + 1)]
    addresses = [f"10.0.{number >> 8}.{number & 255}" for number in range(1, nodes + 1)]
    cidrs = [f"10.{64 + (number >> 8)}.{number & 255}.0/24" for number in range(1, nodes + 1)]
    cluster = [
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"podCIDRs": [cidr]},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }
        for name, address, cidr in zip(names, addresses, cidrs, strict=True)
    ]
    instance = {"apiVersion": "bgpilot.io/v1alpha1", "kind": "BGPInstance", "metadata": {"name": "all"}}
    heard = [
        {"peer": address, "routes": [{"prefixes": [cidr], "nextHop": address}]}
        for address, cidr in zip(addresses[1:], cidrs[1:], strict=True)
    ]
    return {
        "node": names[0],
        "cluster": [*cluster, instance | {"spec": {"mesh": {"mode": "FullMesh"}}}],
        "interfaces": [{"index": 2, "name": "eth0", "addresses": [f"{addresses[0]}/16"]}],
        "heard": heard,
    }


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("mesh-password", ""),
        ("mesh-password", "--node worker-2"),
        ("mesh-password", "--node worker-9"),
        ("mesh-password", "-o name"),
        ("malformed-beside-good", ""),
        ("node-unknown", ""),
        ("nowhere", ""),
    ],
)
def test_what_a_plan_looks_like(snapshot, state, words):
    said = bgpilot("plan", "--from", SCENARIOS / f"{state}.yaml", *words.split())

    assert shortened(said).replace(str(SCENARIOS), "SCENARIOS") == snapshot


def test_what_a_plan_of_a_thousand_nodes_looks_like(snapshot, tmp_path):
    (tmp_path / "large.json").write_text(json.dumps(large(1_000)))

    assert shortened(bgpilot("plan", "--from", tmp_path / "large.json")) == snapshot


@pytest.mark.parametrize("state", ["healthy", "no scenario", "nothing answers", "no agent", "no run directory"])
def test_what_is_said_of_a_support_file(snapshot, tmp_path, monkeypatch, state):
    """And what is in it."""
    monkeypatch.setenv("PATH", "")  # no `ip` on any machine: the kernel is asked
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    agent = Agent(run_dir)
    with nullcontext() if state in {"no agent", "no run directory"} else agent:
        write_configuration(run_dir, agent.known)
        agent.no_scenario, agent.failing = state == "no scenario", state == "nothing answers"
        if state == "no run directory":
            shutil.rmtree(run_dir)
        said, parts = support(run_dir)

    listing = "\n".join([f"exit code {said.exit_code}", said.stderr, *sorted(parts)])
    assert listing.replace(str(tmp_path), "TMP") == snapshot
