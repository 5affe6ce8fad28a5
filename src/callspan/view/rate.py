"""Rate: a thumb, score or note for a call or session, given on the page."""

from __future__ import annotations

import math
import time
from typing import Final, Literal, NamedTuple

import msgspec

from callspan.records import RewardRecord, new_id
from callspan.view.source import BadQueryError, PageRequest

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


def rate(request: PageRequest, body: bytes) -> RewardRecord:
    """Return the record of a rating. Raises BadQueryError for an invalid one, LookupError for a missing target."""
    try:
        rating = msgspec.json.decode(body, type=Rating)
    except msgspec.DecodeError as error:
        raise BadQueryError(f"this is no rating: {error}") from None
    value = _VALUES[rating.label] if rating.label is not None and rating.value is None else rating.value
    note = (rating.note or "").strip()[:_CHARACTERS] or None
    if (value is None and note is None) or (value is not None and not math.isfinite(value)):
        raise BadQueryError("a rating is a thumb, a number or a note")
    target = _target(request, rating)
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
        label=rating.label,
        source="human",
        annotation=note,
        scope=target.scope,
        time_ns=time.time_ns(),
    )


def _target(request: PageRequest, rating: Rating) -> _Target:
    if rating.call is not None:
        call = request.reader.call(rating.call)
        if call is None:
            raise LookupError("There is no such call: it was erased, or its id is another one.")
        place = call.place
        return _Target(call.content_level, "call", place.session_id, place.timestep_id, place.timestep, call.call_id)
    summary = request.reader.session(rating.session or "")
    if summary is None:
        raise LookupError("There is no such session: it was erased, or its id is another one.")
    return _Target(summary.session.content_level, "session", summary.session.session_id)
