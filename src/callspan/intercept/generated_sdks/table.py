"""Table of the hooks of SDKs generated alike, and of a framework for agents that is hooked with them.

The names exist in openai 1.40 to 3.x and anthropic 0.34 to 2.x.
"""

from __future__ import annotations

from typing import Final

from callspan.intercept.generated_sdks import (
    openai_agents,
    other_requests,
    request,
    streams,
    tool_loops,
)
from callspan.intercept.hook_rows import Hook, both
from callspan.intercept.hooks import observe_data
from callspan.sdk_profiles import GENERATED


def _of_sdks(target: str) -> tuple[str, ...]:
    return tuple(f"{profile.package}.{target}" for profile in GENERATED)


_CHAT_HELPERS: Final = tuple(
    f"openai.lib.streaming.chat._completions:{name}" for name in ("ChatCompletionStream", "AsyncChatCompletionStream")
)
_RESPONSES_HELPERS: Final = tuple(
    f"openai.lib.streaming.responses._responses:{name}" for name in ("ResponseStream", "AsyncResponseStream")
)
_MESSAGES_HELPERS: Final = (
    *(f"anthropic.lib.streaming._messages:{name}" for name in ("MessageStream", "AsyncMessageStream")),
    *(f"anthropic.lib.streaming._beta_messages:{name}" for name in ("BetaMessageStream", "BetaAsyncMessageStream")),
)
_RUNNERS: Final = "anthropic.lib.tools._beta_runner"
_RESPONSES: Final = "openai.lib.responses_tool_runner"
_DECISIONS: Final = "openai.lib.decisions_tool_runner"
_TOOLSETS: Final = (
    "openai.lib.browser:BrowserToolset", "openai.lib.browser:AsyncBrowserToolset",
    "openai.lib.computer:ComputerToolset", "openai.lib.computer:AsyncComputerToolset",
)  # fmt: skip

HOOKS: Final[tuple[Hook, ...]] = (
    *both(
        "request", _of_sdks("_base_client:{Sync}APIClient"), request.REQUEST.around, "all {sync} calls", awaits=True,
        reads={"options": 2, "stream": 4}, keep_while_streaming=False, in_code=True,
    ),
    *both(
        "_process_response", _of_sdks("_base_client:{Sync}APIClient"), request.RESPONSE.around,
        "content of {sync} calls", reads={"response": 3},
    ),
    Hook(
        "_process_response_data", _of_sdks("_base_client:BaseClient"), observe_data,
        "content of streams; plain calls are read from their result", reads={"data": 1, "response": 3},
    ),
    Hook(
        "_build_request", _of_sdks("_base_client:BaseClient"), request.BUILD.around, "request bodies",
        reads={"options": 1},
    ),
    *both(
        "__stream__", _of_sdks("_streaming:{Async}Stream"), streams.READER.around,
        "errors of {sync} streams; they end when closed or collected",
    ),
    Hook(
        "__stream__", (*_CHAT_HELPERS, *_RESPONSES_HELPERS, *_MESSAGES_HELPERS), streams.EVENTS.around,
        "errors of stream helpers: such calls end as closed", late=True,
    ),
    *(
        Hook(attribute, targets, streams.FINAL.around, f"what `{attribute}` raises", late=True)
        for attribute, targets in (
            ("get_final_completion", _CHAT_HELPERS), ("get_final_response", _RESPONSES_HELPERS),
            ("get_final_message", _MESSAGES_HELPERS),
        )
    ),
    *both(
        "__run__", (f"{_RUNNERS}:Base{{Sync}}ToolRunner",), tool_loops.observe_loop,
        "agents and tools of {sync} tool runners", late=True,
    ),
    Hook(
        "_start_tool_runner_span", (f"{_RUNNERS}:BaseToolRunner",), tool_loops.observe_loop_span,
        "one span per loop of the anthropic SDK: there are two", late=True, with_="_tool_use_span",
    ),
    *(
        Hook(name, ("agents.tracing.provider:SynchronousMultiTracingProcessor",), make, loss, reads={of: 1}, late=True)
        for name, make, of, loss in (
            ("on_trace_start", openai_agents.TRACE_START.around, "trace", "runs of openai-agents as sessions"),
            ("on_span_start", openai_agents.SPAN_START.around, "span", "agents and tools of openai-agents"),
            ("on_span_end", openai_agents.END.around, "span", "ends of agents and tools of openai-agents"),
            ("on_trace_end", openai_agents.END.around, "trace", "ends of runs of openai-agents"),
        )
    ),
    *(
        Hook(name, ("agents.tracing.traces:ReattachedTrace",), make, loss, late=True, with_=other)
        for name, other, make, loss in (
            ("start", "finish", openai_agents.TRACE_START.around, "runs of openai-agents that an approval resumes"),
            ("finish", "start", openai_agents.END.around, "ends of runs of openai-agents that an approval resumes"),
        )
    ),
    Hook(
        "_tool_use_span", (f"{_RUNNERS}:BaseToolRunner",), tool_loops.observe_tool, "the tools of a runner",
        reads={"tool": 2, "tool_use": 3}, late=True, with_="_start_tool_runner_span",
    ),
    Hook(
        "_execute_function", (f"{_RESPONSES}:ResponsesToolRunner", f"{_RESPONSES}:AsyncResponsesToolRunner"),
        tool_loops.TOOL.around, "the tools of a runner", reads={"item": 2}, late=True,
    ),
    Hook(
        "_dispatch", _TOOLSETS, tool_loops.TOOL.around, "the browser and the computer of a runner", reads={"call": 1},
        late=True,
    ),
    # Public from here on.
    Hook(
        "iterate", (f"{_RESPONSES}:ResponsesToolRunner", f"{_RESPONSES}:AsyncResponsesToolRunner"),
        tool_loops.observe_loop, "agents and tools of Responses runners", late=True,
    ),
    Hook(
        "run", (f"{_DECISIONS}:DecisionsToolRunner", f"{_DECISIONS}:AsyncDecisionsToolRunner"), tool_loops.observe_run,
        "agents and tools of Decisions runners", late=True,
    ),
    # In openai 1.99 and later.
    Hook(
        "unwrap", ("openai.resources.webhooks:Webhooks", "openai.resources.webhooks:AsyncWebhooks"),
        other_requests.UNWRAP.around, "ends of background responses that webhooks report", late=True,
    ),
)  # fmt: skip
