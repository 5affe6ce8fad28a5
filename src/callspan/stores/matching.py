"""Matching: whether a call or session has the labels of a filter, and the key it is grouped under.

This is the definition for all stores; `callspan.stores.conditions` is the same in SQL. A call without a label of its
own has that of its session.
"""

from __future__ import annotations

from typing import Final, get_args

from callspan.record.call import CallRecord
from callspan.record.events import SessionRecord
from callspan.record.labels import label_of, labels
from callspan.stores.base import Grouping, SessionFilter

META: Final = "meta:"
"""Prefix of a metadata key to group by."""
GROUPINGS: Final[tuple[str, ...]] = get_args(Grouping)


def checked_grouping(by: str) -> str:
    """Return a valid grouping. Raises ValueError if it is neither a field nor `meta:KEY`."""
    if by in GROUPINGS or (by.startswith(META) and by != META):
        return by
    raise ValueError(f"summary: by={by!r} is unknown; use {', '.join(GROUPINGS)} or {META}KEY")


def fits_session(session: SessionRecord, which: SessionFilter) -> bool:
    """Return whether a session has all labels."""
    return (
        which.user in {None, session.user_id}
        and which.name in {None, session.name}
        and _fits_ids(session, which)
        and all(value in labels(session.metadata, key) for key, value in which.metadata)
    )


def fits_call(call: CallRecord, session: SessionRecord | None, which: SessionFilter) -> bool:
    """Return whether a call of this session has all labels."""
    return (
        (which.user is None or which.user == user_of(call, session))
        and (which.name is None or which.name == name_of(call, session))
        and _fits_ids(session, which)
        and all(value in _labels(call, session, key) for key, value in which.metadata)
    )


def user_of(call: CallRecord, session: SessionRecord | None) -> str | None:
    """Return the user of a call: of its metadata, the request, or the session."""
    return call.user if call.user is not None or session is None else session.user_id


def name_of(call: CallRecord, session: SessionRecord | None) -> str | None:
    """Return the name of a call's session."""
    name = call.place.session_name
    return name if name is not None or session is None else session.name


def label_by(call: CallRecord, session: SessionRecord | None, by: str) -> str | None:
    """Return the user, name, experiment or metadata (`meta:KEY`) a call is grouped under."""
    if by == "user":
        return user_of(call, session)
    if by == "name":
        return name_of(call, session)
    if by == "experiment":
        return session.experiment if session is not None else None
    key = by.removeprefix(META)
    own = label_of(call.metadata, key)
    return own if own is not None or session is None else label_of(session.metadata, key)


def needs_session(which: SessionFilter) -> bool:
    """Return whether a filter uses a label that a call may inherit from its session."""
    return any(getattr(which, name) for name in SessionFilter.__struct_fields__)


def _fits_ids(session: SessionRecord | None, which: SessionFilter) -> bool:
    wanted = (which.group, which.task, which.experiment)
    known = (None,) * 3 if session is None else (session.group_id, session.task_id, session.experiment)
    return all(one is None or one == its for one, its in zip(wanted, known, strict=True))


def _labels(call: CallRecord, session: SessionRecord | None, key: str) -> list[str]:
    return labels(call.metadata, key) or ([] if session is None else labels(session.metadata, key))
