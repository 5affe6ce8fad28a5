"""Pages: the pages of a list, as the providers return them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from callspan.testing.provider.script import Json

_LIMIT: Final = 20
_AFTER: Final = ("after", "after_id")
"""The parameter that names the last entry of the page before, of OpenAI and of Anthropic."""


def page(entries: Sequence[Json], query: Mapping[str, str]) -> Json:
    """Return the page that a request's query asks for; an entry has an `id`. Without an `after`: the first page."""
    ids = [entry["id"] for entry in entries]
    after = next((query[name] for name in _AFTER if query.get(name) in ids), None)
    limit = query.get("limit", "")
    later = entries[0 if after is None else ids.index(after) + 1 :]
    shown = later[: int(limit) if limit.isdecimal() else _LIMIT]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(later) > len(shown),
    }
