"""Properties of the adapters: any split of a response into chunks folds back, any prefix is valid, nothing raises."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from hypothesis import example, given, note, settings
from hypothesis import strategies as st

from callspan.providers.base import Endpoint
from callspan.providers.registry import APIS, by_api
from callspan.record.codec import encode_json
from callspan.records import Conversation, Text, ToolCall

ENDPOINTS = [endpoint for api in APIS if (endpoint := by_api(api)) is not None]
CHAT = ENDPOINTS[APIS.index("chat_completions")]
OFTEN = settings(max_examples=3 * settings().max_examples)
"""Of what is made once for all endpoints."""
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": "m"}

VOCABULARY = (
    "id type choices delta message content text refusal reasoning role tool_calls function name arguments index",
    "finish_reason usage prompt_tokens output item response output_index item_id part status error code logprobs",
    "annotations audio data input instructions image_url url call_id summary encrypted_content messages tools",
    "reasoning_details thinking x_groq response.created response.completed response.output_text.delta file prompt",
    "response.output_item.added response.output_item.done response.content_part.added function_call input_audio",
    "response.output_text.done response.function_call_arguments.delta assistant tool user stop length completed",
    "failed callspan_media output_text extra_content google value custom input_tokens output_tokens is_error",
    "content_block partial_json signature citation stop_reason system source message_start content_block_start",
    "content_block_delta content_block_stop message_delta message_stop text_delta thinking_delta input_json_delta",
    "signature_delta citations_delta tool_use server_tool_use tool_result web_search_tool_result image document base64",
    "fallback completion stop prompt",
)
WORDS = st.sampled_from([word for line in VOCABULARY for word in line.split()])
SCALARS = st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.text(max_size=6) | WORDS
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=6),
    max_leaves=25,
)

TEXTS = st.text(max_size=30)
CALLS = st.lists(st.tuples(st.text("abc_", min_size=1, max_size=6), TEXTS), max_size=3)
ANSWERS = st.lists(
    st.tuples(TEXTS, TEXTS, CALLS, st.sampled_from(["stop", "length", "tool_calls"])), min_size=1, max_size=3
)


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces, none of them empty."""
    cuts = draw(st.lists(st.integers(0, len(text)), max_size=4).map(sorted))
    edges = [0, *cuts, len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges) if a < b]


def call_deltas(draw: st.DrawFn, number: int, name: str, arguments: str) -> list[dict[str, Any]]:
    first = {"index": number, "id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": ""}}
    rest = [{"index": number, "function": {"arguments": piece}} for piece in pieces(draw, arguments)]
    return [{"tool_calls": [one]} for one in (first, *rest)]


