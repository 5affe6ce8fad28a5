"""Helpers: the same request to each API, and the resulting span and record."""

from __future__ import annotations

from typing import Any, Final

from callspan.testing import Captured
from tests.intercept.mode import Mode

QUESTION: Final[list[Any]] = [{"role": "user", "content": "How are you?"}]
APIS: Final = ("chat_completions", "responses", "messages")


def chat(mode: Mode, **options: Any) -> Any:
    """A chat completion; options of a client's own under `client`."""
    client = mode.openai(**options.pop("client", {}))
    return client.chat.completions.create(**{"model": "gpt-5", "messages": QUESTION, **options})


def message(mode: Mode, **options: Any) -> Any:
    """A message of Anthropic's API."""
    return mode.anthropic().messages.create(
        **{"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION, **options}
    )


def respond(mode: Mode, **options: Any) -> Any:
    """A response of OpenAI's newer API."""
    return mode.openai().responses.create(**{"model": "gpt-5", "input": "How are you?", **options})


ASK: Final = {"chat_completions": chat, "responses": respond, "messages": message}


async def response_of(mode: Mode, api: str, **options: Any) -> Any:
    """The answer of one API: the object of a plain call, the list of a stream's items."""
    result = await mode.wait(ASK[api](mode, **options))
    return await mode.all(result) if options.get("stream") else result


def shown(seen: Captured) -> dict[str, Any]:
    """The attributes of the one span."""
    (span,) = seen.spans
    return dict(span.attributes or {})
