"""Owners: the user of a record. Its newest version decides, in a store, in the spool and in a late delivery alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import reduce
from typing import Final

from msgspec.structs import replace

from callspan.record.call import CallRecord
from callspan.record.events import SCOPE_TYPES, Record, SessionRecord
from callspan.record.labels import EXTRA, label, label_of, labels
from callspan.record.merging import merged, merged_scope, version_order

_USER: Final = "user_id"


def users_of(record: Record) -> list[str]:
    """Return the users named by the record itself, not by its session."""
    user = record.user_id if isinstance(record, CallRecord | SessionRecord) else None
    # The label of a list is JSON, as a text may be.
    return labels(record.metadata, _USER) if user in (None, label_of(record.metadata, _USER)) else [user]


def newest(versions: Iterable[Record]) -> Record:
    """Return the record that a store has after these versions. Raises TypeError without versions."""
    return reduce(_merged, sorted(versions, key=version_order))


def _merged(older: Record, newer: Record) -> Record:
    if isinstance(older, CallRecord) and isinstance(newer, CallRecord):
        return merged([older, newer])
    if isinstance(older, SCOPE_TYPES) and isinstance(newer, SCOPE_TYPES):
        return merged_scope(older, newer)
    return older


def without_users(record: Record, users: Collection[str]) -> Record:
    """Return a record that does not name these users as its own; the same object if it names none of them.

    What a request sent to its provider stays.
    """
    metadata = _without(record.metadata, users)
    if isinstance(record, SessionRecord) and not set(users).isdisjoint(users_of(record)):
        return replace(record, user_id=None, metadata=metadata)
    return record if metadata == record.metadata else replace(record, metadata=metadata)


def _without(metadata: Mapping[str, object], users: Collection[str]) -> dict[str, object]:
    kept = dict[str, object]()
    for key, value in metadata.items():
        if key == EXTRA and isinstance(value, Mapping):
            kept[key] = _without(value, users)
        elif key != _USER:
            kept[key] = value
        elif not isinstance(value, list):
            kept |= {} if label(value) in users else {key: value}
        elif (others := [item for item in value if label(item) not in users]) or not value:
            kept[key] = others
    return kept
