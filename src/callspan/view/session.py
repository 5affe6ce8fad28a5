"""Session: one session with its steps, calls, tools, events, messages and rewards by time, in pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import Final, TypeAlias

import msgspec

from callspan.formatting import exact
from callspan.records import (
    CallRecord,
    EventRecord,
    MessageRecord,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Tree,
    links_of,
    tool_name,
)
from callspan.stores import (
    CallFilter,
    ConversationReader,
    Entry,
    Event,
    NewMessages,
    Reader,
    SessionSummary,
    StepSums,
    VoiceTurn,
    duration_of,
    instructions,
    is_voice,
    start_of,
    timestep_facts,
    voice_turns,
)
from callspan.view.calls import call_row
from callspan.view.sessions import session_rows, thinned
from callspan.view.source import PageRequest, Row
from callspan.view.turns import plain, plain_messages

Instructions: TypeAlias = dict[str, dict[str, object]]
"""Instructions and tools of requests, by a key."""
_ROWS: Final = 1_000
_MAX_CHARACTERS: Final = 20_000
"""Maximum number of characters of each text. The page of the call shows more."""
_MAX_POINTS: Final = 600
_MAX_NEAR: Final = 20
"""Sessions before, and after, one that are searched for turns of its chat."""
_MAX_STEPS: Final = 2_000
"""In a session with more steps, only the steps of the page are read."""


_NO_CALLS: Final = StepSums(calls=0, errors=0)


class TurnRow(msgspec.Struct):
    """The messages that a call adds to the conversation."""

    new: list[dict[str, object]]
    """Messages of its request that no earlier call has sent or returned."""
    answer: list[dict[str, object]]
    instructions: str | None
    """Key of its instructions and tools, or None."""
    sent: int | None
    """Number of messages in its request."""
    sent_bytes: int | None
    error: str | None
    kept: str
    """The recorded content level: `full`, `metadata`, `off`."""
    redactions: list[dict[str, object]]
    voice: VoiceTurn | None = None


class CacheBreak(msgspec.Struct):
    """Why a call read less from the prompt cache than the call before it had left there."""

    cause: str
    lost_tokens: int | None
    lost_usd: str | None
    lost_usd_estimated: bool


class EntryRow(msgspec.Struct):
    """Something that happened in the session."""

    id: str
    kind: str
    """`call`, `message`, `reward`, or the type of an event."""
    timestep_id: str | None
    start_ns: int
    duration_ns: int | None
    call: Row | None = None
    turn: TurnRow | None = None
    cache: CacheBreak | msgspec.UnsetType = msgspec.UNSET
    """Why the call read too little from the prompt cache; absent if it did not."""
    record: dict[str, object] | None = None
    """The record, except for calls. Of a tool it has the id that its tool call has in the messages of the page."""
    parent: str | None = None
    """The id of the entry or timestep that it is below, of this page or an earlier one; None for the session."""


class SessionPage(msgspec.Struct):
    """A page of a session. Only the first one has data of the whole session."""

    rows: list[EntryRow]
    steps: list[Row]
    instructions: Instructions
    """By key: `parts` and `tools`."""
    next: str | None
    is_voice: bool
    """Whether it has a call of a speech session."""
    session: Row | None = None
    record: dict[str, object] | None = None
    curve: list[float] = []
    """The cumulative reward; with more than `_MAX_POINTS` rewards, minimum and maximum of each part."""


def page(request: PageRequest) -> SessionPage:
    """Return the first entries of session `id`, or those from a time on (`after`, Unix nanoseconds).

    Only the first page has the data of the whole session. Raises LookupError if there is no such session.
    """
    session_id, since_ns = request.required("id"), request.after()
    if since_ns:
        return _part(request, session_id, since_ns, has_all_steps=False)
    return _first(request, request.session(session_id))


class Turns(msgspec.Struct):
    """The sessions of the same chat around one that is a turn of it."""

    before: str | None
    after: list[str]


def turns(request: PageRequest) -> Turns:
    """Return which turns of a chat are before and after session `id`. Raises LookupError if there is no such session.

    Searched are the sessions with its name that began right before and after it.
    """
    reader, session = request.reader, request.session(request.required("id")).session
    session_id, start_ns = session.session_id, session.start_ns or 0
    named = CallFilter(name=session.name, limit=_MAX_NEAR)
    before = msgspec.structs.replace(named, until_ns=start_ns)
    after = msgspec.structs.replace(named, since_ns=start_ns + 1, newest_first=False)
    near = [ident for selection in (before, after) for ident in reader.listed_session_ids(selection)]
    openings = reader.openings([session_id, *near])
    following = [ident for ident in near if ident in openings and openings[ident].continues == session_id]
    return Turns(openings[session_id].continues if session_id in openings else None, following)


def _first(request: PageRequest, summary: SessionSummary) -> SessionPage:
    """Return the first page, with the data of the whole session."""
    reader, session_id = request.reader, summary.session.session_id
    first_page = _part(request, session_id, 0, has_all_steps=summary.timesteps <= _MAX_STEPS)
    curves = reader.reward_curves([session_id])
    first_page.session = session_rows(reader, [summary], curves)[0]
    first_page.record = _plain_session(summary.session)
    first_page.curve = thinned([value for _, value in curves.get(session_id, [])], _MAX_POINTS)
    return first_page


def _part(request: PageRequest, session_id: str, since_ns: int, *, has_all_steps: bool) -> SessionPage:
    """Return the entries from a time on, with their steps; `has_all_steps`: with all steps."""
    reader = request.reader
    items, next_start = _entries(reader, session_id, since_ns)
    instructions_by_key: Instructions = {}
    rows = _rows(items, _turns_before(reader, session_id, since_ns), instructions_by_key)
    parents = _parents(reader, session_id, since_ns, items)
    breaks = _cache_breaks(request, session_id, items)
    for row in rows:
        row.parent, row.cache = parents[row.id], breaks.get(row.id, msgspec.UNSET)
    steps = _steps(reader, session_id, rows, parents, has_all_steps=has_all_steps)
    return SessionPage(rows, steps, instructions_by_key, next_start, any(map(is_voice, items)))


def _cache_breaks(request: PageRequest, session_id: str, items: Sequence[Entry]) -> dict[str, CacheBreak]:
    """Return why calls among the entries of a page read too little from the prompt cache, by the call's id."""
    starts = [start_of(item) for item in items if isinstance(item, CallRecord)]
    if not starts:
        return {}
    selection = CallFilter(session_id=session_id, since_ns=starts[0], until_ns=starts[-1] + 1)
    return {
        use.call_id: CacheBreak(use.cause, use.lost_tokens, exact(use.lost_usd), use.lost_usd_estimated)
        for use in request.reader.prompt_cache(selection, request.access.price)
        if use.lost_tokens or use.place is not None
    }


