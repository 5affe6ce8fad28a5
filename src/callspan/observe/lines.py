"""Lines: splits the bytes of batch results into lines as they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callspan.record.codec import is_json
from callspan.runtime.fail_open import fail_open

_LINE: Final = fail_open("read a line of a batch")
_IDS: Final = (b'"custom_id"', b'"key"', b'"responseId"')
"""The fields of a result with an id; the last two are Gemini's: of the request, and of the answer."""
_HEAD_BYTES: Final = 1 << 16
_MAX_OTHER: Final = 8
"""How many lines that are no results a file with results may begin with: one may be broken, or cut if it is resumed."""


class LineReader:
    """Reads the bytes of a response as long as its first lines may be results. Methods raise only interrupts."""

    __slots__ = ("_held", "_is_results", "_others", "_size", "_take")

    def __init__(self, take: Callable[[bytes], bool]) -> None:
        """`take` reads a line and returns whether it is a result."""
        self._take = take
        self._held: list[bytes] | None = []
        """The start of the next line; None if the file has no results."""
        self._is_results = False
        self._others = 0
        """How many lines before the first result were none."""
        self._size = 0

    def add(self, piece: bytes) -> None:
        """Add the next bytes."""
        if self._held is None:
            return
        self._held.append(piece)
        self._size += len(piece)
        if piece.find(b"\n") >= 0:
            self._split(self._held)
        elif not self._is_results and self._size >= _HEAD_BYTES:
            head = b"".join(self._held)
            self._is_results = any(name in head for name in _IDS)
            self._held = self._held if self._is_results else None

    def _split(self, pieces: list[bytes]) -> None:
        *lines, incomplete_line = b"".join(pieces).split(b"\n")
        for line in filter(bytes.strip, lines):
            is_result = True
            with _LINE:
                is_result = self._take(line)
            self._is_results = self._is_results or is_result
            self._others += not self._is_results
            if not self._is_results and self._others >= _MAX_OTHER:
                self._held = None
                return
        # After an interrupt, all lines are read again.
        self._held = [incomplete_line]

    def take_body(self, content: bytes) -> None:
        """Add the complete response from memory."""
        self.add(content)
        self.finish(complete=True)

    def finish(self, *, complete: bool) -> None:
        """Take the last line, unless the reader stopped within it (`complete` False)."""
        if self._held is not None:
            self._split(self._held)
        if self._held is not None and (complete or is_json(b"".join(self._held))):
            self._split([*self._held, b"\n"])
