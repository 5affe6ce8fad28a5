"""Calls of this process: writes their records, and keeps what later reports about them need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from callspan.agent.runtime import SPAN_REFS, SpanRef
from callspan.delivery.recorder import Recorder
from callspan.process import callbacks, processors
from callspan.process.processed import Processed
from callspan.record.call import CallRecord
from callspan.settings import Content

_FOR_RECORDS: Final = ("before_record", "after_record")
_remember: Final = SPAN_REFS["call"].put


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
            _remember(record.call_id, self._span_ref(record))
        return wanted

    def write(self, processed: Processed[CallRecord]) -> None:
        """Write the record of a call, call the callbacks, and keep the reference to its span."""
        processors.write(processed, self._recorder.write)
        record = processed.record
        _remember(record.call_id, self._span_ref(record))
        if record.api == "responses":
            self._created(record)

    def _span_ref(self, record: CallRecord) -> SpanRef:
        place = record.place
        return SpanRef(
            trace_id=record.trace_id,
            span_id=record.span_id,
            sampled=record.sampled is not False,
            place=place if place.session_name is None else msgspec.structs.replace(place, session_name=None),
            response_id=record.response.id if record.response is not None else None,
            request_id=record.attempts[-1].request_id if record.attempts else None,
            level=self._level,
        )
