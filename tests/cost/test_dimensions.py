"""Every dimension of a price that the types of both SDKs have, public reports of wrong costs, and costs as stated."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, get_type_hints

import pytest
from openai import OpenAI
from tests.support.scale import FULL
from tests.support.sdks import is_read

from callspan.records import Cost, Usage
from callspan.testing import ScriptedProvider, capture

from .answers import Body, call_of, cost_of

pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")
NOTHING: Final[Body] = {}


class Price(NamedTuple):
    about: str
    api: str
    request: Body
    answer: Body | list[Body]
    """A list is the events of a stream."""
    usd: str
    reason: str | None = None
    """A part of the reason why it is estimated; None: it is exact."""
    fields: Body = NOTHING


def message(about: str, usd: str, reason: str | None = None, *, answer: Body = NOTHING, **given: Any) -> Price:
    """1,000 tokens in and 100 out of Claude Opus 4.8: 0.0075 dollars. `usage` is the answer's, the rest is asked."""
    usage = {"input_tokens": 1000, "output_tokens": 100, **given.pop("usage", {})}
    model = given.pop("model", "claude-opus-4-8")
    whole = {"type": "message", "content": [], "model": model, "usage": usage, "stop_reason": "end_turn", **answer}
    return Price(about, "messages", {"model": model, "max_tokens": 9, "messages": [], **given}, whole, usd, reason)


def placed(
    about: str, usd: str, reason: str | None, provider: str, host: str | None, model: str, **given: Any
) -> Price:
    """The same of a platform, whose answer names the model alone."""
    answered = given.pop("answered", model.rpartition(".")[2])
    price = message(about, usd, reason, model=model, answer={"model": answered}, **given)
    return price._replace(fields={"provider": provider, "server_address": host})


def response(about: str, usd: str, reason: str | None = None, *, answer: Body = NOTHING, **given: Any) -> Price:
    """1,000 tokens in and 100 out of GPT-4.1: 0.0028 dollars."""
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100, **given.pop("usage", {})}
    model, fields = given.pop("model", "gpt-4.1"), given.pop("fields", {})
    whole = {"object": "response", "status": "completed", "output": [], "model": model, "usage": usage, **answer}
    return Price(about, "responses", {"model": model, "input": "", **given}, whole, usd, reason, fields)


def chat(about: str, usd: str, reason: str | None = None, *, answer: Body = NOTHING, **given: Any) -> Price:
    counted = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100, **given.pop("usage", {})}
    model = given.pop("model", "gpt-4.1")
    whole = {"object": "chat.completion", "choices": [], "model": model, "usage": counted, **answer}
    return Price(about, "chat_completions", {"model": model, "messages": [], **given}, whole, usd, reason)


def written(tokens: int, **by_life: int) -> Body:
    details = {"cached_tokens": 0, "cache_write_tokens": tokens}
    return {"input_tokens_details": details | ({"cache_write_tokens_details": by_life} if by_life else {})}


def ran(*types: str) -> Body:
    return {"output": [{"type": one, "id": "x", "status": "completed"} for one in types]}


