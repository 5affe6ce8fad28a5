"""History: the recorded calls that a call continues at the provider, and the messages of the whole conversation.

A call names the response that it continues (`request.continues`) or its conversation (`request.conversation_id`). The
provider prepends the earlier messages, so the request has only the last ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from callspan.record.call import CallRecord
from callspan.record.messages import Conversation, Message
from callspan.stores.base import History
from callspan.stores.query.filters import CallFilter

if TYPE_CHECKING:
    from callspan.stores.query.reader import Reader

KEEPS_INSTRUCTIONS: Final = frozenset({"messages"})
"""APIs that also keep the system prompt and tools of the first request. Others need them in each request."""


def follow(reader: Reader, call: CallRecord, limit: int) -> History:
    """Return the recorded calls before a call, at most `limit`. A cycle of links ends the search."""
    newest_first: list[CallRecord] = []
    visited_ids = {call.call_id}
    current = call
    while current.request.continues is not None:
        previous = _continued(reader, current, current.request.continues)
        if previous is None:
            return History(newest_first[::-1], missing=current.request.continues)
        if previous.call_id in visited_ids:
            return History(newest_first[::-1])
        if len(newest_first) >= limit:
            return History(newest_first[::-1], more=True)
        visited_ids.add(previous.call_id)
        newest_first.append(previous)
        current = previous
    conversation = current.request.conversation_id
    if conversation is None:
        return History(newest_first[::-1])
    remaining = limit - len(newest_first)
    # Failed calls added nothing to the conversation.
    selection = CallFilter(
        conversation_id=conversation, until_ns=current.timing.start_ns, errors=False, limit=remaining + 1
    )
    candidates = [candidate for candidate in reader.calls(selection) if candidate.call_id not in visited_ids]
    return History([*candidates[:remaining][::-1], *newest_first[::-1]], more=len(candidates) > remaining)


def _continued(reader: Reader, call: CallRecord, response_id: str) -> CallRecord | None:
    """Return the call with the response that a call continues: the latest before it, because servers repeat ids."""
    selection = CallFilter(response_id=response_id, provider=call.provider, limit=1)
    earlier_selection = msgspec.structs.replace(selection, until_ns=call.timing.start_ns)
    return next(reader.calls(earlier_selection), None) or next(reader.calls(selection), None)


def whole_conversation(call: CallRecord, history: History) -> Conversation:
    """Return the messages of the earlier calls, then the call's own."""
    conversation = call.conversation or Conversation()
    earlier_messages: list[Message] = []
    for earlier_call in history.calls:
        if earlier_call.conversation is not None:
            earlier_messages += [*earlier_call.conversation.input, *earlier_call.conversation.output]
    if call.api in KEEPS_INSTRUCTIONS:
        conversation = _with_instructions(conversation, history.calls)
    return msgspec.structs.replace(conversation, input=[*earlier_messages, *conversation.input])


def _with_instructions(conversation: Conversation, earlier_calls: list[CallRecord]) -> Conversation:
    """Return the conversation with the system prompt and tools of the latest call that sent them."""
    for earlier_call in reversed(earlier_calls):
        earlier_conversation = earlier_call.conversation
        if earlier_conversation is not None:
            conversation = msgspec.structs.replace(
                conversation,
                system=conversation.system or earlier_conversation.system,
                tools=conversation.tools or earlier_conversation.tools,
            )
    return conversation
