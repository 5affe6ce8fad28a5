"""Exchanges: requests and answers of other HTTP libraries, under the names that httpx has for what `wire_calls` reads.

These objects hold nothing of the application that refers to its response, which must die as early as without callspan.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from callspan.intercept.body_parsers import GZIP_START, is_form
from callspan.intercept.http_libraries.raw import Copy

if TYPE_CHECKING:
    from callspan.intercept.http_libraries.wire_calls import WireObserver

_MAX_URLS: Final = 128
_LATIN: Final = "latin-1"
_WINDOWS: Final = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
"""The window sizes by which zlib knows the format of an encoding."""
_MAX_DECOMPRESSED: Final = 8 << 20
"""Bytes that one piece may become at most."""


class Url(NamedTuple):
    """What is read from the URL of a request."""

    whole: str
    scheme: str
    host: str
    port: int | None
    path: str
    raw_path: bytes
    """Path and query as sent."""
    sent_path: str
    """The path as sent."""

    def __str__(self) -> str:
        return self.whole


@lru_cache(maxsize=_MAX_URLS)
def url_of(whole: str) -> Url:
    """Return what is read from a URL. Cached, because nearly all requests of a process go to the same models.

    Raises ValueError for an invalid port.
    """
    split = urlsplit(whole)
    sent = f"{split.path}?{split.query}" if split.query else split.path
    path = unquote(split.path)
    return Url(whole, split.scheme, split.hostname or "", split.port, path, sent.encode(_LATIN, "replace"), split.path)


class Headers:
    """The headers of a request or an answer."""

    __slots__ = ("_headers", "_raw")

    def __init__(self, headers: Any, raw: Iterable[tuple[bytes, bytes]] | None = None) -> None:
        """`headers` is a mapping that ignores case; `raw` the same as bytes, if the library has them."""
        self._headers, self._raw = headers, raw

    @property
    def raw(self) -> Iterable[tuple[bytes, bytes]]:
        """Names and values as bytes."""
        if self._raw is not None:
            return self._raw
        return [(_encoded(name), _encoded(value)) for name, value in self._headers.items()]

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a header."""
        return self._headers.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._headers

    def __setitem__(self, name: str, value: str) -> None:
        self._headers[name] = value


def _encoded(text: object) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode(_LATIN, "replace")


class SentRequest:
    """A request."""

    __slots__ = ("_body", "headers", "method", "url")

    def __init__(self, method: str, url: str, headers: Any, body: object = None) -> None:
        self.method, self.url, self.headers, self._body = method, url_of(url), Headers(headers), body

    @property
    def content(self) -> bytes:
        """The body as sent. Raises RuntimeError for one that is read while it is sent, and for a form with files."""
        body = self._body
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogatepass")
        if body is None or (isinstance(body, bytes | bytearray) and not is_form(self)):
            return bytes(body or b"")
        raise RuntimeError


class Answer(NamedTuple):
    """An answer."""

    response: Any
    """The object of the application."""
    status_code: int
    headers: Headers
    content: bytes | None
    """The body; None while it has not been read."""
    request: SentRequest | None = None
    """The request that was sent last, if that differs from the first one."""
    extensions: dict[str, object] | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the body was read."""
        return self.content is not None

    @property
    def history(self) -> bool:
        """Whether the request was redirected."""
        return self.request is not None


class BodyCopy:
    """Copies the body of an open answer while it is read, whether or not its library has decompressed it."""

    __slots__ = ("_copy", "_decoder", "_is_unread", "_window", "observer")

    def __init__(self, observer: WireObserver, headers: Headers) -> None:
        self.observer, self._copy = observer, Copy(observer)
        self._window = _WINDOWS.get(_encoding(headers))
        self._decoder = None if self._window is None else zlib.decompressobj(self._window)
        self._is_unread = False

    def add(self, piece: bytes, *, is_compressed: bool) -> None:
        """Add what was read."""
        if not is_compressed:
            self._copy.add(piece)
        elif (content := self._decompressed(piece)) is not None:
            self._copy.add(content)
        elif not self._is_unread:
            self._is_unread = True
            self.observer.call.mark_unread()

    def _decompressed(self, piece: bytes) -> bytes | None:
        """Return what a piece stands for; None if it is in another format, or becomes too large."""
        decoder = None if self._is_unread else self._decoder
        if decoder is None or self._window is None:
            return None
        try:
            content = decoder.decompress(piece, _MAX_DECOMPRESSED)
            while (rest := decoder.unused_data).startswith(GZIP_START):  # another member, as gzip allows
                decoder = self._decoder = zlib.decompressobj(self._window)
                content += decoder.decompress(rest, _MAX_DECOMPRESSED)
        except zlib.error:
            return None
        return None if decoder.unconsumed_tail else content

    def completed(self) -> None:
        """Report that the last piece was read."""
        if self._is_unread:
            self.observer.raw_ended()
        else:
            self._copy.completed()


def is_compressed(headers: Headers) -> bool:
    """Return whether the body of an answer is sent compressed."""
    return _encoding(headers) not in ("", "identity")


def _encoding(headers: Headers) -> str:
    return str(headers.get("content-encoding", "")).strip().lower()
