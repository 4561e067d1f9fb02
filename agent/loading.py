"""Loading of others' packages without what we do not use of them: half of the time that an agent's start takes.

It refuses to change a package that is loaded already. Which packages, and why that is safe for them, stands where it
is asked for (`agent.cluster.kube`, `agent.kernel.links`, `agent.log`); tests/unit/test_loading.py tells when an
upgrade changes it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without_init(*packages: str) -> Iterator[None]:
    """Inside, modules of these packages are imported without the `__init__` that would load all their siblings.

    Outer packages before inner ones. They stay so: names that only the `__init__` defines are missing for good, modules
    can be imported at any time.
    """
    for name in packages:
        if name in sys.modules:
            continue
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        outer, _, inner = name.rpartition(".")
        if outer:
            setattr(sys.modules[outer], inner, module)
    yield


@contextlib.contextmanager
def absent(package: str) -> Iterator[None]:
    """Inside, importing this package fails, as if it was not installed: for what does without it."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # what the import system defines for this
    try:
        yield
    finally:
        del sys.modules[package]
