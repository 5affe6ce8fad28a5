"""Usage of Cohere: the units that are billed.

Answers state two counts. `billed_units` is what is paid for: the tokens of the application's messages. `tokens` is what
the model read and wrote, with Cohere's own instructions and templates, often twenty times as much. The conventions ask
for the billed ones; the others remain in `raw`. `cached_tokens` are part of the tokens that were read, so that they say
nothing of the billed ones.
"""

from __future__ import annotations

from typing import Final

from callspan.providers.wire_json import count, detached_object, mapping
from callspan.record.usage import Usage

_OTHER_UNITS: Final = ("search_units", "classifications", "images")
"""Billed units that are no tokens."""


def usage(counters: dict[str, object] | None) -> Usage | None:
    """Return the `usage` of version 2, or the `meta` of version 1 and of embeddings; None if it has no counts."""
    billed = mapping(counters, "billed_units") or mapping(counters, "tokens")
    if counters is None or not billed:
        return None
    total_input, output = count(billed, "input_tokens"), count(billed, "output_tokens")
    images = count(billed, "image_tokens")
    if images:
        total_input = (total_input or 0) + images
    other_units = {name: number for name in _OTHER_UNITS if (number := count(billed, name))}
    return Usage(
        input_tokens=total_input,
        output_tokens=output,
        total_tokens=None if total_input is None or output is None else total_input + output,
        input_image_tokens=images or None,
        hosted_tools={**other_units},
        raw=detached_object(counters),
    )
