"""Formats: the version number of records, spools and stores, and its check."""

from __future__ import annotations

import re
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

FORMAT: Final = 1
"""Increased, from release 0.1.0 on, with every change that another version of callspan could misread."""
_BEGINNING: Final = re.compile(rb'\{"kind":"\w+",(?:"\w+":"(?:[^"\\]|\\.)*",){1,4}"schema_version":(\d{1,9})')
"""The start of every record: kind, ids and a few short strings, then the format."""
_BEGINNING_BYTES: Final = 65_536
_LINES: Final = 100
"""Maximum number of lines to search for the first valid record."""


class StoreError(Exception):
    """A store cannot be used. The message names it and the remedy."""


class OtherFormatError(StoreError):
    """A store, spool or record has another format. callspan does not change, delete or wait for it."""

    def __init__(self, source: object, number: object) -> None:
        """`source` names the file or database, `number` is its format."""
        super().__init__(
            f"{source} has format {number}, this callspan has format {FORMAT}: name a new file or database;"
            " this one is left unchanged for the version that wrote it"
        )


def format_in(record: bytes) -> int | None:
    """Return the format stated at the start of a record; None if this is not the start of a record."""
    match = _BEGINNING.match(record)
    return None if match is None else int(match[1])


def check_file(path: Path) -> None:
    """Raise OtherFormatError if the first record of a JSON Lines file has another format."""
    try:
        with path.open("rb") as file:
            beginnings = islice(iter(partial(_beginning_of_line, file), b""), _LINES)
            number = next((value for value in map(format_in, beginnings) if value is not None), FORMAT)
    except OSError:
        return
    check_format(path, number)


def _beginning_of_line(file: BinaryIO) -> bytes:
    """Read the next line and return its first bytes; empty at the end of the file."""
    beginning = chunk = file.readline(_BEGINNING_BYTES)
    while chunk and not chunk.endswith(b"\n"):
        chunk = file.readline(_BEGINNING_BYTES)
    return beginning


def check_format(source: object, number: int) -> None:
    """Raise OtherFormatError if the format is not the current one."""
    if number != FORMAT:
        raise OtherFormatError(source, number)
