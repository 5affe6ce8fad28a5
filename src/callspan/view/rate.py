"""Rate: a thumb, score or note for a call or session, given on the page."""

from __future__ import annotations

import math
import time
from typing import Final, Literal, NamedTuple

import msgspec

from callspan.records import RewardRecord, new_id
from callspan.view.source import BadQueryError, View

_VALUES: Final = {"thumbs_up": 1.0, "thumbs_down": 0.0}
"""Values as written by `callspan.feedback`."""
_CHARACTERS: Final = 10_000


class Rating(msgspec.Struct, forbid_unknown_fields=True):
    """The rating of a call or session, as sent by the page; None if not given."""

    call: str | None = None
    session: str | None = None
    label: Literal["thumbs_up", "thumbs_down"] | None = None
    value: float | None = None
    note: str | None = None


class _Target(NamedTuple):
    content_level: str
    scope: Literal["call", "session"]
    session_id: str | None
    timestep_id: str | None = None
    timestep: int | None = None
    call_id: str | None = None


def rate(view: View, sent: bytes) -> RewardRecord:
    """Return the record of a rating. Raises BadQueryError for an invalid one, LookupError for a missing target."""
    try:
        given = msgspec.json.decode(sent, type=Rating)
    except msgspec.DecodeError as error:
        raise BadQueryError(f"this is no rating: {error}") from None
    value = _VALUES[given.label] if given.label is not None and given.value is None else given.value
    note = (given.note or "").strip()[:_CHARACTERS] or None
    if (value is None and note is None) or (value is not None and not math.isfinite(value)):
        raise BadQueryError("a rating is a thumb, a number or a note")
    target = _target(view, given)
    if note is not None and target.content_level != "full":
        raise BadQueryError(f"content is {target.content_level}: no note is kept")
    return RewardRecord(
        reward_id=new_id(),
        session_id=target.session_id,
        timestep_id=target.timestep_id,
        timestep=target.timestep,
        call_id=target.call_id,
        objective="feedback",
        value=value,
        label=given.label,
        source="human",
        annotation=note,
        scope=target.scope,
        time_ns=time.time_ns(),
    )


def _target(view: View, given: Rating) -> _Target:
    if given.call is not None:
        call = view.reader.call(given.call)
        if call is None:
            raise LookupError("There is no such call: it was erased, or its id is another one.")
        place = call.place
        return _Target(call.content_level, "call", place.session_id, place.timestep_id, place.timestep, call.call_id)
    found = view.reader.session(given.session or "")
    if found is None:
        raise LookupError("There is no such session: it was erased, or its id is another one.")
    return _Target(found.session.content_level, "session", found.session.session_id)
