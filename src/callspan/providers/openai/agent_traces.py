"""Traces of openai's agents: the model calls of a turn, read from the provider's OTLP JSON.

They replace the turn's sum: the first takes the id of the turn, the others have ids of turn and span. A span names its
turn by an attribute, itself or one of the spans around it; without one it belongs to the turn of the trace.

A trace has what was published when it was read, and its attributes are in no type. One that may lack a model call, or
is understood in part only, replaces nothing: the turn keeps its sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from callspan.providers.hosted import Fact, ModelRequest
from callspan.providers.wire_json import count, integer, mapping, number, objects, text, word
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
        self.start_ns = count(span, "startTimeUnixNano") or 0
        self.end_ns = count(span, "endTimeUnixNano")
        self.failed = integer(span, "status", "code") == _FAILED or text(span, "status", "code") == "STATUS_CODE_ERROR"
        self.attributes: _Attributes = {
            key: _value(mapping(one, "value")) for one in objects(span, "attributes") if (key := word(one, "key"))
        }

        self.input_tokens = _tokens(self.attributes, _INPUT)
        self.output_tokens = _tokens(self.attributes, _OUTPUT)

    def has_tokens(self) -> bool:
        """Whether it is a model request, or the sum of several."""
        return self.input_tokens is not None or self.output_tokens is not None

    def is_model_call(self) -> bool:
        """Whether it is one model request, if no span with tokens is within it."""
        return bool(self.id) and self.attributes.get(_OPERATION, "chat") in _CALLS


def trace_facts(trace: dict[str, object]) -> list[Fact]:
    """Return the model calls of the trace of one turn of the session's own agent."""
    turn_id, session_id = word(trace, "id"), word(trace, "session_id")
    found = [*_spans(mapping(trace, "otlp"))]
    if turn_id is None or len(found) > _MOST_SPANS:
        return []
    spans = {span.id: span for span in found if span.id or span.has_tokens()}
    turns: dict[str, list[_Span]] = {}
    for span in sorted(_model_calls(spans), key=lambda one: (one.start_ns, one.id)):
        turns.setdefault(_turn_of(span, spans) or turn_id, []).append(span)
    return [
        _model_request(span, session_id, key if number == 0 else f"{key}/{span.id}", of_root=key == turn_id)
        for key, calls in turns.items()
        for number, span in enumerate(calls)
    ]


def _model_calls(spans: Mapping[str, _Span]) -> list[_Span]:
    """Return the outermost spans with tokens; none if one may be missing.

    One is missing where a span around is: spans are published at their end, those around others last. So it is where
    a span has more tokens than all within it, or where what has tokens is no model call.
    """
    counted = {key: span for key, span in spans.items() if span.has_tokens()}
    around = {key: _around(span, spans) for key, span in counted.items()}
    within: dict[str, list[_Span]] = {}
    for key, span in counted.items():
        for outer in around[key] or ():
            within.setdefault(outer.id, []).append(span)
    calls = [span for key, span in counted.items() if key not in within]
    sums = [
        (counted[key], [one for one in inner if one.id not in within])
        for key, inner in within.items()
        if key in counted
    ]
    is_whole = all(span.is_model_call() for span in calls) and None not in around.values()
    return calls if is_whole and all(_covers(inner, span) for span, inner in sums) else []


def _around(span: _Span, spans: Mapping[str, _Span]) -> list[_Span] | None:
    """Return the ancestors of a span, innermost first; None if one is missing, or if they form a cycle."""
    found: list[_Span] = []
    while span.parent is not None:
        outer = spans.get(span.parent)
        if outer is None or len(found) >= _MOST_DEPTH:
            return None
        found.append(outer)
        span = outer
    return found


def _covers(calls: list[_Span], outer: _Span) -> bool:
    """Return whether the calls have all tokens of the enclosing span."""
    inputs, outputs = (sum(getattr(one, name) or 0 for one in calls) for name in ("input_tokens", "output_tokens"))
    return inputs >= (outer.input_tokens or 0) and outputs >= (outer.output_tokens or 0)


def _spans(otlp: dict[str, object] | None) -> Iterator[_Span]:
    found = (
        span
        for resource in objects(otlp, "resourceSpans")
        for scope in objects(resource, "scopeSpans")
        for span in objects(scope, "spans")
    )
    return map(_Span, islice(found, _MOST_SPANS + 1))


def _turn_of(span: _Span, spans: Mapping[str, _Span]) -> str | None:
    for one in (span, *(_around(span, spans) or ())):
        for name, value in one.attributes.items():
            if name.endswith(_TURNS) and isinstance(value, str) and value:
                return value
    return None


def _model_request(span: _Span, session_id: str | None, key: str, *, of_root: bool) -> ModelRequest:
    attributes = span.attributes
    model = _first(attributes, _MODELS)
    usage: dict[str, object] = {
        "input_tokens": span.input_tokens,
        "output_tokens": span.output_tokens,
        "input_tokens_details": {"cached_tokens": _tokens(attributes, _CACHED)},
        "output_tokens_details": {"reasoning_tokens": _tokens(attributes, _REASONING)},
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


def _tokens(attributes: _Attributes, names: tuple[str, ...]) -> int | None:
    """Return the first of these attributes that is a count."""
    return next((found for name in names if (found := count(attributes, name)) is not None), None)


def _value(value: dict[str, object] | None) -> object:
    """Return the value of an attribute; a 64-bit integer is text in OTLP JSON."""
    if value is None:
        return None
    if "intValue" in value:
        return integer(value, "intValue")
    if "doubleValue" in value:
        return number(value, "doubleValue")
    return value.get("stringValue", value.get("boolValue"))
