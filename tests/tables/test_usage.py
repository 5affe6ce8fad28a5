"""Usage: each counter in the form of every server, those estimated where the setting asks, and the notes of chunks."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anthropic
import msgspec
import openai
import pytest
from tests.support.bodies import endpoint

from callspan.records import Usage
from callspan.testing import ScriptedProvider, capture

Json = dict[str, Any]


def read(usage: Any, api: str = "chat_completions") -> Usage:
    found: Usage | None = endpoint(api).response_info({"choices": [], "content": [], "usage": usage}).usage
    assert found is not None
    return found


MEDIA = {"audio_tokens": 1, "text_tokens": 2, "image_tokens": 3}
COUNTERS: list[tuple[Json, Json]] = [
    ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
     {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}),
    ({"prompt_tokens": 3, "completion_tokens": 2}, {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}),
    ({"prompt_tokens": 3}, {"input_tokens": 3}),
    ({"prompt_tokens": 3, "total_tokens": 9}, {"input_tokens": 3, "total_tokens": 9}),
    ({"input_tokens": 3, "output_tokens": 0}, {"input_tokens": 3, "output_tokens": 0, "total_tokens": 3}),
    # What was read from the cache, as each server calls it.
    ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 0}}, {"input_tokens": 9, "cache_read_tokens": 0}),
    ({"prompt_tokens": 9, "prompt_tokens_details": None}, {"input_tokens": 9}),
    *(({"prompt_tokens": 9, **stated}, {"input_tokens": 9, "cache_read_tokens": 7}) for stated in (
        {"prompt_tokens_details": {"cached_tokens": 7}}, {"input_tokens_details": {"cached_tokens": 7}},
        {"prompt_token_details": {"cached_tokens": 7}}, {"prompt_cache_hit_tokens": 7}, {"cached_tokens": 7},
        {"num_cached_tokens": 7},
    )),
    ({"cache_read_input_tokens": 2}, {"cache_read_tokens": 2}),
    ({"input_token_details": {"cached_tokens": 6, "cached_tokens_details": MEDIA}},
     {"cache_read_tokens": 6, "cache_read_audio_tokens": 1, "cache_read_text_tokens": 2, "cache_read_image_tokens": 3}),
    *((stated, {"cache_write_tokens": 2}) for stated in (
        {"prompt_tokens_details": {"cache_write_tokens": 2}}, {"input_tokens_details": {"cache_write_tokens": 2}},
        {"cache_creation_input_tokens": 2},
    )),
    # Parts of the input and the output.
    *((stated, {"reasoning_tokens": 2}) for stated in (
        {"completion_tokens_details": {"reasoning_tokens": 2}}, {"output_tokens_details": {"reasoning_tokens": 2}},
        {"reasoning_tokens": 2},
    )),
    ({"output_tokens_details": {"reasoning_tokens": 0}}, {"reasoning_tokens": 0}),
    *(({name: MEDIA}, {"input_audio_tokens": 1, "input_text_tokens": 2, "input_image_tokens": 3})
      for name in ("prompt_tokens_details", "input_tokens_details")),
    *(({name: MEDIA}, {"output_audio_tokens": 1, "output_text_tokens": 2, "output_image_tokens": 3})
      for name in ("completion_tokens_details", "output_tokens_details")),
    ({"completion_tokens_details": {"accepted_prediction_tokens": 1, "rejected_prediction_tokens": 2}},
     {"accepted_prediction_tokens": 1, "rejected_prediction_tokens": 2}),
    *(({name: {"web_search_requests": 2}}, {"web_search_requests": 2})
      for name in ("server_tool_use", "server_tool_use_details")),
    # Numbers of another type.
    ({"prompt_tokens": "0", "completion_tokens": 0.0}, {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}),
    ({"prompt_tokens": "12"}, {"input_tokens": 12}),
    ({"prompt_tokens": 12.0}, {"input_tokens": 12}),
    ({"prompt_tokens": 2**63 - 1}, {"input_tokens": 2**63 - 1}),
    ({"prompt_tokens": 2**63, "input_tokens": 3}, {"input_tokens": 3}),
    ({"prompt_tokens": None, "input_tokens": 4}, {"input_tokens": 4}),
    ({"prompt_tokens": True, "completion_tokens": -1, "total_tokens": 10**30}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("usage", "expected"), COUNTERS)
def test_each_counter_is_read(usage: Json, expected: Json) -> None:
    found = msgspec.structs.asdict(read(usage)).items()
    counts = {name: count for name, count in found if name.endswith(("tokens", "requests")) and count is not None}
    assert counts == expected


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (0.00014575, "0.00014575"), (0.1, "0.1"), (0.29, "0.29"), (1, "1"), (0, "0"), (1e-07, "1E-7"),
        ("0.003", "0.003"), ({"total_cost": 0.006}, "0.006"),
        *((unknown, None) for unknown in (None, True, "free", "", -1, float("nan"), float("inf"), [], {})),
        ({"total_cost": None}, None),
    ],
)  # fmt: skip
def test_the_cost_a_provider_states_is_exact_or_unknown(cost: object, expected: str | None) -> None:
    found = read({"prompt_tokens": 1, "cost": cost}).cost_usd
    assert found == (None if expected is None else Decimal(expected))


THOUGHTS = {"completion_tokens_details": {"reasoning_tokens": 62}}
SUMS: list[tuple[tuple[int, int, int | None], Json, tuple[int, int, int], bool]] = [
    # Gemini 2.5 Pro, as recorded: thoughts are in the total alone.
    ((35, 12, 109), {}, (35, 74, 109), True),
    # The same with its thoughts stated; Grok.
    ((35, 12, 109), THOUGHTS, (35, 74, 109), False),
    ((35, 62, 97), THOUGHTS, (35, 62, 97), False),
    ((35, 12, None), THOUGHTS, (35, 74, 109), False),
    ((35, 12, 47), THOUGHTS, (35, 12, 47), True),
    ((35, 12, 60), THOUGHTS, (35, 25, 60), True),
    # Bedrock behind a gateway: what was cached is in the total alone.
    ((35, 12, 1047), {"cache_read_input_tokens": 1000}, (1035, 12, 1047), False),
    ((1035, 12, 1047), {"cache_read_input_tokens": 1000}, (1035, 12, 1047), False),
    # The same with a total that is only of the rest, or none.
    ((35, 12, 47), {"cache_read_input_tokens": 1000}, (1035, 12, 1047), False),
    ((35, 12, None), {"cache_read_input_tokens": 600, "cache_creation_input_tokens": 400}, (1035, 12, 1047), False),
    # More cached tokens than there are: nothing says which count is wrong.
    ((3, 12, 15), {"prompt_tokens_details": {"cached_tokens": 4000}}, (3, 12, 15), True),
    ((3, 12, 4015), {"prompt_tokens_details": {"cached_tokens": 4000}}, (4003, 12, 4015), False),
    ((3, 12, 15), {"prompt_tokens_details": {"audio_tokens": 4}}, (3, 12, 15), True),
    ((3, 12, 15), {"completion_tokens_details": {"text_tokens": 13}}, (3, 12, 15), True),
    # A total below its parts, and one without parts, explain nothing.
    ((35, 12, 40), {}, (35, 12, 40), True),
    ((0, 0, 40), {}, (0, 0, 40), True),
]


@pytest.mark.parametrize(("stated", "details", "counts", "estimated"), SUMS)
def test_output_includes_what_the_total_does_or_is_marked_as_estimated(
    stated: tuple[int, int, int | None], details: Json, counts: tuple[int, int, int], estimated: bool
) -> None:
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    usage = {name: count for name, count in zip(names, stated, strict=True) if count is not None} | details
    for found in (read(usage), read({**usage, "queue_time": 0.1})):
        assert (found.input_tokens, found.output_tokens, found.total_tokens) == counts
        assert found.estimated is estimated
        assert found.raw is not None
        assert found.raw["completion_tokens"] == stated[1]


@pytest.mark.parametrize(
    ("counted", "estimated"),
    [
        ({"input_tokens": 3, "cache_read_input_tokens": 4000, "output_tokens": 5}, False),
        ({"output_tokens": 5, "output_tokens_details": {"thinking_tokens": 6}}, True),
        ({"cache_creation_input_tokens": 1, "cache_creation": {"ephemeral_1h_input_tokens": 2}}, True),
    ],
)
def test_counts_of_anthropic_that_contradict_each_other_are_estimated(counted: Any, estimated: bool) -> None:
    assert read(counted, "messages").estimated is estimated


LOOK: Json = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
RESULT: Json = {"role": "tool", "tool_call_id": "call_1"}


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ({"content": ""}, 0),
        ({"content": "x" * 8}, 2),
        ({"content": "x" * 9}, 3),
        ({"content": "wörld \u4e16\u754c"}, 2 + 2),
        ({"role": "assistant", "refusal": "x" * 4}, 1),
        ({"role": "assistant", "reasoning_content": "x" * 12}, 3),
        ({"role": "assistant", "reasoning_details": [{"type": "reasoning.encrypted", "data": "x" * 400}]}, 0),
        ({"role": "assistant", "tool_calls": [LOOK]}, 1 + 2),
        ({**RESULT, "content": "x" * 8}, 2),
        ({**RESULT, "content": [{"type": "text", "text": "a"}]}, 7),
        ({"content": [{"type": "image_url", "image_url": {"url": "http://x/y"}}, {"type": "new", "x": "x" * 99}]}, 0),
    ],
)
def test_tokens_estimated_for_each_kind_of_part(provider: ScriptedProvider, message: Json, tokens: int) -> None:
    """Four for a message, and those of the texts of its parts and of the definitions of tools."""
    said = {"role": "assistant", "content": "x" * 16}
    tools: Any = [{"type": "function", "function": {"name": "look"}}]
    messages: Any = [{"role": "user", **message}, {"role": "user", "content": "x"}]
    provider.reply(raw={"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": said}]})
    with capture(estimate_usage=True) as seen, openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        client.chat.completions.create(model="m", messages=messages, tools=tools)
    (record,) = seen.records
    assert record.usage == Usage(
        input_tokens=(4 + tokens) + (4 + 1) + 12, output_tokens=4 + 4, total_tokens=21 + tokens + 8, estimated=True
    )


def test_a_note_of_a_chunk_says_event_and_choice_in_the_words_of_the_provider(provider: ScriptedProvider) -> None:
    delta = {"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "x", "item_id": "i"}
    block = {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "x"}}
    provider.reply(raw=[{"id": "c", "choices": [{"index": 3, "delta": {"content": "x"}}]}])
    provider.reply(raw=[delta])
    provider.reply(raw=[block])
    with capture(chunk_log=9) as seen:
        with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
            list(client.chat.completions.create(model="m", messages=[], stream=True))
            list(client.responses.create(model="m", input="?", stream=True))
        with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k") as claude:
            list(claude.messages.create(model="m", max_tokens=9, messages=[], stream=True))
    streams = [record.stream for record in seen.records]
    assert [[(note.event, note.choice, note.content) for note in stream.log] for stream in streams if stream] == [
        [(None, 3, True)], [("response.output_text.delta", 1, True)], [("content_block_delta", 2, True)],
    ]  # fmt: skip
