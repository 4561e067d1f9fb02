"""YAML as plain values, nested no deeper than anybody writes it: what is deeper is an error, and no crash.

Loaded when there is YAML to read: that takes a fifth of the time to start.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

NESTED_MAX: Final = 200
"""Objects of Kubernetes are a tenth of that."""


def read_yaml(text: str) -> object:
    """Raises RecursionError, YAMLError, or ValueError for what is no value of its kind (a 32nd of May)."""
    return yaml.load(text, _Loader)  # noqa: S506  # it is a safe one


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # one of two classes
    """The C loader goes down as deep as a file does, and a million brackets would end the process without a word."""

    deep = 0

    def descend_resolver(self, *_: Any) -> None:
        self.deep += 1
        if self.deep > NESTED_MAX:
            raise RecursionError

    def ascend_resolver(self) -> None:
        self.deep -= 1
