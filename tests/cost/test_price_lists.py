"""Prices: exactly what the published list calculates, the user's own file before it, and `callspan reprice`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.commands import ask
from tests.support.left_behind import leave_behind
from tests.support.processes import ran
from tests.support.records import SECOND, keep, made
from tests.support.scale import scaled

from callspan import open_store
from callspan.cost import Pricer, read_prices
from callspan.cost.published import PriceList
from callspan.cost.unknown import why_unknown
from callspan.providers.base import Operation
from callspan.records import (
    Attempt,
    CallRecord,
    Conversation,
    Cost,
    Media,
    Message,
    Request,
    Response,
    Stream,
    Text,
    Timing,
    Usage,
    UsageIteration,
)
from callspan.stores import end_of

genai_prices = pytest.importorskip("genai_prices", reason="needs published prices: pip install 'callspan[cost]'")
START_NS = 1_795_000_000_000_000_000
"""A time at which the prices of today are in force."""


def cost_of(record: CallRecord, prices: Path | None = None) -> Cost | None:
    """Return what a call costs by this price file, else by published prices."""
    return Pricer(None if prices is None else read_prices(prices)).priced(record).cost


def counted(model: str | None = "gpt-4o", provider: str = "openai", **fields: Any) -> CallRecord:
    """Return a call of `model` at `provider` with these counts of tokens, none out; `tier` is that of the answer."""
    counts = {"output_tokens": 0} | {name: fields.pop(name) for name in list(fields) if "tokens" in name}
    usage = fields.pop("usage", Usage(**counts))
    about = {"request": Request(model=model), "response": Response(service_tier=fields.pop("tier", None))}
    given = {"call_id": "c1", "at_ns": START_NS, "provider": provider, "api": "chat_completions", "usage": usage}
    return made(**(given | about | fields))


@pytest.mark.parametrize(
    ("record", "usd"),
    [
        (counted(input_tokens=10, cache_read_tokens=50), None),
        (counted("no-such-model", input_tokens=10, output_tokens=5), None),
        (counted("gpt-4o", "ollama", input_tokens=10, output_tokens=5), None),
        (counted(None, input_tokens=10, output_tokens=5), None),
        (counted(input_tokens=1000, outcome="cancelled"), "0.0025"),
        (counted(input_tokens=1000, stream=Stream(end="cut_off")), "0.0025"),
        (counted(input_tokens=1000, server_address="gateway.example"), "0.0025"),
        (counted(usage=Usage(input_tokens=1000, estimated=True)), "0.0025"),
    ],
    ids=["contradictory", "model", "provider", "no model", "cancelled", "cut off", "behind a gateway", "counted by us"],
)
def test_uncertain_cost_is_unknown_or_estimated(record: CallRecord, usd: str | None) -> None:
    cost = cost_of(record)
    assert (cost and (cost.usd, cost.estimated)) == (usd and (Decimal(usd), True))


def test_estimated_cost_states_all_reasons() -> None:
    usage = Usage(input_tokens=1000, estimated=True)
    cost = cost_of(counted(usage=usage, outcome="cancelled", server_address="gateway.example"))
    assert cost.reason == (
        "gateway.example is not the provider's own host; estimated tokens; unknown output tokens;"
        " the call ended as cancelled"
    )


OWN_HOSTS = {
    "openai": ("gpt-4o", "api.openai.com", "eu.api.openai.com"),
    "anthropic": ("claude-sonnet-4-5", "api.anthropic.com"),
    "gcp.gemini": ("gemini-2.5-flash", "generativelanguage.googleapis.com"),
    "gcp.vertex_ai": ("gemini-2.5-flash", "aiplatform.googleapis.com", "us-central1-aiplatform.googleapis.com"),
    "aws.bedrock": ("anthropic.claude-sonnet-4-5-20250929-v1:0", "bedrock-runtime.us-east-1.amazonaws.com"),
    "azure.ai.openai": ("gpt-4o", "me.openai.azure.com", "me.services.ai.azure.com"),
    "groq": ("openai/gpt-oss-120b", "api.groq.com"),
    "deepseek": ("deepseek-chat", "api.deepseek.com"),
    "mistral_ai": ("mistral-large-latest", "api.mistral.ai"),
    "x_ai": ("grok-4-0709", "api.x.ai", "us-east-1.api.x.ai"),
    "perplexity": ("sonar", "api.perplexity.ai"),
    "cohere": ("command-r-plus", "api.cohere.com", "api.cohere.ai"),
    "moonshot_ai": ("kimi-k2-0905-preview", "api.moonshot.ai"),
    "openrouter": ("openai/gpt-4o", "openrouter.ai"),
    "together": ("openai/gpt-oss-120b", "api.together.xyz", "API.Together.ai."),
    "cerebras": ("gpt-oss-120b", "api.cerebras.ai"),
    "fireworks": ("accounts/fireworks/models/gpt-oss-120b", "api.fireworks.ai"),
    "z_ai": ("glm-4.6", "api.z.ai", "open.bigmodel.cn"),
}
"""A model of each provider with published prices, and the provider's own hosts."""


