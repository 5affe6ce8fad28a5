"""Selected: a reader of the calls that a report is about, and unless it is to have all, of the beginnings of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from callspan.formatting import shown
from callspan.record.call import CallRecord, ErrorInfo
from callspan.record.codec import encode_json
from callspan.record.events import EventRecord, MessageRecord, RewardRecord, SessionRecord
from callspan.record.messages import Conversation, Message, Text, short_texts
from callspan.stores.base import Event, SessionSummary, Stored, StoredKind, Summary
from callspan.stores.filters import CallFilter, SessionFilter, of_calls
from callspan.stores.reader import Reader

_NAME: Final = 80
"""Characters of a name."""
_ERROR: Final = 200
"""Characters of the message of a call's error."""
_WITHOUT_TEXTS: Final = frozenset({"courses", "reward_curves", "step_positions", "timesteps"})
"""What is read as it is; of timesteps the page has the names, times, outcomes and rewards alone."""
_PLACE: Final = ("session_id", "timestep_id", "time_ns")
_KEPT: Final[dict[type[object], tuple[Sequence[str], Sequence[str]]]] = {
    SessionRecord: (
        ("session_id", "seen_ns", "start_ns", "end_ns", "success", "content_level"),
        ("name", "group_id", "task_id", "experiment", "user_id", "outcome"),
    ),
    EventRecord: (
        ("event_id", *_PLACE, "duration_ns", "tool_call_id", "reward", "terminated", "truncated"),
        ("event_type",),
    ),
    MessageRecord: (("message_id", *_PLACE), ("message_type",)),
    RewardRecord: (("reward_id", "call_id", *_PLACE, "value", "scope"), ("objective", "label", "source")),
}
"""What is kept of a record without its requests: fields as they are, and fields of which the beginning is."""
_Record = TypeVar("_Record", SessionRecord, EventRecord, MessageRecord, RewardRecord)
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

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of a method of a reader
        """Return the store's own method. Raises AttributeError: what is not named here is not for a report."""
        if name not in _WITHOUT_TEXTS:
            raise AttributeError(name)
        return getattr(self._reader, name)

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
    session = _kept(summary.session, metadata=_metadata(summary.session.metadata, most or _NAME))
    return msgspec.structs.replace(summary, session=session)


def _kept(record: _Record, **given: Any) -> _Record:  # noqa: ANN401 - fields of the record
    """Return a record with what is kept of it, the beginnings of its names, and the given fields; nothing else."""
    kept, names = _KEPT[type(record)]
    fields: dict[str, Any] = {name: getattr(record, name) for name in kept}
    fields |= {name: _name(getattr(record, name)) for name in names}
    return type(record)(**fields, **given)


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
            return _kept(
                item,
                name=_name(item.name) if most else None,
                data=_data(item, most),
                error=_error(item.error, most),
                metadata={"triggered": True} if is_triggered else {},
            )
        case MessageRecord():
            sender, receiver = (_name(item.sender), _name(item.receiver)) if most else (None, None)
            return _kept(item, sender=sender, receiver=receiver, content=_brief(item.content, most))
    return _kept(item)


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
