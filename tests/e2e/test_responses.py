"""Response attributes: everything in a response has its attribute."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest

from callspan.record.messages import Text, ToolCall
from callspan.testing import Captured, Choice, capture
from tests.e2e.ask import APIS, QUESTION, response_of, shown
from tests.intercept.mode import Mode
from tests.intercept.test_endings import text_of, the_call

pytestmark = pytest.mark.slow


@pytest.fixture
def seen() -> Iterator[Captured]:
    with capture(llm_raw=True) as captured:
        yield captured


Run = Callable[[Callable[[], Awaitable[Any]]], Any]
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


@STREAMS
@pytest.mark.parametrize("api", APIS)
def test_the_providers_ids_of_answer_and_request_are_there_and_callspans_is_different(
    api: str, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """Both ids for plain and streamed calls, and a call id of our own on span and record."""
    mode.provider.reply(text="well", headers={"x-request-id": "req_7", "request-id": "req_7"})
    result = run(lambda: response_of(mode, api, stream=stream))
    record, attributes = the_call(seen), shown(seen)
    assert record.response is not None
    given = record.response.id
    assert given is not None
    assert given in str(result)
    assert attributes["gen_ai.response.id"] == given
    assert (attributes["callspan.request_id"], record.attempts[0].request_id) == ("req_7", "req_7")
    assert record.call_id not in (given, "req_7")


@STREAMS
def test_every_choice_is_reported_with_its_own_reason(stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    """Three choices that ended for different reasons: three texts and a list of three reasons."""
    choices: Sequence[Choice | str] = (
        "A",
        Choice(text="B", finish_reason="length"),
        Choice(text="C", finish_reason="content_filter"),
    )
    mode.provider.reply(choices=choices)
    run(lambda: response_of(mode, "chat_completions", n=3, stream=stream))
    record, attributes = the_call(seen), shown(seen)
    assert attributes["llm.completions"] == "A\n\nB\n\nC"
    assert record.response is not None
    assert record.response.finish_reasons == ["stop", "length", "content_filter"]
    assert list(attributes["gen_ai.response.finish_reasons"]) == ["stop", "length", "content_filter"]
    assert [choice["finish_reason"] for choice in json.loads(attributes["llm.completions.raw"])] == [
        "stop",
        "length",
        "content_filter",
    ]


@STREAMS
@pytest.mark.parametrize("api", APIS)
def test_raw_completions_are_the_choices_of_the_answer(
    api: str, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """The JSON of the choices goes there and back, tool calls and finish reasons included."""
    mode.provider.reply(text="Let me see.", tool_calls=[{"name": "look", "arguments": {"at": "sky"}, "id": "t1"}])
    run(lambda: response_of(mode, api, stream=stream))
    record = the_call(seen)
    assert record.response is not None
    body = json.loads(bytes(record.response.body))
    raw = json.loads(shown(seen)["llm.completions.raw"])
    if api == "chat_completions":
        assert raw == body["choices"]
    else:
        (choice,) = raw
        message = body if api == "messages" else {"role": "assistant", "content": body["output"]}
        reason = "tool_use" if api == "messages" else "tool_calls"
        assert choice == {"index": 0, "message": message, "finish_reason": reason}
    assert "look" in json.dumps(raw)


@STREAMS
def test_an_answer_the_filter_took_away_is_marked(stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    """Filtered and nothing said: never a silent, empty success."""
    mode.provider.reply(text=None, finish_reason="content_filter", choices=[Choice(finish_reason="content_filter")])
    run(lambda: response_of(mode, "chat_completions", stream=stream))
    record, attributes = the_call(seen), shown(seen)
    assert (text_of(record), record.outcome) == ("", "success")
    assert (attributes["callspan.response.refused"], attributes["llm.finish_reason"]) == (True, "content_filter")


@STREAMS
def test_an_empty_answer_that_was_cut_shows_why_and_what_it_took(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """All tokens went into thinking: the reason is length, and the tokens are there."""
    mode.provider.reply(choices=[Choice(finish_reason="length")], output_tokens=64, reasoning_tokens=64)
    run(
        lambda: response_of(
            mode, "chat_completions", stream=stream, **({"stream_options": {"include_usage": True}} if stream else {})
        )
    )
    record, attributes = the_call(seen), shown(seen)
    assert text_of(record) == ""
    assert (attributes["llm.finish_reason"], attributes["callspan.response.truncated"]) == ("length", True)
    assert attributes["llm.usage.completion_tokens"] == attributes["gen_ai.usage.reasoning.output_tokens"] == 64


@STREAMS
def test_parallel_tool_calls_have_their_arguments_parsed_or_as_written(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """Two calls at once: ids, names, text of the arguments; parsed where they are JSON, else the text alone."""
    calls = [
        {"id": "c1", "name": "look", "arguments": '{"at": "sky"}'},
        {"id": "c2", "name": "move", "arguments": '{"to": '},
    ]
    mode.provider.reply(tool_calls=calls)
    run(lambda: response_of(mode, "chat_completions", stream=stream))
    record, attributes = the_call(seen), shown(seen)
    assert record.conversation is not None
    parts = record.conversation.output[0].parts
    assert [(part.id, part.name, part.arguments) for part in parts if isinstance(part, ToolCall)] == [
        ("c1", "look", '{"at": "sky"}'),
        ("c2", "move", '{"to": '),
    ]
    result = json.loads(attributes["gen_ai.output.messages"])[0]["parts"]
    assert [part["arguments"] for part in result] == [{"at": "sky"}, '{"to": ']


@STREAMS
@pytest.mark.parametrize("api", APIS)
def test_reasoning_is_a_part_of_its_own_and_no_completion(
    api: str, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """What the model thought is kept as reasoning and is not in the text of its answer."""
    mode.provider.reply(reasoning="Hm, let me see.", text="It is 4.")
    run(lambda: response_of(mode, api, stream=stream))
    record = the_call(seen)
    assert record.conversation is not None
    kinds = [type(part).__name__ for message in record.conversation.output for part in message.parts]
    assert kinds == ["Reasoning", "Text"]
    assert shown(seen)["llm.completions"] == "It is 4."


def test_unknown_fields_and_the_servers_own_are_kept(mode: Mode, run: Run, seen: Captured) -> None:
    """Fingerprint, time, tier, and the timings a local model adds beside them."""
    frame = {"id": "x", "object": "chat.completion.chunk", "created": 17, "model": "m", "system_fingerprint": "fp_1",
             "service_tier": "flex"}  # fmt: skip
    choices: list[Any] = [{"index": 0, "delta": {"content": "Hi"}}]
    later = {"created": 99, "system_fingerprint": "fp_2", "timings": {"predicted_ms": 5.5}}
    end = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    mode.provider.reply(raw=[{**frame, "choices": choices}, {**frame, **later, "choices": end}])
    run(lambda: response_of(mode, "chat_completions", stream=True))
    record = the_call(seen)
    response = record.response
    assert response is not None
    assert (response.created, response.system_fingerprint, response.service_tier) == (17, "fp_1", "flex")
    assert json.loads(bytes(response.body))["timings"] == {"predicted_ms": 5.5}
    assert shown(seen)["openai.response.system_fingerprint"] == "fp_1"


def test_annotations_and_log_probabilities_of_later_chunks_are_attached(mode: Mode, run: Run, seen: Captured) -> None:
    """Two chunks with log-probabilities: one list; a citation on the last of them belongs to the text."""
    token = {"bytes": None, "top_logprobs": []}
    cited = {"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}
    deltas = [{"role": "assistant", "content": "I "}, {"content": "am"}, {"annotations": [cited]}]
    probable: list[Any] = [
        {"content": [{**token, "token": "I ", "logprob": -0.1}]},
        {"content": [{**token, "token": "am", "logprob": -0.2}]},
        None,
    ]
    mode.provider.reply(
        raw=[
            {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
             "choices": [{"index": 0, "delta": delta, "logprobs": logprobs}]}
            for delta, logprobs in zip(deltas, probable, strict=True)
        ]
    )  # fmt: skip
    run(lambda: response_of(mode, "chat_completions", stream=True))
    record = the_call(seen)
    assert record.conversation is not None
    (part,) = record.conversation.output[0].parts
    assert isinstance(part, Text)
    assert (part.text, part.annotations) == ("I am", [cited])
    logprobs: Any = part.logprobs
    assert [one["logprob"] for one in logprobs["content"]] == [-0.1, -0.2]


COMPACTION: dict[str, Any] = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}
SUMMARY: dict[str, Any] = {"type": "compaction", "content": "They talked of parcels.", "encrypted_content": None}
FAILED: dict[str, Any] = {**SUMMARY, "content": None}
TEXT: dict[str, Any] = {"type": "text", "text": "Well."}
EDITS: dict[str, Any] = {"edits": [{"type": "compact_20260112"}]}
CLEARED: dict[str, Any] = {"applied_edits": [{"type": "clear_tool_uses_20250919", "cleared_tool_uses": 2}]}


def _message(*blocks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": 2}
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5", "usage": usage,
            "content": list(blocks), "stop_reason": "end_turn", **fields}  # fmt: skip


def _events(*blocks: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """The same as a stream, in which a summary comes as a delta."""
    events: list[dict[str, Any]] = [{"type": "message_start", "message": _message(stop_reason=None)}]
    for index, block in enumerate(blocks):
        kind, rest = block["type"], {name: value for name, value in block.items() if name != "type"}
        begun = {"type": kind, **dict.fromkeys(rest)} if kind == "compaction" else {"type": kind, "text": ""}
        events += [
            {"type": "content_block_start", "index": index, "content_block": begun},
            {"type": "content_block_delta", "index": index, "delta": {"type": f"{kind}_delta", **rest}},
            {"type": "content_block_stop", "index": index},
        ]
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}, **fields}
    return [*events, stop, {"type": "message_stop"}]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("sent", "blocks", "fields", "compacted"),
    [
        ([], [SUMMARY, TEXT], {}, True),
        ([], [FAILED, TEXT], {}, False),
        ([], [TEXT], {"context_management": CLEARED}, True),
        ([], [TEXT], {"context_management": {"applied_edits": []}}, False),
        ([SUMMARY], [TEXT], {}, True),
        ([FAILED, TEXT], [TEXT], {}, False),
    ],
)
def test_a_conversation_that_was_compacted_for_a_message_is_marked(
    sent: list[Any], blocks: list[Any], fields: dict[str, Any], compacted: bool, stream: bool, mode: Mode, run: Run,
    seen: Captured,
) -> None:  # fmt: skip
    """By a summary in the answer or among the messages, or by what was cleared; never false."""
    mode.provider.reply(raw=_events(*blocks, **fields) if stream else _message(*blocks, **fields))
    history = [*QUESTION, *([{"role": "assistant", "content": sent}, *QUESTION] if sent else [])]

    async def body() -> None:
        result = await mode.wait(
            mode.anthropic().beta.messages.create(
                model="claude-sonnet-5", max_tokens=9, messages=history, context_management=EDITS, stream=stream
            )
        )
        if stream:
            await mode.all(result)

    run(body)
    assert shown(seen).get("gen_ai.conversation.compacted") == (True if compacted else None)
    record = the_call(seen)
    assert record.response is not None
    assert (record.request.compacted or record.response.compacted) is compacted
    assert record.outcome == "success"


def test_a_conversation_that_was_compacted_for_a_response_is_marked(mode: Mode, run: Run, seen: Captured) -> None:
    """The call that compacts, those that send what it returned, and those that are compacted on the way."""
    compact = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [COMPACTION],
               "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}}  # fmt: skip
    mode.provider.reply(raw=compact, on="/responses/compact")
    mode.provider.reply(text="well")
    mode.provider.reply(text="well")
    whole = {**compact, "object": "response", "model": "gpt-5", "status": "completed"}
    mode.provider.reply(raw=whole)

    async def body() -> None:
        responses = mode.openai().responses
        await mode.wait(responses.compact(model="gpt-5", input="How are you?"))
        await mode.wait(responses.create(model="gpt-5", input=[COMPACTION, *QUESTION]))
        await mode.wait(responses.create(model="gpt-5", input=QUESTION))
        await mode.wait(responses.create(model="gpt-5", input=QUESTION))

    run(body)
    marks = [(span.attributes or {}).get("gen_ai.conversation.compacted") for span in seen.spans]
    assert marks == [True, True, None, True]


def test_a_long_answer_loses_its_signature_before_a_word(mode: Mode, run: Run, seen: Captured) -> None:
    """Encoded bytes give way to text where not all of an answer fits on its span; the record has both."""
    sealed = base64.b64encode(bytes(range(256)) * 100).decode()
    text = "The parcel arrives tomorrow. " * 900
    thinking = {"type": "thinking", "thinking": "Parcels.", "signature": sealed}
    mode.provider.reply(raw=_message(thinking, {"type": "text", "text": text}, SUMMARY | {"encrypted_content": sealed}))
    run(lambda: response_of(mode, "messages"))
    attributes = shown(seen)
    assert text in attributes["llm.completions.raw"]
    assert text in attributes["gen_ai.output.messages"]
    assert sealed not in attributes["llm.completions.raw"] + attributes["gen_ai.output.messages"]
    assert f"…[cut: {len(sealed)} bytes]" in attributes["llm.completions.raw"]
    answer = the_call(seen).response
    assert answer is not None
    assert sealed in bytes(answer.body).decode()
