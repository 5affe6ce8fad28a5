"""Processed records: only these may be written, exported or measured. Only `Processors` creates them."""

from __future__ import annotations

from typing import Generic, NoReturn, TypeVar

from callspan.record.events import Record

_R_co = TypeVar("_R_co", bound=Record, covariant=True)


class Processed(Generic[_R_co]):
    """A record as the processors returned it. Immutable: fields must be added before processing.

    Stores, spans, log events and metrics accept only this type, so that no unprocessed record reaches them.
    """

    __slots__ = ("record",)

    record: _R_co

    def __init__(self) -> None:
        raise TypeError("a processed record is made by Processors")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise TypeError("a processed record cannot be changed: add it before processing")

    def __repr__(self) -> str:
        return f"<Processed {type(self.record).__name__}>"
