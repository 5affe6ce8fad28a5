"""History: the recorded calls that a call continues at the provider, and the messages of the whole conversation.

A call names the response that it continues (`request.continues`) or its conversation (`request.conversation_id`). The
provider prepends their messages to those of the request, which therefore has only the last ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from callspan.record.call import CallRecord
from callspan.record.messages import Conversation, Message
from callspan.stores.base import History
from callspan.stores.filters import CallFilter

if TYPE_CHECKING:
    from callspan.stores.reader import Reader

KEEPS_INSTRUCTIONS: Final = frozenset({"messages"})
"""APIs that also keep the system prompt and tools of the first request. Others need them in each request."""


def follow(reader: Reader, call: CallRecord, limit: int) -> History:
    """Return the recorded calls before a call, at most `limit`. A cycle of links ends the search."""
    newest_first: list[CallRecord] = []
    seen = {call.call_id}
    at = call
    while at.request.continues is not None:
        before = _continued(reader, at, at.request.continues)
        if before is None:
            return History(newest_first[::-1], missing=at.request.continues)
        if before.call_id in seen:
            return History(newest_first[::-1])
        if len(newest_first) >= limit:
            return History(newest_first[::-1], more=True)
        seen.add(before.call_id)
        newest_first.append(before)
        at = before
    conversation = at.request.conversation_id
    if conversation is None:
        return History(newest_first[::-1])
    left = limit - len(newest_first)
    # Failed calls added nothing to the conversation.
    earlier = CallFilter(conversation_id=conversation, until_ns=at.timing.start_ns, errors=False, limit=left + 1)
    found = [one for one in reader.calls(earlier) if one.call_id not in seen]
    return History([*found[:left][::-1], *newest_first[::-1]], more=len(found) > left)


def _continued(reader: Reader, call: CallRecord, response_id: str) -> CallRecord | None:
    """Return the call with the response that a call continues: the latest before it, because servers repeat ids."""
    own = CallFilter(response_id=response_id, provider=call.provider, limit=1)
    before = msgspec.structs.replace(own, until_ns=call.timing.start_ns)
    return next(reader.calls(before), None) or next(reader.calls(own), None)


def whole_conversation(call: CallRecord, history: History) -> Conversation:
    """Return the messages of the earlier calls, followed by those of a call."""
    own = call.conversation or Conversation()
    before: list[Message] = []
    for one in history.calls:
        if one.conversation is not None:
            before += [*one.conversation.input, *one.conversation.output]
    if call.api in KEEPS_INSTRUCTIONS:
        own = _with_instructions(own, history.calls)
    return msgspec.structs.replace(own, input=[*before, *own.input])


def _with_instructions(own: Conversation, before: list[CallRecord]) -> Conversation:
    """Return the conversation with the system prompt and tools of the latest call that sent them."""
    for one in reversed(before):
        kept = one.conversation
        if kept is not None:
            own = msgspec.structs.replace(own, system=own.system or kept.system, tools=own.tools or kept.tools)
    return own
