"""Raw streams: the bytes of a response below `iter_bytes`, which `iter_raw` and readers of `response.stream` get.

The application keeps `response.stream`. Its inner stream, a private name, is replaced by an observed one. It passes
on the same pieces and reports that they begin, end or fail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final

from callspan import private_names as names
from callspan.intercept.foreign_objects import Proxy
from callspan.intercept.iteration import Take, Watch, watched
from callspan.runtime.fail_open import fail_open

if TYPE_CHECKING:
    from callspan.intercept.responses import ResponseObserver

_OBSERVE: Final = fail_open("observe the raw bytes of a response")


def observe(response: Any, observer: ResponseObserver) -> None:
    """Observe the raw bytes of an open response; nothing is observed if its stream has no inner one."""
    with _OBSERVE:
        stream = response.stream
        if (inner := getattr(stream, names.INNER_STREAM.name, None)) is not None:
            setattr(stream, names.INNER_STREAM.name, _RawStream(inner, observer))


class _RawStream(Proxy):
    """The same stream, observed."""

    __slots__ = ("_observer",)

    def __init__(self, inner: Any, observer: ResponseObserver) -> None:
        super().__init__(inner)
        self._observer = observer

    def __iter__(self) -> Iterator[bytes]:
        pieces: Iterator[bytes] = iter(self._inner)
        with _OBSERVE:
            pieces = _observed(pieces, self._observer)
        return pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: AsyncIterator[bytes] = aiter(self._inner)
        with _OBSERVE:
            pieces = _observed(pieces, self._observer)
        return pieces


def _observed(pieces: Any, observer: ResponseObserver) -> Any:
    """Return an observed iterator, or the same one if the pieces are seen where they are read from it."""
    return watched(pieces, _Pieces(observer)) if observer.raw_begun() else pieces


class _Pieces(Watch):
    """The raw bytes of a response. That they were dropped is known by its close, or its collection."""

    step = _OBSERVE
    __slots__ = ("_observer",)

    def __init__(self, observer: ResponseObserver) -> None:
        self._observer = observer

    def begun(self) -> Take:
        return self._passed

    def _passed(self, piece: bytes) -> None:
        self._observer.raw_passed(piece)

    def completed(self) -> None:
        self._observer.raw_ended()

    def failed(self, error: BaseException) -> None:
        self._observer.failed(error)
