"""Processed records of tests that begin behind the processors."""

from __future__ import annotations

from typing import Final, TypeVar

from callspan.process.processed import Processed
from callspan.process.processors import Processors
from callspan.record.events import Record

UNPROCESSED: Final = Processors(())
"""Changes nothing."""
_R = TypeVar("_R", bound=Record)


def processed(record: _R) -> Processed[_R]:
    """Return the record as a list of no processors returns it."""
    return UNPROCESSED.process(record)