@pytest.mark.parametrize("provider", OWN_HOSTS)
def test_cost_at_a_host_that_is_not_the_providers_is_an_estimate(provider: str) -> None:
    model, *hosts = OWN_HOSTS[provider]
    foreign = ("gw.example", "localhost", "127.0.0.1", f"{hosts[0]}.example", f"my{hosts[0].replace('.', '-')}.example")
    for host in (*hosts, *foreign):
        cost = cost_of(counted(model, provider, input_tokens=1000, server_address=host))
        assert cost is not None, (provider, model)
        assert (f"{host} is not the provider's own host" in (cost.reason or "")) == (host in foreign), host
        assert cost.estimated >= (host in foreign)


@pytest.mark.parametrize("operation", get_args(Operation))
@pytest.mark.parametrize(("inputs", "output"), [(1000, None), (0, None), (0, 0), (1000, 0)])
def test_unknown_output_is_an_estimate_of_every_operation_that_answers_with_tokens(
    operation: str, inputs: int, output: int | None
) -> None:
    cost = cost_of(counted(operation=operation, input_tokens=inputs, output_tokens=output))
    answers = operation not in ("embeddings", "decisions", "moderation", "rerank")
    assert cost and cost.estimated == (answers and (inputs, output) != (1000, 0))


def heard(side: str, kind: str | None) -> Conversation:
    parts = [Text(text="Hi")] if kind is None else [Text(text="Hi"), Media(modality=kind)]
    return Conversation(**{side: [Message(role="user", parts=parts)]})


@pytest.mark.parametrize(
    ("model", "provider", "side", "kind", "counts", "is_estimate"),
    [
        ("gemini-2.5-flash-image", "gcp.gemini", "output", "image", {}, True),
        ("gemini-2.5-flash-image", "gcp.vertex_ai", "output", "image", {}, True),
        ("gemini-2.5-flash-image", "gcp.gemini", "output", "image", {"output_image_tokens": 9}, False),
        ("gemini-2.5-flash-image", "gcp.gemini", "output", "image", {"output_text_tokens": 10}, False),
        ("gemini-2.5-flash-image", "gcp.gemini", "output", None, {}, False),
        ("gemini-2.5-flash-image", "gcp.gemini", "input", "image", {"output_text_tokens": 10}, False),
        ("gemini-2.5-flash", "gcp.gemini", "input", "audio", {}, True),
        ("gemini-2.5-flash", "gcp.gemini", "input", "video", {}, True),
        ("gemini-2.5-flash", "gcp.gemini", "input", "audio", {"input_audio_tokens": 5}, False),
        ("gemini-2.5-flash", "gcp.gemini", "input", "image", {}, False),
        ("gpt-image-1.5", "openai", "output", "image", {}, True),
        ("gpt-audio", "openai", "output", "audio", {}, True),
        ("gpt-4o", "openai", "input", "image", {}, False),
    ],
)
def test_tokens_of_media_that_are_not_counted_apart_make_an_estimate(
    model: str, provider: str, side: str, kind: str | None, counts: dict[str, int], is_estimate: bool
) -> None:
    usage = Usage(**({"input_tokens": 10, "output_tokens": 10} | counts))
    cost = cost_of(counted(model, provider, usage=usage, conversation=heard(side, kind)))
    reason = f"the {'audio' if kind == 'video' else kind} tokens of its {side} are not counted"
    assert cost and (cost.estimated, cost.reason) == (is_estimate, reason if is_estimate else None)


