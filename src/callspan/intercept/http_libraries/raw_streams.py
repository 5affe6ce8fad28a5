"""Raw streams: the bytes of a response below `iter_bytes`, which `iter_raw` and readers of `response.stream` get.

The application keeps `response.stream`, whose inner stream, a private name, has an observed one in its place. It passes
on the same pieces and reports that they begin, end or fail.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final

from callspan import private_names as names
from callspan.fail_open import fail_open
from callspan.intercept.foreign_objects import Proxy, named_like

if TYPE_CHECKING:
    from callspan.intercept.http_libraries.wire_calls import WireObserver

_OBSERVE: Final = fail_open("observe the raw bytes of a response")


def observe(response: Any, observer: WireObserver) -> None:
    """Observe the raw bytes of an open response; nothing is observed if its stream has no inner one."""
    with _OBSERVE:
        stream = response.stream
        if (inner := getattr(stream, names.INNER_STREAM.name, None)) is not None:
            setattr(stream, names.INNER_STREAM.name, _RawStream(inner, observer))


class _RawStream(Proxy):
    """The same stream, observed."""

    __slots__ = ("_observer",)

    def __init__(self, inner: Any, observer: WireObserver) -> None:
        super().__init__(inner)
        self._observer = observer

    def __iter__(self) -> Iterator[bytes]:
        with _OBSERVE:
            self._observer.raw_begun()
        pieces = iter(self._inner)
        return named_like(_observed(pieces, self._observer), pieces)

    def __aiter__(self) -> AsyncIterator[bytes]:
        pieces: AsyncIterator[bytes] = aiter(self._inner)
        with _OBSERVE:
            self._observer.raw_begun()
            return _RawPieces(pieces, self._observer)
        return pieces


def _observed(pieces: Iterator[bytes], observer: WireObserver) -> Iterator[bytes]:
    try:
        for piece in pieces:
            with _OBSERVE:
                observer.raw_passed(len(piece))
            yield piece
    except GeneratorExit:
        raise
    except BaseException as error:
        with _OBSERVE:
            observer.raw_failed(error)
        raise
    with _OBSERVE:
        observer.raw_ended()


class _RawPieces(Proxy):
    """As `_observed`. No generator, whose finalization would race with that of the inner one, which httpx2 closes."""

    __slots__ = ("_observer",)

    def __init__(self, inner: Any, observer: WireObserver) -> None:
        super().__init__(inner)
        self._observer = observer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece: bytes = await self._inner.__anext__()
            with _OBSERVE:
                self._observer.raw_passed(len(piece))
        except StopAsyncIteration:
            with _OBSERVE:
                self._observer.raw_ended()
            raise
        except GeneratorExit:
            raise
        except BaseException as error:
            with _OBSERVE:
                self._observer.raw_failed(error)
            raise
        return piece
