"""Keys: the application's own metadata keys with their values, which the page offers as filters, columns and tables."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import msgspec

from callspan.records import labels
from callspan.view.source import PageRequest

_MAX_READ: Final = 300
"""Metadata are read from this number of newest sessions and calls."""
_MAX_VALUES: Final = 12
"""Number of values above which a key is no choice."""


class Key(msgspec.Struct):
    """A metadata key of recent sessions and calls."""

    name: str
    values: list[str]
    """Its recent values, sorted."""
    is_choice: bool
    """Whether few enough values were found to choose from."""


def _key(name: str, values: list[str]) -> Key:
    return Key(name, sorted(values[:_MAX_VALUES]), len(values) <= _MAX_VALUES)


def page(request: PageRequest) -> list[Key]:
    """Return the metadata keys of the newest sessions and calls, those with the fewest values first."""
    reader, selection = request.filtered()
    newest = msgspec.structs.replace(selection, limit=_MAX_READ, content="none", sort="start_ns")
    values_by_name: dict[str, dict[str, None]] = defaultdict(dict)
    for metadata in (
        *(summary.session.metadata for summary in reader.sessions(newest)),
        *(call.metadata for call in reader.calls(newest)),
    ):
        for name in metadata:
            values_by_name[name].update(dict.fromkeys(labels(metadata, name)))
    keys = [_key(name, [*values]) for name, values in values_by_name.items()]
    return sorted((key for key in keys if key.values), key=lambda key: (not key.is_choice, len(key.values), key.name))
