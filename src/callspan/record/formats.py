"""Formats: the one number that all records and stores of a callspan have, and the refusal of another one."""

from __future__ import annotations

from typing import Final

FORMAT: Final = 6
"""Format of records, spools and stores. Increased with every change that an earlier or later callspan could misread."""


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


def check_format(place: object, found: int) -> None:
    """Raise OtherFormatError if the format is not today's."""
    if found != FORMAT:
        raise OtherFormatError(place, found)
