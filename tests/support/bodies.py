"""Bodies as providers send them: what reads them, what the events of a stream add up to, and how a store joins them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from callspan import process
from callspan.providers import wires
from callspan.providers.batches import endpoint_of, result_in
from callspan.providers.kinds import proves
from callspan.providers.registry import by_api, generic, with_conversation
from callspan.record import wire_fields
from callspan.record.apis import APIS, OTHER, Exact
from callspan.stores.tables import bodies

__all__ = [
    "APIS", "OTHER", "WIRE_WORDS", "Exact", "endpoint", "endpoint_of", "folded", "proves", "restored", "result_in",
    "wire_fields", "wires", "with_conversation",
]  # fmt: skip


_FILE = json.loads((Path(process.__file__).parent / "wire_words.json").read_text())
WIRE_WORDS = frozenset(word for row in (_FILE["keys"], *_FILE["values"]) for words in row for word in words.split())
"""The keys and words that a redactor keeps."""


def endpoint(api: str) -> Any:
    """Return what reads an API, or the answers of a path that has none."""
    found = generic(api) if "/" in api else by_api(api)
    assert found is not None
    return found


def folded(api: str, *events: Any) -> Any:
    """Return the body that events make."""
    accumulator = endpoint(api).accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.body()


def restored(api: str, sent: bytes, received: bytes) -> tuple[bytes, bytes]:
    """Return a request's body and its answer, split into the pieces of a store and joined again."""
    parts = bodies.split(sent, api)
    messages = [(at, part) for at, part in parts.others if at >= 0]
    messages = sorted([*messages, *enumerate(parts.history, parts.history_at)], key=lambda row: row[0])
    assert [at for at, _ in messages] == list(range(parts.messages))
    stored = bodies.answer(received, api, parts)
    pieces = [parts.skeleton, *parts.history, *(part for _, part in parts.others), *stored.repeated]
    rows = [(part.hash, bodies.from_row(*bodies.to_row(part))) for part in pieces]
    by_hash = dict(rows)
    texts = [by_hash[part.hash] for _, part in messages]
    answer = bodies.whole(bodies.from_row(*bodies.to_row(stored.piece)), by_hash.__getitem__)
    return bodies.join(rows[0][1], texts, by_hash.__getitem__), answer
