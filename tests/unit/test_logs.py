"""A logged warning of any kind fails a test that expects none."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable

import pytest

from tests.logs import nothing_is_warned_of


class Dropped:
    """Raises in its finalizer, which Python can only report."""

    def __del__(self) -> None:
        raise RuntimeError("nobody sees this")


def dropped() -> None:
    Dropped()
    gc.collect(0)


def disabled() -> None:
    logging.disable(logging.CRITICAL)
    with nothing_is_warned_of():
        logging.getLogger("anybody").warning("said")


WARNINGS: list[Callable[[], object]] = [
    lambda: logging.getLogger("callspan").warning("said"),
    lambda: logging.getLogger("opentelemetry.attributes").error("said"),
    lambda: logging.getLogger().warning("said"),
    lambda: warnings.warn("said", DeprecationWarning, stacklevel=1),
    lambda: warnings.warn("said", ResourceWarning, stacklevel=1),
    dropped,
]


@pytest.mark.parametrize("warn", WARNINGS)
def test_warnings_of_any_logger_are_captured(warn: Callable[[], object]) -> None:
    with pytest.raises(AssertionError), nothing_is_warned_of():
        warn()


def test_output_that_is_not_a_warning_is_ignored() -> None:
    level = logging.getLogger().level
    with nothing_is_warned_of() as messages:
        logging.getLogger("callspan").info("said")
        logging.getLogger().debug("said")
        assert messages == []
    assert logging.getLogger().level == level


def test_warnings_are_captured_even_if_logging_is_disabled() -> None:
    before = logging.root.manager.disable
    try:
        with pytest.raises(AssertionError):
            disabled()
    finally:
        logging.disable(before)
