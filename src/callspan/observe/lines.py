"""Lines: takes the bytes of a batch's results as they are read, and each line in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from callspan.fail_open import fail_open
from callspan.observe.ports import SeenLines
from callspan.record.codec import is_json

_LINE: Final = fail_open("read a line of a batch")
_CUSTOM_ID: Final = b'"custom_id"'
_HEAD_BYTES: Final = 1 << 16


class LineReader:
    """Takes the bytes of a response. Its methods raise only interrupts."""

    __slots__ = ("_held", "_is_checked", "_lines", "_missed", "_number", "_seen", "_size", "_take")

    def __init__(
        self, take: Callable[[bytes], object], seen: SeenLines, missed: Callable[[], object], *, is_known: bool
    ) -> None:
        """`take` reads a line; `missed` is called if the response was read in a way that is not observed.

        `is_known` False: the bytes may be those of any file.
        """
        self._take, self._seen, self._missed, self._is_checked = take, seen, missed, is_known
        self._held: list[bytes] = []
        self._lines: deque[bytes] | None = deque()
        self._number = self._size = 0

    def add(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._size += len(piece)
        if self._lines is None:
            return
        self._held.append(piece)
        if not self._is_checked and self._size < _HEAD_BYTES:
            return
        if b"\n" in piece or not self._is_checked:
            self._split()

    def _split(self) -> None:
        whole = b"".join(self._held)
        self._is_checked = self._is_checked or _CUSTOM_ID in whole
        if not self._is_checked:
            self._held, self._lines = [], None
        elif self._lines is not None:
            *lines, rest = whole.split(b"\n")
            self._lines.extend(lines)
            self._held = [rest]
            self._take_lines(self._lines)

    def _take_lines(self, lines: deque[bytes]) -> None:
        # A line is read before it is removed: after an interrupt it is read again.
        while lines:
            if self._number >= self._seen.lines and lines[0].strip():
                with _LINE:
                    self._take(lines[0])
            self._number += 1
            self._seen.lines = max(self._seen.lines, self._number)
            lines.popleft()

    def whole(self, content: bytes) -> None:
        """Take the complete response, which is in memory."""
        self.add(content)
        self.finish(complete=True)

    def read_elsewhere(self) -> None:
        """Note that the response was read without this reader, unless some bytes came here."""
        if not self._size:
            self._missed()

    def finish(self, *, complete: bool) -> None:
        """Take the last line, unless the reader stopped within it (`complete` False)."""
        if self._held and self._lines is not None:
            self._split()
        if self._held and (complete or is_json(b"".join(self._held))):
            self._held.append(b"\n")
            self._split()
