"""Rate: a thumb, score, label, note or tag for a call or session, given on the page."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import chain, dropwhile, islice, takewhile
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec

from callspan.records import RewardRecord, new_id
from callspan.stores import Reader
from callspan.view.source import BadQueryError, PageRequest

_VALUES: Final = {"thumbs_up": 1.0, "thumbs_down": 0.0}
"""Values as written by `callspan.feedback`."""
_CHARACTERS: Final = 10_000
_AT_ONCE: Final = 200
_Kind: TypeAlias = Literal["session", "call"]


class Rating(msgspec.Struct, forbid_unknown_fields=True):
    """The rating of a call or session, as sent by the page; None if not given."""

    call: str | None = None
    session: str | None = None
    label: str | None = None
    value: float | None = None
    note: str | None = None
    tag: str | None = None
    """A word to find it by; then nothing else is given."""


class Unrated(msgspec.Struct):
    """What is to be rated next."""

    id: str | None
    """The id of a session or call; None if no other one is unrated."""


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
    value = _VALUES.get(rating.label or "") if rating.value is None else rating.value
    label, note, tag = map(_text, (rating.label, rating.note, rating.tag))
    if (value is None and not (label or note or tag)) or (value is not None and not math.isfinite(value)):
        raise BadQueryError("a rating is a thumb, a number, a label, a note or a tag")
    target = _target(request, rating)
    own_words = {"note": note, "label": None if label in _VALUES else label, "tag": tag}
    refused = next((name for name, text in own_words.items() if text is not None), None)
    if refused is not None and target.content_level != "full":
        raise BadQueryError(f"content is {target.content_level}: no {refused} is kept")
    return RewardRecord(
        reward_id=new_id(),
        session_id=target.session_id,
        timestep_id=target.timestep_id,
        timestep=target.timestep,
        call_id=target.call_id,
        objective="feedback" if tag is None else "tag",
        value=value,
        label=label if tag is None else tag,
        source="human",
        annotation=note,
        scope=target.scope,
        time_ns=time.time_ns(),
    )


def unrated(request: PageRequest) -> Unrated:
    """Return what follows a session or call in the list of the filter line `q`, and then precedes it, without a rating.

    `session` or `call` is its id; if the list lacks it, the first one without a rating is returned.
    """
    reader, selection = request.filtered()
    if "call" in request.query:
        calls = msgspec.structs.replace(selection, content="none")
        current = request.required("call")
        return Unrated(_next_unrated(reader, "call", current, lambda: (call.call_id for call in reader.calls(calls))))
    current = request.required("session")
    return Unrated(_next_unrated(reader, "session", current, lambda: reader.listed_session_ids(selection)))


def _next_unrated(reader: Reader, kind: _Kind, current: str, ids: Callable[[], Iterator[str]]) -> str | None:
    """Return the first id after the current one that no human has rated, else the first one before it."""
    following = dropwhile(current.__ne__, ids())
    preceding = takewhile(current.__ne__, ids())
    others = (ident for ident in chain(following, preceding) if ident != current)
    while batch := list(islice(others, _AT_ONCE)):
        rated = reader.rated_ids(kind, batch)
        if (ident := next((ident for ident in batch if ident not in rated), None)) is not None:
            return ident
    return None


def _text(text: str | None) -> str | None:
    return (text or "").strip()[:_CHARACTERS] or None


def _target(request: PageRequest, rating: Rating) -> _Target:
    if rating.call is not None:
        call = request.call(rating.call)
        place = call.place
        return _Target(call.content_level, "call", place.session_id, place.timestep_id, place.timestep, call.call_id)
    summary = request.session(rating.session or "")
    return _Target(summary.session.content_level, "session", summary.session.session_id)
