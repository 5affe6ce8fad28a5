"""Call: one call with its new messages, then earlier ones, times, tokens, cost and exact bodies."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

import msgspec

from callspan.comparison.diff import TextRun, text_changes
from callspan.formatting import exact
from callspan.records import CallRecord, EventRecord, Message, ToolCall, ToolResult, encode_json
from callspan.stores import (
    CallFilter,
    ConversationReader,
    History,
    Reader,
    voice_turns,
    whole_conversation,
)
from callspan.view.calls import call_row
from callspan.view.session import EntryRow, TurnRow, event_row, instructions_key, turn_row
from callspan.view.source import PageRequest, Row
from callspan.view.turns import plain_messages

_MAX_BEFORE: Final = 20
"""Maximum number of earlier calls of the session to compare messages with."""
_MAX_AFTER: Final = 20
"""Maximum number of later calls of the session that are searched for results of its tools."""
_MAX_FOLLOWING: Final = 500
"""Number of entries after the call that are searched for runs of its tools."""
_MAX_CHARACTERS: Final = 500_000
_MAX_AROUND: Final = 10_000
"""Characters on each side of the place that broke the prefix of the prompt cache."""


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
    """Messages of later calls with results of tools requested by this one."""
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


class CacheDifference(msgspec.Struct):
    """The first difference of a request and the one before it, as the prompt cache compares them."""

    place: str | None
    previous: str | None
    """The id of the call before it."""
    changes: list[TextRun]


class Bodies(msgspec.Struct):
    """The exact bodies; None if not kept."""

    request: str | None
    response: str | None


def page(request: PageRequest) -> CallPage:
    """Return call `id`. Raises LookupError if it does not exist."""
    reader, call = request.reader, request.call(request.required("id"))
    instructions_by_key: dict[str, dict[str, object]] = {}
    history = reader.history(call)
    full_call = _with_full_conversation(call, history)
    turns = _turns_before(reader, call)
    turn = turns.add(full_call, is_whole=True)
    asked = [part for answer in turn.answers for part in answer.tool_calls]
    key = instructions_key(full_call, instructions_by_key)
    number = None if call.place.session_id is None else _number(reader, call)
    neighbours = {} if number is None else _neighbours(reader, call, number)
    before, after = neighbours.get((number or 0) - 1), neighbours.get((number or 0) + 1)
    return CallPage(
        row=call_row(call),
        turn=turn_row(turn, key, voice_turns([call]).get(call.call_id)),
        earlier=plain_messages(reversed(turn.repeated), _MAX_CHARACTERS),
        earlier_in=None if turn.before is None else Neighbour(turn.before.call_id, _number(reader, turn.before)),
        runs=_runs(reader, call, turns, asked),
        results=plain_messages(_results(reader, call, turns, asked), _MAX_CHARACTERS),
        instructions=instructions_by_key.get(key or ""),
        number=number,
        of=None if number is None else reader.count_calls(_calls_of_session(call)),
        before=before,
        after=after,
        record=_without_bodies(call),
        params=call.request.params,
        continues=call.request.continues or call.request.conversation_id,
        missing=history.missing,
        rewards=[msgspec.to_builtins(reward) for reward in reader.rewards(call)],
        exact_cost=exact(call.cost.usd if call.cost else None),
        request_bytes=len(bytes(call.request.body)) or None,
        response_bytes=(len(bytes(call.response.body)) or None) if call.response else None,
    )


def bodies(request: PageRequest) -> Bodies:
    """Return the complete bodies of call `id` as text. Raises LookupError if there is no such call."""
    call = request.call(request.required("id"))
    response = bytes(call.response.body) if call.response else b""
    return Bodies(_text(bytes(call.request.body)), _text(response))


def cache_difference(request: PageRequest) -> CacheDifference:
    """Return what broke the prompt cache's prefix at call `id`. Raises LookupError if there is no such call."""
    selection = CallFilter(ids=(request.call(request.required("id")).call_id,))
    use = next(request.reader.prompt_cache(selection, request.access.price, around=_MAX_AROUND))
    return CacheDifference(use.place, use.previous_call_id, text_changes(use.before or "", use.after or ""))


