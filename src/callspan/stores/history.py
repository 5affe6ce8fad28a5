"""History: the recorded calls that a call continues at the provider, and the messages of the whole conversation.

A call names the response that it continues (`request.continues`) or its conversation (`request.conversation_id`). The
provider puts what it has of them before the messages of the request, so the call's own messages are only the last ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from callspan.record.call import CallRecord
from callspan.record.messages import Conversation, Message
from callspan.stores.base import CallFilter, History, Reader

KEEPS_INSTRUCTIONS: Final = frozenset({"messages"})
"""APIs that keep the system prompt and tools of the first request too. Others take them from each request."""


class Links(NamedTuple):
    """Functions that find calls by their ids at the provider."""

    by_response: Callable[[str], CallRecord | None]
    """Returns the call that got the response of this id; None if there is none."""
    of_conversation: Callable[[CallRecord, int], Iterator[CallRecord]]
    """Yields the successful calls of a call's conversation that began before it, newest first, at most so many."""


def links(reader: Reader) -> Links:
    """Return the links of a store whose filters find ids by an index."""

    def by_response(response_id: str) -> CallRecord | None:
        return next(reader.calls(CallFilter(response_id=response_id, newest_first=False, limit=1)), None)

    def of_conversation(call: CallRecord, limit: int) -> Iterator[CallRecord]:
        return reader.calls(before_in_conversation(call, limit))

    return Links(by_response, of_conversation)


def before_in_conversation(call: CallRecord, limit: int | None = None) -> CallFilter:
    """Return the filter of the earlier successful calls of a call's conversation. Failed ones added nothing to it."""
    return CallFilter(
        conversation_id=call.request.conversation_id, until_ns=call.timing.start_ns, errors=False, limit=limit
    )


def follow(call: CallRecord, known: Links, limit: int) -> History:
    """Return the recorded calls before a call, at most `limit` of them. Ends where links lead back to a call."""
    newest_first: list[CallRecord] = []
    seen = {call.call_id}
    at = call
    while at.request.continues is not None:
        before = known.by_response(at.request.continues)
        if before is None:
            return History(newest_first[::-1], missing=at.request.continues)
        if before.call_id in seen:
            return History(newest_first[::-1])
        if len(newest_first) >= limit:
            return History(newest_first[::-1], more=True)
        seen.add(before.call_id)
        newest_first.append(before)
        at = before
    if at.request.conversation_id is None:
        return History(newest_first[::-1])
    left = limit - len(newest_first)
    found = [one for one in known.of_conversation(at, left + 1) if one.call_id not in seen]
    return History([*found[:left][::-1], *newest_first[::-1]], more=len(found) > left)


def whole_conversation(call: CallRecord, history: History) -> Conversation:
    """Return the messages of a call after those of the earlier calls, if there are any."""
    own = call.conversation or Conversation()
    before: list[Message] = []
    for one in history.calls:
        if one.conversation is not None:
            before += [*one.conversation.input, *one.conversation.output]
    if call.api in KEEPS_INSTRUCTIONS:
        own = _with_instructions(own, history.calls)
    return msgspec.structs.replace(own, input=[*before, *own.input])


def _with_instructions(own: Conversation, before: list[CallRecord]) -> Conversation:
    """Return the conversation with the system prompt and tools of the newest call that sent any."""
    for one in reversed(before):
        kept = one.conversation
        if kept is not None:
            own = msgspec.structs.replace(own, system=own.system or kept.system, tools=own.tools or kept.tools)
    return own
