"""Formats: the one number that all records and stores of a callspan have, and the refusal of another one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from callspan.fail_open import ours

FORMAT: Final = 7
"""Format of records, spools and stores. Increased with every change that an earlier or later callspan could misread."""


_STATED: Final = re.compile(rb'"schema_version":(\d{1,9})')
"""What every record has before its content. Within a JSON string its quotes would be escaped."""
_BEGINNING_BYTES: Final = 65_536


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


def format_of(path: Path) -> int | None:
    """Return the format that the first record of a file states; None if there is no record, or no such file."""
    try:
        with path.open("rb") as file:
            stated = _STATED.search(file.read(_BEGINNING_BYTES))
    except ours(OSError):
        return None
    return None if stated is None else int(stated[1])


def check_file(path: Path) -> None:
    """Raise OtherFormatError if the first record of a file has another format."""
    found = format_of(path)
    if found is not None:
        check_format(path, found)


def check_format(place: object, found: int) -> None:
    """Raise OtherFormatError if the format is not today's."""
    if found != FORMAT:
        raise OtherFormatError(place, found)