_BILLED_TO: Final = {"type": "billing_policy", "bill_to": "user_profile"}
_CREDIT: Final = {"fallback_credit": {"status": {"type": "redeemed"}}}
_BATCH: Final = {"batch_id": "batch_1"}
_DECLINED: Final = [
    {"type": "message", "model": "claude-haiku-4-5", "input_tokens": 900, "output_tokens": 0},
    {"type": "message", "model": "claude-sonnet-4-5", "input_tokens": 2000, "output_tokens": 300},
    {"type": "message", "model": "claude-opus-4-8", "input_tokens": 400, "output_tokens": 40},
    {"type": "fallback_message", "model": "claude-opus-4-8", "input_tokens": 600, "output_tokens": 60},
]
"""Runs of which the first is free, the second is charged beside the answer, and the others are the answer."""
_PROMPTS: Final = [{"type": "message", "input_tokens": 60_000}, {"type": "message", "input_tokens": 60_000}]
_FRESH: Final = {"input_tokens": 1000, "cache_read_input_tokens": 2000, "cache_creation_input_tokens": 400}
_BY_LIFE: Final = {"cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 100}}
_BEDROCK: Final = "bedrock-runtime.eu-west-1.amazonaws.com"
_GOVERNMENT: Final = "bedrock-runtime.us-gov-west-1.amazonaws.com"
_ARN: Final = "arn:aws:bedrock:eu-west-1:1"
_VERTEX: Final = "aiplatform.googleapis.com"
PLACES: Final = (
    placed("Bedrock, global profile", "0.0075", None, "aws.bedrock", _BEDROCK, "global.anthropic.claude-opus-4-8"),
    placed("Bedrock, profile of a region", "0.00825", None, "aws.bedrock", _BEDROCK, "eu.anthropic.claude-opus-4-8"),
    placed("Bedrock, in one region", "0.00825", None, "aws.bedrock", _BEDROCK, "anthropic.claude-opus-4-8"),
    placed("Bedrock, ARN of a global profile", "0.0075", None, "aws.bedrock", _BEDROCK,
           f"{_ARN}:inference-profile/global.anthropic.claude-opus-4-8"),
    placed("Bedrock, a profile of one's own", "0.00825", "region=unknown", "aws.bedrock", _BEDROCK,
           f"{_ARN}:application-inference-profile/a1b2", answered="claude-opus-4-8"),
    placed("Bedrock, where the list has one price", "0.00112", "region=eu-west-1", "aws.bedrock", _BEDROCK,
           "amazon.nova-pro-v1:0"),
    placed("Bedrock, where the list's price is of", "0.00112", None, "aws.bedrock",
           "bedrock-runtime.us-east-1.amazonaws.com", "amazon.nova-pro-v1:0"),
    placed("Bedrock for a government", "0.00825", "region=us-gov", "aws.bedrock", _GOVERNMENT,
           "us-gov.anthropic.claude-opus-4-8"),
    placed("Bedrock, behind a proxy", "0.00825", "region=unknown", "aws.bedrock", "gateway.test",
           "anthropic.claude-opus-4-8"),
    placed("Vertex AI, global", "0.0075", None, "gcp.vertex_ai", _VERTEX, "claude-opus-4-8"),
    placed("Vertex AI, in one region", "0.0075", "region=us-east5", "gcp.vertex_ai", f"us-east5-{_VERTEX}",
           "claude-opus-4-8"),
)  # fmt: skip
_SONNET: Final = "claude-sonnet-4-5"
_AS_EVENTS: Final = [
    {"type": "message_start", "message": {"type": "message", "model": _SONNET, "content": [],
                                          "usage": {"input_tokens": 0, "output_tokens": 0}}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"},
     "usage": {"input_tokens": 100, "cache_read_input_tokens": 900, "output_tokens": 20}},
    {"type": "message_stop"},
]  # fmt: skip
REPORTS: Final = (
    response("BerriAI/litellm/issues/31837: priority was asked for and default served: billed as priority", "0.000026",
             service_tier="priority", answer={"service_tier": "default"},
             usage={"input_tokens": 9, "output_tokens": 1, "total_tokens": 10}),
    response("BerriAI/litellm/issues/37046: priority was served and billed as default", "0.0000455",
             service_tier="priority", answer={"service_tier": "priority", "model": "gpt-4.1-2025-04-14"},
             usage={"input_tokens": 9, "output_tokens": 1, "total_tokens": 10}),
    Price("langchain-ai/langchainjs/pull/11195: a gateway states the input in the last event only: counted as none",
          "messages", {"model": _SONNET, "stream": True}, _AS_EVENTS, "0.00087"),
    message("browser-use/browser-use/issues/5305: tokens written to the cache are charged as input too", "0.004875",
            model=_SONNET, usage={"input_tokens": 1200, "output_tokens": 0, "cache_read_input_tokens": 500,
                                  "cache_creation_input_tokens": 300}),
    response("latitude-dev/latitude-llm/pull/4051: cached and reasoning tokens are charged twice", "0.0135",
             model="gpt-5.1", answer={"model": "gpt-5.1-2025-11-13"},
             usage={"input_tokens": 10000, "output_tokens": 1000, "total_tokens": 11000,
                    "input_tokens_details": {"cached_tokens": 8000},
                    "output_tokens_details": {"reasoning_tokens": 600}}),
    response("ls1intum/edutelligence/issues/892: cached input costs the full price too, and writing nothing", "0.0046",
             model="gpt-5.6-sol", usage={"input_tokens_details": {"cached_tokens": 500, "cache_write_tokens": 400}}),
)  # fmt: skip
"""Wrong costs elsewhere, of calls by these SDKs, on github.com."""
PRICES: Final = (
    *PLACES,
    *REPORTS,
    message("plain", "0.0075"),
    message("fast, as asked and served", "0.015", speed="fast", usage={"speed": "fast"}),
    message("fast was asked for, but not served", "0.0075", speed="fast", usage={"speed": "standard"}),
    message("fast was asked for, and the answer does not say", "0.015", speed="fast"),
    message("fast without a price", "0.0015", "speed=fast", speed="fast", model="claude-haiku-4-5"),
    message("fast with every kind of input", "0.02275", speed="fast", usage={**_FRESH, **_BY_LIFE}),
    message("in one country", "0.0075", "inference_geo=us", inference_geo="us", usage={"inference_geo": "us"}),
    message("an old model states no place", "0.0075", usage={"inference_geo": "not_available"}),
    message("committed capacity", "0.0075", "service_tier=priority", usage={"service_tier": "priority"}),
    message("served as a batch", "0.00375", usage={"service_tier": "batch"}),
    message("another organisation pays", "0.0075", "bill_to=user_profile", billing_policy=_BILLED_TO),
    message("a credit redeemed", "0.0075", "fallback_credit=redeemed", usage=_CREDIT),
    message("both lives of the cache", "0.011375", usage={**_FRESH, **_BY_LIFE}),
    message("models declined, one after some output", "0.0075", "estimated tokens", usage={"iterations": _DECLINED}),
    message("an answer and a compaction, each too short for the price of long prompts", "0.01255",
            model="claude-haiku-5-5", usage={"input_tokens": 60_000, "iterations": [
                {"type": "compaction", "input_tokens": 60_000, "output_tokens": 1000}]}),
    message("two prompts, together as long as a long one", "0.06025", "several prompts", model="claude-haiku-5-5",
            usage={"input_tokens": 120_000, "iterations": _PROMPTS}),
    message("two prompts, together shorter than a long one", "0.00905", model="claude-haiku-5-5",
            usage={"input_tokens": 90_000, "iterations": _PROMPTS}),
    message("a refusal before any output", "0.005", "may be free", usage={"output_tokens": 0},
            answer={"stop_reason": "refusal"}),
    message("a refusal after some output", "0.0075", answer={"stop_reason": "refusal"}),
    message("web searches", "0.0375", usage={"server_tool_use": {"web_search_requests": 3}}),
    message("a model without a price took over", "0.0075", "no price for claude-next", answer={"model": "claude-next"}),
    message("hours of a container", "0.0075", "container", answer={"container": {"id": "c", "expires_at": "x"}}),
    Price("only the input of decisions is charged", "decisions", {"model": "gpt-6-luna"},
          {"answers": [], "model": "gpt-6-luna",
           "usage": {"input_tokens": 1000, "output_tokens": 100, "input_tokens_details": {"cached_tokens": 500}}},
          "0.0001"),
    response("plain", "0.0028", answer={"service_tier": "default"}),
    response("fast is served as priority", "0.0049", service_tier="fast", answer={"service_tier": "priority"}),
    response("flex was asked for, but not served", "0.006", model="gpt-5.6-sol", service_tier="flex",
             answer={"service_tier": "default"}),
    response("flex", "0.003", model="gpt-5.6-sol", service_tier="flex", answer={"service_tier": "flex"}),
    response("flex without a price", "0.0028", "service_tier=flex", answer={"service_tier": "flex"}),
    response("in eight hours", "0.0028", "completion_window=8h", background=True,
             background_options={"completion_window": "8h"}),
    response("kept for twelve hours", "0.0064", "cache_ttl=12h", model="gpt-5.6-sol",
             usage=written(400, ttl_12h_tokens=100, ttl_30m_tokens=300)),
    response("kept for half an hour", "0.0064", model="gpt-5.6-sol",
             usage=written(400, ttl_12h_tokens=0, ttl_30m_tokens=400)),
    response("to be kept for twelve hours, without their number", "0.0064", "cache_ttl=12h", model="gpt-5.6-sol",
             prompt_cache_options={"ttl": "12h"}, usage=written(400)),
    response("longer than the usual context", "2.403", model="gpt-5.6-sol",
             usage={"input_tokens": 300_000, "total_tokens": 300_100}),
    response("web searches", "0.0228", answer={"tool_usage": {"web_search": {"num_requests": 2}}}),
    response("searches by the earlier tool, whose fee depends on the model", "0.0228", "web_search_preview",
             answer={"tool_usage": {"web_search": {"num_requests": 2}}, **ran("web_search_call", "web_search_call"),
                     "tools": [{"type": "web_search_preview_2025_03_11"}]}),
    response("web searches that are not counted", "0.0028", "web_search", answer=ran("web_search_call")),
    response("searches in files", "0.0078", answer=ran("file_search_call", "message", "file_search_call")),
    response("a container", "0.0028", "code_interpreter", answer=ran("code_interpreter_call")),
    response("tools without a fee", "0.0028", answer=ran("function_call", "mcp_call", "mcp_list_tools")),
    response("a line of a batch", "0.0014", fields=_BATCH),
    response("at OpenAI's host for one region", "0.0028", "no price for region=eu",
             fields={"server_address": "eu.api.openai.com"}),
    response("at another host", "0.0028", "gateway.test", fields={"server_address": "gateway.test"}),
    chat("plain", "0.0028"),
    chat("priority", "0.0049", answer={"service_tier": "priority"}, service_tier="priority"),
    chat("an answer of unknown length", "0.002", "unknown output tokens", usage={"completion_tokens": None}),
    chat("sound heard, at the price of text", "0.0035", "no price for audio", model="gpt-4o-audio-preview",
         usage={"prompt_tokens_details": {"audio_tokens": 500, "text_tokens": 500}}),
    chat("sound spoken, at the price of text", "0.0035", "no price for audio", model="gpt-4o-audio-preview",
         usage={"completion_tokens_details": {"audio_tokens": 90, "text_tokens": 10}}),
    chat("sound with its own price", "0.02095", model="gpt-audio",
         usage={"prompt_tokens_details": {"audio_tokens": 500}, "completion_tokens_details": {"audio_tokens": 50}}),
    chat("cached input without a price", "0.0026", "no price for cached input", model="mistral-large-latest",
         usage={"prompt_tokens_details": {"cached_tokens": 500}})._replace(fields={"provider": "mistral_ai"}),
    *(chat(f"a model named {name}", "0.00055", model=name)._replace(
        fields={"provider": "gcp.vertex_ai", "server_address": _VERTEX})
      for name in ("gemini-2.5-flash", "google/gemini-2.5-flash", "models/gemini-2.5-flash")),
    chat("sound heard in seconds", "0.00414", model="voxtral-small-latest",
         usage={"prompt_audio_seconds": 60})._replace(fields={"provider": "mistral_ai"}),
    chat("sound heard in seconds, without a price", "0.0028", "no price for audio", usage={"prompt_audio_seconds": 60}),
    chat("images drawn, at the price of text", "0.0028", "no price for image",
         usage={"completion_tokens_details": {"image_tokens": 90}}),
    chat("searches that chat does not count", "0.0028", "web_search", web_search_options={}),
    chat("a model that always searches", "0.0035", "web_search", model="gpt-4o-search-preview"),
)  # fmt: skip


def check(cost: Cost | None, price: Price) -> None:
    assert cost is not None
    assert cost.usd == Decimal(price.usd)
    assert (cost.estimated, cost.reason is None) == (price.reason is not None, price.reason is None)
    assert price.reason is None or price.reason in str(cost.reason)
    assert "arn:" not in str(cost.reason), "a profile names no model, and an account"


@pytest.mark.parametrize("level", ["full", "metadata", "off"])
@pytest.mark.parametrize("price", PRICES, ids=lambda price: f"{price.api}: {price.about}")
def test_every_dimension_is_priced_or_marked_at_every_content_level(price: Price, level: str) -> None:
    check(cost_of(call_of(price.api, price.request, price.answer, level, **price.fields)), price)


OWN: Final = {
    "input": 10, "output": 0, "cache_write_12h": 20, 
    "tools": {"web_search": "0.01", "web_search_preview": "0.025", "code_interpreter": "0.03"},
    "tiers": {
        "speed=fast": {"input": 20, "tiers": {"inference_geo=us": {"input": 22}}},
        "inference_geo=us": {"input": 11},
        "bill_to=user_profile": {"input": 0, "tiers": {"speed=fast": {"input": 1}}},
        "completion_window=8h": {"input": 5},
        "region=us-east5": {"input": 12},
        "region=eu": {"input": 13},
    },
}  # fmt: skip
OWN_PRICES: Final = (
    message("plain", "0.01"),
    message("fast", "0.02", speed="fast"),
    message("in one country", "0.011", inference_geo="us"),
    message("fast in one country", "0.022", speed="fast", inference_geo="us"),
    message("another organisation pays", "0", billing_policy=_BILLED_TO),
    message("another organisation pays for fast", "0.001", speed="fast", billing_policy=_BILLED_TO),
    message("in another country", "0.01", "inference_geo=eu", inference_geo="eu"),
    response("in eight hours", "0.005", background_options={"completion_window": "8h"}),
    response("a container", "0.04", answer=ran("code_interpreter_call")),
    response("twelve hours", "0.011", usage=written(100, ttl_12h_tokens=100, ttl_30m_tokens=0)),
    placed("Vertex AI in a region with a price", "0.012", None, "gcp.vertex_ai", f"us-east5-{_VERTEX}",
           "claude-opus-4-8"),
    placed("Bedrock in a region with a price", "0.013", None, "aws.bedrock", None, "eu.anthropic.claude-opus-4-8"),
    placed("a profile with a price of its own", "0.014", None, "aws.bedrock", None, "jp.anthropic.claude-opus-4-8"),
    chat("sound", "0.01", "audio", usage={"prompt_tokens_details": {"audio_tokens": 20}}),
    chat("sound in seconds", "0.01", "audio", usage={"prompt_audio_seconds": 2}),
    chat("a picture", "0.01", "image", usage={"prompt_tokens_details": {"image_tokens": 20}}),
    response("searches by the earlier tool", "0.06", model="gpt-4o", answer={
        "tool_usage": {"web_search": {"num_requests": 2}}, **ran("web_search_call"),
        "tools": [{"type": "web_search_preview"}]}),
)  # fmt: skip


@pytest.mark.parametrize("price", OWN_PRICES, ids=lambda price: f"{price.api}: {price.about}")
def test_a_price_file_may_have_any_dimension(tmp_path: Path, price: Price) -> None:
    (tmp_path / "own.json").write_text(json.dumps({"models": {"*": OWN, "jp.anthropic.*": {"input": 14}}}))
    check(cost_of(call_of(price.api, price.request, price.answer, **price.fields), tmp_path / "own.json"), price)


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
    cost = cost_of(call_of("chat_completions", {}, answer, provider="elsewhere"))
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
@pytest.mark.parametrize("usage", [None, {}], ids=["counted", "not counted"])
def test_a_gateway_may_state_it_in_a_header(headers: dict[str, str], stated: object, usage: Body | None) -> None:
    with ScriptedProvider() as provider, capture() as seen:
        provider.reply(headers=dict(headers), usage=usage)
        with OpenAI(api_key="k", base_url=provider.openai_url) as client:
            client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
    found = seen.records[0].usage or Usage()
    assert (found.cost_usd, found.cost_estimated) == stated


def test_what_is_stated_within_a_stream_that_is_cut_off_is_partial() -> None:
    """As by Perplexity, in every chunk."""
    delta = {"index": 0, "delta": {"content": "a"}}
    with ScriptedProvider() as provider, capture() as seen:
        provider.reply(raw=[{"id": "c", "choices": [delta], "usage": {**_TOKENS, "cost": 0.005}}])
        with OpenAI(api_key="k", base_url=provider.openai_url) as client:
            list(client.chat.completions.create(model="sonar", messages=[], stream=True))
    assert seen.records[0].cost == Cost(
        usd=Decimal("0.005"), source="provider", estimated=True, reason="the stream was cut off"
    )


REQUESTS: Final = (
    "openai.types.chat.completion_create_params:CompletionCreateParamsBase",
    "openai.types.responses.response_create_params:ResponseCreateParamsBase",
    "openai.types.embedding_create_params:EmbeddingCreateParams",
    "openai.types.image_generate_params:ImageGenerateParamsBase",
    "openai.types.audio.transcription_create_params:TranscriptionCreateParamsBase",
    "anthropic.types.message_create_params:MessageCreateParamsBase",
    "anthropic.types.beta.message_create_params:MessageCreateParamsBase",
)
USAGES: Final = (
    "openai.types.completion_usage:CompletionUsage",
    "openai.types.responses.response_usage:ResponseUsage",
    "anthropic.types.usage:Usage",
    "anthropic.types.beta.beta_usage:BetaUsage",
)
ABOUT_PRICES: Final = re.compile(
    "background|batch|bill|cache|cost|credit|discount|fast|geo|plan|price|priorit|quota|region|retention|route|speed|tier|"
    "ttl|window"
)
NO_PRICE: Final = {
    "background": "a response that is polled costs what another does; `background_options` is a dimension",
    "cache_control": "what it writes is counted by time to live in the usage",
    "fallback_credit_token": "the answer states whether it was redeemed: `fallback_credit` is a dimension",
    "prompt_cache_key": "finds a cached prompt; what is read of it is counted in the usage",
    "prompt_cache_options": "what is written and read is counted in the usage",
    "prompt_cache_retention": "keeping a prompt costs nothing; what is read of it is counted in the usage",
}
COUNTED: Final = {
    "completion_tokens", "prompt_tokens", "total_tokens", "completion_tokens_details", "prompt_tokens_details",
    "input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "cache_creation",
    "cache_creation_input_tokens", "cache_read_input_tokens", "server_tool_use", "iterations",
}  # fmt: skip
"""Fields of usage that `providers` counts."""
ASKED: Final = {field for price in PRICES for field in price.request}
STATED: Final = {field for price in PRICES if isinstance(price.answer, dict) for field in price.answer["usage"]}


def class_at(place: str) -> Any:
    module, _, name = place.partition(":")
    sdk = module.partition(".")[0]
    if not FULL and not is_read(sdk):
        pytest.skip(f"this {sdk} is not the version that docs/records.md names")
    return getattr(import_module(module), name)


@pytest.mark.parametrize("place", REQUESTS)
def test_what_a_request_asks_for_has_a_row_above_or_no_price(place: str) -> None:
    fields = {name for name in get_type_hints(class_at(place)) if ABOUT_PRICES.search(name)}
    assert fields - ASKED - NO_PRICE.keys() == set()


@pytest.mark.parametrize("place", USAGES)
def test_what_a_usage_states_is_counted_or_has_a_row_above(place: str) -> None:
    assert set(class_at(place).model_fields) - STATED - COUNTED == set()


def test_every_exception_is_a_field_of_an_sdk() -> None:
    fields = {name for place in REQUESTS for name in get_type_hints(class_at(place))}
    assert NO_PRICE.keys() <= fields
