"""Fixtures of the live tests: `lab(...)` builds a topology that is gone after the test; a failure shows its logs."""

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.lab.topology import Lab


class LabFactory:
    """Call it with the arguments of `Lab`; it may be called more than once in a test."""

    def __init__(self) -> None:
        self.labs: list[Lab] = []

    def __call__(self, **arguments: Any) -> Lab:
        lab = Lab(**arguments)
        self.labs.append(lab)
        return lab

    def close(self) -> None:
        while self.labs:
            self.labs.pop().close()


@pytest.fixture
def lab() -> Iterator[LabFactory]:
    factory = LabFactory()
    yield factory
    factory.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Runs before the fixtures are torn down, so that the logs are still there."""
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        labs = [lab for value in item.funcargs.values() for lab in _labs(value)]
        report.sections += [(f"logs of {lab.home.id}", lab.logs()) for lab in labs]
    return report


def _labs(value: object) -> list[Lab]:
    match value:
        case Lab():
            return [value]
        case LabFactory():
            return value.labs
        case _:
            return []
