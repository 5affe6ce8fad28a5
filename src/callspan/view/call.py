"""Call: one call with its new messages, then earlier ones, times, tokens, cost and exact bodies."""

from __future__ import annotations

from itertools import islice
from typing import Final

import msgspec

from callspan.formatting import exact
from callspan.records import CallRecord, EventRecord, encode_json
from callspan.stores import (
    CallFilter,
    ConversationReader,
    History,
    NewMessages,
    Reader,
    spoken,
    voice_turns,
    whole_conversation,
)
from callspan.view.calls import call_row
from callspan.view.session import EntryRow, TurnRow, event_row, instructions_key, turn_row
from callspan.view.source import Row, View
from callspan.view.turns import messages_with, plain_messages

_MAX_BEFORE: Final = 20
"""Maximum number of earlier calls of the session whose messages are compared."""
_MAX_FOLLOWING: Final = 500
"""Number of entries after the call that are searched for runs of its tools."""
_MAX_CHARACTERS: Final = 500_000


class Neighbour(msgspec.Struct):
    """Another call of the session."""

    id: str
    number: int
    """Its position in the session, from 1."""


class CallPage(msgspec.Struct):
    """One call."""

    row: Row
    turn: TurnRow
    earlier: list[dict[str, object]]
    """Messages that earlier calls have sent or returned, newest first."""
    earlier_in: Neighbour | None
    """The call of the earlier messages."""
    results: list[dict[str, object]]
    """Messages of the next call with results of tools requested by this one."""
    runs: list[EntryRow]
    """The runs of these tools."""
    instructions: dict[str, object] | None
    number: int | None
    of: int | None
    before: Neighbour | None
    after: Neighbour | None
    record: dict[str, object]
    """The record without bodies."""
    params: dict[str, object]
    continues: str | None
    missing: str | None
    """Id of the response that it continues, if no recorded call has it."""
    rewards: list[dict[str, object]]
    exact_cost: str | None
    request_bytes: int | None
    response_bytes: int | None


class Bodies(msgspec.Struct):
    """The exact bodies; None if not kept."""

    request: str | None
    response: str | None


def page(view: View) -> CallPage:
    """Return call `id`. Raises LookupError if there is none."""
    reader, call = view.reader, _call(view)
    known: dict[str, dict[str, object]] = {}
    history = reader.history(call)
    whole = _whole(call, history)
    turn = _turn(reader, whole)
    messages = spoken(whole)
    key = instructions_key(whole, known)
    number = None if call.place.session_id is None else _number(reader, call)
    beside = {} if number is None else _beside(reader, call, number)
    before, after = beside.get((number or 0) - 1), beside.get((number or 0) + 1)
    return CallPage(
        row=call_row(call),
        turn=turn_row(call, turn.messages, key, voice_turns([call]).get(call.call_id)),
        earlier=plain_messages(reversed(messages[: turn.sent_before]), _MAX_CHARACTERS),
        earlier_in=None if turn.before is None else Neighbour(turn.before.call_id, _number(reader, turn.before)),
        results=_results(reader, call, after),
        runs=_runs(reader, call),
        instructions=known.get(key or ""),
        number=number,
        of=None if number is None else reader.count_calls(_calls_of_session(call)),
        before=before,
        after=after,
        record=_without_bodies(call),
        params=call.request.params,
        continues=call.request.continues or call.request.conversation_id,
        missing=history.missing,
        rewards=[msgspec.to_builtins(one) for one in reader.rewards(call)],
        exact_cost=exact(call.cost.usd if call.cost else None),
        request_bytes=len(bytes(call.request.body)) or None,
        response_bytes=(len(bytes(call.response.body)) or None) if call.response else None,
    )


def bodies(view: View) -> Bodies:
    """Return the complete bodies of call `id` as text. Raises LookupError if there is no such call."""
    call = _call(view)
    response = bytes(call.response.body) if call.response else b""
    return Bodies(_text(bytes(call.request.body)), _text(response))


def _text(body: bytes) -> str | None:
    return body.decode("utf-8", "replace") if body else None


def _call(view: View) -> CallRecord:
    call = view.reader.call(view.required("id"))
    if call is None:
        raise LookupError("There is no such call: it was erased, or its id is another one.")
    return call


def _whole(call: CallRecord, history: History) -> CallRecord:
    return msgspec.structs.replace(call, conversation=whole_conversation(call, history))


def _turn(reader: Reader, call: CallRecord) -> NewMessages:
    turns = ConversationReader()
    if call.place.session_id is not None:
        before = CallFilter(session_id=call.place.session_id, until_ns=call.timing.start_ns, limit=_MAX_BEFORE)
        for one in reversed(list(reader.calls(before))):
            turns.add(_whole(one, reader.history(one)), is_whole=True)
    return turns.add(call, is_whole=True)


def _requested_tools(call: CallRecord) -> set[str | None]:
    return {one.id for one in call.tool_calls or ()} - {None}


def _results(reader: Reader, call: CallRecord, following: Neighbour | None) -> list[dict[str, object]]:
    requested = _requested_tools(call)
    later = None if following is None or not requested else reader.call(following.id)
    return [] if later is None else plain_messages(messages_with(spoken(later), requested), _MAX_CHARACTERS)


def _runs(reader: Reader, call: CallRecord) -> list[EntryRow]:
    """Return the runs of the tools requested by a call, from the events after it."""
    requested, session_id = _requested_tools(call), call.place.session_id
    if not requested or session_id is None:
        return []
    later = islice(reader.events(session_id, since_ns=call.timing.start_ns), _MAX_FOLLOWING)
    return [event_row(one) for one in later if isinstance(one, EventRecord) and one.tool_call_id in requested]


def _calls_of_session(call: CallRecord) -> CallFilter:
    return CallFilter(session_id=call.place.session_id, content="none", newest_first=False)


def _number(reader: Reader, call: CallRecord) -> int:
    """Return the position of a call in its session, from 1."""
    every, start = _calls_of_session(call), call.timing.start_ns
    same = reader.calls(msgspec.structs.replace(every, since_ns=start, until_ns=start + 1))
    place = next((number for number, one in enumerate(same, 1) if one.call_id == call.call_id), 1)
    return reader.count_calls(msgspec.structs.replace(every, until_ns=start)) + place


def _beside(reader: Reader, call: CallRecord, number: int) -> dict[int, Neighbour]:
    """Return the calls before and after a call in its session, by number."""
    first = max(1, number - 1)
    found = reader.calls(msgspec.structs.replace(_calls_of_session(call), offset=first - 1, limit=number + 2 - first))
    return {at: Neighbour(one.call_id, at) for at, one in enumerate(found, first)}


def _without_bodies(call: CallRecord) -> dict[str, object]:
    slim = msgspec.structs.replace(call, conversation=None)
    found: dict[str, object] = msgspec.json.decode(encode_json(slim))
    for name in ("request", "response"):
        part = found.get(name)
        if isinstance(part, dict):
            part.pop("body", None)
    return found
