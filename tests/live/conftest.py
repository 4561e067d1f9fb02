"""Fixtures of the live tests: `lab(...)` builds a topology that is gone after the test."""

from collections.abc import Iterator
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
