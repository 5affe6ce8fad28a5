"""Voice items: where the user interrupted an item of a realtime session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from callspan.providers.wire_json import number, objects, text
from callspan.record.messages import UnknownPart

_CUT: Final = "conversation.item.truncated"


def cut_of(part: object) -> tuple[str, float] | None:
    """Return the id of a cut item and the seconds of it that were played, if a part records that."""
    data = part.data if isinstance(part, UnknownPart) else None
    item, end_ms = text(data, "item_id"), number(data, "audio_end_ms")
    if text(data, "type") != _CUT or item is None or end_ms is None:
        return None
    return item, end_ms / 1000


def item_ids(body: object) -> Iterator[str]:
    """Yield the ids of the items of an answer."""
    return filter(None, (text(item, "id") for item in objects(body, "output")))
