"""String builder: text that arrives in many small strings, kept in little more memory than the text itself."""

from __future__ import annotations

from typing import Final

FULL: Final = 64
"""So many strings are joined into one block: a short `str` costs some 50 bytes besides its text."""


class StringBuilder:
    """Text under construction. `loose` holds the newest strings; append there only through `add`, or pack in time."""

    __slots__ = ("blocks", "loose")

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.loose: list[str] = []

    def add(self, text: str) -> None:
        """Append `text`. Amortised O(1)."""
        self.loose.append(text)
        if len(self.loose) >= FULL:
            self.pack()

    def pack(self) -> None:
        """Join the loose strings into one block."""
        self.blocks.append("".join(self.loose))
        self.loose.clear()

    def set(self, text: str) -> None:
        """Replace everything by `text`."""
        self.blocks.clear()
        self.loose[:] = [text]

    def joined(self) -> str:
        """Return the whole text, which stays here too."""
        return "".join([*self.blocks, *self.loose])

    def __bool__(self) -> bool:
        return bool(self.loose or self.blocks)
