"""What spans of every vocabulary state: providers, counters, costs, ends. A new vocabulary is a row of each table."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from tests.receive.conftest import (
    COST,
    COUNTERS,
    PROVIDER,
    PROVIDERS,
    PROVIDERS_OF_HOSTS,
    Kept,
    pricer_for,
    span,
    traces,
)

from callspan.records import CallRecord

GPT, CLAUDE, GEMINI = "gpt-4o", "claude-sonnet-4-5", "gemini-2.5-flash"
NAMES: dict[str, tuple[str | None, str]] = {
    "openai": (GPT, "openai OpenAI OPENAI openai.chat openai.responses"),
    "anthropic": (CLAUDE, "anthropic Anthropic anthropic.messages"),
    "azure.ai.openai": (GPT, "azure.ai.openai az.ai.openai azure Azure azure_openai azure-openai.chat azure.responses"),
    "azure.ai.inference": (None, "azure.ai.inference az.ai.inference azure_ai"),
    "aws.bedrock": (None, "aws.bedrock aws AWS bedrock Bedrock amazon-bedrock bedrock_converse"),
    "gcp.gemini": (
        GEMINI,
        "gcp.gemini gcp.gen_ai google Google gemini Gemini google.generative-ai google_genai google-gla GoogleAI",
    ),
    "gcp.vertex_ai": (
        GEMINI, "gcp.vertex_ai vertex_ai vertexai VertexAI google-vertex google.vertex.chat vertex_ai_beta",
    ),
    "mistral_ai": ("mistral-large-latest", "mistral_ai mistralai mistral MistralAI mistral.chat"),
    "x_ai": ("grok-4", "x_ai xai xAI xai.chat"),
    "moonshot_ai": (None, "moonshot_ai moonshot"),
    "ibm.watsonx.ai": (None, "ibm.watsonx.ai watsonx Watsonx"),
    "cohere": ("command-r", "cohere Cohere cohere.chat"),
    "deepseek": ("deepseek-chat", "deepseek DeepSeek deepseek.chat"),
    "groq": (None, "groq Groq groq.chat"),
    "perplexity": ("sonar", "perplexity perplexity_ai"),
    "together": (None, "together together_ai TogetherAI togetherai.chat"),
    "fireworks": (None, "fireworks Fireworks fireworks_ai"),
    "cerebras": (None, "cerebras"),
    "openrouter": (None, "openrouter OpenRouter openrouter.chat"),
    "huggingface": (None, "huggingface hugging_face HuggingFace"),
    "ollama": (None, "ollama Ollama"),
    "z_ai": (None, "zai"),
    "minimax": (None, "minimax"),
    "replicate": (None, "replicate"),
}  # fmt: skip
"""Names of a provider: a model with a published price, and the names in enums and programs."""
STATED = [(provider, model, name) for provider, (model, names) in NAMES.items() for name in names.split()]
CHAT: dict[str, Any] = {"gen_ai.operation.name": "chat", "gen_ai.request.model": GPT, "gen_ai.usage.input_tokens": 10,
                        "gen_ai.usage.output_tokens": 5, "gen_ai.usage.cache_read.input_tokens": 0}  # fmt: skip


def call_of(kept: Kept, attributes: dict[str, Any], **fields: Any) -> CallRecord:
    kept.take(traces(span(attributes, **fields)), "traces")
    (call,) = kept.calls.values()
    return call


@pytest.mark.parametrize("attribute", PROVIDER)
def test_attributes_of_providers(kept: Kept, attribute: str) -> None:
    assert call_of(kept, {**CHAT, attribute: "xai"}).provider == "x_ai"


@pytest.mark.parametrize(("provider", "model", "name"), STATED)
def test_names_of_providers(kept: Kept, provider: str, model: str | None, name: str) -> None:
    call = call_of(kept, {**CHAT, "gen_ai.request.model": model or "m", "gen_ai.system": name})
    assert call.provider == provider
    if model is not None:
        cost = pricer_for(None).priced(call).cost
        assert cost is not None
        assert cost.estimated == provider.startswith("azure"), "Azure names deployments"


def test_every_name_of_the_conventions_is_known() -> None:
    enums = (gen_ai_attributes.GenAiProviderNameValues, gen_ai_attributes.GenAiSystemValues)
    names = {member.value for enum in enums for member in enum}
    assert names <= {name for _, _, name in STATED}
    assert PROVIDERS.keys() <= PROVIDERS_OF_HOSTS


def test_a_name_in_no_table_is_kept(kept: Kept) -> None:
    assert call_of(kept, {**CHAT, "gen_ai.system": "Acme.v2"}).provider == "Acme.v2"


@pytest.mark.parametrize(("value", "user"), [("ann", "ann"), (7, "7"), (["ann", "ben"], None), (["ann"], None)])
def test_user_is_one_name(kept: Kept, value: object, user: str | None) -> None:
    """As for `callspan.metadata`."""
    call = call_of(kept, {**CHAT, "user.id": value})
    assert (call.user_id, "ann" in str(call.metadata)) == (user, user == "ann")


COUNTS = [(field, name) for field, names in COUNTERS.items() for name in names]


@pytest.mark.parametrize("value", [7, 7.0, "7", "7.0"])
@pytest.mark.parametrize(("field", "name"), COUNTS)
def test_counters(kept: Kept, field: str, name: str, value: object) -> None:
    call = call_of(kept, {"gen_ai.operation.name": "chat", name: value})
    assert call.usage is not None
    assert getattr(call.usage, field) == 7


@pytest.mark.parametrize(
    "value", ["", "seven", "-7", -7, 7.5, "7.5", True, "NaN", "1e400", "9" * 30, [7], float("inf")]
)
def test_what_is_no_counter(kept: Kept, value: object) -> None:
    assert call_of(kept, {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": value}).usage is None


VERCEL = {"ai.operationId": "ai.streamText.doStream", "ai.usage.outputTokens": 20}
CLAUDE_OF_VERCEL = {**VERCEL, "ai.model.provider": "anthropic.messages", "ai.usage.cachedInputTokens": 30}
SUMS: list[tuple[dict[str, Any], tuple[int, int, int | None]]] = [
    ({**CHAT, "gen_ai.usage.cache_read.input_tokens": 90}, (100, 5, None)),
    ({**CLAUDE_OF_VERCEL, "ai.usage.inputTokens": 60, "ai.usage.totalTokens": 80}, (90, 20, 110)),
    (
        {**CLAUDE_OF_VERCEL, "ai.usage.inputTokens": 90, "ai.usage.inputTokenDetails.noCacheTokens": 60,
         "ai.usage.totalTokens": 110}, (90, 20, 110),
    ),
    (
        {**VERCEL, "ai.model.provider": "google.generative-ai", "ai.usage.inputTokens": 60,
         "ai.usage.reasoningTokens": 15, "ai.usage.totalTokens": 95}, (60, 35, 95),
    ),
]  # fmt: skip
"""Input, output and total with all their parts. Some vocabularies leave a part out, as the total or the part shows."""


@pytest.mark.parametrize(("attributes", "expected"), SUMS)
def test_counters_are_inclusive(kept: Kept, attributes: dict[str, Any], expected: tuple[int, int, int | None]) -> None:
    usage = call_of(kept, attributes).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.estimated) == (*expected, False)


def test_counters_that_contradict_each_other_are_marked(kept: Kept) -> None:
    usage = call_of(kept, {**CHAT, "gen_ai.usage.total_tokens": 9}).usage
    assert usage is not None
    assert usage.estimated


@pytest.mark.parametrize("value", [0.0001475, "0.0001475"])
@pytest.mark.parametrize("name", COST)
def test_a_stated_cost_stands(kept: Kept, name: str, value: object) -> None:
    cost = pricer_for(None).priced(call_of(kept, {**CHAT, "gen_ai.provider.name": "openai", name: value})).cost
    assert cost is not None
    assert (cost.usd, cost.source, cost.estimated) == (Decimal("0.0001475"), "provider", False)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, "unknown cached tokens"),
        ({"gen_ai.usage.cache_read.input_tokens": 0}, None),
        ({"gen_ai.usage.cache_read.input_tokens": 4}, None),
        ({"gen_ai.provider.name": "cohere", "gen_ai.request.model": "command-r"}, None),
        ({"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "text-embedding-3-small"}, None),
    ],
)
def test_cost_without_a_counter_of_the_cache_is_marked(kept: Kept, attributes: Any, reason: str | None) -> None:
    stated = {**CHAT, "gen_ai.provider.name": "openai", **attributes}
    if "gen_ai.usage.cache_read.input_tokens" not in attributes:
        del stated["gen_ai.usage.cache_read.input_tokens"]
    cost = pricer_for(None).priced(call_of(kept, stated)).cost
    assert cost is not None
    assert (cost.reason, cost.estimated) == (reason, reason is not None)


REASONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"gen_ai.response.finish_reasons": ["length", "stop"]}, ["length", "stop"]),
    ({"gen_ai.response.finish_reasons": '["length"]'}, ["length"]),
    ({"gen_ai.response.finish_reasons": "length"}, ["length"]),
    ({"llm.finish_reason": "length"}, ["length"]),
    ({"ai.response.finishReason": "length"}, ["length"]),
    ({"gen_ai.completion.0.finish_reason": "length"}, ["length"]),
    ({"gen_ai.response.finish_reasons": []}, []),
    ({"gen_ai.response.finish_reasons": "["}, ["["]),
]


@pytest.mark.parametrize(("attributes", "reasons"), REASONS)
def test_finish_reasons(kept: Kept, attributes: dict[str, Any], reasons: list[str]) -> None:
    response = call_of(kept, {**CHAT, **attributes}).response
    assert response is not None
    assert (response.finish_reasons, response.truncated) == (reasons, "length" in reasons)


ENDS: list[tuple[dict[str, Any], dict[str, Any], tuple[object, ...]]] = [
    ({}, {"status": {"code": 2}}, ("unknown", "unknown", None, None)),
    ({}, {"status": {"code": 2, "message": "Too many."}}, ("unknown", "unknown", "Too many.", None)),
    ({"error.type": "RateLimitError"}, {}, ("rate_limit", "RateLimitError", None, None)),
    ({"error.type": "429"}, {"status": {"code": 2}}, ("rate_limit", "429", None, 429)),
    ({"http.response.status_code": 503}, {"status": {"code": 2}}, ("overloaded", "503", None, 503)),
    ({}, {"status": {"code": 2}, "events": [
        {"name": "exception", "attributes": span({"exception.type": "openai.RateLimitError",
                                                  "exception.message": "Too many."})["attributes"]}]},
     ("rate_limit", "RateLimitError", "Too many.", None)),
]  # fmt: skip


@pytest.mark.parametrize(("attributes", "fields", "expected"), ENDS)
def test_errors(kept: Kept, attributes: Any, fields: Any, expected: tuple[object, ...]) -> None:
    error = call_of(kept, {**CHAT, **attributes}, **fields).error
    assert error is not None
    assert (error.kind, error.type, error.message, error.status) == expected


def test_an_exception_that_a_span_survived_is_no_error(kept: Kept) -> None:
    assert call_of(kept, CHAT, events=[{"name": "exception", "attributes": []}]).error is None
