"""Processed records: the only ones that may be written, shown or measured. `Processors` alone makes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic, NoReturn, TypeVar

from callspan.record.events import Record

_R_co = TypeVar("_R_co", bound=Record, covariant=True)


class Processed(Generic[_R_co]):
    """A record as the processors returned it. Immutable: whatever is to be added is added before processing.

    What takes records to a store, span, log event or metric takes only this type, so that nothing else gets there.
    """

    __slots__ = ("passed", "queued", "record")

    record: _R_co
    """What may be written, shown and measured."""

    queued: Any
    """What was appended, or is to be; None before. An append that is repeated after an interrupt finds it."""

    passed: Any
    """Consumers beside the stores that have received the record; None before. None receives it a second time."""

    def __init__(self) -> None:
        raise TypeError("a processed record is made by Processors")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise TypeError("a processed record cannot be changed: add it before processing")

    def __repr__(self) -> str:
        return f"<Processed {type(self.record).__name__}>"


queue: Final[Callable[[Processed[Any], object], None]] = Processed.__dict__["queued"].__set__
"""Keeps with a processed record what is about to be appended."""
_put_passed: Final[Callable[[Processed[Any], object], None]] = Processed.__dict__["passed"].__set__


def passes_first(processed: Processed[Any], who: str) -> bool:
    """Return True the first time that the record is about to be passed to someone."""
    if processed.passed is None:
        _put_passed(processed, set[str]())
    if who in processed.passed:
        return False
    processed.passed.add(who)
    return True
