"""What was captured, as text."""

from __future__ import annotations

from callspan.records import encode
from callspan.testing import Captured


def everywhere(seen: Captured) -> str:
    """Return every byte of every span and record."""
    return "".join([*(span.to_json() for span in seen.spans), *(encode(record).decode() for record in seen.everything)])