def thinking_blocks(draw: st.DrawFn, reasoning: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Thoughts as LiteLLM has Claude's, twice: signed blocks, and redacted ones that come whole."""
    blocks: list[dict[str, Any]] = []
    fragments: list[dict[str, Any]] = []
    for number, thought in enumerate(pieces(draw, reasoning)):
        signature = f"signature {number}"
        blocks.append({"type": "thinking", "thinking": thought, "signature": signature})
        shown = pieces(draw, thought)
        fragments += [{"type": "thinking", "thinking": piece, "signature": None} for piece in shown]
        fragments.append(draw(st.sampled_from([{"thinking": ""}, {}])) | {"type": "thinking", "signature": signature})
        if draw(st.booleans()):
            blocks.append({"type": "redacted_thinking", "data": f"sealed {number}"})
            fragments.append(blocks[-1])
    whole = {"thinking_blocks": blocks, "reasoning_content": reasoning}
    again = {"provider_specific_fields": {"thinking_blocks": blocks}}
    return whole | again, [
        {
            "thinking_blocks": [fragment],
            "reasoning_content": fragment.get("thinking"),
            "provider_specific_fields": {"citations": None, "thinking_blocks": [fragment]},
        }
        for fragment in fragments
    ]


def reasoning_details(draw: st.DrawFn, reasoning: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Thoughts as OpenRouter has them."""
    entry = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    whole = {"reasoning": reasoning, "reasoning_details": [{**entry, "text": reasoning, "signature": "sealed"}]}
    thread = [
        {"reasoning": piece, "reasoning_details": [{**entry, "text": piece}]} for piece in pieces(draw, reasoning)
    ]
    return whole, [*thread, {"reasoning_details": [{**entry, "signature": "sealed"}]}]


def reasoning_content(draw: st.DrawFn, reasoning: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Thoughts as DeepSeek and vLLM have them."""
    return {"reasoning_content": reasoning}, [{"reasoning_content": piece} for piece in pieces(draw, reasoning)]


DIALECTS = st.sampled_from([reasoning_content, reasoning_details, thinking_blocks])


def deltas(
    draw: st.DrawFn, text: str, thoughts: list[dict[str, Any]], calls: list[tuple[str, str]]
) -> list[dict[str, Any]]:
    threads = [
        [{"content": piece} for piece in pieces(draw, text)],
        thoughts,
        *(call_deltas(draw, number, *call) for number, call in enumerate(calls)),
    ]
    return [{"role": "assistant", "content": ""}, *interleaved(draw, threads)]


def interleaved(draw: st.DrawFn, threads: list[list[Any]]) -> list[Any]:
    """All items of the threads, each thread in its order."""
    order = draw(st.permutations([number for number, thread in enumerate(threads) for _ in thread]))
    queues = [iter(thread) for thread in threads]
    return [next(queues[number]) for number in order]


@st.composite
def chat_streams(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A whole body, and one of the streams it may come as."""
    threads, choices = [], []
    logprobs = draw(st.booleans())
    for index, (text, reasoning, calls, reason) in enumerate(draw(ANSWERS)):
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        thoughts: list[dict[str, Any]] = []
        if reasoning:
            fields, thoughts = draw(DIALECTS)(draw, reasoning)
            message.update(fields)
        if calls:
            message["tool_calls"] = [
                {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
                for n, (name, arguments) in enumerate(calls)
            ]
        choices.append({"index": index, "message": message, "finish_reason": reason})
        entries = [
            {"index": index, "delta": delta, "finish_reason": None} for delta in deltas(draw, text, thoughts, calls)
        ]
        threads.append([*entries, {"index": index, "delta": {}, "finish_reason": reason}])
    if logprobs:
        threads = [[{**entry, "logprobs": None} for entry in thread] for thread in threads]
    usage = {"prompt_tokens": draw(st.integers(0, 99)), "completion_tokens": draw(st.integers(0, 99))}
    chunks = [{**HEAD, "choices": [entry]} for entry in interleaved(draw, threads)]
    return {**HEAD, "choices": choices, "usage": usage}, [*chunks, {**HEAD, "choices": [], "usage": usage}]


def without_marks(conversation: Conversation) -> list[Any]:
    """Output without the mark of a cut call: a stream cannot know whether arguments at the limit were whole."""
    return [
        (message.role, message.finish_reason, [_shown(part) for part in message.parts])
        for message in conversation.output
    ]


def _shown(part: Any) -> Any:
    return (part.id, part.name, part.arguments) if isinstance(part, ToolCall) else part


@given(chat_streams())
def test_any_cut_and_interleaving_of_a_chat_answer_is_the_answer(case: tuple[dict[str, Any], list[Any]]) -> None:
    whole, chunks = case
    before = copy.deepcopy(chunks)
    accumulator = CHAT.accumulator()
    for chunk in chunks:
        accumulator.add(chunk)
    body: Any = accumulator.body()
    assert chunks == before
    assert accumulator.complete
    assert without_marks(CHAT.conversation(None, body)) == without_marks(CHAT.conversation(None, whole))
    assert CHAT.response_info(body) == CHAT.response_info(whole)
    assert [thoughts_of(choice) for choice in body["choices"]] == [thoughts_of(choice) for choice in whole["choices"]]


def thoughts_of(choice: dict[str, Any]) -> dict[str, Any]:
    """The fields of a message with thoughts, as they stand on the wire."""
    return {key: value for key, value in choice["message"].items() if key not in ("role", "content", "tool_calls")}


@given(chat_streams(), st.data())
def test_any_prefix_of_a_chat_stream_is_a_valid_answer(
    case: tuple[dict[str, Any], list[Any]], data: st.DataObject
) -> None:
    whole, chunks = case
    cut = data.draw(st.integers(1, len(chunks)))
    accumulator = CHAT.accumulator()
    for chunk in chunks[:cut]:
        accumulator.add(chunk)
    output = CHAT.conversation(None, accumulator.body()).output
    final = CHAT.conversation(None, whole).output
    assert len(output) <= len(final)
    for partial in output:
        assert any(_text(complete).startswith(_text(partial)) for complete in final)


def _text(message: Any) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, Text))


@OFTEN
@given(given_json=JSON, answer=JSON)
def test_readers_take_any_json_and_change_nothing(given_json: Any, answer: Any) -> None:
    for endpoint in ENDPOINTS:
        note(endpoint.api)
        reads(endpoint, given_json, answer)


def reads(endpoint: Endpoint, given_json: Any, answer: Any) -> None:
    before = repr(given_json), repr(answer)
    wrapped = {endpoint.message_key: given_json, "tools": given_json, "choices": answer, "output": answer}
    for sent, body in ((given_json, answer), (wrapped, wrapped)):
        request = endpoint.request(sent)
        facts = endpoint.response_info(body)
        conversation = endpoint.conversation(sent, body)
        for made in (request.params, facts.response.finish_reasons, conversation.input, conversation.output):
            encode_json(made)
    assert (repr(given_json), repr(answer)) == before


@OFTEN
@given(
    chunks=st.lists(
        JSON
        | st.fixed_dictionaries(
            {},
            optional={
                "choices": st.lists(JSON),
                "type": WORDS,
                "item": JSON,
                "part": JSON,
                "delta": st.dictionaries(WORDS, JSON) | JSON,
                "usage": JSON,
                "response": JSON,
                "text": JSON,
                "output_index": SCALARS,
                "index": st.integers(-1, 3) | JSON,
                "content_block": st.dictionaries(WORDS, JSON),
                "message": st.dictionaries(WORDS, JSON) | JSON,
                "error": JSON,
            },
        ),
        max_size=6,
    )
)
def test_accumulators_take_any_json_at_any_time(chunks: list[Any]) -> None:
    for endpoint in ENDPOINTS:
        note(endpoint.api)
        accumulates(endpoint, chunks)


def accumulates(endpoint: Endpoint, chunks: list[Any]) -> None:
    before = repr(chunks)
    accumulator = endpoint.accumulator()
    for chunk in chunks:
        assert isinstance(accumulator.add(chunk), bool)
        body = accumulator.body()
        endpoint.response_info(body)
        endpoint.conversation(None, body)
        assert body is None or isinstance(encode_json(body), bytes)
        spoil(body)
    assert isinstance(accumulator.complete, bool)
    assert repr(chunks) == before


def spoil(value: object) -> None:
    """Empty every container, to show that none is shared with a chunk."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            spoil(item)
        value.clear()


@OFTEN
@given(deltas=st.lists(st.dictionaries(WORDS, JSON, max_size=5), max_size=6), key=st.sampled_from(["delta", "message"]))
@example(deltas=[{"tool_calls": [{"function": 1.0}]}], key="delta")
def test_accumulators_take_any_delta(deltas: list[Any], key: str) -> None:
    for endpoint in ENDPOINTS:
        note(endpoint.api)
        accumulator = endpoint.accumulator()
        for delta in deltas:
            accumulator.add({**HEAD, "choices": [{"index": 0, key: delta, "finish_reason": None}]})
            endpoint.conversation(None, accumulator.body())
            endpoint.response_info(accumulator.body())


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.api)
def test_a_fresh_accumulator_is_empty_and_its_own(endpoint: Endpoint) -> None:
    first, second = endpoint.accumulator(), endpoint.accumulator()
    assert first is not second
    assert first.body() is None
    assert not first.complete
    first.add({"id": "a", "object": "response", "choices": [], "output": []})
    assert second.body() is None
    assert endpoint.conversation(None, None) == Conversation()
    assert not any(endpoint.response_info(None).response.finish_reasons)
