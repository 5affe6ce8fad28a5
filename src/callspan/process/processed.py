"""Processed records: only these may be written, exported or measured. Only `Processors` creates them."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from callspan.record.events import Record

_R_co = TypeVar("_R_co", bound=Record, covariant=True)


class ProcessedRecord(msgspec.Struct, Generic[_R_co], frozen=True, eq=False):
    """A record as the processors returned it. Immutable: fields must be added before processing.

    Stores, spans, log events and metrics accept only this type, so that no unprocessed record reaches them.
    """

    record: _R_co
    interrupt: BaseException | None = None
    """What a redactor raised and the application must get once the record is written; else None."""

    def go_on(self) -> None:
        """Raise the interrupt, if there was one."""
        if self.interrupt is not None:
            raise self.interrupt
