"""Labels: metadata values as text for search and grouping, the same in every store.

A key is looked up in the metadata, then in its `extra`; if neither has it, `a.b` is looked up as the key `b` of the
object `a`. The label of a number or bool is its JSON text; a list has one label for each item, an object none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

USER: Final = "user_id"
TENANT_KEYS: Final = ("organization_id", "project_id", "tenant", "tenant_id")
"""Keys of metadata that state a tenant."""
EXTRA: Final = "extra"
"""The key that `callspan.metadata(...)` collects names under if they are not standard fields."""
_SCALARS: Final = (bool, int, float)


PURPOSE: Final = "purpose"
ASIDES: Final = (
    *("generate_session_title", "rename_generate_name", "agent_namer", "prompt_suggestion", "agent_summary"),
    *("away_summary", "tool_use_summary_generation"),
)
"""Purposes of calls by which Claude Code names and sums up a session. They are no part of its conversation."""


def aside_of(metadata: Mapping[str, object]) -> str | None:
    """Return the purpose of a call beside the conversation; None for any other call."""
    purpose = metadata.get(PURPOSE)
    return purpose if isinstance(purpose, str) and purpose in ASIDES else None


def label(value: object) -> str | None:
    """Return a string, number or bool as text; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, _SCALARS):
        return msgspec.json.encode(value).decode()
    return None


def labels(metadata: Mapping[str, object], key: str) -> list[str]:
    """Return the values of a metadata key as text; a list has a text per item."""
    return labels_in(metadata_value(metadata, key))


def labels_in(value: object) -> list[str]:
    """Return the labels of a metadata value."""
    texts = map(label, value) if isinstance(value, list) else [label(value)]
    return [text for text in texts if text is not None]


def metadata_value(metadata: Mapping[str, object], key: str) -> object:
    """Return the value of a key, or None."""
    value = metadata.get(key)
    if value is not None or not (EXTRA in metadata or "." in key):
        return value
    paths = ((key,), key.split(".")) if "." in key else ((key,),)
    candidates = (_at(holder, path) for path in paths for holder in (metadata, metadata.get(EXTRA)))
    return next((value for value in candidates if value is not None), None)


def _at(value: object, path: Iterable[str]) -> object:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def label_of(metadata: Mapping[str, object], key: str) -> str | None:
    """Return the label of a key, a list as JSON; None without a label."""
    value = metadata_value(metadata, key)
    return msgspec.json.encode(value).decode() if isinstance(value, list) else label(value)


class Ownership(NamedTuple):
    """Whom a call, a span or a session serves, as far as it says so. None is unknown, and contradicts nothing."""

    user: str | None = None
    tenant: str | None = None
    service: str | None = None

    def contradicts(self, other: Ownership) -> bool:
        """Return whether both state a user, a tenant or a service, and not the same one."""
        return self != other and any(
            own not in (None, stated) and stated is not None for own, stated in zip(self, other, strict=True)
        )

    def filled(self, other: Ownership) -> Ownership:
        """Return these values, and for unknown ones those of another."""
        if self == other:
            return self
        return Ownership(*(stated if own is None else own for own, stated in zip(self, other, strict=True)))


def tenant_of(metadata: Mapping[str, object]) -> str | None:
    """Return the tenant that metadata states, as one text."""
    labels = [label_of(metadata, key) for key in TENANT_KEYS] if metadata else []
    return msgspec.json.encode(labels).decode() if any(label is not None for label in labels) else None


def user_of(metadata: Mapping[str, object], api: str, params: Mapping[str, object]) -> str | None:
    """Return the user of a call: `user_id` of the metadata, else the user in the request."""
    user = label_of(metadata, "user_id") if metadata else None
    return user if user is not None or not params else requested_user(api, params)


def requested_user(api: str, params: Mapping[str, object]) -> str | None:
    """Return the user in a request: `user` or `safety_identifier`; for Messages `metadata.user_id`."""
    request_metadata = params.get("metadata") if api == "messages" else None
    if request_metadata is not None and isinstance(request_metadata, Mapping):  # an abstract class is slow to ask
        return label(request_metadata.get("user_id")) or None
    user = params.get("user") or params.get("safety_identifier")
    return label(user) or None if user else None
