"""Processed records: the only ones that may be written, shown or measured. `Processors` alone makes them."""

from __future__ import annotations

from typing import Generic, NoReturn, TypeVar

from callspan.record.events import Record

_R_co = TypeVar("_R_co", bound=Record, covariant=True)


class Processed(Generic[_R_co]):
    """A record as the processors returned it. Immutable: whatever is to be added is added before processing.

    What takes records to a store, span, log event or metric takes only this type, so that nothing else gets there.
    """

    __slots__ = ("record",)

    record: _R_co
    """What may be written, shown and measured."""

    def __init__(self) -> None:
        raise TypeError("a processed record is made by Processors")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise TypeError("a processed record cannot be changed: add it before processing")

    def __repr__(self) -> str:
        return f"<Processed {type(self.record).__name__}>"
