"""Logs: assert that a block of code, or a test, logs no warning."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _LogCollector(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(f"{record.name}: {record.getMessage()}")


@contextmanager
def nothing_is_warned_of() -> Iterator[list[str]]:
    """Fail if anything is logged in the block at WARNING or above, by whichever logger, or a warning is issued.

    What Python cannot raise (in finalizers and threads) counts as well. Yields what was heard so far.
    """
    messages: list[str] = []
    root, handler = logging.getLogger(), _LogCollector(messages)
    level, disabled = root.level, root.manager.disable
    unraisable, shown = sys.unraisablehook, warnings.showwarning

    def show(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        messages.append(f"{category.__name__}: {message}")

    root.addHandler(handler)
    root.setLevel(min(level or logging.WARNING, logging.WARNING))
    logging.disable(logging.NOTSET)
    sys.unraisablehook = lambda seen: messages.append(f"unraisable: {seen.exc_value!r} in {seen.object!r}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = show
            yield messages
    finally:
        sys.unraisablehook, warnings.showwarning = unraisable, shown
        root.removeHandler(handler)
        root.setLevel(level)
        logging.disable(disabled)
    assert messages == []
