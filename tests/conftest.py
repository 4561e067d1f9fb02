"""What every test run shares: the count by kind at the end, `--require-all`: a skipped test is a failure; the logs of
the labs of a test that failed; and what each task waited for when a test was over its time (`timeout` in
pyproject.toml).
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Generator, Iterator

import pytest
from hypothesis import settings

from tests.lab.topology import Lab

# A property test says how many examples it needs as a share of the profile's: `settings().max_examples * 3`. The quick
# profile (--hypothesis-profile=quick) is for after each edit; whatever judges a change runs the full one.
settings.register_profile("full", max_examples=100, deadline=None)
settings.register_profile("quick", max_examples=30, deadline=None)
settings.load_profile("full")

KINDS = ("cluster", "live", "unit")
OUTCOMES = ("passed", "failed", "error", "skipped")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-all", action="store_true", help="fail when a test is skipped")


def kind_of(item: pytest.Item) -> str:
    """By marker: a folder's name is among an item's keywords too."""
    return next((kind for kind in KINDS[:2] if item.get_closest_marker(kind)), "unit")


class CountByKind:
    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._kinds: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._kinds = {item.nodeid: kind_of(item) for item in items}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            outcome = report.outcome if report.when == "call" or report.skipped else "error"
            self.counts[self._kinds[report.nodeid], outcome] += 1

    def skipped(self) -> int:
        return sum(self.counts[kind, "skipped"] for kind in KINDS)


def pytest_configure(config: pytest.Config) -> None:
    # looptime 0.9 asks the policy for a loop around every synchronous test; nobody closes the one made for it, and the
    # ResourceWarning then fails whichever test the collector happens to run in. None set: it asks in vain.
    asyncio.set_event_loop(None)
    config.pluginmanager.register(CountByKind(), "count-by-kind")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Runs before fixtures are torn down, so that the logs are still there. The traceback of an async test that hangs
    ends in the event loop: who waits for what is said here.
    """
    report = yield
    if report.failed and isinstance(item, pytest.Function):
        labs = dict.fromkeys(lab for value in item.funcargs.values() for lab in _labs(value))
        report.sections += [(f"logs of {lab.home.id}", lab.logs()) for lab in labs]
    if report.failed and "from pytest-timeout" in str(report.longrepr):
        tasks = [one for one in gc.get_objects() if isinstance(one, asyncio.Task) and not one.done()]
        report.sections += [(f"task {task.get_name()}", "\n".join(waits_in(task))) for task in tasks]
    return report


def _labs(value: object) -> Iterator[Lab]:
    """A fixture that is one, has one (a scene), or makes them (`lab` of the live tests)."""
    for found in (value, getattr(value, "lab", None), *getattr(value, "labs", ())):
        if isinstance(found, Lab):
            yield found


def waits_in(task: asyncio.Task[object]) -> Iterator[str]:
    """Its suspended coroutines, the innermost last."""
    at: object = task.get_coro()
    while at is not None:
        frame = getattr(at, "cr_frame", None) or getattr(at, "gi_frame", None) or getattr(at, "ag_frame", None)
        yield f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}" if frame else repr(at)
        at = getattr(at, "cr_await", None) or getattr(at, "gi_yieldfrom", None) or getattr(at, "ag_await", None)


def counter_of(config: pytest.Config) -> CountByKind:
    counter = config.pluginmanager.get_plugin("count-by-kind")
    assert isinstance(counter, CountByKind)
    return counter


def pytest_sessionfinish(session: pytest.Session) -> None:
    counter = counter_of(session.config)
    if session.config.getoption("--require-all") and session.exitstatus == pytest.ExitCode.OK and counter.skipped():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counter = counter_of(config)
    terminalreporter.section("tests by kind")
    for kind in sorted({kind for kind, _ in counter.counts}, reverse=True):
        told = ", ".join(f"{counter.counts[kind, outcome]} {outcome}" for outcome in OUTCOMES)
        terminalreporter.line(f"{kind:8} {told}")
    if config.getoption("--require-all") and counter.skipped():
        terminalreporter.line(f"--require-all: {counter.skipped()} skipped, so this run has failed", red=True)
