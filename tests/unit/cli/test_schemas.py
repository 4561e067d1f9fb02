"""What `bgpilot schema` prints: a schema for each answer, exact, and with the words that the code has."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from jsonschema import Draft202012Validator

from agent.cli.schema import schema_of, views
from agent.diary import WORDS
from agent.intent import PodRoutes
from agent.loop import Phase
from agent.model import RouteType
from agent.plan.leaving import Cause, Progress
from agent.status.health import Health
from agent.status.status import fib_state, told_state
from agent.status.tables import SIDES
from agent.status.views import peer_view
from bgp.model import Direction, Family, Origin, SessionState
from tests.unit.cli import test_golden
from tests.unit.cli.test_cli import bgpilot
from tests.unit.status.scene import NOW, TOR, Scene

ROOT = Path(__file__).parents[3]
SCHEMAS = {view: schema_of(view) for view in views()}
VALIDATORS = {it["properties"]["schema"]["const"]: Draft202012Validator(it) for it in SCHEMAS.values()}
READ_BACK = {"bgpilot.scenario/1"}
"""No answer but a file for `--from`, whose reader says what is wrong in it (`agent.scenario.form`)."""
SHAPES = [
    "status",
    "peers",
    "peer tor-b",
    "routes",
    "routes advertised",
    "fib",
    "explain tor-b",
    "check",
    "diff",
    "events",
]
"""Of the questions, one for each kind of answer."""
agents = test_golden.agents


def complaints(answer: dict[str, object]) -> list[str]:
    """Where it is not as the schema that it names has it."""
    return [f"{it.json_path}: {it.message}" for it in VALIDATORS[answer["schema"]].iter_errors(answer)]


def plain(view):
    """As it comes to the other side."""
    return json.loads(json.dumps(view))


MAPPED = re.compile(r"ipv[46]|[0-9a-f:.]*[.:][0-9a-f:.]*")
"""Keys that no schema can name: families and addresses."""


def objects(part, path=()) -> Iterator[tuple[object, ...]]:
    """Paths of all objects whose keys are named by the schema."""
    if isinstance(part, dict):
        if not all(map(MAPPED.fullmatch, part)):
            yield path
        for key, it in part.items():
            yield from objects(it, (*path, key))
    elif isinstance(part, list):
        for at, it in enumerate(part):
            yield from objects(it, (*path, at))


def shape(path):
    """The same for all that are made alike."""
    return tuple("*" if isinstance(step, int) or MAPPED.fullmatch(step) else step for step in path)


def inside(part, path):
    for step in path:
        part = part[step]
    return part


@pytest.mark.parametrize("question", SHAPES)
def test_a_key_more_or_less_is_not_as_the_schema_says(agents, question):
    done = bgpilot(*question.split(), "-o", "json", BGPILOT_RUN_DIR=str(agents("degraded").run_dir))

    assert unseen(json.loads(done.stdout)) == []


@pytest.mark.parametrize("scenario", ["node-drained-dual", "mesh-service-routes-reflected", "malformed-beside-good"])
def test_nor_is_one_of_a_plan(scenario):
    file = ROOT / "tests" / "scenarios" / f"{scenario}.yaml"

    assert unseen(json.loads(bgpilot("plan", "--from", str(file), "-o", "json").stdout)) == []


def unseen(answer) -> list[tuple[object, ...]]:
    """Where a key could come or go, and nobody would know."""
    found = []
    for path in {shape(path): path for path in objects(answer)}.values():
        more = copy.deepcopy(answer)
        inside(more, path)["surprise"] = None
        found += [] if complaints(more) else [(*path, "surprise")]
        for key in inside(answer, path):
            less = copy.deepcopy(answer)
            del inside(less, path)[key]
            found += [] if key == "schema" or complaints(less) else [(*path, key)]
    return found


@pytest.mark.parametrize(
    ("key", "value"),
    [("is_up", None), ("state", "Up"), ("remote_as", "external"), ("remote_as", 0), ("options", [1]), ("role", "")],
)
def test_a_value_of_another_kind_is_not_as_the_schema_says(key, value):
    answer = plain(peer_view(Scene().status(), TOR, NOW))

    assert complaints(answer) == []
    assert complaints(answer | {key: value})


# The schemas themselves.


@pytest.mark.parametrize("view", SCHEMAS)
def test_a_schema_is_a_schema_by_its_own_name_and_needs_no_other(view):
    schema = SCHEMAS[view]
    Draft202012Validator.check_schema(schema)
    name = schema["properties"]["schema"]["const"]
    referred = {it["$ref"].removeprefix("#/$defs/") for it in parts(schema) if "$ref" in it}

    assert name.startswith(f"bgpilot.{view}/")
    assert schema["$id"] == f"https://bgpilot.io/schema/{name.removeprefix('bgpilot.')}"
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert referred <= schema["$defs"].keys()


def parts(schema) -> Iterator[dict[str, object]]:
    if isinstance(schema, dict):
        yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for it in schema:
            yield from parts(it)


@pytest.mark.parametrize("view", SCHEMAS)
def test_every_key_says_what_it_is(view):
    definitions = SCHEMAS[view]["$defs"]

    def is_told(key):
        return "description" in key or "description" in definitions.get(key.get("$ref", "")[len("#/$defs/") :], {})

    named = [it["properties"] for it in parts(SCHEMAS[view]) if "properties" in it and "required" in it]
    assert named
    assert [name for keys in named for name, key in keys.items() if not is_told(key)] == []


def test_every_answer_that_names_a_schema_has_one_and_no_schema_is_of_nothing():
    named = set()
    texts = [path.read_text() for path in (ROOT / "agent").rglob("*.py")]
    for text in (it for it in texts if "bgpilot." in it or "answer(" in it):
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Constant(value=str(value)) if re.fullmatch(r"bgpilot\.\w+/\d+", value):
                    named.add(value)
                case ast.Call(func=ast.Name(id="answer" | "_table"), args=[_, ast.Constant(value=str(name)), *_]):
                    named.add(f"bgpilot.{name}/1")

    assert named - READ_BACK == VALIDATORS.keys()


def said(in_file: str, pattern: str) -> set[str]:
    """The words that its text has in this place."""
    return set(re.findall(pattern, (ROOT / "agent" / "status" / in_file).read_text()))


def first_words(function) -> set[str]:
    """Of the pairs that it returns."""
    found = ast.walk(ast.parse(inspect.getsource(function)))
    return {it.elts[0].value for it in found if isinstance(it, ast.Tuple) and isinstance(it.elts[0], ast.Constant)}


PEER, ROW = ("$defs", "peer", "properties"), ("properties", "rows", "items", "properties")
WORDS_OF = {
    "a family": ("peers", ("$defs", "family"), Family),
    "a session's state": ("peers", (*PEER, "state"), SessionState),
    "who ended a session": ("peers", ("$defs", "peer_error", "properties", "direction"), Direction),
    "ORIGIN": ("routes", ("$defs", "attributes", "properties", "origin"), {it.name.lower() for it in Origin}),
    "a side": ("routes", ("properties", "side"), SIDES),
    "a type of route": ("fib", ("$defs", "route_type"), RouteType),
    "a phase": ("status", ("properties", "phase"), Phase),
    "health": ("status", ("properties", "health"), Health),
    "why a node leaves": ("plan", ("$defs", "leaving_reason"), Cause),
    "how far it has come": (
        "status",
        ("properties", "leaving", "properties", "stage"),
        {it.name.lower() for it in Progress},
    ),
    "pod routes": ("plan", ("$defs", "identity", "properties", "pod_routes"), PodRoutes),
    "an event": ("events", (*ROW, "event"), WORDS),
    "a route of the kernel": ("fib", (*ROW, "state"), first_words(fib_state)),
    "a route for a peer": ("routes", ("$defs", "told", "properties", "state"), first_words(told_state)),
    "a difference in the kernel": (
        "diff",
        ("$defs", "kind", "then", "properties", "state"),
        said("diff.py", r'_of_kernel\("(\w+)"'),
    ),
    "a difference at a peer": (
        "diff",
        ("$defs", "kind", "else", "properties", "state"),
        said("diff.py", r'(?:Kind\("peer", |_pending\(facts, )"(\w+)"'),
    ),
    "what can be explained": (
        "explain",
        ("properties", "kind"),
        {
            *said("explain.py", r'_answer\(status, subject, "(\w+)"'),
            *said("explain_unknown.py", r'(?:return|else) "(\w+)"'),
        },
    ),
}


@pytest.mark.parametrize("what", WORDS_OF)
def test_the_words_for_it_are_those_of_the_code(what):
    view, path, words = WORDS_OF[what]

    assert set(inside(SCHEMAS[view], path)["enum"]) == set(words)


def test_every_check_is_named(agents):
    done = bgpilot("check", "-o", "json", BGPILOT_RUN_DIR=str(agents("healthy").run_dir))
    named = inside(SCHEMAS["check"], ("properties", "checks", "items", "properties", "name"))

    assert [it["name"] for it in json.loads(done.stdout)["checks"]] == named["enum"]


# As users get them.


@pytest.mark.parametrize("view", SCHEMAS)
def test_one_is_printed(view):
    assert json.loads(bgpilot("schema", view).stdout) == SCHEMAS[view]


def test_all_are_listed():
    head, *lines = bgpilot("schema").stdout.splitlines()

    assert head.split() == ["VIEW", "WHAT", "IS", "IN", "IT"]
    assert [line.split(maxsplit=1) for line in lines] == [[view, it["title"]] for view, it in SCHEMAS.items()]


@pytest.mark.parametrize("view", ["shared", "x", "../cli/schemas/peers"])
def test_another_name_is_wrong_usage(view):
    done = bgpilot("schema", view)

    assert done.returncode == 2
    assert "is not one of check, cluster_check" in " ".join(done.stderr.split())


def test_they_are_in_the_package():
    packed = {Path(it.distribution_path) for it in WheelBuilder(str(ROOT)).recurse_included_files()}

    folder = Path("agent/cli/schemas")
    assert {path.stem for path in packed if path.parent == folder} == {*SCHEMAS, "shared"}
