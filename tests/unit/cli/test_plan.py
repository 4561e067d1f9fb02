"""`bgpilot plan --from`, as a user meets it: a file in, the plan out, and no agent anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from agent.cli.app import app
from agent.scenario.offline import planned
from agent.scenario.views import plan_view
from tests.lab.scenario import load
from tests.unit.cli.test_schemas import complaints

SCENARIOS = Path(__file__).parents[2] / "scenarios"
FILE = SCENARIOS / "import-best-path-dual.yaml"


def plan(*words):
    return CliRunner().invoke(app, ["plan", "--from", *map(str, words)])


def test_the_table_is_the_plan_as_its_printer_writes_it():
    assert plan(FILE).stdout == load(FILE).wanted


def test_what_could_not_be_read_is_told_with_the_plan():
    assert "malformedObject (BGPPeer broken): spec.address" in plan(SCENARIOS / "malformed-beside-good.yaml").stdout


def test_json_and_yaml_say_the_same_with_the_plans_parts():
    told = json.loads(plan(FILE, "-o", "json").stdout)

    assert told == yaml.safe_load(plan(FILE, "-o", "yaml").stdout)
    assert (told["schema"], told["node"], told["identity"]["asn"]) == ("bgpilot.plan/1", "worker-1", 64512)
    assert [peer["name"] for peer in told["peers"]] == ["BGPPeer/a", "BGPPeer/b", "BGPPeer/c"]
    assert {name: told["kernel"][4][name] for name in ("prefix", "type", "metric")} == {
        "prefix": "198.51.4.0/24",
        "type": "unicast",
        "metric": 0,
    }


@pytest.mark.parametrize("file", sorted(SCENARIOS.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_plan_can_be_told_in_json_as_its_schema_says(file: Path):
    found = planned(load(file))
    view = plan_view(found.stage.picture.node_name, "1", found.plan, found.stage.world.problems)

    told = json.loads(json.dumps(view))
    assert complaints(told) == []
    assert ("not read:" in load(file).wanted) is bool(told["not_read"])
    assert ("peers:" in load(file).wanted.splitlines()) is bool(told["peers"])


def test_names_are_what_is_announced():
    assert plan(FILE, "-o", "name").stdout.split() == ["10.244.1.0/24", "fd01:0:0:1::/64"]


def test_another_node_is_planned_for_and_what_is_not_known_of_it_is_said_aside():
    told = plan(SCENARIOS / "malformed-beside-good.yaml", "--node", "worker-2")

    assert "worker-2 AS 64512" in told.stdout
    assert "the file is of node worker-1" in told.stderr


def test_a_file_that_is_no_scenario_is_an_error_that_names_it(tmp_path: Path):
    (tmp_path / "x.yaml").write_text("node: [1]\n")
    told = plan(tmp_path / "x.yaml")

    assert told.exit_code == 1
    assert told.stderr == (
        f"bgpilot: {tmp_path}/x.yaml: node = [1] is not a text: set it to a text that is not empty\n"
    )


def test_the_other_commands_load_nothing_of_it():
    code = "import sys, agent.cli.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert not {"agent.scenario", "agent.plan", "agent.cluster", "msgspec", "yaml"} & set(loaded)
