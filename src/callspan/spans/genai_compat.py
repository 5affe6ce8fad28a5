"""GenAI compatibility: keeps one span per call with OpenTelemetry's GenAI utilities and frameworks that make LLM spans.

There must be one LLM span per call. If another library's LLM span is open, the call sets its attributes on that span
and creates none. OpenTelemetry's utilities mark the context for this, and callspan does so too if they are in use;
other spans are recognised by their attributes. No package is required.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.context import Context, get_value, set_value
from opentelemetry.trace import Span

from callspan.fail_open import fail_open
from callspan.record.call import CallRecord
from callspan.record.messages import Conversation
from callspan.semconv.call import CALL_ID
from callspan.semconv.content_parts import answer_messages, parts_json, tool_definitions

_INFERENCE: Final = "opentelemetry.genai.client.inference.context"
_MARKS: Final = (_INFERENCE, "opentelemetry.genai.client.embedding.context")
_CALLS: Final = (
    ("gen_ai.operation.name", ("chat", "text_completion", "generate_content", "embeddings")),
    ("openinference.span.kind", ("LLM", "EMBEDDING")),
    ("llm.request.type", ("chat", "completion", "embedding")),
)
"""Attributes that identify the span of one call, of the conventions, OpenInference and OpenLLMetry."""
_OURS: Final = "callspan.inference"
UTIL: Final = "opentelemetry.util.genai.invocation"
_HOOK: Final = fail_open("call the completion hook")
_MARK: Final = fail_open("mark the span of a call for OpenTelemetry's utilities")
_LOAD: Final = fail_open("load the completion hook")

Hook = Callable[[CallRecord, Conversation, Span], None]


def outer_span(span: Span) -> Span | None:
    """Return the current span if it is an LLM span that represents this call, else None.

    A span represents one call: one that already has the attributes of another call is not used.
    """
    if not span.is_recording():
        return None
    attributes: Mapping[str, object] = getattr(span, "attributes", None) or {}
    return None if CALL_ID in attributes or not (_is_marked() or _is_call(attributes)) else span


def _is_marked() -> bool:
    ours = get_value(_OURS)
    return any((mark := get_value(name)) is not None and mark is not ours for name in _MARKS)


def _is_call(attributes: Mapping[str, object]) -> bool:
    return any(attributes.get(name) in values for name, values in _CALLS)


def marked(context: Context) -> Context:
    """Return `context` with callspan's LLM span marked as open, for libraries that check it; `UTIL` is imported."""
    with _MARK:
        data = sys.modules[UTIL].InferenceData()
        return set_value(_OURS, data, set_value(_INFERENCE, data, context))
    return context


def completion_hook() -> Hook | None:
    """Return a caller of the hook in `OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK`; None if it cannot be loaded."""
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
                    for message in answer_messages(record.outcome, conversation.output)
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
    """Return parts as instances of the conventions' classes; parts without a class keep only their kind."""
    made = []
    for part in parts:
        kind = getattr(types, _PARTS.get(part["type"], ""), None)
        if kind is None:
            made.append(types.TextPart(content=f"[{part['type']}]"))
        else:
            made.append(kind(**{name: part.get(name) for name in kind.__dataclass_fields__ if name != "type"}))
    return made