def test_missing_price_package_means_no_cost(tmp_path: Path) -> None:
    program = """
import sys; sys.modules["genai_prices"] = None
from tests.support.records import made
from callspan.cost import Pricer
from callspan.records import Usage
print(Pricer().priced(made(provider="openai", usage=Usage(input_tokens=5))).cost)
"""
    assert ran("-c", program, cwd=tmp_path).stdout.strip() == "None"


SPOKEN: dict[str, Any] = {
    "input_tokens": 132, "input_audio_tokens": 13, "input_image_tokens": 0, "cache_read_tokens": 64,
    "cache_read_audio_tokens": 4, "cache_read_image_tokens": 0, "output_tokens": 121, "output_audio_tokens": 91,
}  # fmt: skip
"""Millionths of a dollar: 59 * 4 + 60 * 0.4 for text, 9 * 32 + 4 * 0.4 for audio, 30 * 16 + 91 * 64 for the answer."""


@pytest.mark.parametrize(
    ("model", "usage", "usd"),
    [
        ("gpt-image-1",
         Usage(input_tokens=50, input_image_tokens=40, output_tokens=100, output_image_tokens=100), "0.00445"),
        ("gpt-image-1.5", Usage(input_tokens=50, output_tokens=100, output_image_tokens=90), "0.00323"),
        ("whisper-1", Usage(input_audio_seconds=12.5), "0.00125"),
        ("gpt-realtime", Usage(**SPOKEN), "0.0068536"),
        ("gpt-realtime", Usage(**SPOKEN | {"cache_read_audio_tokens": 0}), "0.0069656"),
        ("gpt-realtime", Usage(**SPOKEN | {"cache_read_audio_tokens": None}), None),
        ("gpt-4o", Usage(input_audio_seconds=12.5), None),
        ("dall-e-3", Usage(output_images=1), None),
        ("gpt-image-1", Usage(input_tokens=5, output_tokens=1, raw={"svg_usage": {"input_tokens": 9}}), None),
    ],
)  # fmt: skip
def test_images_and_audio_are_priced_by_their_counts(model: str, usage: Usage, usd: str | None) -> None:
    for _ in range(2):
        found = cost_of(counted(model, usage=usage))
        assert (found and (found.usd, found.reason)) == (usd and (Decimal(usd), None))


def test_batch_uses_its_published_price_or_half() -> None:
    """The list has batch prices of some models, from some day on."""
    counts = {"input_tokens": 100_000, "output_tokens": 10_000, "batch_id": "b"}

    def cost(model: str, provider: str, host: str, **fields: object) -> tuple[Decimal, bool]:
        found = cost_of(counted(model, provider, server_address=host, **{**counts, **fields}))
        return found.usd, found.estimated

    anthropic = "api.anthropic.com"
    assert cost("claude-sonnet-4-5", "anthropic", anthropic, tier="batch") == (Decimal("0.225"), False)
    assert cost("claude-sonnet-4-5", "anthropic", "gateway.example", tier="batch") == (Decimal("0.225"), True)
    long_ago = Timing(start_ns=1_700_000_000_000_000_000)
    assert cost("claude-sonnet-4-20250514", "anthropic", anthropic, timing=long_ago) == (Decimal("0.225"), True)
    whole = cost("gpt-3.5-turbo-instruct", "openai", "api.openai.com", batch_id=None)
    assert cost("gpt-3.5-turbo-instruct", "openai", "api.openai.com") == (whole[0] / 2, True)


_NAMES = {"web_search_requests": "web_searches"}
Asked = tuple[tuple[str, str], ...]


