"""ProcessedRecord records of tests that begin behind the processors; all that was made of calls, as text."""

from __future__ import annotations

from typing import Final, TypeVar

from callspan.process.processed import ProcessedRecord
from callspan.process.processors import Processors
from callspan.records import Record, encode
from callspan.testing import Captured

UNPROCESSED: Final = Processors(())
"""Changes nothing."""
_R = TypeVar("_R", bound=Record)


def processed(record: _R) -> ProcessedRecord[_R]:
    """Return the record as a list of no processors returns it."""
    return UNPROCESSED.process(record)


def everywhere(seen: Captured) -> str:
    """Return every byte of every span and record."""
    return "".join([*(span.to_json() for span in seen.spans), *(encode(record).decode() for record in seen.everything)])
