"""Public reports of wrong costs or tokens of calls by these SDKs, and costs that the server states."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, NamedTuple

import pytest
from openai import OpenAI

from callspan.testing import ScriptedProvider, capture

from .answers import Body, call_of, cost_of

pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")


class Report(NamedTuple):
    link: str
    reported: str
    api: str
    request: Body
    answer: Body | list[Body]
    usd: str
    counted: Body
    """Counters of the usage."""


def message(model: str, **usage: object) -> Body:
    return {"type": "message", "content": [], "model": model, "usage": {"input_tokens": 0, "output_tokens": 0, **usage}}


def response(model: str, tier: str, **usage: object) -> Body:
    return {"object": "response", "status": "completed", "output": [], "model": model, "service_tier": tier,
            "usage": usage}  # fmt: skip


_PRIORITY: Final = {"model": "gpt-4.1", "service_tier": "priority"}
_SONNET: Final = "claude-sonnet-4-5"
REPORTS: Final = (
    Report(
        "https://github.com/BerriAI/litellm/issues/31837",
        "priority was asked for and default served: billed as priority",
        "responses", _PRIORITY, response("gpt-4.1", "default", input_tokens=9, output_tokens=1, total_tokens=10),
        "0.000026", {},
    ),
    Report(
        "https://github.com/BerriAI/litellm/issues/37046",
        "priority was served and billed as default",
        "responses", _PRIORITY, response("gpt-4.1-2025-04-14", "priority", input_tokens=9, output_tokens=1),
        "0.0000455", {},
    ),
    Report(
        "https://github.com/langchain-ai/langchainjs/pull/11195",
        "a gateway states the input in the last event of a stream only: counted as none",
        "messages", {"model": _SONNET, "stream": True},
        [
            {"type": "message_start", "message": {"type": "message", "model": _SONNET, "content": [],
                                                  "usage": {"input_tokens": 0, "output_tokens": 0}}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"},
             "usage": {"input_tokens": 100, "cache_read_input_tokens": 900, "output_tokens": 20}},
            {"type": "message_stop"},
        ],
        "0.00087", {"input_tokens": 1000, "cache_read_tokens": 900, "output_tokens": 20},
    ),
    Report(
        "https://github.com/browser-use/browser-use/issues/5305",
        "tokens written to the cache are charged as input too",
        "messages", {"model": _SONNET},
        message(_SONNET, input_tokens=1200, cache_read_input_tokens=500, cache_creation_input_tokens=300),
        "0.004875", {"input_tokens": 2000},
    ),
    Report(
        "https://github.com/latitude-dev/latitude-llm/pull/4051",
        "cached and reasoning tokens are charged twice",
        "responses", {"model": "gpt-5.1"},
        response("gpt-5.1-2025-11-13", "default", input_tokens=10000, output_tokens=1000, total_tokens=11000,
                 input_tokens_details={"cached_tokens": 8000}, output_tokens_details={"reasoning_tokens": 600}),
        "0.0135", {"input_tokens": 10000, "output_tokens": 1000},
    ),
    Report(
        "https://github.com/ls1intum/edutelligence/issues/892",
        "cached input costs the full price beside its own, and writing to the cache nothing",
        "responses", {"model": "gpt-5.6-sol"},
        response("gpt-5.6-sol", "default", input_tokens=1000, output_tokens=100, total_tokens=1100,
                 input_tokens_details={"cached_tokens": 500, "cache_write_tokens": 400}),
        "0.0046", {"input_tokens": 1000},
    ),
)  # fmt: skip


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.link.removeprefix("https://github.com/"))
def test_what_was_reported_wrong_elsewhere_is_right_here(report: Report) -> None:
    usage = call_of(report.api, report.request, report.answer).usage
    cost = cost_of(report.api, report.request, report.answer)
    assert cost is not None
    assert (cost.usd, cost.estimated) == (Decimal(report.usd), False)
    assert {name: getattr(usage, name) for name in report.counted} == report.counted


_CHAT: Final = {"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "Hi"}}]}
_TOKENS: Final = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def stated(usage: Body, **beside: Any) -> Body:
    return _CHAT | {"usage": _TOKENS | usage} | beside


def gateway(**stated: str) -> Body:
    message = {"content": "Hi", "provider_metadata": {"gateway": stated}}
    return {"choices": [{"index": 0, "message": message}]}


_STATED_KEY: Final = {"is_byok": True, "cost_details": {"upstream_inference_cost": 0.036}}
_STATED: Final[list[tuple[str, Body, str | None, bool]]] = [
    ("OpenRouter", stated({"cost": 0.00015}), "0.00015", False),
    ("OpenRouter, with the user's key", stated({"cost": 0.0018, **_STATED_KEY}), "0.0378", False),
    ("OpenRouter, with the user's key without a fee", stated({"cost": 0, **_STATED_KEY}), "0.036", False),
    ("Perplexity", stated({"cost": {"request_cost": 0.005, "total_cost": 0.006}}), "0.006", False),
    ("Perplexity, in another currency", stated({"cost": {"currency": "EUR", "total_cost": 0.006}}), None, False),
    ("LLM Gateway", stated({"cost_usd_total": 0.000125, "cost_usd_input": 0.000025}), "0.000125", False),
    ("xAI", stated({"cost_in_usd_ticks": 37756000}), "0.0037756", False),
    ("DeepInfra", stated({"estimated_cost": 0.0000123}), "0.0000123", True),
    ("Vercel", stated({}, **gateway(cost="0.0045405", marketCost="0.0045405")), "0.0045405", False),
    ("Vercel, with the user's key", stated({}, **gateway(cost="0", marketCost="0.0045405")), None, False),
    ("less than nothing", stated({"cost_in_usd_ticks": -5}), None, False),
]  # fmt: skip


@pytest.mark.parametrize(("server", "answer", "usd", "estimated"), _STATED, ids=[row[0] for row in _STATED])
def test_what_a_server_states_is_the_cost(server: str, answer: Body, usd: str | None, estimated: bool) -> None:
    cost = cost_of("chat_completions", {}, answer, provider="elsewhere")
    assert (cost and (cost.usd, cost.source, cost.estimated)) == (usd and (Decimal(usd), "provider", estimated)), server


@pytest.mark.parametrize(
    ("headers", "stated"),
    [
        ({"x-litellm-response-cost": "2.6e-05"}, (Decimal("0.000026"), True)),
        ({"x-aimlapi-usd-spent": "0.0042"}, (Decimal("0.0042"), False)),
        ({"x-litellm-response-cost": "0.0"}, (None, False)),
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