def _parents(reader: Reader, session_id: str, since_ns: int, items: Sequence[Entry]) -> dict[str, str | None]:
    """Return the parent ids of the timesteps, the entries of a page and the entries before it, by id."""
    links = [*reader.tree_links(session_id, since_ns), *map(links_of, items)]
    tree = Tree(links)
    return {link.ident: tree.parent_id(number) for number, link in enumerate(links)}


def _entries(reader: Reader, session_id: str, since_ns: int) -> tuple[list[Entry], str | None]:
    """Return the entries of a page, including all that started with the last one, and the start of the next page."""
    entries = reader.entries(session_id, since_ns=since_ns or None)
    items = list(islice(entries, _ROWS))
    for item in entries:
        if start_of(item) > start_of(items[-1]):
            return items, str(start_of(item))
        items.append(item)
    return items, None


def _turns_before(reader: Reader, session_id: str, since_ns: int) -> ConversationReader:
    turns = ConversationReader()
    selection = CallFilter(session_id=session_id, until_ns=since_ns, limit=2)
    for call in reversed(list(reader.calls(selection))):
        turns.add(call)
    return turns


def _rows(items: Sequence[Entry], turns: ConversationReader, instructions_by_key: Instructions) -> list[EntryRow]:
    voice = voice_turns(items)
    return [
        call_entry(item, turns, instructions_by_key, voice.get(item.call_id))
        if isinstance(item, CallRecord)
        else event_row(item, turns)
        for item in items
    ]


def call_entry(
    call: CallRecord, turns: ConversationReader, instructions_by_key: Instructions, voice: VoiceTurn | None = None
) -> EntryRow:
    """Return the row of the next call; its instructions are added to the known ones."""
    new = turns.add(call)
    return EntryRow(
        id=call.call_id,
        kind="call",
        timestep_id=call.place.timestep_id,
        start_ns=call.timing.start_ns,
        duration_ns=call.timing.duration_ns,
        call=call_row(call),
        turn=turn_row(new, instructions_key(call, instructions_by_key), voice),
    )


