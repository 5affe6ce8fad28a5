"""Calls of this process: writes their records, and keeps what later reports about them need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callspan.agent.runtime import remember_call
from callspan.delivery.recorder import Recorder
from callspan.process import callbacks, processors
from callspan.process.processed import Processed
from callspan.record.call import CallRecord
from callspan.settings import Content

_FOR_RECORDS: Final = ("before_record", "after_record")


class CallWriter:
    """Takes the records of the calls that are begun with one content level. Safe from any thread."""

    __slots__ = ("_created", "_level", "_recorder")

    def __init__(self, recorder: Recorder, level: Content, created: Callable[[CallRecord], object]) -> None:
        """`created` takes each call of the Responses API, which may be answered in the background."""
        self._recorder, self._level, self._created = recorder, level, created

    def under_way(self, record: CallRecord) -> bool:
        """Return whether to write the record of a stream that was sent. If not, keep the reference to its span now."""
        wanted = self._recorder.wanted or not callbacks.REGISTERED.keys().isdisjoint(_FOR_RECORDS)
        if not wanted:
            remember_call(record, self._level)
        return wanted

    def write(self, processed: Processed[CallRecord]) -> None:
        """Write the record of a call, call the callbacks, and keep the reference to its span."""
        processors.write(processed, self._recorder.write)
        record = processed.record
        remember_call(record, self._level)
        if record.api == "responses":
            self._created(record)
