"""References: what an argument `call=` names, and the ids of other records that are given as objects.

A call is named by the SDK's response (also raw, or a stream), by its tool call, by a record, or by an id as text.
Anything else is misuse: it is logged without its text, and kept nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple, cast
from uuid import UUID

from callspan.agent.arguments import MAX_ENTRIES, as_text
from callspan.agent.call_ids import NEWEST, call_behind, call_of, kind_of
from callspan.agent.misuse import UnknownCallError, UsageError, report_misuse
from callspan.agent.sdk_objects import id_text, providers_id, tool_call_field, tool_call_in
from callspan.agent.tool_requests import Answer, requested_once, requests_of
from callspan.agent.tree import Node, current_scope
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
from callspan.record.messages import ToolCall, parse_arguments
from callspan.record.plain_json import plain
from callspan.runtime.fail_open import value_of


class Reference(NamedTuple):
    """What an argument names."""

    call_id: str | None = None
    """The call: callspan's id if this process knows it, else the id as given."""
    tool_call: object = None
    """The model's tool call, if the argument is one."""
    requests: Sequence[ToolCall] = ()
    """The tool calls of the answer, if the argument is a known call."""
    text: str | None = None
    """The id of a call or of a tool call, if the argument is text."""

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
        raise UnknownCallError(
            f"{what} is named by the SDK's response, its tool call, a record, or an id as text, not by {kind_of(of)}"
            f" ({NEWEST})"
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
    if isinstance(of, ToolCall) or (call := call_behind(of)) is None:
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
    """Return what an SDK's object, or a dict like one, names if it is no response of a known call."""
    tool_call = tool_call_in(of)
    if tool_call is not None:
        return Reference(_requester(tool_call), tool_call=tool_call)
    identity = providers_id(of)
    return None if identity is None else Reference(identity)


def _requester(tool_call: object) -> str | None:
    """Return the id of the call that made a tool call. Self-hosted servers may give tool calls no ids."""
    identity, scope = id_text(tool_call_field(tool_call, "id")), current_scope()
    if identity is not None:
        return requesting_call(identity, scope)
    name, arguments = tool_call_field(tool_call, "name"), parse_arguments(tool_call_field(tool_call, "arguments"))
    request = requested_once(requests_of(_answers(scope), name, plain(arguments)))
    return None if request is None else request.answer.call_id


def requesting_call(tool_call_id: str, scope: Node | None) -> str | None:
    """Return the id of the call that made this tool call, by the latest answers in a scope and around it."""
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
    """Return the latest answers in a scope and around it, each once."""
    answers = dict[str, Answer]()
    while scope is not None:
        for answer in scope.latest_answers():
            answers.setdefault(answer.call_id, answer)
        scope = scope.above
    return answers.values()


def record_id(of: object) -> str | None:
    """Return the id of a session, timestep or record, as text or as the object itself; None for None and misuse."""
    if isinstance(of, Node):
        return of.id
    if isinstance(of, Record):
        return str(record_key(of)[-1])
    return as_text(of)


def record_ids(of: object) -> tuple[list[str], bool]:
    """Return the ids of the first `MAX_ENTRIES` of several records, and whether there are more.

    A single record need not be in a list.
    """
    is_one = isinstance(of, str | Node | Record)
    items = [of] if is_one else value_of(lambda: list(islice(cast("Iterable[object]", of), MAX_ENTRIES + 1))) or []
    ids = [identity for item in items[:MAX_ENTRIES] if (identity := record_id(item)) is not None]
    return ids, len(items) > MAX_ENTRIES
