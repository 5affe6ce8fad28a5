"""Adopted spans: LLM spans of other libraries that already represent a call.

If another library's LLM span is open, the call sets its attributes on that span instead of starting a second one.
OpenTelemetry's GenAI utilities mark the context for this purpose, and so does callspan if they are imported; other
spans are recognised by their attributes. No package is required.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Final

from opentelemetry.context import Context, get_value, set_value
from opentelemetry.trace import Span

from callspan.fail_open import fail_open
from callspan.semconv.call import CALL_ID

_INFERENCE: Final = "opentelemetry.genai.client.inference.context"
_MARKS: Final = (_INFERENCE, "opentelemetry.genai.client.embedding.context")
_CALLS: Final = (
    ("gen_ai.operation.name", ("chat", "text_completion", "generate_content", "embeddings")),
    ("openinference.span.kind", ("LLM", "EMBEDDING")),
    ("llm.request.type", ("chat", "completion", "embedding")),
)
"""Attributes that identify the span of a call: the conventions', OpenInference's and OpenLLMetry's."""
_OWN_MARK: Final = "callspan.inference"
UTIL: Final = "opentelemetry.util.genai.invocation"
_MARK: Final = fail_open("mark the span of a call for OpenTelemetry's utilities")


def outer_span(span: Span) -> Span | None:
    """Return the current span if it is an LLM span that can represent this call, else None.

    A span represents only one call: a span that already has the attributes of a call is not used.
    """
    if not span.is_recording():
        return None
    attributes: Mapping[str, object] = getattr(span, "attributes", None) or {}
    return None if CALL_ID in attributes or not (_is_marked() or _is_call(attributes)) else span


def _is_marked() -> bool:
    own = get_value(_OWN_MARK)
    return any((mark := get_value(name)) is not None and mark is not own for name in _MARKS)


def _is_call(attributes: Mapping[str, object]) -> bool:
    return any(attributes.get(name) in values for name, values in _CALLS)


def with_mark(context: Context) -> Context:
    """Return `context` marked as inside an LLM span, for libraries that check it; `UTIL` must be imported."""
    with _MARK:
        data = sys.modules[UTIL].InferenceData()
        return set_value(_OWN_MARK, data, set_value(_INFERENCE, data, context))
    return context
