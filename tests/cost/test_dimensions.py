"""Every dimension of a price that the types of both SDKs have, public reports of wrong costs, and costs as stated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec
import pytest
from anthropic import Anthropic
from openai import OpenAI
from tests.support.bodies import APIS, endpoint, folded
from tests.support.scale import FULL
from tests.support.sdks import is_read
from tests.support.tables import table

from callspan.cost import Pricer, read_prices
from callspan.record.content_level import without_content
from callspan.records import CallRecord, Cost, Timing, Usage
from callspan.settings import Content
from callspan.testing import ScriptedProvider, capture

pytest.importorskip(
    "genai_prices", minversion="0.2", reason="prices as published by genai-prices 0.2; Python 3.10 has 0.1.13"
)


Body = Mapping[str, Any]
NOW_NS: Final = 1_795_000_000_000_000_000
"""A time at which the prices of today are in force."""


class Price(NamedTuple):
    """A row of `dimensions.yaml`."""

    about: str
    api: str
    request: Body
    answer: Body | list[Body]
    """A list is the events of a stream."""
    usd: str
    reason: str | None
    """A part of the reason why it is estimated; None: it is exact."""
    fields: Body


DATA: Final = table(Path(__file__).with_name("dimensions.yaml"))


def rows(table: str) -> list[Price]:
    """Return the rows of a table: each states what is not as usual in a request and an answer of its API."""
    return [price(api, row) for api, prices in DATA[table].items() for row in prices]


_UNNAMED: Final = ("generate_content", "bidi_generate_content", "converse", "cohere_chat", "cohere_embed", "rerank")
"""APIs whose answers name no model in the usual field."""


def price(api: str, row: Body) -> Price:
    usual = DATA["usual"][api]
    request, usage = usual["request"] | row.get("request", {}), usual["usage"] | row.get("usage", {})
    answer = (
        usual["answer"]
        | ({"model": request["model"]} if api not in _UNNAMED else {})
        | {"usage": usage}
        | row.get("answer", {})
    )
    returned = row.get("events", answer)
    return Price(row["about"], api, request, returned, row["usd"], row.get("reason"), row.get("fields", {}))


PRICES: Final = rows("published")


def call_of(api: str, request: Body, answer: Body | list[Body], level: str = "full", **fields: Any) -> CallRecord:
    """Return the record of one exchange, as it is kept at a content level; a list is the events of a stream."""
    info = endpoint(api).response_info(folded(api, *answer) if isinstance(answer, list) else answer)
    provider = "anthropic" if api == "messages" else "openai"
    given = {"provider": provider, "call_id": "c1", "api": api, "timing": Timing(start_ns=NOW_NS)}
    sent = msgspec.structs.replace(endpoint(api).request(request), model=request.get("model"))
    about = {"request": sent, "response": info.response, "usage": info.usage}
    record = CallRecord(**(given | about | fields))
    return record if level == "full" else without_content(record, keep_outline=level == "metadata", why="content")


def check(cost: Cost | None, price: Price) -> None:
    assert cost.usd == Decimal(price.usd)
    assert (cost.estimated, cost.reason is None) == (price.reason is not None, price.reason is None)
    assert price.reason is None or price.reason in str(cost.reason)
    assert "arn:" not in str(cost.reason), "a profile names no model, and an account"


@pytest.mark.parametrize("level", ["full", "metadata", "off"])
@pytest.mark.parametrize("price", PRICES, ids=lambda price: f"{price.api}: {price.about}")
def test_dimension_is_priced_or_marked_at_every_content_level(price: Price, level: str) -> None:
    call = call_of(price.api, price.request, price.answer, level, **price.fields)
    check(Pricer().priced(call).cost, price)


@pytest.mark.parametrize("price", rows("by the own file"), ids=lambda price: f"{price.api}: {price.about}")
def test_price_file_accepts_any_dimension(tmp_path: Path, price: Price) -> None:
    (tmp_path / "own.json").write_text(json.dumps({"models": DATA["own file"]}))
    call = call_of(price.api, price.request, price.answer, **price.fields)
    check(Pricer(read_prices(tmp_path / "own.json")).priced(call).cost, price)


_WITHOUT_HOSTED_TOOLS: Final = frozenset(
    {
        "completions", "fim_completions", "decisions", "moderations", "embeddings", "images", "image_edits",
        "image_variations", "transcriptions", "translations", "speech", "realtime_translations",
        "embed_content", "predict", "invoke_model", "invoke_embeddings", "cohere_embed", "rerank", "ollama_generate",
        "ollama_embed", "text_generation", "watsonx_generation", "watsonx_embeddings", "watsonx_rerank",
        # all of whose tools the application runs
        "cohere_chat", "cohere_chat_v1", "ollama_chat", "watsonx_chat",
    }
)  # fmt: skip
"""APIs whose requests name no tool of the provider."""
_TYPED: Final = {"tools": [{"type": "moon_search"}]}
_BY_KEY: Final = {"tools": [{"moonSearch": {}}]}
_UNHEARD_OF: Final[Mapping[str, Body]] = {
    "live": {"delegation": {"responses": _TYPED}},
    "generate_content": _BY_KEY,
    "bidi_generate_content": _BY_KEY,
    "converse": {"toolConfig": {"tools": [{"systemTool": {"name": "moon_search"}}]}},
    "dashscope_generation": {"parameters": _TYPED},
}
"""Requests for a tool that is in no list, by API; of the others it is `_TYPED`."""


@pytest.mark.parametrize("api", [*sorted(APIS.keys() - _WITHOUT_HOSTED_TOOLS), "v1/conversations"])
def test_tool_in_no_list_is_named_on_every_api(api: str, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text('{"models": {"m": {"input": 1, "output": 1}}}')
    pricer = Pricer(read_prices(tmp_path / "own.json"))
    usage = Usage(input_tokens=10, output_tokens=5)
    for requested, is_exact in ({}, True), (_UNHEARD_OF.get(api, _TYPED), False):
        call = call_of(api, {"model": "m", **requested}, {}, usage=usage, provider="elsewhere")
        cost = pricer.priced(call).cost
        assert cost is not None
        assert cost.estimated is not is_exact
        assert is_exact or "no price for" in str(cost.reason)


_CHAT: Final = {"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "Hi"}}]}
_TOKENS: Final = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def stated(usage: Body, **beside: Any) -> Body:
    return _CHAT | {"usage": _TOKENS | usage} | beside


def gateway(**stated: str) -> Body:
    return {"choices": [{"index": 0, "message": {"content": "Hi", "provider_metadata": {"gateway": stated}}}]}


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
def test_stated_cost_is_the_cost(server: str, answer: Body, usd: str | None, estimated: bool) -> None:
    cost = Pricer().priced(call_of("chat_completions", {}, answer, provider="elsewhere")).cost
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
def test_gateway_header_states_the_cost(
    headers: dict[str, str], stated: object, usage: Body | None, provider: ScriptedProvider, client: OpenAI
) -> None:
    provider.reply(headers=dict(headers), usage=usage)
    with capture() as seen:
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hi"}])
    found = seen.records[0].usage or Usage()
    assert (found.cost_usd, found.cost_estimated) == stated


def test_usage_of_a_cut_stream_is_partial(provider: ScriptedProvider, client: OpenAI) -> None:
    """As by Perplexity, in every chunk."""
    delta = {"index": 0, "delta": {"content": "a"}}
    provider.reply(raw=[{"id": "c", "choices": [delta], "usage": {**_TOKENS, "cost": 0.005}}])
    with capture() as seen:
        list(client.chat.completions.create(model="sonar", messages=[], stream=True))
    assert seen.records[0].cost == Cost(
        usd=Decimal("0.005"), source="provider", estimated=True, reason="the stream was cut off"
    )


@pytest.mark.parametrize(
    ("block", "split", "reason"),
    [
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, {}, "no price for cache_ttl=1h"),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, {"ephemeral_1h_input_tokens": 400}, None),
        ({"cache_control": {"type": "ephemeral", "ttl": "5m"}}, {}, None),
        ({"text": '{"ttl":"1h"}'}, {}, None),
    ],
    ids=["an hour", "an hour, as counted", "five minutes", "a text about an hour"],
)
@pytest.mark.parametrize("content", ["full", "off"])
def test_one_hour_cache_is_read_from_any_part_of_the_request(
    block: Body, split: Body, reason: str | None, content: Content, provider: ScriptedProvider, claude: Anthropic
) -> None:
    """Where an answer does not split what was written: at gateways, and at some platforms."""
    counted = {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 400}
    usage = counted | ({"cache_creation": {"ephemeral_5m_input_tokens": 0} | split} if split else {})
    answer = {"id": "m", "type": "message", "role": "assistant", "model": "claude-opus-4-8", "content": []}
    provider.reply(raw=answer | {"stop_reason": "end_turn", "usage": usage})
    system: Any = [{"type": "text", "text": "Be kind."} | block]
    with capture(content=content) as seen:
        claude.messages.create(model="claude-opus-4-8", max_tokens=9, messages=[], system=system)
    (record,) = seen.records
    cost = Pricer().priced(msgspec.structs.replace(record, server_address="api.anthropic.com")).cost
    assert cost is not None
    assert cost.reason == reason


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
def test_priced_request_option_has_a_row(place: str) -> None:
    fields = {name for name in get_type_hints(class_at(place)) if ABOUT_PRICES.search(name)}
    assert fields - ASKED - NO_PRICE.keys() == set()


@pytest.mark.parametrize("place", USAGES)
def test_usage_field_is_counted_or_has_a_row(place: str) -> None:
    assert set(class_at(place).model_fields) - STATED - COUNTED == set()
