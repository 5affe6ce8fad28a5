"""Every report that a provider's page, API or SDK saves is read; what is none is refused in one sentence."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import cast

import pytest

from .conftest import Billed, Measure, ReportError, read_report

_DAY = 1_761_955_200 * 10**9
"""2025-11-01T00:00:00Z."""
_HOUR = 3600 * 10**9


def _page(*results: dict[str, object], **bucket: object) -> bytes:
    """Return a page with one bucket."""
    return json.dumps({"object": "page", "data": [{**bucket, "results": list(results)}], "has_more": False}).encode()


_UNIX = {"start_time": _DAY // 10**9, "end_time": _DAY // 10**9 + 3600}
_TEXT = {"starting_at": "2025-11-01T00:00:00Z", "ending_at": "2025-11-01T01:00:00Z"}
_OPENAI = {"object": "organization.usage.completions.result", "model": "gpt-5-2025-08-07", "num_model_requests": 5}
_OPENAI_TOKENS = {"input_tokens": 100, "input_cached_tokens": 40, "output_tokens": 9, "batch": None}
_ANTHROPIC = {
    "uncached_input_tokens": 1500,
    "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
    "cache_read_input_tokens": 200,
    "output_tokens": 500,
    "service_tier": "batch",
    "model": "claude-sonnet-4-5",
}
_ACTIVITY = {"date": "2025-11-01", "model": "openai/gpt-4.1", "usage": 0.015, "requests": 5}
_FOCUS = (
    "ChargePeriodStart,ChargePeriodEnd,ServiceName,BilledCost,BillingCurrency,SkuId\n"
    "2025-11-01T00:00:00Z,2025-11-01T01:00:00Z,{service},0.1,{currency},A\n"
    "2025-11-01T00:00:00Z,2025-11-01T01:00:00Z,{service},0.2,{currency},A\n"
    "2025-11-01T00:00:00Z,2025-11-01T01:00:00Z,Amazon S3,7,USD,B\n"
)


def _billed(
    provider: str, model: str | None, *, hours: int = 1, is_batch: bool = False, **amounts: float | str
) -> Billed:
    """Return a row of the bucket that begins at `_DAY`."""
    stated = cast("dict[Measure, Decimal]", {name: Decimal(amount) for name, amount in amounts.items()})
    return Billed(_DAY, _DAY + hours * _HOUR, provider, model, stated, is_batch)


_ACTIVITY_ROW = _billed(
    "openrouter", "openai/gpt-4.1", hours=24, requests=5, input_tokens=50, output_tokens=125, cost_usd="0.015"
)
_SNAKE = {"model_permaslug": "openai/gpt-4.1-2025-04-14", "prompt_tokens": 50, "completion_tokens": 125}
_CAMEL = {"modelPermaslug": "openai/gpt-4.1-2025-04-14", "promptTokens": 50, "completionTokens": 125}
_MODEL = "gpt-5-2025-08-07"
_COSTS: dict[str, object] = {"amount": {"value": 0.3, "currency": "usd"}, "line_item": None}
_CSV = (
    b"\xef\xbb\xbfdate,model,model_permaslug,usage,requests,prompt_tokens,completion_tokens\r\n"
    b"2025-11-01 00:00:00,openai/gpt-4.1,openai/gpt-4.1-2025-04-14,0.015,5,50,125\r\n"
)
_REPORTS = {
    "OpenAI usage": (
        _page({**_OPENAI, **_OPENAI_TOKENS}, **_UNIX),
        _billed("openai", _MODEL, requests=5, input_tokens=100, cached_tokens=40, output_tokens=9),
    ),
    "OpenAI embeddings, in a batch": (
        _page({**_OPENAI, "input_tokens": 7, "batch": True}, **_UNIX),
        _billed("openai", _MODEL, is_batch=True, requests=5, input_tokens=7),
    ),
    "OpenAI costs": (_page(_COSTS, **_UNIX), _billed("openai", None, cost_usd="0.3")),
    "Anthropic usage": (
        _page(_ANTHROPIC, **_TEXT),
        _billed(
            *("anthropic", "claude-sonnet-4-5"),
            is_batch=True, input_tokens=3200, cached_tokens=200, written_tokens=1500, output_tokens=500,
        ),
    ),
    "Anthropic costs, in cents": (
        _page({"amount": "30.0", "currency": "USD", "model": "claude-sonnet-4-5"}, **_TEXT),
        _billed("anthropic", None, cost_usd="0.3"),
    ),
    "OpenRouter activity": (json.dumps({"data": [{**_ACTIVITY, **_SNAKE}]}).encode(), _ACTIVITY_ROW),
    "OpenRouter activity, by its SDK": (json.dumps({"data": [{**_ACTIVITY, **_CAMEL}]}).encode(), _ACTIVITY_ROW),
    "OpenRouter activity as CSV": (_CSV, _ACTIVITY_ROW),
    "Bedrock as FOCUS": (
        _FOCUS.format(service="Amazon Bedrock", currency="USD").encode(),
        _billed("aws.bedrock", None, cost_usd="0.3"),
    ),
    "Vertex as FOCUS": (
        _FOCUS.format(service="Vertex AI", currency="USD").encode(),
        _billed("gcp.vertex_ai", None, cost_usd="0.3"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _REPORTS)
def test_every_report_is_read(name: str) -> None:
    """Amounts, bucket, model and provider are those of the file; tokens of caches are within the input."""
    data, billed = _REPORTS[name]
    report = read_report("report", data)
    assert (list(report.rows.values()), report.notes) == ([billed], [])


def test_a_time_counts_in_its_own_zone() -> None:
    """A bucket whose bounds have an offset from UTC is the same bucket."""
    data = _page(_ANTHROPIC, starting_at="2025-11-01T05:30:00+05:30", ending_at="2025-11-01T06:30:00+05:30")
    assert [(row.start_ns, row.end_ns) for row in read_report("r", data).rows.values()] == [(_DAY, _DAY + _HOUR)]


def test_pages_are_one_report_and_a_missing_page_is_said() -> None:
    """A list of pages is read as a whole; a page that says it has more leaves a note."""
    page = json.loads(_page({**_OPENAI, **_OPENAI_TOKENS}, **_UNIX))
    later = {"start_time": _UNIX["end_time"], "end_time": _UNIX["end_time"] + 3600}
    last = json.loads(_page({**_OPENAI, **_OPENAI_TOKENS}, **later))
    report = read_report("r", json.dumps([page, {**last, "has_more": True}]).encode())
    assert len(report.rows) == 2
    assert report.notes == ["r has more pages: what they state is not compared."]


def test_other_currencies_are_not_compared() -> None:
    """An amount in euros is no amount in dollars: it is absent, and said."""
    report = read_report("r", _FOCUS.format(service="Amazon Bedrock", currency="EUR").encode())
    assert [row.amounts for row in report.rows.values()] == [{}]
    assert report.notes == ["r has amounts in EUR, which are not compared."]


def test_a_credit_is_a_negative_amount() -> None:
    """Money may be given back; the sum of a bucket has it."""
    data = _page({"amount": {"value": 1, "currency": "usd"}}, {"amount": {"value": -0.7, "currency": "usd"}}, **_UNIX)
    assert [row.amounts for row in read_report("r", data).rows.values()] == [{"cost_usd": Decimal("0.3")}]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "neither JSON nor CSV"),
        (b"<!doctype html><html>Sign in</html>", "is HTML"),
        (b'{"data": [{"start_time": 1, ', "no complete JSON"),
        (b"[" * 100_000, "no complete JSON"),
        (b'{"data": []}', "no buckets"),
        (b'{"error": {"message": "Unauthorized"}}', "no row of a report"),
        (b"a,b\n1,2\n", "no row of a report"),
        (b"date,model,model_permaslug,prompt_tokens\n2025-11-01,m\n", "no complete CSV"),
        (_page({**_OPENAI, "input_tokens": -5}, **_UNIX), "states -5 input_tokens"),
        (_page({**_OPENAI, "input_tokens": 5}, start_time="soon", end_time=None), "without the start and end"),
    ],
)
def test_what_is_no_report_is_refused_in_a_sentence(data: bytes, sentence: str) -> None:
    """Nothing else is raised, whatever the file has, and the sentence names the file."""
    with pytest.raises(ReportError, match=sentence) as refused:
        read_report("usage.json", data)
    assert str(refused.value).startswith("usage.json ")
