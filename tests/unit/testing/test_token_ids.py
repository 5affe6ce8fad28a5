"""The scripted provider as a server of open models: token ids on request, plain and streamed."""

from __future__ import annotations

from typing import Any

import openai

from callspan.testing import ScriptedProvider

MESSAGES: list[Any] = [{"role": "user", "content": "Which way?"}]
REQUEST: dict[str, Any] = {"model": "m", "messages": MESSAGES, "extra_body": {"return_token_ids": True}}


def response_of(**more: Any) -> Any:
    with ScriptedProvider() as provider, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        provider.reply("go east go east")
        found = client.chat.completions.create(**(REQUEST | more))
        return [chunk.to_dict() for chunk in found] if more.get("stream") else found.to_dict()


def test_a_stream_adds_up_to_the_ids_of_the_whole_answer() -> None:
    whole, chunks = response_of(), response_of(stream=True)
    streamed = [one for chunk in chunks for choice in chunk["choices"] for one in choice.get("token_ids") or ()]
    assert streamed == whole["choices"][0]["token_ids"]
    assert [chunk.get("prompt_token_ids") for chunk in chunks] == [
        whole["prompt_token_ids"],
        *([None] * (len(chunks) - 1)),
    ]
