"""Attributes of the anthropic SDK's span, made from records: unknown ones are absent, and other APIs have none."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from callspan.records import CallRecord, Request, Response, Timing, Usage
from callspan.semconv import gen_ai
from callspan.semconv.content_attributes import Attributes

CALL = CallRecord(
    call_id="1",
    provider="anthropic",
    api="messages",
    timing=Timing(start_ns=1, duration_ns=2),
    request=Request(
        model="claude-test", params={"service_tier": "auto", "thinking": {"type": "enabled", "budget_tokens": 1024}}
    ),
    response=Response(finish_reasons=["tool_use"], service_tier="priority"),
    usage=Usage(cache_write_5m_tokens=3, cache_write_1h_tokens=0),
)
ATTRIBUTES = {
    "anthropic.request.service_tier": "auto",
    "anthropic.thinking.type": "enabled",
    "anthropic.thinking.budget_tokens": 1024,
    "anthropic.response.service_tier": "priority",
    "anthropic.message.stop_reason": "tool_use",
    "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": 3,
    "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": 0,
}


def own_attributes(record: CallRecord) -> Attributes:
    found = gen_ai.END.of(record)
    return {name: value for name, value in found.items() if name.startswith("anthropic.")}


def with_params(**params: Any) -> CallRecord:
    return msgspec.structs.replace(CALL, request=Request(params=params), response=None, usage=None)


def test_what_the_record_knows_is_under_the_sdks_names_without_any_content_shown() -> None:
    assert own_attributes(CALL) == ATTRIBUTES


def test_a_call_without_data_has_no_attributes() -> None:
    bare = msgspec.structs.replace(CALL, request=Request(), response=None, usage=None)
    assert own_attributes(bare) == {}
    assert own_attributes(msgspec.structs.replace(bare, response=Response(finish_reasons=[None]), usage=Usage())) == {}


@pytest.mark.parametrize("api", ["chat_completions", "responses", "completions", "embeddings"])
def test_calls_of_other_apis_have_no_anthropic_attributes(api: str) -> None:
    assert own_attributes(msgspec.structs.replace(CALL, api=api)) == {}


@pytest.mark.parametrize(
    "params",
    [{"service_tier": 7}, {"thinking": "yes"}, {"thinking": {"type": 1, "budget_tokens": "many"}}, {"thinking": None}],
)
def test_values_of_other_types_are_absent(params: dict[str, Any]) -> None:
    assert own_attributes(with_params(**params)) == {}


def test_compactions_are_summed_with_what_came_from_and_went_to_the_cache() -> None:
    entries: list[object] = [
        {"type": "compaction", "input_tokens": 100, "cache_read_input_tokens": 20, "output_tokens": 30},
        {"type": "message", "input_tokens": 5, "output_tokens": 13},
        {"type": "compaction", "input_tokens": "odd", "cache_creation_input_tokens": 2, "output_tokens": None},
        "odd",
    ]
    call = msgspec.structs.replace(CALL, usage=Usage(raw={"iterations": entries}))
    found = own_attributes(call)
    assert found["anthropic.usage.compaction.input_tokens"] == 122
    assert found["anthropic.usage.compaction.output_tokens"] == 30


@pytest.mark.parametrize("iterations", [None, "odd", [], [{"type": "message", "input_tokens": 1}]])
def test_without_a_compaction_there_are_no_sums(iterations: object) -> None:
    call = msgspec.structs.replace(CALL, usage=Usage(raw={"iterations": iterations}))
    assert not [name for name in own_attributes(call) if "compaction" in name]


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}}}, "json"),
        ({"output_format": {"type": "json_schema"}}, "json"),
        ({"output_config": {"effort": "low"}}, None),
        ({"output_format": "odd"}, None),
        ({}, None),
    ],
)
def test_an_answer_that_is_to_be_json_is_recognised_by_either_parameter(
    params: dict[str, Any], kind: str | None
) -> None:
    found = gen_ai.END.of(with_params(**params))
    assert found.get("gen_ai.output.type") == kind
