"""Lookup: finds a session or call by its id or a prefix of it."""

from __future__ import annotations

from typing import Final, Literal

from callspan.record.call import CallRecord
from callspan.stores.base import SessionSummary
from callspan.stores.query.reader import Reader

_CUT: Final = "\N{HORIZONTAL ELLIPSIS}"
"""Ends abbreviated ids in lists; ids are also accepted with it."""
_NAMED: Final = 3
_KINDS: Final[tuple[Literal["session", "call"], ...]] = ("session", "call")


def look_up(reader: Reader, ident: str) -> SessionSummary | CallRecord:
    """Return the session with an id or unique prefix, else the call, else the session of the timestep.

    Raises LookupError, with the reason, if the id is unknown or the prefix is ambiguous.
    """
    ident = ident.rstrip(_CUT)
    session_or_call = reader.session(ident) or reader.call(ident)
    if session_or_call is None and (step := reader.timestep(ident)) is not None:
        session_or_call = reader.session(step.session_id)
    if session_or_call is None:
        unknown = f"Nothing in {reader.name} has an id that begins with {ident!r}."
        raise LookupError(_ambiguous(reader, ident) or f"{unknown} See `callspan sessions` and `callspan calls`.")
    return session_or_call


def id_of(session_or_call: SessionSummary | CallRecord) -> str:
    """Return the id of what `look_up` returns."""
    return session_or_call.call_id if isinstance(session_or_call, CallRecord) else session_or_call.session.session_id


def _ambiguous(reader: Reader, ident: str) -> str | None:
    """Return a message if several sessions or calls have this prefix."""
    for kind in _KINDS:
        ids = reader.ids_like(kind, ident)
        if len(ids) > 1:
            remainder = f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else ""
            return f"{len(ids):,} {kind}s begin with {ident!r}: {', '.join(ids[:_NAMED])}{remainder}."
    return None
