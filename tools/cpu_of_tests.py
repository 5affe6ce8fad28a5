"""A plugin of pytest that lists the dearest tests by CPU, in their own process and in those that they have waited for.

    PYTEST_ADDOPTS="-p tools.cpu_of_tests" make test

A browser counts for the last test of its file, and what is imported or made once for the first test that needs it.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Generator
from typing import Final

import pytest

DEAREST: Final = 60
_CPU: Final = "CPU, s"
_by_test: Final = Counter[str]()
_at_start: Final = pytest.StashKey[float]()


def used_s() -> float:
    """The CPU of this process and of its children that have ended, with theirs, in seconds."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> None:
    item.stash[_at_start] = used_s()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "teardown":
        report.user_properties.append((_CPU, used_s() - item.stash[_at_start]))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Runs in the process that has all reports."""
    if report.when == "teardown":
        _by_test[report.nodeid.partition("[")[0]] += dict(report.user_properties).get(_CPU, 0.0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section(f"{used_s():.0f} s of CPU, of which {sum(_by_test.values()):.0f} in tests")
    for name, cpu_s in _by_test.most_common(DEAREST):
        terminalreporter.line(f"{cpu_s:7.2f} s  {name}")
