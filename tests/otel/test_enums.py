"""Members of an `Enum` that are strings: SDKs send their values, and no signal has their names."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import openai
import pytest
from google import genai

from callspan.testing import Capture, ScriptedProvider, capture


class Word(str, enum.Enum):
    MODEL = "gpt-4o"
    GEMINI = "gemini-2.5-flash"
    ROLE = "user"
    LOW = "low"
    AUTO = "auto"


def chat(provider: ScriptedProvider, **more: Any) -> None:
    client = openai.OpenAI(base_url=provider.openai_url, api_key="k")
    client.chat.completions.create(
        model=Word.MODEL, messages=[{"role": Word.ROLE, "content": Word.LOW}], user=Word.LOW,  # type: ignore[misc, list-item]
        reasoning_effort=Word.LOW, stop=[Word.LOW], service_tier=Word.AUTO, metadata={"kind": Word.LOW}, **more,
    )  # fmt: skip


def streamed_chat(provider: ScriptedProvider) -> None:
    chat(provider, stream=True)


def responses(provider: ScriptedProvider) -> None:
    client = openai.OpenAI(base_url=provider.openai_url, api_key="k")
    client.responses.create(model=Word.MODEL, input=Word.LOW, reasoning={"effort": Word.LOW}, user=Word.LOW)  # type: ignore[typeddict-item]


def messages(provider: ScriptedProvider) -> None:
    client = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k")
    client.messages.create(
        model=Word.MODEL, max_tokens=5, messages=[{"role": Word.ROLE, "content": Word.LOW}],  # type: ignore[typeddict-item]
        system=Word.LOW, stop_sequences=[Word.LOW], metadata={"user_id": Word.LOW}, service_tier=Word.AUTO,  # type: ignore[arg-type]
    )  # fmt: skip


def gemini(provider: ScriptedProvider) -> None:
    client = genai.Client(api_key="k", http_options={"base_url": provider.google_url})
    client.models.generate_content(
        model=Word.GEMINI, contents="Hi",
        config={"thinking_config": {"thinking_level": genai.types.ThinkingLevel.LOW}, "stop_sequences": [Word.LOW]},
    )  # fmt: skip


@pytest.fixture
def seen() -> Iterator[Capture]:
    with capture(vocabularies="llm,gen_ai,openinference") as captured:
        yield captured


@pytest.mark.parametrize("program", [chat, streamed_chat, responses, messages, gemini])
def test_signals_have_values_of_enums(
    program: Callable[[ScriptedProvider], None], provider: ScriptedProvider, seen: Capture
) -> None:
    program(provider)
    (span,) = seen.spans
    assert span.name in {f"chat {Word.MODEL.value}", f"generate_content {Word.GEMINI.value}"}
    values = [
        (name, item)
        for name, value in span.attributes.items()
        for item in (value if isinstance(value, tuple) else (value,))
    ]
    assert [(name, type(item)) for name, item in values if type(item) not in {str, int, float, bool}] == []
    assert [name for name, item in values if isinstance(item, str) and "Word." in item] == []
    (call,) = seen.records
    assert type(call.request.model) is str
    assert type(call.request.params.get("user", "")) is str
