"""Traces of openai's agents: the model calls of a turn, out of the OTLP JSON that the provider keeps of it.

They replace the turn's sum: the first takes the id of the turn, the others have ids of turn and span. A span names its
turn by an attribute, itself or one of the spans around it; without one it belongs to the turn of the trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from callspan.providers.hosted import Fact, ModelRequest
from callspan.providers.wire_json import integer, mapping, number, objects, text, word
from callspan.record.call import ErrorInfo

_MOST_SPANS: Final = 10_000
_MOST_DEPTH: Final = 64
_CALLS: Final = frozenset({"chat", "text_completion", "generate_content", "response", "generation"})
_OPERATION: Final = "gen_ai.operation.name"
_TURNS: Final = ("turn.id", "turn_id")
_MODELS: Final = ("gen_ai.response.model", "gen_ai.request.model")
_INPUT: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
_OUTPUT: Final = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
_CACHED: Final = ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cached_tokens")
_REASONING: Final = ("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens")
_FAILED: Final = 2

_Attributes = dict[str, object]


class _Span:
    """A span of the trace."""

    def __init__(self, span: dict[str, object]) -> None:
        self.id = word(span, "spanId") or ""
        self.parent = word(span, "parentSpanId")
        self.start_ns = integer(span, "startTimeUnixNano") or 0
        self.end_ns = integer(span, "endTimeUnixNano")
        self.failed = integer(span, "status", "code") == _FAILED or text(span, "status", "code") == "STATUS_CODE_ERROR"
        self.attributes: _Attributes = {
            key: _value(mapping(one, "value")) for one in objects(span, "attributes") if (key := word(one, "key"))
        }

    def is_model_call(self) -> bool:
        """Whether it is one request to a model with its tokens."""
        if _first(self.attributes, _INPUT) is None and _first(self.attributes, _OUTPUT) is None:
            return False
        return self.attributes.get(_OPERATION, "chat") in _CALLS


def trace_facts(trace: dict[str, object]) -> list[Fact]:
    """Return the model calls of a trace, which is that of a turn of the session's own agent."""
    turn_id, session_id = word(trace, "id"), word(trace, "session_id")
    if turn_id is None:
        return []
    spans = {span.id: span for span in _spans(mapping(trace, "otlp"))}
    turns: dict[str, list[_Span]] = {}
    for span in sorted(spans.values(), key=lambda one: (one.start_ns, one.id)):
        if span.is_model_call():
            turns.setdefault(_turn_of(span, spans) or turn_id, []).append(span)
    return [
        _model_request(span, session_id, key if number == 0 else f"{key}/{span.id}", of_root=key == turn_id)
        for key, calls in turns.items()
        for number, span in enumerate(calls)
    ]


def _spans(otlp: dict[str, object] | None) -> Iterator[_Span]:
    found = (
        span
        for resource in objects(otlp, "resourceSpans")
        for scope in objects(resource, "scopeSpans")
        for span in objects(scope, "spans")
    )
    for _, span in zip(range(_MOST_SPANS), found, strict=False):
        yield _Span(span)


def _turn_of(span: _Span, spans: Mapping[str, _Span]) -> str | None:
    around: _Span | None = span
    for _ in range(_MOST_DEPTH):
        if around is None:
            return None
        for name, value in around.attributes.items():
            if name.endswith(_TURNS) and isinstance(value, str) and value:
                return value
        around = spans.get(around.parent or "")
    return None


def _model_request(span: _Span, session_id: str | None, key: str, *, of_root: bool) -> ModelRequest:
    attributes = span.attributes
    model = _first(attributes, _MODELS)
    usage: dict[str, object] = {
        "input_tokens": _first(attributes, _INPUT),
        "output_tokens": _first(attributes, _OUTPUT),
        "input_tokens_details": {"cached_tokens": _first(attributes, _CACHED)},
        "output_tokens_details": {"reasoning_tokens": _first(attributes, _REASONING)},
    }
    error = attributes.get("error.type")
    return ModelRequest(
        key=key,
        session_id=session_id,
        model=model if isinstance(model, str) else None,
        other_model=not of_root,
        operation="chat",
        start_ns=span.start_ns or None,
        end_ns=span.end_ns,
        usage=usage,
        outcome="error" if span.failed else "success",
        error=ErrorInfo(kind="unknown", type=str(error or "failed")) if span.failed else None,
        of_trace=True,
    )


def _first(attributes: _Attributes, names: tuple[str, ...]) -> object:
    return next((attributes[name] for name in names if attributes.get(name) is not None), None)


def _value(value: dict[str, object] | None) -> object:
    """The value of an attribute; a 64-bit integer is text in OTLP JSON."""
    if value is None:
        return None
    if "intValue" in value:
        return integer(value, "intValue")
    if "doubleValue" in value:
        return number(value, "doubleValue")
    return value.get("stringValue", value.get("boolValue"))
