"""Formats: the one number that all records and stores of a callspan have, and the refusal of another one."""

from __future__ import annotations

import re
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

FORMAT: Final = 15
"""Format of records, spools and stores. Increased with every change that an earlier or later callspan could misread."""


_BEGINNING: Final = re.compile(rb'\{"kind":"\w+",(?:"\w+":"(?:[^"\\]|\\.)*",){1,4}"schema_version":(\d{1,9})')
"""The beginning of every record: its kind, ids and texts of a few letters, then the format."""
_BEGINNING_BYTES: Final = 65_536
_LINES: Final = 100
"""How many lines may be damaged before the first one that is a record."""


class StoreError(Exception):
    """A store cannot be used. The message names it and says what to do."""


class OtherFormatError(StoreError):
    """A store, spool or record has another format. It is not changed, deleted or waited for."""

    def __init__(self, place: object, found: object) -> None:
        """`place` names the file or database, `found` is its format."""
        super().__init__(
            f"{place} has format {found}, this callspan has format {FORMAT}: move it away, or read it with the version "
            "that wrote it (callspan export)"
        )


def format_in(record: bytes) -> int | None:
    """Return the format that a record, or its beginning, names; None if it does not begin as a record."""
    found = _BEGINNING.match(record)
    return None if found is None else int(found[1])


def check_file(path: Path) -> None:
    """Raise OtherFormatError if the first record of a file of JSON Lines has another format.

    Lines that do not begin as a record, such as the rest of one whose head was cut, state none.
    """
    try:
        with path.open("rb") as file:
            beginnings = islice(iter(partial(_beginning_of_line, file), b""), _LINES)
            found = next((one for one in map(format_in, beginnings) if one is not None), FORMAT)
    except OSError:
        return
    check_format(path, found)


def _beginning_of_line(file: BinaryIO) -> bytes:
    """Return the beginning of the next line and pass its end; empty at the end of the file."""
    beginning = rest = file.readline(_BEGINNING_BYTES)
    while rest and not rest.endswith(b"\n"):
        rest = file.readline(_BEGINNING_BYTES)
    return beginning


def check_format(place: object, found: int) -> None:
    """Raise OtherFormatError if the format is not today's."""
    if found != FORMAT:
        raise OtherFormatError(place, found)
