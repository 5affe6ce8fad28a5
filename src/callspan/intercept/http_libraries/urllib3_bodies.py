"""Bodies of urllib3: what botocore and requests read their answers from, and the application where it goes below them.

All methods of a body read by `read`, `read1` or, if it is chunked, `read_chunked`. Only the bodies of calls are
observed, which those two know; a request by urllib3 alone is no call.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

from callspan.intercept.foreign_objects import StateByObject
from callspan.intercept.hooks import HookSteps
from callspan.intercept.iteration import Take, Watch, watched
from callspan.runtime.fail_open import fail_open

_BODY: Final = fail_open("copy the body of an answer")
_MODULE: Final = "urllib3.response"


class BodyReader(Protocol):
    """Copies a body while it is read."""

    @property
    def is_passive(self) -> bool:
        """Whether what is read just now is observed elsewhere, or need not be."""

    def begin(self, *, is_decoded: bool) -> None:
        """Report that reading begins; `is_decoded`: whether what is compressed is read decompressed."""

    def add(self, piece: bytes, *, is_last: bool) -> None:
        """Add what was read; `is_last`: whether nothing follows."""

    def failed(self, error: BaseException) -> None:
        """Report an exception of the reader."""


RAW_BODIES: Final[StateByObject[BodyReader]] = StateByObject()
"""The readers of bodies."""


def is_observed(raw: object) -> bool:
    """Return whether the reads of a body are observed; an async one, and one of a stub, has other methods."""
    return any(base.__module__ == _MODULE for base in type(raw).__mro__)


class _Read(NamedTuple):
    """One read of a body."""

    reader: BodyReader
    raw: Any
    amount: Any
    """The number of bytes that are read at most; None or negative for all."""


def _reader(args: tuple[Any, ...], kwargs: dict[str, Any]) -> BodyReader | None:
    raw, *given = args
    reader = RAW_BODIES.get(raw)
    if reader is None or reader.is_passive:
        return None
    decodes = given[1] if len(given) > 1 else kwargs.get("decode_content")
    reader.begin(is_decoded=bool(getattr(raw, "decode_content", False) if decodes is None else decodes))
    return reader


def _reading(args: tuple[Any, ...], _: object, kwargs: dict[str, Any]) -> _Read | None:
    reader = _reader(args, kwargs)
    return None if reader is None else _Read(reader, args[0], args[1] if len(args) > 1 else kwargs.get("amt"))


def _iterating(args: tuple[Any, ...], _: object, kwargs: dict[str, Any]) -> BodyReader | None:
    return _reader(args, kwargs)


def _report_piece(reading: _Read, piece: bytes) -> None:
    amount = reading.amount
    is_all = amount is None or (isinstance(amount, int) and amount < 0)
    with _BODY:
        reading.reader.add(piece, is_last=is_all or _is_end(reading, piece))


def _report_part(reading: _Read, piece: bytes) -> None:
    with _BODY:
        reading.reader.add(piece, is_last=_is_end(reading, piece))


def _is_end(reading: _Read, piece: bytes) -> bool:
    """Return whether nothing follows; a compressed body may yield nothing before its end."""
    return not piece and reading.amount != 0 and getattr(reading.raw, "closed", True)


def _report_failure(reading: _Read, error: BaseException) -> None:
    with _BODY:
        reading.reader.failed(error)


class _Pieces(Watch):
    """The pieces of a body."""

    step = _BODY
    __slots__ = ("_reader",)

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader

    def begun(self) -> Take:
        return self._add

    def _add(self, piece: bytes, *, is_last: bool = False) -> None:
        if not self._reader.is_passive:
            self._reader.add(piece, is_last=is_last)

    def completed(self) -> None:
        self._add(b"", is_last=True)

    def failed(self, error: BaseException) -> None:
        self._reader.failed(error)


def _watched_pieces(reader: BodyReader, pieces: Any) -> Any:
    return watched(pieces, _Pieces(reader))


READ: Final = HookSteps(step=_BODY, before=_reading, on_return=_report_piece, on_error=_report_failure)
"""Copies what `HTTPResponse.read` returns."""
READ_PART: Final = HookSteps(step=_BODY, before=_reading, on_return=_report_part, on_error=_report_failure)
"""As `READ`, around `read1`, which returns what there is."""
ITERATE: Final = HookSteps(step=_BODY, before=_iterating, on_return=_watched_pieces)
"""As `READ`, around `read_chunked`, a generator."""
