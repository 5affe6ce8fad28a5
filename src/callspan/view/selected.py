"""Selected: a reader of the calls that a report is about, and unless it is to have all, of the beginnings of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from callspan.formatting import shown
from callspan.record.call import CallRecord, ErrorInfo
from callspan.record.codec import encode_json
from callspan.record.events import EventRecord, MessageRecord, RewardRecord, SessionRecord, TimestepRecord
from callspan.record.messages import Conversation, Message, Text, short_texts
from callspan.stores.base import (
    CallFilter,
    Event,
    Reader,
    Run,
    SessionFilter,
    SessionSummary,
    Stored,
    StoredKind,
    Summary,
)
from callspan.stores.filters import of_calls

_NAME: Final = 80
"""Characters of a name."""
_ERROR: Final = 200
"""Characters of the message of a call's error."""
_EVERY: Final = CallFilter()
_TIMES: Final = {"since_ns": max, "until_ns": min}
"""Conditions of which the narrower one holds."""


class SelectedReader:
    """A `Reader` of the selected calls of a store and of their sessions; nothing else can be read by it.

    `most` is how many characters of each answer and event are read, and nothing of any request; None: everything.
    """

    def __init__(self, reader: Reader, which: CallFilter, most: int | None) -> None:
        self.name = reader.name
        self._reader = reader
        self._which = which
        self._most = most

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - it ends here
        """Raise AttributeError: what is not named here is not for a report."""
        raise AttributeError(name)

    def calls(self, which: CallFilter = _EVERY) -> Iterator[CallRecord]:
        """Yield the calls that are selected and fit the filter."""
        both = self._both(which)
        found = iter(()) if both is None else self._reader.calls(both)
        return found if self._most is None else (_call(one, self._most) for one in found)

    def _both(self, which: CallFilter) -> CallFilter | None:
        """Return the filter of calls that are selected and fit another one; None: there are none."""
        selected, given = _given(self._which), _given(which)
        if any(given.get(name, value) != value for name, value in selected.items() if name not in _TIMES):
            return None
        for name, choose in _TIMES.items():
            if name in selected and name in given:
                given[name] = choose(selected[name], given[name])
        if self._most is not None:
            given["content"] = "response" if self._most else "none"
        return msgspec.structs.replace(self._which, **given)

    def session(self, session_id: str) -> SessionSummary | None:
        """Return a session by its whole id."""
        found = self._reader.session(session_id)
        return found if found is None or self._most is None else _summary(found, self._most)

    def sessions(self, *, which: SessionFilter = _EVERY, **given: Any) -> Iterator[SessionSummary]:  # noqa: ANN401
        """Yield the selected sessions."""
        found = self._reader.sessions(which=which, **given)
        return found if self._most is None else (_summary(one, self._most) for one in found)

    def first_words(self, session_ids: Sequence[str]) -> Mapping[str, str]:
        """Return first words, where whole sessions are selected with their requests."""
        is_whole = self._most is None and of_calls(self._which) is None
        return self._reader.first_words(session_ids) if is_whole else {}

    def courses(self, session_ids: Sequence[str]) -> Mapping[str, Sequence[Run]]:
        """Return when the calls and tools of each of these sessions ran."""
        return self._reader.courses(session_ids)

    def reward_curves(self, session_ids: Sequence[str]) -> Mapping[str, Sequence[tuple[int, float]]]:
        """Return the reward so far of each of these sessions."""
        return self._reader.reward_curves(session_ids)

    def step_positions(self, session_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the position of each timestep of these sessions."""
        return self._reader.step_positions(session_ids)

    def timesteps(self, session_id: str) -> Iterator[TimestepRecord]:
        """Yield the timesteps of a session; the page has their names, times, outcomes and rewards alone."""
        return self._reader.timesteps(session_id)

    def stored(self, kind: StoredKind, ids: Sequence[str]) -> Iterator[Stored]:
        """Yield the timesteps with these ids."""
        return self._reader.stored(kind, ids) if kind == "timestep" else iter(())

    def events(self, session_id: str | None, *, since_ns: int | None = None) -> Iterator[Event]:
        """Yield what happened in a session."""
        found = self._reader.events(session_id, since_ns=since_ns)
        return found if self._most is None else (_event(one, self._most) for one in found)

    def summary(self, by: str | Sequence[str], which: CallFilter = _EVERY, **given: Any) -> Iterator[Summary]:  # noqa: ANN401
        """Yield sums over the selected calls."""
        both = self._both(which)
        return iter(()) if both is None else self._reader.summary(by, both, **given)


def _given(which: CallFilter) -> dict[str, Any]:
    """Return the conditions of a filter by their names."""
    return {
        name: value for name in CallFilter.__struct_fields__ if (value := getattr(which, name)) != getattr(_EVERY, name)
    }


def _call(call: CallRecord, most: int) -> CallRecord:
    outputs = call.conversation.output if call.conversation is not None and most else []
    text = shown(" ".join(piece for message in outputs for piece in short_texts(message)), most)
    kept = Conversation(output=[Message(role="assistant", parts=[Text(text=text)])] if text else [])
    return msgspec.structs.replace(call, conversation=kept, error=_error(call.error, _ERROR), metadata={})


def _error(error: ErrorInfo | None, most: int) -> ErrorInfo | None:
    if error is None:
        return None
    message = shown(error.message, most) if error.message and most else None
    return ErrorInfo(kind=shown(error.kind, _NAME), type=shown(error.type, _NAME), status=error.status, message=message)


def _summary(summary: SessionSummary, most: int) -> SessionSummary:
    one = summary.session
    session = SessionRecord(
        session_id=one.session_id,
        seen_ns=one.seen_ns,
        name=_name(one.name),
        group_id=_name(one.group_id),
        task_id=_name(one.task_id),
        experiment=_name(one.experiment),
        user_id=_name(one.user_id),
        start_ns=one.start_ns,
        end_ns=one.end_ns,
        outcome=_name(one.outcome),
        success=one.success,
        metadata=_metadata(one.metadata, most or _NAME),
        content_level=one.content_level,
    )
    return msgspec.structs.replace(summary, session=session)


def _name(text: str | None) -> str | None:
    return None if text is None else shown(text, _NAME)


def _metadata(metadata: dict[str, object], most: int) -> dict[str, object]:
    """Return the keys and values that fit, in order, as JSON in so many characters."""
    found: dict[str, object] = {}
    for key, value in metadata.items():
        longer = found | {key: value}
        if len(encode_json(longer)) > most:
            break
        found = longer
    return found


def _event(item: Event, most: int) -> Event:
    """Return an event with the beginnings of its texts and without its metadata, redactions and annotations."""
    match item:
        case EventRecord():
            is_triggered = item.metadata.get("triggered") is True
            return EventRecord(
                event_id=item.event_id,
                session_id=item.session_id,
                timestep_id=item.timestep_id,
                event_type=shown(item.event_type, _NAME),
                name=_name(item.name) if most else None,
                time_ns=item.time_ns,
                duration_ns=item.duration_ns,
                tool_call_id=item.tool_call_id,
                data=_data(item, most),
                reward=item.reward,
                terminated=item.terminated,
                truncated=item.truncated,
                error=_error(item.error, most),
                metadata={"triggered": True} if is_triggered else {},
            )
        case MessageRecord():
            return MessageRecord(
                message_id=item.message_id,
                session_id=item.session_id,
                timestep_id=item.timestep_id,
                message_type=shown(item.message_type, _NAME),
                sender=_name(item.sender) if most else None,
                receiver=_name(item.receiver) if most else None,
                time_ns=item.time_ns,
                content=_brief(item.content, most),
            )
    return RewardRecord(
        reward_id=item.reward_id,
        session_id=item.session_id,
        timestep_id=item.timestep_id,
        call_id=item.call_id,
        objective=shown(item.objective, _NAME),
        value=item.value,
        label=_name(item.label),
        scope=item.scope,
        source=_name(item.source),
        time_ns=item.time_ns,
    )


def _data(event: EventRecord, most: int) -> object:
    """Return the beginnings of a tool's arguments and result, of the state after an environment's, or of all of it."""
    data = event.data
    if data is None or not most:
        return None
    kept = ("arguments", "result") if event.event_type.startswith("tool") else ("after",)
    if not isinstance(data, dict) or not set(kept) & set(data):
        return _brief(data, most)
    return {key: _brief(data[key], most // len(kept)) for key in kept if key in data}


def _brief(value: object, most: int) -> str | None:
    if value is None or not most:
        return None
    text = value[: 2 * most] if isinstance(value, str) else encode_json(value)[: 4 * most].decode(errors="replace")
    return shown(text, most)
