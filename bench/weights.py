"""The size of one call's span as OTLP: the calls, the measurement, and the limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anthropic
import httpx2
import openai
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

import callspan
import wire_bodies as wire

PLAIN, AGENT = "plain call, 4 KB sent, 2.4 KB received", "agent's call, 24 KB of history, 200 bytes received"
TITLES = (PLAIN, AGENT)
TIMES = {PLAIN: 1.75, AGENT: 1.05}
"""How many times what official's span weighs ours may, content captured by both."""
MORE = 1024
"""Bytes by which ours may be more without content."""
LIMITS = 249
"""Bytes of the attributes that tell the rate limits api.openai.com states."""
_ENVELOPE = 87
"""Bytes of a request beside the one message's text."""
_TURNS = 12


class Scale(SpanProcessor):
    """Weighs the spans that end."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def provider(self) -> TracerProvider:
        """Return a provider whose spans come here."""
        tracing = TracerProvider()
        tracing.add_span_processor(self)
        return tracing

    def on_end(self, span: ReadableSpan) -> None:
        """Keep it until it is weighed."""
        self.spans.append(span)

    def weigh(self, call: Callable[[], object]) -> int:
        """Return the bytes of an OTLP request with nothing but the spans of one call: resource, scope, spans."""
        self.spans.clear()
        call()
        return len(encode_spans(self.spans).SerializeToString())


@dataclass(frozen=True)
class Work:
    """One call: its name, its request, and the number of characters of its answer."""

    name: str
    messages: list[Any]
    answer: int

    def call(self, family: str, **options: Any) -> Callable[[], object]:
        """Return a function that makes the call with an SDK; the options are for the constructor of its client.

        The answer states no rate limits, as those of most servers and gateways.
        """
        answer = wire.openai_answer(self.answer) if family == "openai" else wire.anthropic_answer(self.answer)
        respond = partial(httpx2.Response, 200, headers={"content-type": "application/json"}, content=answer)
        http = httpx2.Client(transport=httpx2.MockTransport(lambda request: respond(request=request)))
        if family == "openai":
            client = openai.OpenAI(api_key="sk-test", http_client=http, max_retries=0, **options)
            chat = client.chat.completions
            # Looked up at each call: others replace the method itself.
            return lambda: chat.create(model="gpt-5", messages=self.messages, max_completion_tokens=500)
        claude = anthropic.Anthropic(api_key="sk-test", http_client=http, max_retries=0, **options)
        return lambda: claude.messages.create(model="claude-opus-4-1", messages=self.messages, max_tokens=500)


def works() -> list[Work]:
    """Return the calls that are weighed. The sizes of the plain one are those of the bodies on the wire."""
    answer = 2458 - len(wire.openai_answer(0))
    return [
        Work(PLAIN, wire.messages(4096 - _ENVELOPE), answer),
        Work(AGENT, wire.messages(24 * 1024, _TURNS), 200),
    ]


def weigh(family: str, scale: Scale, **options: Any) -> dict[str, int]:
    """Return the bytes of each call, whose spans come to `scale`."""
    return {work.name: scale.weigh(work.call(family, **options)) for work in works()}


def ours(family: str, content: str = "full") -> dict[str, int]:
    """Return the bytes of callspan's, with default settings but for the content."""
    scale = Scale()
    handle = callspan.instrument(tracer_provider=scale.provider(), content=content)
    try:
        return weigh(family, scale)
    finally:
        handle.uninstrument()
