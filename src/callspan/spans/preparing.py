"""Preparing: compiles tables of attributes in the background, before the first end of a call needs them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from callspan.runtime.background import Worker
from callspan.semconv.table import Table

_WORKER: Final = Worker("callspan-preparing")


def prepare(tables: Iterable[Table]) -> None:
    """Compile tables soon, which takes milliseconds."""
    _WORKER.put(partial(_compile, tuple(tables)))


def _compile(tables: Iterable[Table]) -> None:
    for table in tables:
        _ = table.put
