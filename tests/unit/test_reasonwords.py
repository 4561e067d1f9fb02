"""Each reason word that the code can say is produced by a test, and has a row in a table of the README with what it is
about: a rule, the health of a node, or what else there is to find out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from agent.plan.leaving import Cause
from agent.status.remedies import REMEDIES
from bgp.check import Reason
from tests.unit.reasonwords import ROOT, every_word, own_words_of_explain, said_of_problems, told_to_status
from tests.unit.test_readme import README, healths, said_by_the_rules

TESTS = ROOT / "tests"
FED_BY_HAND = ("status", "cli", "monitoring", "scenario", "support")
"""Unit tests of rooms that pass on what others say: there a test writes the words into what it asks about."""
IN_LAB = ("*faults", "kernel*", "attack")
"""What of the lab says what a test expects."""
GIVERS = {"Problem", "Trouble", "Held", "Hop"}
"""Who makes one of these in a test says the word itself."""
ENUMERATED = {f"{of.__name__}.{word.name}": str(word) for of in (Reason, Cause) for word in of}


def found_out() -> set[str]:
    """The words in the table under Troubleshooting."""
    table = README.split("**Troubleshooting.**")[1].split("\n| reason | what it means |")[1].split("\n\n")[0]
    return {word for row in table.splitlines()[2:] for word in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_each_word_has_a_row() -> None:
    of_health = {word for _, words in healths() for word in words}

    assert every_word() - said_by_the_rules() - of_health - found_out() == set()
    assert (said_by_the_rules() | of_health | found_out()) - every_word() == set()


def test_no_word_has_its_row_twice() -> None:
    assert found_out() & (said_by_the_rules() | {word for _, words in healths() for word in words}) == set()


def test_each_remedy_is_for_a_word_that_the_code_can_say() -> None:
    assert {str(word) for word in REMEDIES} - every_word() == set()


def test_each_no_of_explain_has_a_remedy() -> None:
    """A Problem brings its own, and so does a selector that leaves the node out; paths that are kept are no "no"."""
    without = own_words_of_explain() - {str(word) for word in REMEDIES} - said_of_problems()

    assert without == {"nodeNotSelected", "gracefulRestart"}


def test_each_word_is_produced_by_a_test() -> None:
    passed_on, expected = told_to_status(), set[str]()
    of_lab = (path for name in IN_LAB for path in TESTS.glob(f"lab/{name}.py"))
    for path in (*TESTS.rglob("test_*.py"), *of_lab):
        if path != Path(__file__) and path.name != "test_readme.py":
            by_hand = path.parent.name in FED_BY_HAND
            expected |= {word for word in expectations(path) if not (by_hand and word in passed_on)}
    for path in TESTS.glob("scenarios/*.yaml"):
        expected |= set(re.findall(r"\w+", path.read_text().partition("\nplan: |\n")[2]))

    assert every_word() - expected == set()


def expectations(path: Path) -> Iterator[str]:
    """The words in the test's code, but for its documentation and for what it says itself."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        match waiting.pop():
            case ast.Call(func=ast.Name(id=name)) if name in GIVERS:
                pass
            case ast.Expr(value=ast.Constant()):
                pass
            case ast.Constant(value=str(text)):
                yield from re.findall(r"\w+", text)
            case ast.Attribute(value=ast.Name(id=of), attr=name) if f"{of}.{name}" in ENUMERATED:
                yield ENUMERATED[f"{of}.{name}"]
            case node:
                waiting += ast.iter_child_nodes(node)
