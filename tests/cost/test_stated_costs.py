"""A cost that the server states comes first, wherever it stands and in whatever unit; a part of one is none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import pytest
from openai import OpenAI

from callspan.cost import Pricer
from callspan.testing import ScriptedProvider, capture

from .answers import Body, call_of

_CHAT: Final = {"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "Hi"}}]}
_TOKENS: Final = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def chat(usage: Body, **beside: Any) -> Body:
    return _CHAT | {"usage": _TOKENS | usage} | beside


def gateway(**stated: str) -> Body:
    message = {"content": "Hi", "provider_metadata": {"gateway": stated}}
    return {"choices": [{"index": 0, "message": message}]}


_OWN_KEY: Final = {"is_byok": True, "cost_details": {"upstream_inference_cost": 0.036}}
_STATED: Final[list[tuple[str, Body, str | None, bool]]] = [
    ("OpenRouter", chat({"cost": 0.00015}), "0.00015", False),
    ("OpenRouter, of its own", chat({"cost": 0.95, "cost_details": {"upstream_inference_cost": 0.7}}), "0.95", False),
    ("OpenRouter, with the user's key", chat({"cost": 0.0018, **_OWN_KEY}), "0.0378", False),
    ("OpenRouter, with the user's key without a fee", chat({"cost": 0, **_OWN_KEY}), "0.036", False),
    ("OpenRouter, only its fee", chat({"cost": 0.0018, "is_byok": True}), None, False),
    ("a free model", chat({"cost": 0}), "0", False),
    ("Perplexity", chat({"cost": {"request_cost": 0.005, "total_cost": 0.006}}), "0.006", False),
    ("Perplexity, in another currency", chat({"cost": {"currency": "EUR", "total_cost": 0.006}}), None, False),
    ("LLM Gateway", chat({"cost_usd_total": 0.000125, "cost_usd_input": 0.000025}), "0.000125", False),
    ("xAI", chat({"cost_in_usd_ticks": 37756000}), "0.0037756", False),
    ("DeepInfra", chat({"estimated_cost": 0.0000123}), "0.0000123", True),
    ("Vercel", chat({}, **gateway(cost="0.0045405", marketCost="0.0045405")), "0.0045405", False),
    ("Vercel, with the user's key", chat({}, **gateway(cost="0", marketCost="0.0045405")), None, False),
    ("a word", chat({"cost": "free"}), None, False),
    ("less than nothing", chat({"cost_in_usd_ticks": -5}), None, False),
]  # fmt: skip


@pytest.mark.parametrize(("server", "answer", "usd", "estimated"), _STATED, ids=[row[0] for row in _STATED])
def test_what_a_server_states_is_the_cost(server: str, answer: Body, usd: str | None, estimated: bool) -> None:
    cost = Pricer().cost(call_of("chat_completions", {}, answer, provider="elsewhere"))
    assert (cost and (cost.usd, cost.source, cost.estimated)) == (usd and (Decimal(usd), "provider", estimated)), server


def test_it_is_found_in_messages_and_responses_too() -> None:
    usage = {"input_tokens": 9, "output_tokens": 3, "cost": "0.25"}
    for api, kind in (("messages", "message"), ("responses", "response")):
        answer = {"type": kind, "object": kind, "content": [], "output": [], "usage": usage}
        cost = Pricer().cost(call_of(api, {}, answer, provider="openrouter"))
        assert cost is not None
        assert (cost.usd, cost.source) == (Decimal("0.25"), "provider")


@pytest.mark.parametrize(
    ("headers", "stated"),
    [
        ({"x-litellm-response-cost": "2.6e-05"}, (Decimal("0.000026"), True)),
        ({"x-aimlapi-usd-spent": "0.0042"}, (Decimal("0.0042"), False)),
        ({"x-litellm-response-cost": "0.0"}, (None, False)),
        ({"x-litellm-response-cost": "None"}, (None, False)),
        ({}, (None, False)),
    ],
)
def test_a_gateway_may_state_it_in_a_header(headers: dict[str, str], stated: object) -> None:
    with ScriptedProvider() as provider, capture() as seen:
        provider.reply(headers=dict(headers))
        with OpenAI(api_key="k", base_url=provider.openai_url) as client:
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
    usage = seen.records[0].usage
    assert usage is not None
    assert (usage.cost_usd, usage.cost_estimated) == stated
