"""Span messages: the bodies that callspan makes of the messages of a span. They are those of chat completions."""

from __future__ import annotations

from callspan.providers.openai.chat import ChatCompletions


class SpanMessages(ChatCompletions):
    """What a span of another instrumentation states of a request and its answer, whatever API was called. Stateless."""