def _text(body: bytes) -> str | None:
    return body.decode("utf-8", "replace") if body else None


def _with_full_conversation(call: CallRecord, history: History) -> CallRecord:
    return msgspec.structs.replace(call, conversation=whole_conversation(call, history))


def _turns_before(reader: Reader, call: CallRecord) -> ConversationReader:
    turns = ConversationReader()
    if call.place.session_id is not None:
        selection = CallFilter(session_id=call.place.session_id, until_ns=call.timing.start_ns, limit=_MAX_BEFORE)
        for earlier_call in reversed(list(reader.calls(selection))):
            turns.add(_with_full_conversation(earlier_call, reader.history(earlier_call)), is_whole=True)
    return turns


def _results(reader: Reader, call: CallRecord, turns: ConversationReader, asked: Sequence[ToolCall]) -> list[Message]:
    """Return the messages of the calls after a call with the results of its tool calls."""
    waiting, messages = {part.id for part in asked if part.is_of_application}, list[Message]()
    following = msgspec.structs.replace(
        _calls_of_session(call), since_ns=call.timing.start_ns + 1, limit=_MAX_AFTER, content="all"
    )
    for next_call in reader.calls(following) if waiting and call.place.session_id is not None else ():
        full_call = _with_full_conversation(next_call, reader.history(next_call))
        for message in turns.add(full_call, is_whole=True).messages:
            if results := waiting & {part.id for part in message.parts if isinstance(part, ToolResult)}:
                waiting -= results
                messages.append(message)
        if not waiting:
            break
    return messages


def _runs(reader: Reader, call: CallRecord, turns: ConversationReader, asked: Sequence[ToolCall]) -> list[EntryRow]:
    """Return the runs of the tools requested by a call, from the events after it."""
    session_id = call.place.session_id
    if not asked or session_id is None:
        return []
    events = islice(reader.events(session_id, since_ns=call.timing.start_ns), _MAX_FOLLOWING)
    rows = [event_row(event, turns) for event in events if isinstance(event, EventRecord)]
    idents = {part.id for part in asked}
    return [row for row in rows if row.record is not None and row.record.get("tool_call_id") in idents]


def _calls_of_session(call: CallRecord) -> CallFilter:
    return CallFilter(session_id=call.place.session_id, content="none", newest_first=False)


def _number(reader: Reader, call: CallRecord) -> int:
    """Return the position of a call in its session, from 1."""
    session_calls, start = _calls_of_session(call), call.timing.start_ns
    simultaneous = reader.calls(msgspec.structs.replace(session_calls, since_ns=start, until_ns=start + 1))
    position = next(
        (number for number, candidate in enumerate(simultaneous, 1) if candidate.call_id == call.call_id), 1
    )
    return reader.count_calls(msgspec.structs.replace(session_calls, until_ns=start)) + position


def _neighbours(reader: Reader, call: CallRecord, number: int) -> dict[int, Neighbour]:
    """Return the calls before and after a call in its session, by number."""
    first_number = max(1, number - 1)
    calls = reader.calls(
        msgspec.structs.replace(_calls_of_session(call), offset=first_number - 1, limit=number + 2 - first_number)
    )
    return {position: Neighbour(neighbour.call_id, position) for position, neighbour in enumerate(calls, first_number)}


def _without_bodies(call: CallRecord) -> dict[str, object]:
    without_conversation = msgspec.structs.replace(call, conversation=None)
    fields: dict[str, object] = msgspec.json.decode(encode_json(without_conversation))
    for name in ("request", "response"):
        part = fields.get(name)
        if isinstance(part, dict):
            part.pop("body", None)
    return fields
