"""References: what an argument `call=` names, and the ids of other records that are given as objects.

A call is named by the SDK's response (also raw, or a stream), by its tool call, by a record, or by an id as text.
Anything else is misuse: it is logged without its text, and kept nowhere.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple, cast
from uuid import UUID

from callspan.agent.arguments import MAX_ENTRIES, as_text
from callspan.agent.call_ids import call_id, call_of
from callspan.agent.misuse import UsageError, report_misuse
from callspan.agent.tool_requests import Answer
from callspan.agent.tree import Node, current_scope
from callspan.fail_open import value_of
from callspan.record.call import CallRecord
from callspan.record.events import (
    EventRecord,
    MessageRecord,
    Record,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    record_key,
)
from callspan.record.messages import ToolCall

MAX_ID_LENGTH: Final = 200
_TOOL_CALL_PATHS: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "id": (("call_id",), ("id",)),
    "name": (("name",), ("function", "name"), ("custom", "name")),
    "arguments": (
        ("arguments",), ("input",), ("action",), ("actions",), ("operation",), ("function", "arguments"),
        ("custom", "input"),
    ),
}  # fmt: skip
"""Paths of the fields of a provider's tool call: Responses items, Anthropic blocks, chat tool calls."""
_TOOL_TYPES: Final = ("call", "tool_use")
"""Endings of the types of tool calls without a name."""


class Reference(NamedTuple):
    """What an argument names."""

    call_id: str | None = None
    """The call: callspan's id if this process knows it, else the id as given."""
    tool_call: object = None
    """The model's tool call, if the argument is one."""
    requests: Sequence[ToolCall] = ()
    """The tool calls of the answer, if the argument is a known call."""
    text: str | None = None
    """The id, if the argument is text: that of a call or of a tool call."""

    @property
    def tool_call_id(self) -> str | None:
        """The id of the tool call, if the argument is one."""
        return id_text(tool_call_field(self.tool_call, "id"))

    @property
    def requested(self) -> object:
        """The tool call, or the only one of the answer."""
        return self.requests[0] if len(self.requests) == 1 else self.tool_call


NOTHING: Final = Reference()


def reference(of: object, what: str = "a call") -> Reference:
    """Return what `of` names; nothing for None. Anything that names no call and no tool call is misuse.

    Raises:
        UsageError: Misuse; the message has the type of the argument, not its text.
    """
    if of is None:
        return NOTHING
    call_reference = _named(of)
    if call_reference is None:
        raise UsageError(
            f"{what} is named by the SDK's response, its tool call, a record, or an id as text, not by {_kind(of)}"
        )
    return call_reference


def reference_or_none(of: object, what: str = "a call") -> Reference:
    """Return the same; after misuse, nothing."""
    try:
        return reference(of, what)
    except UsageError as error:
        report_misuse(error)
        return NOTHING


def _named(of: object) -> Reference | None:
    if isinstance(of, str | int | UUID):
        text = id_text(of)
        return None if text is None else Reference(call_of(text) or text, text=text)
    if isinstance(of, CallRecord):
        return Reference(of.call_id, requests=of.tool_calls or ())
    if isinstance(of, EventRecord | MessageRecord | RewardRecord):
        return _of_record(of)
    if isinstance(of, Node | SessionRecord | TimestepRecord):
        return None
    if isinstance(of, ToolCall) or (call := call_id(of)) is None:
        return _of_object(of)
    return Reference(
        call,
        requests=[
            tool_call
            for answer in _answers(current_scope())
            if answer.call_id == call
            for tool_call in answer.tool_calls()
        ],
    )


def _of_record(record: EventRecord | MessageRecord | RewardRecord) -> Reference | None:
    identity = record.tool_call_id if isinstance(record, EventRecord) else None
    call = record.call_id or (None if identity is None else requesting_call(identity, current_scope()))
    tool_call = None if identity is None else {"id": identity}
    return None if call is None and tool_call is None else Reference(call, tool_call=tool_call)


def _of_object(of: object) -> Reference | None:
    """Return what an object of an SDK, or such a dict, names that is no response of a known call."""
    stated = tool_call_field(of, "id")
    identity = id_text(stated) if isinstance(stated, str | UUID) else None
    if identity is None:
        return None
    kind = _member(of, "type")
    if isinstance(tool_call_field(of, "name"), str) or (isinstance(kind, str) and kind.endswith(_TOOL_TYPES)):
        return Reference(requesting_call(identity, current_scope()), tool_call=of)
    return Reference(call_of(identity) or identity)


def requesting_call(tool_call_id: str, scope: Node | None) -> str | None:
    """Return the id of the call whose answer has this tool call, of the latest answers in a scope and around it."""
    return next(
        (
            answer.call_id
            for answer in _answers(scope)
            for tool_call in answer.tool_calls()
            if tool_call.id == tool_call_id
        ),
        None,
    )


def _answers(scope: Node | None) -> Iterable[Answer]:
    """Return the latest answers in a scope and around it, each of which may be in several."""
    answers = dict[str, Answer]()
    while scope is not None:
        for answer in scope.answers:
            answers.setdefault(answer.call_id, answer)
        scope = scope.above
    return answers.values()


def tool_call_field(call: object, field: str) -> object:
    """Return the `id`, `name` or `arguments` of a provider's tool call (an object or dict), or None."""
    for path in () if call is None else _TOOL_CALL_PATHS[field]:
        value = functools.reduce(_member, path, call)
        if value is not None:
            return value
    return None


def _member(value: object, name: str) -> object:
    if value is None or isinstance(value, str):
        return None
    read: Any = value.get if isinstance(value, Mapping) else partial(getattr, value)
    return value_of(partial(read, name, None))


def id_text(value: object) -> str | None:
    """Return an id as text; None if it cannot be one: no text, integer or UUID, blank, of several lines, too long."""
    if isinstance(value, bool) or not isinstance(value, str | int | UUID):
        return None
    text = as_text(value)
    is_id = text is not None and text.strip() and len(text) <= MAX_ID_LENGTH and "\n" not in text
    return text if is_id else None


def record_id(of: object) -> str | None:
    """Return the id of a session, timestep or record, as text or as the object itself; None for None and misuse."""
    if isinstance(of, Node):
        return of.id
    if isinstance(of, Record):
        return str(record_key(of)[-1])
    return as_text(of)


def record_ids(of: object) -> tuple[list[str], bool]:
    """Return the ids of the first `MAX_ENTRIES` of several records, and whether there are more.

    A single one may be given itself.
    """
    is_one = isinstance(of, str | Node | Record)
    items = [of] if is_one else value_of(lambda: list(islice(cast("Iterable[object]", of), MAX_ENTRIES + 1))) or []
    ids = [identity for item in items[:MAX_ENTRIES] if (identity := record_id(item)) is not None]
    return ids, len(items) > MAX_ENTRIES


def _kind(of: object) -> str:
    return "text that is no id" if isinstance(of, str) else f"a {type(of).__name__}"
