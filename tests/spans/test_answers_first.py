"""What a person reads first is kept first, within the byte limits of a span."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
import pytest

from callspan.testing import Reply, ScriptedProvider, capture

ANSWER = "The shop is open on Sundays. " * 30
FOUND = [
    {"type": "web_search_result", "title": f"Result {number}", "url": "u", "encrypted_content": "x" * 500}
    for number in range(460)
]


def messages(provider: ScriptedProvider) -> None:
    content: Any = [
        {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "s1", "content": FOUND},
        {"type": "text", "text": ANSWER},
    ]
    body = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
    usage = {"input_tokens": 1, "output_tokens": 1}
    provider.reply(Reply(raw={**body, "content": content, "usage": usage}))
    client = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k")
    client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "q"}])


def responses(provider: ScriptedProvider) -> None:
    found = [{"text": "y" * 500, "file_id": f"f{number}"} for number in range(460)]
    output = [
        {"type": "file_search_call", "id": "f", "status": "completed", "queries": ["q"], "results": found},
        {
            "type": "message", "id": "m", "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": ANSWER, "annotations": []}],
        },
    ]  # fmt: skip
    body = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": output}
    provider.reply(Reply(raw=body))
    openai.OpenAI(base_url=provider.openai_url, api_key="k").responses.create(model="m", input="q")


@pytest.mark.parametrize("ask", [messages, responses], ids=lambda ask: ask.__name__)
def test_answer_is_complete_beside_large_search_results(ask: Any) -> None:
    with ScriptedProvider() as provider, capture() as seen:
        ask(provider)
    span = next(one for one in seen.spans if "gen_ai.output.messages" in (one.attributes or {}))
    attributes = dict(span.attributes or {})
    assert {name for name, value in attributes.items() if isinstance(value, str) and ANSWER in value} == {
        "gen_ai.output.messages",
        "llm.completions",
    }
    (message,) = json.loads(str(attributes["gen_ai.output.messages"]))
    assert message["parts"][-1] == {"type": "text", "content": ANSWER}
    assert len(str(attributes["gen_ai.output.messages"])) <= 32 * 1024