def turn_row(turn: NewMessages, instructions_id: str | None, voice: VoiceTurn | None) -> TurnRow:
    """Return the row of a call, without the messages that other turns of a voice session show."""
    call, shown = turn.call, [] if voice is None else voice.shown
    return TurnRow(
        new=plain_messages([message for message in turn.messages if message not in shown], _MAX_CHARACTERS),
        answer=plain_messages(turn.answers, _MAX_CHARACTERS),
        instructions=instructions_id,
        sent=call.request.message_count,
        sent_bytes=call.request.body_bytes,
        error=call.error.message or call.error.type if call.error else None,
        kept=call.content_level,
        redactions=[msgspec.to_builtins(redaction) for redaction in call.redactions],
        voice=None if voice is None else msgspec.structs.replace(voice, shown=[]),
    )


def instructions_key(call: CallRecord, instructions_by_key: Instructions) -> str | None:
    """Return the key of a call's instructions and tools, which are added to the known ones; None without any."""
    parts = [*map(plain, instructions(call))]
    tools = call.conversation.tools if call.conversation is not None else []
    if not parts and not tools:
        return None
    key = sha256(msgspec.json.encode([parts, tools])).hexdigest()[:16]
    instructions_by_key.setdefault(key, {"parts": parts, "tools": [_tool(tool) for tool in tools]})
    return key


def _tool(tool: object) -> dict[str, object]:
    fields = tool if isinstance(tool, dict) else {}
    inner = fields.get("function", fields)
    text = inner.get("description") if isinstance(inner, dict) else None
    return {"name": tool_name(fields), "description": text, "definition": tool}


def event_row(item: Event, turns: ConversationReader) -> EntryRow:
    """Return the row of an event, message or reward after these calls."""
    kind = "message" if isinstance(item, MessageRecord) else "reward"
    kind = item.event_type if isinstance(item, EventRecord) else kind
    record = msgspec.to_builtins(item)
    if isinstance(item, EventRecord) and kind.startswith("tool") and (ident := turns.tool_call_of(item)) is not None:
        record["tool_call_id"] = ident
    return EntryRow(
        id=_id_of(item),
        kind=kind,
        timestep_id=item.timestep_id,
        start_ns=item.time_ns,
        duration_ns=duration_of(item),
        record=record,
    )


def _id_of(item: Event) -> str:
    match item:
        case EventRecord(event_id=ident) | MessageRecord(message_id=ident) | RewardRecord(reward_id=ident):
            return ident


def _steps(
    reader: Reader,
    session_id: str,
    rows: Sequence[EntryRow],
    parents: Mapping[str, str | None],
    *,
    has_all_steps: bool,
) -> list[Row]:
    """Return the timesteps around the entries of a page, or all; each names what it is below."""
    positions, sums = reader.step_positions([session_id]), reader.step_sums(session_id)
    if has_all_steps:
        steps: list[TimestepRecord] = list(reader.timesteps(session_id))
    else:
        steps = list(reader.stored(TimestepRecord, [*_steps_around(rows, positions, parents)]))
    positioned = [(positions.get(step.timestep_id, step.index), step) for step in steps]
    return [
        _step(step, position, sums.get(step.timestep_id, _NO_CALLS)) | {"parent": parents.get(step.timestep_id)}
        for position, step in sorted(positioned, key=lambda pair: pair[0])
    ]


def _steps_around(
    rows: Sequence[EntryRow], positions: Mapping[str, int], parents: Mapping[str, str | None]
) -> dict[str, None]:
    """Return the ids of the timesteps that are above entries in the tree."""
    step_ids, checked = dict[str, None](), set[str]()
    for row in rows:
        above = row.parent
        while above is not None and above not in checked:
            checked.add(above)
            if above in positions:
                step_ids[above] = None
            above = parents.get(above)
    return step_ids


def _step(step: TimestepRecord, position: int, sums: StepSums) -> Row:
    duration_ns = None if step.start_ns is None or step.end_ns is None else step.end_ns - step.start_ns
    return timestep_facts(step, "page") | {
        "timestep_position": position,
        "duration_ns": duration_ns,
        "reward": step.totals.reward if step.totals else None,
        "calls": sums.calls,
        "errors": sums.errors,
        "retries": sums.retries,
        "cost_usd": exact(sums.cost_usd),
        "context_tokens": sums.context_tokens,
    }


def _plain_session(session: SessionRecord) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(session)
    fields.pop("totals", None)
    return fields
