"""Provider tools: records each tool run on the provider's side as an event, with a span below its call.

Answers state no times of these runs, so events and spans get the end time of the call.
"""

from __future__ import annotations

from typing import Final

import msgspec
from opentelemetry.context import Context

from callspan.agent.kinds import TOOL_ERROR
from callspan.agent.operations import without_none
from callspan.agent.runtime import Runtime
from callspan.process.processors import with_span
from callspan.providers import registry
from callspan.providers.hosted_tools import PAUSED, SERVERS, ProviderRun, runs_at_provider, unanswered
from callspan.record.call import CallRecord
from callspan.record.content_level import is_word
from callspan.record.events import EventRecord
from callspan.record.messages import Conversation, Message, ToolCall, ToolResult, parse_arguments
from callspan.runtime.fail_open import fail_open
from callspan.runtime.lock_free import LRUCache
from callspan.settings import Content
from callspan.spans.session import NO_SPAN, SpanRef

_RECORD: Final = fail_open("record a tool that ran at the provider")
_OTHER_TOOL: Final = "other"
"""The name of a tool at a reduced content level, if its type is no word."""
_RUNNING: Final[LRUCache[str, Message]] = LRUCache(256)
"""The tools that were running when answers were paused, by the answer's id: the next request may name only that."""


def record_provider_tools(runtime: Runtime, conversation: Conversation, record: CallRecord) -> None:
    """Record each tool that the provider ran within a call, as a child of the call's span if it has one."""
    sampled = record.sampled is not False
    call_span = runtime.spans.remote(SpanRef(trace_id=record.trace_id, span_id=record.span_id, sampled=sampled))
    parent = None if call_span is None else call_span.within(Context())
    seen: set[str] = set()
    conversation = _with_input(conversation, record)
    if record.finish_reason == PAUSED:
        _note_running(conversation, record)
    for run in runs_at_provider(conversation, record.api):
        # A redactor changes no id of an event.
        is_id = is_word(run.call.id)
        id_suffix = str(run.position) if run.call.id is None or run.call.id in seen or not is_id else run.call.id
        seen.add(id_suffix)
        with _RECORD:
            processed = runtime.process(_event(run, record, id_suffix), record.content_level, "event")
            span = NO_SPAN if parent is None else runtime.spans.start(processed, parent=parent)
            span.end(processed)
            runtime.write(with_span(processed, span))


def _with_input(conversation: Conversation, record: CallRecord) -> Conversation:
    """Return the messages with the request's messages, which are otherwise read only for spans with content."""
    running = _RUNNING.get(record.request.continues or "")
    asked = conversation.input
    output = conversation.output
    if not asked and any(isinstance(part, ToolResult) for message in output for part in message.parts):
        sent = registry.conversation_of(record)
        asked = [] if sent is None else sent.input
    return Conversation(input=asked if running is None else [running, *asked], output=output)


def _note_running(conversation: Conversation, record: CallRecord) -> None:
    """Keep the tools that run on while an answer is paused, as far as the content level of the call permits."""
    calls = [_permitted(call, record.content_level) for call in unanswered(conversation)]
    if calls and record.response is not None and record.response.id is not None:
        _RUNNING.put(record.response.id, Message(role="assistant", parts=[*calls]))


def _permitted(call: ToolCall, level: Content) -> ToolCall:
    if level == "full":
        return call
    bare = ToolCall(id=call.id, name=call.tool_type, tool_type=call.tool_type, is_of_application=False)
    servers = {name: value for name, value in (call.extra or {}).items() if name in SERVERS}
    return bare if level == "off" else msgspec.structs.replace(bare, name=call.name, extra=servers)


def _event(run: ProviderRun, record: CallRecord, id_suffix: str) -> EventRecord:
    place, tool_call = record.place, run.call
    # Names of tools and MCP servers are content at the level `off`; the type is the provider's word.
    name, server = (None, None) if record.content_level == "off" else (tool_call.name, run.server)
    is_kind = record.content_level == "full" or is_word(tool_call.tool_type)
    own_metadata = {"provider": record.provider, "tool_type": run.kind, "server": server}
    data = {"arguments": parse_arguments(tool_call.arguments), "result": run.result}
    return EventRecord(
        event_id=f"{record.call_id}-{id_suffix}",
        session_id=place.session_id,
        timestep_id=place.timestep_id,
        timestep=place.timestep,
        call_id=record.call_id,
        event_type="tool",
        name=name or (tool_call.tool_type if is_kind else _OTHER_TOOL),
        time_ns=record.timing.start_ns + (record.timing.duration_ns or 0),
        data=without_none(data) or None,
        tool_call_id=tool_call.id,
        error=TOOL_ERROR if run.failed else None,
        metadata={**record.metadata, **without_none(own_metadata)},
    )
