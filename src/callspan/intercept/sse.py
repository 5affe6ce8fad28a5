"""Server-sent events: a parser of events from bytes in pieces of any size, as the HTML standard defines it."""

from __future__ import annotations

from typing import Final

_FIELD: Final = b"data:"
_MARK: Final = b"\xef\xbb\xbf"


class EventParser:
    """Collects the lines of events; returns the content of their `data` fields, one payload per event."""

    __slots__ = ("_begun", "_data", "_ends_in_return", "_rest")

    def __init__(self) -> None:
        self._begun = False
        self._data: list[bytes] = []
        self._ends_in_return = False
        self._rest: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the payloads of the events that end within `piece`."""
        if self._ends_in_return and piece.startswith(b"\n"):
            piece = piece[1:]
        if not piece:
            return []
        self._ends_in_return = piece.endswith(b"\r")
        first, *others = piece.splitlines(keepends=True)
        self._rest.append(first)
        if not others and not first.endswith((b"\n", b"\r")):
            return []
        lines = [b"".join(self._rest), *others]
        self._rest = [lines.pop()] if not lines[-1].endswith((b"\n", b"\r")) else []
        return [payload for line in lines if (payload := self._line(line.rstrip(b"\r\n"))) is not None]

    def end(self) -> list[bytes]:
        """Return the payload of an event that no empty line has ended."""
        last = [self._line(b"".join(self._rest)), self._line(b"")]
        self._rest = []
        return [payload for payload in last if payload is not None]

    def _line(self, line: bytes) -> bytes | None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_MARK)
        if line.startswith(_FIELD):
            self._data.append(line[len(_FIELD) :].removeprefix(b" "))
        if line or not self._data:
            return None
        payload = b"\n".join(self._data)
        self._data = []
        return payload
