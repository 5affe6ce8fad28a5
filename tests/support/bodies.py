"""Bodies as providers send them: what reads them, and what the events of a stream add up to."""

from __future__ import annotations

from typing import Any

from callspan.providers.registry import by_api, generic, with_conversation
from callspan.record.apis import APIS

__all__ = ["APIS", "endpoint", "folded", "with_conversation"]


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
