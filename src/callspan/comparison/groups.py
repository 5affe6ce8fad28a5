"""Groups: groups sessions by experiment, task, model, metadata etc., as sums and means are computed of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import product
from typing import Final

from callspan.records import labels
from callspan.stores import META, SessionSummary

SESSION_GROUPINGS: Final = ("experiment", "task", "group", "name", "model", "user", "tag", "day", "hour")
"""The groupings of sessions besides `meta:KEY`. A session with several models, tags or values is in the group of each;
days and hours are those of its start, in UTC."""
_NS_PER_S: Final = 1_000_000_000
_FIELDS: Final = {"experiment": "experiment", "task": "task_id", "group": "group_id", "name": "name", "user": "user_id"}
_FORMS: Final = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00Z", "minute": "%Y-%m-%dT%H:%MZ"}


def checked_session_grouping(by: str) -> str:
    """Return a valid grouping of sessions. Raises ValueError otherwise."""
    if by in SESSION_GROUPINGS or (by.startswith(META) and by != META):
        return by
    raise ValueError(f"sessions cannot be grouped by {by!r}; use {', '.join(SESSION_GROUPINGS)} or {META}KEY")


def groups_of(summary: SessionSummary, by: str) -> list[str | None]:
    """Return the values of a session for a grouping; `[None]` without a value."""
    session = summary.session
    found: Iterable[str | None]
    if by in _FIELDS:
        found = [getattr(session, _FIELDS[by])]
    elif by == "model":
        found = summary.models
    elif by in _FORMS:
        found = [] if session.start_ns is None else [_moment(session.start_ns, _FORMS[by])]
    else:
        found = labels(session.metadata, "tags" if by == "tag" else by.removeprefix(META))
    return [*dict.fromkeys(found)] or [None]


def _moment(ns: int, form: str) -> str:
    return datetime.fromtimestamp(ns // _NS_PER_S, tz=timezone.utc).strftime(form)


@dataclass
class Group:
    """Sessions with the same values of the groupings."""

    keys: tuple[str | None, ...]
    sessions: list[SessionSummary] = field(default_factory=list)


def group_sessions(sessions: Iterable[SessionSummary], keys: Sequence[str]) -> list[Group]:
    """Group the sessions by these groupings; the largest groups come first."""
    found: dict[tuple[str | None, ...], Group] = {}
    for one in sessions:
        for values in _combinations(one, keys):
            found.setdefault(values, Group(values)).sessions.append(one)
    return sorted(found.values(), key=lambda group: (-len(group.sessions), tuple(key or "" for key in group.keys)))


def _combinations(summary: SessionSummary, keys: Sequence[str]) -> Iterator[tuple[str | None, ...]]:
    yield from product(*(groups_of(summary, key) for key in keys))
