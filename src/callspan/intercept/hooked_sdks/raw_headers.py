"""Raw headers: the headers of a response as bytes, whatever HTTP library it is of."""

from __future__ import annotations

from typing import Any


def raw_headers(headers: Any) -> list[tuple[bytes, bytes]]:
    """Return names and values as bytes; none for an object without headers."""
    items = headers.items() if hasattr(headers, "items") else ()
    return [(str(name).encode("latin-1", "replace"), str(value).encode("latin-1", "replace")) for name, value in items]
