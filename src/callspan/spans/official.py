"""Official: how we get on with OpenTelemetry's own GenAI utilities where they are in use; no dependency on them.

They mark the context while a span of an LLM call is open, so that whoever is called within makes no second one.
We do the same, and where somebody else's mark is found our call says what it knows on that span. Their hook for
finished calls is called with what ours said.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context, get_value, set_value
from opentelemetry.trace import Span

from callspan.fail_open import fail_open
from callspan.record.call import CallRecord
from callspan.record.messages import Conversation
from callspan.vocabulary.parts import output_messages, parts_json, tool_definitions

_INFERENCE: Final = "opentelemetry.genai.client.inference.context"
_MARKS: Final = (_INFERENCE, "opentelemetry.genai.client.embedding.context")
_OURS: Final = "callspan.inference"
_UTIL: Final = "opentelemetry.util.genai.invocation"
_HOOK: Final = fail_open("call the completion hook")
_LOAD: Final = fail_open("load the completion hook")

Hook = Callable[[CallRecord, Conversation, Span], None]


def outer_span() -> Span | None:
    """Return the open LLM span of an official instrumentation around the running code, or None."""
    ours = get_value(_OURS)
    for name in _MARKS:
        mark = get_value(name)
        if mark is not None and mark is not ours:
            span = trace.get_current_span()
            return span if span.is_recording() else None
    return None


def marked(context: Context) -> Context:
    """Return `context` with our LLM span marked as open, where somebody may look for it."""
    util = sys.modules.get(_UTIL)
    if util is None:
        return context
    data = util.InferenceData()
    return set_value(_OURS, data, set_value(_INFERENCE, data, context))


def completion_hook() -> Hook | None:
    """Return what calls the hook that `OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK` names; None: it cannot be loaded."""
    with _LOAD:
        load = importlib.import_module("opentelemetry.util.genai.completion_hook").load_completion_hook
        return _calling(load(), importlib.import_module("opentelemetry.util.genai.types"))
    return None


def _calling(hook: Any, types: Any) -> Hook:  # noqa: ANN401 - of a package we do not depend on
    def call(record: CallRecord, conversation: Conversation, span: Span) -> None:
        with _HOOK:
            hook.on_completion(
                inputs=[
                    types.InputMessage(role=message.role, parts=_parts(parts_json(message.parts), types))
                    for message in conversation.input
                ],
                outputs=[
                    types.OutputMessage(
                        role=str(message["role"]),
                        parts=_parts(message["parts"], types),
                        finish_reason=message["finish_reason"],
                    )
                    for message in output_messages(record, conversation)
                ],
                system_instruction=_parts(parts_json(conversation.system), types),
                tool_definitions=[
                    types.FunctionToolDefinition(
                        name=str(tool.get("name", "")),
                        description=tool.get("description"),
                        parameters=tool.get("parameters"),
                    )
                    for tool in tool_definitions(conversation.tools)
                ],
                span=span,
            )

    return call


_PARTS: Final = {
    "text": "TextPart",
    "reasoning": "ReasoningPart",
    "tool_call": "ToolCallRequestPart",
    "tool_call_response": "ToolCallResponsePart",
    "blob": "BlobPart",
    "file": "FilePart",
    "uri": "UriPart",
}


def _parts(parts: Any, types: Any) -> list[Any]:  # noqa: ANN401
    """Parts of the conventions' JSON as their classes; of a kind they have no class for, only the kind."""
    made = []
    for part in parts:
        kind = getattr(types, _PARTS.get(part["type"], ""), None)
        if kind is None:
            made.append(types.TextPart(content=f"[{part['type']}]"))
        else:
            made.append(kind(**{name: part.get(name) for name in kind.__dataclass_fields__ if name != "type"}))
    return made
