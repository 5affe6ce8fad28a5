"""Uploads: reads the lines of a file that is sent, beside the HTTP library, and without moving the file's position."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any, Final

from callspan.fail_open import ours

_BLOCK_BYTES: Final = 1 << 18
_FILE: Final = "file"


class UploadedLines:
    """The lines of a file, which is in memory or open. Closes its own descriptor after the last line, or by `close`."""

    __slots__ = ("_content", "_descriptor", "size")

    def __init__(self, file: object) -> None:
        """`file` is a file as httpx takes it: its content, or a tuple of name, content and more.

        Raises ValueError for content that only the HTTP library can read.
        """
        content: Any = file[1] if isinstance(file, tuple) and len(file) > 1 else file
        self._content, self._descriptor = b"", -1
        if isinstance(content, bytes | bytearray):
            self._content = bytes(content)
            self.size = len(content)
        elif type(content) is io.BytesIO:
            self._content = content.getvalue()
            self.size = len(self._content)
        else:
            if not hasattr(os, "pread") or not isinstance(content, io.IOBase):
                raise ValueError("cannot be read beside the HTTP library")
            # Duplicated: the application may close its file before this one is read.
            self._descriptor = os.dup(content.fileno())
            self.size = os.fstat(self._descriptor).st_size

    def __iter__(self) -> Iterator[bytes]:
        """Yield the lines that are not empty."""
        rest = b""
        for block in self._blocks():
            *lines, rest = (rest + block).split(b"\n")
            yield from (line for line in lines if line.strip())
        if rest.strip():
            yield rest
        self.close()

    def _blocks(self) -> Iterator[bytes]:
        if self._descriptor < 0:
            yield from (self._content[at : at + _BLOCK_BYTES] for at in range(0, len(self._content), _BLOCK_BYTES))
            return
        at = 0
        while block := os.pread(self._descriptor, _BLOCK_BYTES, at):
            at += len(block)
            yield block

    def close(self) -> None:
        """Close the own descriptor. Again: nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        """Close it."""
        try:
            self.close()
        except ours(OSError, AttributeError):
            return


def file_in(files: object) -> object:
    """Return the file of a form as httpx takes it; None if there is none."""
    pairs = files.items() if isinstance(files, dict) else files if isinstance(files, list | tuple) else ()
    return next((pair[1] for pair in pairs if isinstance(pair, tuple) and pair[0] == _FILE), None)
