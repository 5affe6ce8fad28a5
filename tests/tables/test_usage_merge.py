"""How the usage objects of a stream add up: each rule, and which wire has which."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from tests.support.bodies import endpoint, folded

from callspan.providers.fold.usage_merge import UsageRule, merge_usage
from callspan.providers.registry import APIS

Json = dict[str, Any]

ROWS: list[tuple[UsageRule, list[Json], Json]] = [
    ("deltas", [{"in": 3, "out": 1}, {"out": 2}, {"out": None}], {"in": 3, "out": 3}),
    ("deltas", [{"of": {"a": 1}, "t": "x"}, {"of": {"a": 2, "b": 1}, "t": "y"}], {"of": {"a": 3, "b": 1}, "t": "y"}),
    ("deltas", [{"is": True}, {"is": True}, {"s": 0.5}, {"s": 1}], {"is": True, "s": 1.5}),
    ("last of each", [{"in": 3, "out": 1}, {"out": 2, "in": None}], {"in": 3, "out": 2}),
    ("last of each", [{"of": {"a": 1, "b": 1}}, {"of": {"a": 2}}], {"of": {"a": 2, "b": 1}}),
    ("last of each", [{"of": {"a": 1}}, {"of": 5}, {"of": {"b": 1}}], {"of": {"b": 1}}),
    ("last of each", [{"x": None}], {"x": None}),
    ("last whole", [{"in": 3, "out": 1, "of": {"a": 1}}, {"in": 3, "out": 2}], {"in": 3, "out": 2}),
    ("last of each", [{"in": 3, "out": 1, "of": {"a": 2}}, {"in": 0, "out": 0, "of": {"a": 0}}],
     {"in": 3, "out": 1, "of": {"a": 2}}),
    ("last of each", [{"in": 3, "out": 1}, {"out": 0}], {"in": 3, "out": 0}),
    ("last of each", [{"in": 3, "of": {"a": 2, "b": 1}}, {"in": 3, "of": {"a": 0, "b": 0}}],
     {"in": 3, "of": {"a": 0, "b": 0}}),
    ("last whole", [{"in": 3, "out": 1}, {"in": 0, "out": 0}], {"in": 3, "out": 1}),
    ("last whole", [{"in": 3, "of": {"a": 1}}, {"tier": "x", "of": {"a": 0}, "in": None}], {"in": 3, "of": {"a": 1}}),
    ("last whole", [{"tier": "x"}, {"tier": "y"}], {"tier": "y"}),
    # Gateways repeat the prompt's counters as 0 where they count the output.
    ("last of each",
     [{"input_tokens": 27, "cache_read_input_tokens": 9, "cache_creation": {"a": 1}, "output_tokens": 1},
      {"input_tokens": 0, "cache_read_input_tokens": 0, "cache_creation": {"a": 0}, "output_tokens": 47}],
     {"input_tokens": 27, "cache_read_input_tokens": 9, "cache_creation": {"a": 1}, "output_tokens": 47}),
    ("last of each",
     [{"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, "prompt_tokens_details": {"cached_tokens": 4}},
      {"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 5, "prompt_tokens_details": {"cached_tokens": 0}}],
     {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}),
    # All of a prompt may turn out to be cached.
    ("last of each",
     [{"input_tokens": 27, "output_tokens": 0}, {"input_tokens": 0, "cache_read_input_tokens": 27, "output_tokens": 4}],
     {"input_tokens": 0, "cache_read_input_tokens": 27, "output_tokens": 4}),
    ("deltas", [{"input_tokens": 3}, {"input_tokens": 0, "output_tokens": 2}], {"input_tokens": 3, "output_tokens": 2}),
    # Gemini's last snapshot may lack the thoughts that an earlier one counted.
    ("last whole",
     [{"promptTokenCount": 100, "thoughtsTokenCount": 21, "totalTokenCount": 121},
      {"promptTokenCount": 100, "candidatesTokenCount": 65, "totalTokenCount": 165}],
     {"promptTokenCount": 100, "candidatesTokenCount": 65, "totalTokenCount": 165}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "objects", "expected"), ROWS)
def test_merge_rules_add_up(rule: UsageRule, objects: list[Json], expected: Json) -> None:
    known: Json = {}
    before = repr(objects)
    for one in objects:
        known = merge_usage(known, one, rule)
    assert known == expected
    assert repr(objects) == before


FIRST, LAST = {"a": 1, "of": {"b": 1}}, {"a": None, "of": {"c": 2}, "d": 3}
LAST_OF_EACH, LAST_WHOLE = {"a": 1, "of": {"b": 1, "c": 2}, "d": 3}, LAST


def chunk(usage: Json) -> Json:
    return {"id": "c", "choices": [{"index": 0, "delta": {}}], "usage": usage}


def delta(usage: Json) -> Json:
    return {"type": "message_delta", "delta": {}, "usage": usage}


def streamed(kind: str, usage: Json) -> Json:
    return {"type": kind, "usage": usage, "delta": "a", "b64_json": "aa==", "session": {}}


BEGUN = {"type": "message_start", "message": {"id": "m", "content": [], "usage": FIRST}}
WIRES: dict[str, tuple[list[Json], Json]] = {
    "chat_completions": ([chunk(FIRST), chunk(LAST)], LAST_OF_EACH),
    "completions": ([chunk(FIRST), chunk(LAST)], LAST_OF_EACH),
    "messages": ([BEGUN, delta(LAST)], LAST_OF_EACH),
    "transcriptions": ([streamed("transcript.text.delta", one) for one in (FIRST, LAST)], LAST_OF_EACH),
    "images": ([streamed("image_generation.partial_image", one) for one in (FIRST, LAST)], LAST_OF_EACH),
    "speech": ([streamed("speech.audio.done", one) for one in (FIRST, LAST)], LAST_OF_EACH),
    "live": ([streamed("session.updated", one) for one in (FIRST, LAST)], LAST_WHOLE),
    "embeddings": ([{"usage": FIRST}, {"usage": LAST}], LAST_WHOLE),
}


@pytest.mark.parametrize("api", WIRES)
def test_stream_merges_usage_by_its_rule(api: str) -> None:
    events, expected = WIRES[api]
    assert folded(api, *events)["usage"] == expected
    assert endpoint(api).accumulator().usage_rule == ("last whole" if expected is LAST_WHOLE else "last of each")


def test_groq_states_usage_in_its_own_field() -> None:
    chunks = [{"id": "c", "choices": [], "x_groq": {"id": "req", "usage": usage}} for usage in (FIRST, LAST)]
    assert folded("chat_completions", *chunks)["x_groq"] == {"id": "req", "usage": LAST_OF_EACH}


COUNTED = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
UNCOUNTED: list[Json] = [{"trafficType": "ON_DEMAND"}, {"promptTokenCount": 0, "totalTokenCount": 0}, {}]


@pytest.mark.parametrize("last", UNCOUNTED)
def test_a_snapshot_without_a_count_is_none_of_gemini(last: Json) -> None:
    finished = {"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]}
    chunks = [{**finished, "usageMetadata": COUNTED}, {"usageMetadata": last}]
    assert folded("generate_content", *chunks)["usageMetadata"] == COUNTED
    assert folded("generate_content", *reversed(chunks))["usageMetadata"] == COUNTED


@pytest.mark.parametrize("last", UNCOUNTED)
def test_a_snapshot_without_a_count_is_none_of_an_interaction(last: Json) -> None:
    counted: Json = {"event_type": "step.stop", "index": 0, "metadata": {"total_usage": COUNTED}}
    ended: Json = {"event_type": "interaction.completed", "interaction": {"status": "completed", "usage": last}}
    assert folded("interactions", counted, ended)["usage"] == COUNTED


@pytest.mark.parametrize("api", APIS)
def test_every_stream_has_a_merge_rule(api: str) -> None:
    assert endpoint(api).accumulator().usage_rule in get_args(UsageRule)


@pytest.mark.parametrize("model", ["gemini-3-pro", "models/gemini-3-pro", "gpt-5"])
def test_a_counter_that_the_last_usage_of_gemini_lacks_is_absent(model: str) -> None:
    thinking = {"prompt_tokens": 9, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 7}}
    chunks = [
        {"model": model, "choices": [], "usage": usage}
        for usage in (thinking, {"prompt_tokens": 9, "completion_tokens": 12})
    ]
    counted = endpoint("chat_completions").response_info(folded("chat_completions", *chunks)).usage
    assert (counted.output_tokens, counted.reasoning_tokens) == (12, 7 if model == "gpt-5" else None)
