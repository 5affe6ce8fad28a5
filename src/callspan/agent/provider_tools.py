"""Provider tools: records each run of a tool on the provider's side as an event, with a span below its call.

The answer states no times for them, so they get the time of the call's end.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.context import Context

from callspan.agent.operations import TOOL_ERROR, without_none
from callspan.agent.runtime import Runtime
from callspan.agent.tool_requests import parse_arguments
from callspan.fail_open import fail_open
from callspan.process.processors import with_span
from callspan.providers.hosted_tools import ProviderRun, runs_at_provider
from callspan.record.call import CallRecord
from callspan.record.events import EventRecord
from callspan.record.messages import Conversation
from callspan.spans.session import NO_SPAN, SpanRef

_RECORD: Final = fail_open("record a tool that ran at the provider")


def record_provider_tools(runtime: Runtime, wire: Conversation, record: CallRecord) -> None:
    """Record each tool that the provider ran within a call, as a child of the call's span if it has one."""
    sampled = record.sampled is not False
    call = runtime.spans.remote(SpanRef(trace_id=record.trace_id, span_id=record.span_id, sampled=sampled))
    parent = None if call is None else call.within(Context())
    seen: set[str] = set()
    for run in runs_at_provider(wire.output):
        name = str(run.position) if run.call.id is None or run.call.id in seen else run.call.id
        seen.add(name)
        with _RECORD:
            processed = runtime.process(_event(run, record, name), record.content_level, "event")
            span = NO_SPAN if parent is None else runtime.spans.start(processed, parent=parent)
            span.end(processed)
            runtime.write(with_span(processed, span))


def _event(run: ProviderRun, record: CallRecord, name: str) -> EventRecord:
    place, call = record.place, run.call
    own_metadata = {"provider": record.provider, "tool_type": run.kind, "server": run.server}
    data = {"arguments": parse_arguments(call.arguments), "result": run.result}
    return EventRecord(
        event_id=f"{record.call_id}-{name}",
        session_id=place.session_id,
        timestep_id=place.timestep_id,
        timestep=place.timestep,
        call_id=record.call_id,
        event_type="tool",
        name=call.name or call.tool_type,
        time_ns=record.timing.start_ns + (record.timing.duration_ns or 0),
        data=without_none(data) or None,
        tool_call_id=call.id,
        error=TOOL_ERROR if run.failed else None,
        metadata={**record.metadata, **without_none(own_metadata)},
    )