def by_the_list(provider: str, model: str, asked: Asked, start_ns: int, usage: Usage) -> Decimal | None:
    counts = {_NAMES.get(name, name): count for name in usage.__struct_fields__ if (count := getattr(usage, name))}
    try:
        found = genai_prices.calc_price(
            genai_prices.Usage(**counts),
            model_ref=model,
            provider_id=provider,
            genai_request_timestamp=datetime.fromtimestamp(start_ns // SECOND, tz=timezone.utc),
            price_context=dict(asked) or None,
        )
    except (LookupError, ValueError):
        return None
    return Decimal(found.total_price)


def usages(chance: random.Random) -> Iterator[Usage]:
    """Counts as providers state them, and some that contradict one another."""
    for most in (10, 5_000, 150_000, 210_000, 1_200_000):
        tokens = chance.randrange(1, most)
        read, written = chance.randrange(tokens), chance.randrange(tokens // 2 + 1)
        yield Usage(input_tokens=tokens, output_tokens=chance.randrange(most))
        yield Usage(input_tokens=tokens, output_tokens=7, cache_read_tokens=read)
        yield Usage(
            input_tokens=tokens + read + written, output_tokens=chance.randrange(most), cache_read_tokens=read,
            cache_write_tokens=written, cache_write_1h_tokens=written // 3, web_search_requests=chance.randrange(2),
        )  # fmt: skip
        yield Usage(input_tokens=tokens, input_audio_tokens=tokens // 2, cache_read_tokens=tokens // 4, output_tokens=1)
        yield Usage(input_tokens=tokens, cache_write_tokens=written, cache_write_5m_tokens=written // 2)


def models() -> list[tuple[str, Any]]:
    return [(provider.id, model) for provider in genai_prices.data_snapshot.get_snapshot().providers
            for model in provider.models]  # fmt: skip


@pytest.mark.parametrize("part", range(scaled(1, 16)))
def test_every_model_costs_exactly_the_list_price(part: int) -> None:
    chance, prices, kept = random.Random(part), PriceList(genai_prices), 0
    for provider, model in models()[part::16]:
        asked = chance.choice([(), (("service_tier", "flex"),), (("speed", "fast"),)])
        for turn in range(2):
            for usage in usages(chance):
                start_ns = START_NS + turn * SECOND
                found = prices.usd((provider, model.id), asked, start_ns, usage)
                expected = by_the_list(provider, model.id, asked, start_ns, usage)
                assert str(found) == str(expected), (provider, model.id, asked, usage)
                kept += 1
    assert kept


def test_price_is_that_of_the_call_time() -> None:
    prices = PriceList(genai_prices)
    usage = Usage(input_tokens=1000, output_tokens=500)
    dated = [(provider, model) for provider, model in models() if isinstance(model.prices, list)]
    assert dated
    for provider, model in dated:
        for year in (2023, 2024, 2025, 2026):
            for hour in (2, 17):
                start_ns = int(datetime(year, 9, 6, hour, 40, tzinfo=timezone.utc).timestamp()) * SECOND
                found = prices.usd((provider, model.id), (), start_ns, usage)
                assert str(found) == str(by_the_list(provider, model.id, (), start_ns, usage))


@pytest.mark.parametrize("total", [0.1, Decimal("NaN"), None])
def test_inexact_published_price_is_unknown(total: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a later version of the package may state it."""
    monkeypatch.setattr(genai_prices, "calc_price", lambda *_, **__: SimpleNamespace(total_price=total))
    assert PriceList(genai_prices).usd(("openai", "gpt-5"), (), START_NS, Usage(input_tokens=1)) is None


# The user's own file.


def written(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("provider", "model", "usd"),
    [
        ("openai", "gpt-5", 1), ("openai", "gpt-5-mini-2025", 2), ("openai", "gpt-5-mini", 3),
        ("azure.ai.openai", "gpt-5", 4), ("openai", "llama", 5),
    ],
)  # fmt: skip
def test_exact_name_precedes_longest_pattern(tmp_path: Path, provider: str, model: str, usd: int) -> None:
    rows = {"gpt-5*": 1, "gpt-5-mini*": 2, "gpt-5-mini": 3, "azure.ai.openai/gpt-5*": 4, "*": 5}
    path = written(tmp_path / "p.json", {"models": {name: {"input": price} for name, price in rows.items()}})
    assert cost_of(counted(model, provider, input_tokens=1_000_000), path) == Cost(usd=Decimal(usd), source="p")


def test_unlisted_models_keep_their_published_price(tmp_path: Path) -> None:
    path = written(tmp_path / "p.json", {"models": {"other": {"input": 1}}})
    assert cost_of(counted("gpt-4o", input_tokens=1000), path).source.startswith("genai-prices")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "truncated"),
        ({"models": {"m": {"input": 1, "inputs": 2}}}, "inputs"),
        ({"models": {"m": {"input": "-1"}}}, "input is -1"),
        (
            {"models": {"m": {"input": 1, "tiers": {"flex": {"input": -1}}}}},
            "input is -1: use a non-negative amount - at `$.models[...].tiers",
        ),
        ({"models": {"m": {"input": 1, "tools": {"web_search": -2}}}}, "web_search is -2"),
        ({"models": {}, "currency": "EUR"}, "EUR"),
    ],
)
def test_invalid_price_file_is_rejected_with_a_reason(tmp_path: Path, content: object, expected: str) -> None:
    store = keep(f"sqlite:///{tmp_path}/calls.db", counted("m", "x"))
    answer = ask("--store", store, "reprice", "--prices", str(written(tmp_path / "prices.json", content)))
    assert answer.code == 2
    assert {"prices.json" in answer.err, expected in answer.err} == {True}, answer.err


AMOUNTS = st.decimals(min_value=0, max_value=1000, places=9)
COUNTS = st.integers(0, 10**12)


@given(AMOUNTS, AMOUNTS, COUNTS, COUNTS)
def test_money_keeps_every_digit(
    tmp_path_factory: pytest.TempPathFactory, price: Decimal, other: Decimal, sent: int, received: int
) -> None:
    models = {"m": {"input": str(price), "output": str(other)}}
    path = written(tmp_path_factory.mktemp("prices") / "p.json", {"models": models})
    cost = cost_of(counted("m", "x", input_tokens=sent, output_tokens=received), path)
    billionths = int(price.scaleb(9)) * sent + int(other.scaleb(9)) * received
    assert cost.usd.scaleb(15) == billionths


def test_batch_uses_its_price_in_the_file_or_half(tmp_path: Path) -> None:
    """Whatever service tier the answer names."""
    models = {"m": {"input": 10, "tiers": {"batch": {"input": 4}, "flex": {"input": 5}}}, "n": {"input": "0.1"}}
    path = written(tmp_path / "p.json", {"models": models})

    def cost(model: str, tier: str | None, batch_id: str | None = "batch_1") -> tuple[Decimal, bool]:
        found = cost_of(counted(model, "elsewhere", tier=tier, batch_id=batch_id, input_tokens=1_000_001), path)
        return found.usd, found.estimated

    assert cost("m", None, None) == (Decimal("10.00001"), False)
    assert cost("m", "default") == cost("m", "flex") == (Decimal("4.000004"), False)
    assert cost("n", "default") == cost("n", "batch") == (Decimal("0.05000005"), True)


def test_missing_price_file(store: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Of the records that a process has left behind: they have published prices, and one warning says so."""
    leave_behind(store, counted("nobody-knows", input_tokens=1))
    monkeypatch.setenv("CALLSPAN_PRICES", "missing.json")
    with closing(open_store(store, deliver=True)) as reader:
        assert [one.cost for one in reader.calls()] == [None]
    assert "Could not read the price file" in caplog.text


# `callspan reprice`: new costs, in a store.


PRICES = {"version": "v1", "models": {"m": {"input": "0.003", "output": "0.29"}}}


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("CALLSPAN_PRICES", raising=False)
    return str(written(tmp_path / "prices.json", PRICES))


def costs(url: str) -> dict[str, Cost | None]:
    with closing(open_store(url)) as reader:
        return {call.call_id: call.cost for call in reader.calls()}


def reprice(url: str, *arguments: str) -> Any:
    return ask("--store", url, "reprice", "--json", *arguments).json


def test_reprice_fills_missing_costs_and_on_request_all_computed(store: str, prices: str) -> None:
    old, stated = Cost(usd=Decimal("0.5"), source="v0"), Cost(usd=Decimal("0.7"), source="provider")
    keep(
        store,
        counted("m", "x", call_id="a", input_tokens=1, output_tokens=1),
        counted("m", "x", call_id="b", input_tokens=1, cost=old),
        counted("dark", "x", call_id="c", input_tokens=1),
        counted("m", "x", call_id="d", usage=Usage(input_tokens=1, cost_usd=Decimal("0.7")), cost=stated),
    )
    assert reprice(store, "--prices", prices) == {"calls": 4, "changed": 1, "written": True}
    new = Cost(usd=Decimal("0.000000293"), source="v1")
    assert costs(store) == {"a": new, "b": old, "c": None, "d": stated}
    assert [reprice(store, "--all", "--prices", prices)["changed"] for _ in range(2)] == [1, 0]
    assert costs(store) == {"a": new, "b": Cost(usd=Decimal("0.000000003"), source="v1"), "c": None, "d": stated}


def test_run_within_a_call_has_its_own_cost(store: str, prices: str) -> None:
    run = UsageIteration(kind="advisor_message", model="m", input_tokens=1, output_tokens=1)
    keep(store, counted("m", "x", call_id="a", usage=Usage(input_tokens=3, output_tokens=1, iterations=[run])))
    reprice(store, "--prices", prices)
    with closing(open_store(store)) as reader:
        (call,) = reader.calls()
    assert call.cost == Cost(usd=Decimal("0.000000299"), source="v1")
    assert [run.cost for run in call.usage.iterations] == [Cost(usd=Decimal("0.000000293"), source="v1")]


def test_reprice_changes_only_the_cost(store: str, prices: str) -> None:
    keep(store, counted("m", "x", call_id="a", input_tokens=1, metadata={"deep": [1, {"x": None}]}))
    before = next(iter(open_store(store).calls()))
    reprice(store, "--prices", prices)
    after = next(iter(open_store(store).calls()))
    names = [name for name in after.__struct_fields__ if name not in {"cost", "seen_ns"}]
    assert [getattr(after, name) for name in names] == [getattr(before, name) for name in names]
    assert after.seen_ns == end_of(before) + 1, "retention begins with the call"


def unanswered(call_id: str, kinds: list[str], **fields: Any) -> CallRecord:
    """A call all of whose attempts have got no answer, except for the last if it has a usage."""
    attempts = [
        Attempt(number=number, start_ns=0, error_kind=kind, may_be_billed=kind != "connection")
        for number, kind in enumerate(kinds, start=1)
    ]
    request = Request(model="gpt-4o", params=fields.pop("params", {"max_tokens": 1000}), body_bytes=2000)
    return made(call_id, provider="openai", api="chat_completions", request=request, attempts=attempts, **fields)


@pytest.mark.parametrize(
    ("calls", "line"),
    [
        ([unanswered("a", ["timeout"] * 3, outcome="timeout")],
         "3 requests timed out: the provider may have billed up to $0.045"),
        ([unanswered("a", ["timeout"], outcome="timeout"),
          unanswered("b", ["timeout"], usage=Usage(input_tokens=1000), cost=Cost(usd=Decimal(1), source="x"))],
         "2 requests timed out: the provider may have billed up to $0.0275"),
        ([unanswered("a", ["cancelled"], outcome="cancelled", params={})],
         "1 request was cancelled: the provider may have billed it"),
        ([unanswered("a", ["timeout", "connection", "cancelled"], outcome="cancelled", params={"max_tokens": 1})],
         "2 requests got no answer: the provider may have billed up to $0.01"),
        ([unanswered("a", ["connection"], outcome="error")], None),
    ],
)  # fmt: skip
def test_requests_that_may_have_been_billed_have_a_bound(calls: list[CallRecord], line: str | None) -> None:
    """In the order of the price list of gpt-4o: $2.50 for a million tokens of input, $10 for output."""
    assert list(why_unknown(calls, Pricer)) == ([] if line is None else [f"no cost: {line}"])


def test_answer_after_a_request_that_may_have_been_billed_is_an_estimate() -> None:
    usage = Usage(input_tokens=1000, output_tokens=0)
    exact = cost_of(unanswered("a", ["connection", "connection"], usage=usage))
    cost = cost_of(unanswered("a", ["timeout", "timeout"], usage=usage))
    assert exact == Cost(usd=Decimal("0.0025"), source=exact.source if exact else "")
    assert cost and (cost.usd, cost.estimated) == (Decimal("0.0025"), True)
    assert cost.reason == "2 requests of unknown usage may have been billed"
