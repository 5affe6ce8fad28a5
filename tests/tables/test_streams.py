"""Streams: what each kind of event adds to the folded body, which of them carry content, and what is harmless."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.support.bodies import endpoint, folded
from tests.support.tables import table

from callspan.records import Conversation, Message, Part, Reasoning, Refusal, Text, ToolCall, UnknownPart

Json = dict[str, Any]


def parts_of(api: str, *chunks: Any) -> list[Part]:
    output: list[Message] = endpoint(api).conversation(None, folded(api, *chunks)).output
    return output[0].parts if output else []


# Chat completions


def chunk(delta: Any = None, **fields: Any) -> Json:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta or {}, "finish_reason": None, **fields}]}


A = chunk({"content": "a"})
MESSAGES: dict[str, list[Json]] = table(Path(__file__).with_name("chat_streams.yaml"))
"""The choices of the chunks of a stream, and fields of the message that they make."""


@pytest.mark.parametrize("stream", [row for rows in MESSAGES.values() for row in rows], ids=str)
def test_chat_deltas_make_a_message(stream: Json) -> None:
    chunks, expected = [chunk(**choice) for choice in stream["choices"]], stream["message"]
    made = folded("chat_completions", *chunks)["choices"][0]["message"]
    assert {name: made[name] for name in expected} == expected


def test_token_ids_of_servers() -> None:
    """As a list of each chunk, or as one number of each."""
    first = chunk({"content": "a"}, token_ids=[1, 2]) | {"prompt_token_ids": [7, 8]}
    second = chunk({"content": "b"}, token_ids=[3]) | {"prompt_token_ids": None}
    body = folded("chat_completions", first, second)
    assert (body["prompt_token_ids"], body["choices"][0]["token_ids"]) == ([7, 8], [1, 2, 3])
    repeated = [chunk({"token_ids": ids}) for ids in ([7], [7, 8], [9])]
    assert folded("chat_completions", *repeated)["choices"][0]["token_ids"] == [7, 7, 8, 9]
    numbered = [chunk({"content": letter, "token_id": number}) for number, letter in enumerate("ab")]
    assert folded("chat_completions", *numbered)["choices"][0]["token_ids"] == [0, 1]


def test_token_ids_in_extensions_are_deltas() -> None:
    """Of NVIDIA Dynamo beside the choices, of SGLang in one."""
    chunks = [chunk({"content": "a"}, sglext={"output_ids": ids}) | {"nvext": {"completion_token_ids": ids}}
              for ids in ([7], [7, 8], [9])]  # fmt: skip
    body = folded("chat_completions", *chunks)
    assert body["nvext"] == {"completion_token_ids": [7, 7, 8, 9]}
    assert body["choices"][0]["sglext"] == {"output_ids": [7, 7, 8, 9]}


ASKED = {"name": "f", "arguments": '{"a": 1}'}
FUNCTION = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


@pytest.mark.parametrize(
    ("legacy", "calls"),
    [
        (ASKED, ["call_1"]),
        ({**ASKED, "name": "g"}, ["call_1", None]),
        ({"name": "f", "arguments": "{}"}, ["call_1", None]),
    ],
)
def test_legacy_function_equal_to_a_tool_call_is_dropped(legacy: Json, calls: list[str | None]) -> None:
    for chunks in (
        [{"tool_calls": [FUNCTION], "function_call": legacy}],
        [{"function_call": legacy}, {"tool_calls": [FUNCTION]}],
    ):
        parts = parts_of("chat_completions", *map(chunk, chunks))
        assert [part.id for part in parts if isinstance(part, ToolCall)] == calls


# Responses

RESPONSE = {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "in_progress", "output": []}
MESSAGE: Json = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": ""}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}
EMPTY = {"type": "message", "id": "msg_9", "role": "assistant", "status": "completed", "content": []}
HOLLOW = {**EMPTY, "content": [{"type": "output_text", "text": "", "annotations": []}]}
"""What some servers put into the terminal event, whatever came before."""


def event(kind: str, **fields: Any) -> Json:
    return {"type": f"response.{kind}", "sequence_number": 1, "output_index": 0, **fields}


def added(item: Json, at: int = 0) -> Json:
    return event("output_item.added", output_index=at, item=item)


def text(delta: str, at: int = 0, **fields: Any) -> Json:
    return event("output_text.delta", output_index=at, content_index=0, delta=delta, **{"item_id": "msg_1", **fields})


def called(arguments: str, at: int = 0, **fields: Any) -> list[Json]:
    deltas = [event("function_call_arguments.delta", output_index=at, delta=one) for one in arguments.split("|")]
    return [added({**CALL, **fields}, at), *deltas]


def said(words: str) -> Json:
    return {**MESSAGE, "status": "completed", "content": [{"type": "output_text", "text": words}]}


def ended(*output: Json, status: str = "completed") -> Json:
    return event(status, response={**RESPONSE, "status": status, "output": list(output)})


def done(item: Json) -> Json:
    return event("output_item.done", item=item)


CREATED = event("created", response=RESPONSE)
HI = [added(MESSAGE), text("Hello "), text("you")]
CITE = {"type": "url_citation", "url": "http://x"}
PROBABLE = {"token": "Hel", "logprob": -0.1, "top_logprobs": []}


def counted(kind: str, *deltas: str, **fields: Any) -> list[Json]:
    return [event(f"{kind}.delta", content_index=at, delta=one, **fields) for at, one in enumerate(deltas, 1)]


THOUGHT_OF_VLLM = {
    "type": "reasoning",
    "id": "rs_x",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "We say"}],
}
EMPTY_PART = {"type": "output_text", "text": "", "annotations": []}
COUNTED = [
    added({**THOUGHT, "id": "it_1"}), event("content_part.added", item_id="it_1", content_index=0, part=EMPTY_PART),
    *counted("reasoning_text", "We", " say", item_id="it_1"),
    event("reasoning_text.done", item_id="it_1", content_index=3, text="We say"),
    done({**THOUGHT_OF_VLLM, "id": "it_1"}),
    added({**MESSAGE, "id": "it_1"}),
    event("content_part.added", output_index=1, item_id="it_2", content_index=0, part=EMPTY_PART),
    *counted("output_text", "Hello", " there", output_index=1, item_id="it_2"),
    event("output_text.done", output_index=1, item_id="it_2", content_index=3, text="Hello there"),
    event("content_part.done", item_id="it_2", content_index=4, part={**EMPTY_PART, "text": "Hello there"}),
]  # fmt: skip


def fragments(kind: str, **fields: Any) -> list[Json]:
    return [event(f"{kind}.delta", content_index=0, delta=delta, **fields) for delta in ("a", "b")]


PARTS: list[tuple[list[Json], list[Part]]] = [
    (fragments("output_text"), [Text(text="ab")]),
    (fragments("audio.transcript"), [Text(text="ab")]),
    (fragments("refusal"), [Refusal(text="ab")]),
    (fragments("reasoning_text"), [Reasoning(text="ab")]),
    (fragments("reasoning_summary_text", summary_index=0), [Reasoning(text="ab")]),
    (fragments("function_call_arguments"), [ToolCall(arguments="ab", incomplete=True)]),
    (fragments("mcp_call_arguments"),
     [ToolCall(name="mcp", arguments="ab", tool_type="mcp", is_of_application=False, incomplete=True)]),
    (fragments("custom_tool_call_input"), [ToolCall(arguments="ab", tool_type="custom", incomplete=True)]),
    (fragments("code_interpreter_call_code"),
     [ToolCall(name="code_interpreter", arguments="ab", tool_type="code_interpreter",
               is_of_application=False, incomplete=True)]),
    ([added(MESSAGE), text("see"), event("output_text.annotation.added", content_index=0, annotation=CITE)],
     [Text(text="see", annotations=[CITE])]),
    ([added(MESSAGE), text("Hel", logprobs=[PROBABLE]), text("lo")], [Text(text="Hello", logprobs=[PROBABLE])]),
    *(
        ([*called('{"a":| 1}'), ended(generic)], [ToolCall(id="call_1", name="f", arguments='{"a": 1}')])
        for generic in (EMPTY, HOLLOW)
    ),
    *(([*HI, ended(generic)], [Text(text="Hello you")]) for generic in (EMPTY, HOLLOW)),
    (
        [
            added(THOUGHT), event("reasoning_summary_text.delta", summary_index=0, delta="hm"), added(MESSAGE, 1),
            text("hi", 1), ended(EMPTY),
        ],
        [Reasoning(text="hm"), Text(text="hi")],
    ),
    ([*HI, done(EMPTY)], [Text(text="Hello you")]),
    # vLLM counts the place of each delta up, starts a message under the index and id of the thought before it, and
    # names both anew at the end.
    *(
        ([*COUNTED, *closing], [Reasoning(text="We say"), Text(text="Hello there")])
        for closing in ([], [ended(THOUGHT_OF_VLLM, said("Hello there"))], [ended()], [ended(EMPTY)])
    ),
    # Items that all have one index: their starts tell them apart.
    ([added(MESSAGE), text("a"), added({**MESSAGE, "id": "msg_2"}), text("b", item_id="msg_2")],
     [Text(text="a"), Text(text="b")]),
    ([added(MESSAGE), text("a"), *called("{}")], [Text(text="a"), ToolCall(id="call_1", name="f", arguments="{}",
                                                                          incomplete=True)]),
    # An id of its own for each event, as GitHub Copilot has: the index tells.
    ([added({**MESSAGE, "id": "x"}), *(text(one, item_id=one) for one in ("a", "b")), done({**said("ab"), "id": "y"})],
     [Text(text="ab")]),
    # A refusal within a text, and a text after it, are parts of their own.
    ([added(MESSAGE), text("a"), event("refusal.delta", content_index=0, delta="no"), text("b")],
     [Text(text="a"), Refusal(text="no"), Text(text="b")]),
]  # fmt: skip


@pytest.mark.parametrize(("events", "parts"), PARTS)
def test_response_events_make_parts(events: list[Json], parts: list[Part]) -> None:
    assert parts_of("responses", CREATED, *events) == parts
    assert parts_of("responses", *events) == parts


WHOLE = {**CALL, "arguments": '{"a": 1}'}
DRAFTED: Json = {**MESSAGE, "content": [{**EMPTY_PART, "text": "Hello "}]}
"""The start of a message that has its first piece already."""
SECOND = {**CALL, "id": "fc_2", "call_id": "call_2", "name": "g"}
LATE = [
    text("late"),
    added(MESSAGE),
    event("content_part.added", part={"type": "output_text", "text": ""}),
    event("output_text.done", text="late"),
    event("output_text.annotation.added", annotation={"a": 1}),
]
OUTPUTS: list[tuple[list[Json], list[Json]]] = [
    ([added(CALL, at=1), added(THOUGHT)], [{"type": "reasoning"}, {"type": "function_call"}]),
    ([{"type": "response.output_text.delta", "item_id": item, "delta": words} for item, words in ("a1", "b2", "a3")],
     [{"content": [{"type": "output_text", "text": "13"}]}, {"content": [{"type": "output_text", "text": "2"}]}]),
    ([done(said("whole")), *LATE], [said("whole")]),
    ([*HI, ended(EMPTY)], [{"id": "msg_9", "status": "completed"}]),
    ([*called('{"a"'), added(MESSAGE, 1), text("Hel", 1), ended(WHOLE, said("Hello"))], [WHOLE, said("Hello")]),
    # Items are paired by their ids before their types; another call at the end is another call.
    ([*called("{}"), *called('{"b": 2}', 1, id="fc_2", call_id="call_2", name="g"), ended(SECOND, WHOLE)],
     [{"name": "g", "arguments": '{"b": 2}'}, {"name": "f", "arguments": '{"a": 1}'}]),
    ([*called('{"a": 1}'), ended({**SECOND, "arguments": "{}"})],
     [{"call_id": "call_1", "arguments": '{"a": 1}'}, {"call_id": "call_2", "arguments": "{}"}]),
    ([*called('{"a": 1}'), ended({**WHOLE, "id": "fc_2", "call_id": "call_2"})], [{"call_id": "call_2"}]),
    ([*called('{"a"'), ended(EMPTY, status="incomplete")], [{"incomplete": True}, {"id": "msg_9"}]),
    ([*called('{"a"'), ended(EMPTY)], [{"incomplete": None}, {"id": "msg_9"}]),
    ([added({"type": "shell_call", "action": {"commands": [], "timeout_ms": 5}}),
      *(event("shell_call_command.delta", command_index=at, delta=one) for at, one in ((0, "l"), (0, "s"), (1, "id")))],
     [{"action": {"commands": ["ls", "id"], "timeout_ms": 5}, "incomplete": True}]),
    ([added({"type": "shell_call_output", "call_id": "c", "output": []}),
      *(event("shell_call_output_content.delta", command_index=0, delta={"stdout": one}) for one in "ab")],
     [{"output": [{"stdout": "ab"}]}]),
    # The end lacks a text and one of two equal calls; it has the other call under another id.
    ([*HI, *called("{}", 1), *called("{}", 2, id="fc_2", call_id="call_2"), ended({**CALL, "id": "x", "call_id": "y"})],
     [{"id": "msg_1"}, {"call_id": "y", "arguments": "{}"}, {"call_id": "call_2", "arguments": "{}"}]),
    # The same words in other parts, and the same arguments in another spelling.
    ([*HI, ended({**EMPTY, "content": [{"type": "output_text", "text": words} for words in ("Hel", "lo you")]})],
     [{"content": [{"type": "output_text", "text": words} for words in ("Hel", "lo you")]}]),
    ([*called('{"a":1}'), ended({**WHOLE, "call_id": "call_9", "id": "fc_9"})], [{"call_id": "call_9"}]),
    # One key for two calls.
    ([*called('{"a": 1}'), ended({**CALL, "name": "g", "arguments": "{}"})],
     [{"name": "f", "arguments": '{"a": 1}'}, {"name": "g", "arguments": "{}"}]),
    # A citation that is streamed and stated is one; an end that was cut off loses no text.
    ([*HI, event("output_text.annotation.added", content_index=0, annotation=CITE),
      ended({**said("Hello"), "content": [{"type": "output_text", "text": "Hello", "annotations": [CITE]}]})],
     [{"content": [{"type": "output_text", "text": "Hello you", "annotations": [CITE]}]}]),
    # A start that has the first delta already, or all of it, or another beginning than the deltas.
    *(([added(item), *deltas, ended(*closing)], [{"content": [{**EMPTY_PART, "text": "Hello you"}]}])
      for item, deltas in (
          (DRAFTED, HI[1:]), ({**DRAFTED, "content": [{**EMPTY_PART, "text": "Hello you"}]}, HI[1:]), (DRAFTED, HI[2:]),
      ) for closing in ((), (DRAFTED,))),
    ([added(MESSAGE), event("content_part.added", item_id="msg_1", content_index=0, part=DRAFTED["content"][0]),
      *HI[1:], ended(said("Hello you"))], [{"content": [{**EMPTY_PART, "text": "Hello you"}]}]),
    *(([added({**CALL, "arguments": draft}), *called('{"a"|: 1}')[1:], ended(*closing)], [{"arguments": '{"a": 1}'}])
      for draft in ('{"a"', '{"a": 1}') for closing in ((), (WHOLE,))),
    # The end of an item, or of all, says something else under the same id: one entry, as stated last.
    *(([*called(streamed), ended({**WHOLE, **news})], [{**WHOLE, **news}]) for streamed, news in (
        ("{'a': 1}", {}), ('{"a": 1.0}', {}), ('{"a": 1}', {"arguments": '{"a": 1, "b": 2}', "id": "fc_9"}),
        ('{"a": 1}', {"name": "functions.f"}),
    )),
    *(([*HI, *closing], [{"content": [{"type": "output_text", "text": "Hi you"}]}])
      for closing in ([done(said("Hi you"))], [ended(said("Hi you"))])),
    # Two calls with one id stay two.
    ([*called('{"a": 1}'), done(WHOLE), *called('{"b": 2}', 1), ended(WHOLE, {**CALL, "arguments": '{"b": 2}'})],
     [{"arguments": '{"a": 1}'}, {"arguments": '{"b": 2}'}]),
    # So do two that share the index too, though nothing ends the first; a start that is repeated begins nothing.
    ([*called('{"a": 1}'), *called("{}"), *called('{"b": 2}')],
     [{"arguments": '{"a": 1}'}, {"arguments": "{}"}, {"arguments": '{"b": 2}'}]),
    ([*called(""), *called('{"a": 1}', call_id="call_2")], [{"call_id": "call_1"}, {"call_id": "call_2"}]),
    ([*called(""), *called('{"a": 1}')], [{"call_id": "call_1", "arguments": '{"a": 1}'}]),
    ([*HI, *HI], [{"content": [{"type": "output_text", "text": "Hello you"}]}] * 2),
    ([added({**CALL, "type": [1]}), ended({**CALL, "type": [1], "arguments": "{}"})], [{"arguments": "{}"}]),
    ([event("image_generation_call.partial_image", partial_image_b64=one, item_id="i") for one in ("aa==", "bb==")],
     [{"type": "image_generation_call", "result": "bb==", "incomplete": True}]),
    # An event says by its type alone that an item failed.
    *(([added({"type": kind, "id": "mcp_1"}), event(f"{kind}.failed", item_id="mcp_1"), ended()],
       [{"type": kind, "status": "failed"}]) for kind in ("mcp_call", "mcp_list_tools", "a_new_call")),
    # The end of the response is not that of a tool of the provider; an event of an item that is done says nothing new.
    ([added({"type": "web_search_call", "id": "ws_1", "status": "in_progress"}), ended()],
     [{"status": "in_progress", "incomplete": True}]),
    ([done({"type": "web_search_call", "id": "ws_1"}), event("web_search_call.failed", item_id="other"), ended()],
     [{"id": "ws_1", "status": None}]),
]  # fmt: skip


RETRIED = {**RESPONSE, "id": "resp_2"}


@pytest.mark.parametrize("given_up", [HI, [*HI, ended(said("Hello you"))], [*called("{}"), ended(status="failed")]])
@pytest.mark.parametrize("closing", [[], [ended(said("Good"))], [ended()]])
def test_abandoned_attempt_is_not_part_of_the_answer(given_up: list[Json], closing: list[Json]) -> None:
    answer = [event("created", response=RETRIED), added({**MESSAGE, "id": "m"}), text("Good", item_id="m")]
    closing = [{**one, "response": {**one["response"], "id": "resp_2"}} for one in closing]
    assert folded("responses", CREATED, *given_up, *answer, *closing) == folded("responses", *answer, *closing)


@pytest.mark.parametrize(("events", "output"), OUTPUTS)
def test_response_events_make_items(events: list[Json], output: list[Json]) -> None:
    made = folded("responses", CREATED, *events)["output"]
    shown = [{name: item.get(name) for name in expected} for item, expected in zip(made, output, strict=True)]
    assert shown == output


def test_any_final_status_has_the_usage() -> None:
    accumulator = endpoint("responses").accumulator()
    response = {**RESPONSE, "status": "completed", "usage": {"input_tokens": 5, "output_tokens": 7}}
    for one in (CREATED, *HI, event("done", response=response)):
        accumulator.add(one)
    assert accumulator.complete
    assert accumulator.body()["usage"] == {"input_tokens": 5, "output_tokens": 7}


def test_audio_of_two_items_with_one_index_is_separate() -> None:
    items = [added({**MESSAGE, "id": identity}) for identity in ("a", "b")]
    sounds = [
        event("output_audio.delta", content_index=0, item_id=identity, bytes=size)
        for identity, size in (("a", 4), ("b", 6))
    ]
    made = folded("realtime", items[0], sounds[0], items[1], sounds[1])["output"]
    assert [item["content"][0]["callspan_media"]["bytes"] for item in made] == [4, 6]


# Anthropic's messages


def began(index: int | None, **block: object) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(kind: str, **fields: object) -> Json:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **fields}}


START: Json = {
    "type": "message_start",
    "message": {"id": "msg_1", "role": "assistant", "model": "claude-x", "content": []},
}
STOP = {"type": "message_stop"}
BLOCK_STOP = {"type": "content_block_stop", "index": 0}
OVER = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 7}}
TOOL = [
    began(0, type="tool_use", id="t1", name="move", input={}), delta("input_json_delta", partial_json='{"to": [1'),
]  # fmt: skip
CUT = {"type": "tool_use", "id": "t1", "name": "move", "input": '{"to": [1', "incomplete": True}
FRAMES = [{"type": "video_delta", "frame": number} for number in (1, 2)]
WORDS, SAID = delta("text_delta", text="look "), {"type": "text", "text": "look "}
MOVE = {"type": "tool_use", "id": "t1", "name": "move", "input": {}}
AGAIN = {**START, "message": {**START["message"], "id": "msg_2"}}
PLAIN = {"type": "message", "role": "assistant", "id": "m", "content": [{"type": "text", "text": "x"}]}
BODIES: list[tuple[str, list[Json], Json]] = [
    *(("messages", [*TOOL, *closing], {"content": [CUT]}) for closing in ([], [BLOCK_STOP], [BLOCK_STOP, OVER, STOP])),
    (
        "messages",
        [began(0, type="text", text=""), *(delta("video_delta", frame=number) for number in (1, 2))],
        {"content": [{"type": "text", "text": "", "deltas": FRAMES}]},
    ),
    ("messages", [START, began(0, type="fallback", to={"model": "claude-y"}), BLOCK_STOP], {"model": "claude-y"}),
    ("messages", [delta("text_delta", text="par"), {"type": "error"}], {"error": {"type": "error"}}),
    ("messages", [PLAIN], PLAIN),
    # Ollama and adapters give every block the index 0.
    *(
        ("messages", [began(0, type="text", text=""), WORDS, *stop, *TOOL], {"content": [SAID, CUT]})
        for stop in ([], [BLOCK_STOP])
    ),
    (
        "messages",
        [
            *TOOL,
            BLOCK_STOP,
            began(0, type="tool_use", id="t1", name="move", input={}),
            delta("input_json_delta", partial_json="{}"),
        ],
        {"content": [CUT, MOVE]},
    ),
    # A start that is sent twice, also after its stop and with another index.
    ("messages", [TOOL[0], *TOOL], {"content": [CUT]}),
    ("messages", [TOOL[0], BLOCK_STOP, *TOOL], {"content": [CUT]}),
    ("messages", [{**TOOL[0], "index": 4}, {**BLOCK_STOP, "index": 4}, *TOOL], {"content": [CUT]}),
    # An attempt that the server gave up, and its repeated start.
    (
        "messages",
        [START, *TOOL, BLOCK_STOP, OVER, STOP, AGAIN, began(0, type="text", text=""), WORDS],
        {"id": "msg_2", "content": [SAID], "stop_reason": None, "usage": None},
    ),
    (
        "messages",
        [START, began(0, type="text", text=""), WORDS, START, WORDS],
        {"id": "msg_1", "content": [{**SAID, "text": "look look "}]},
    ),
    # Text and thoughts without starts, on one index.
    (
        "messages",
        [WORDS, delta("thinking_delta", thinking="hm"), delta("signature_delta", signature="s"), WORDS],
        {"content": [SAID, {"type": "thinking", "thinking": "hm", "signature": "s"}, SAID]},
    ),
    # Deltas before their start, an index that counts up with each event, a stop of an unknown index.
    ("messages", [WORDS, began(0, type="text", text=""), WORDS], {"content": [{**SAID, "text": "look look "}]}),
    (
        "messages",
        [began(0, type="text", text=""), *({**WORDS, "index": at} for at in (1, 2)), {**BLOCK_STOP, "index": 3}],
        {"content": [{**SAID, "text": "look look "}]},
    ),
    (
        "responses",
        [event("created", response={**RESPONSE, "status": "queued"}), event("in_progress", response=RESPONSE)],
        RESPONSE,
    ),
    # Events of pictures do not say which one they are of: also two equal ones are two.
    *(
        ("images", [{"type": f"{kind}.{end}", "b64_json": data} for end, data in drawn], {"data": pictures})
        for kind in ("image_generation", "image_edit")
        for drawn, pictures in (
            ([("completed", "aa=="), ("completed", "bb==")], [{"b64_json": "aa=="}, {"b64_json": "bb=="}]),
            ([("completed", "aa=="), ("completed", "aa==")], [{"b64_json": "aa=="}, {"b64_json": "aa=="}]),
            (
                [("partial_image", "x"), ("completed", "aa=="), ("partial_image", "y"), ("partial_image", "z")],
                [{"b64_json": "aa=="}, {"b64_json": "z", "incomplete": True}],
            ),
        )
    ),
    # Chunks of vLLM's transcripts and translations.
    *(
        (
            api,
            [
                {"object": f"{api}.chunk", "id": "t1", "choices": [{"delta": {"content": " And"}}]},
                {"object": f"{api}.chunk", "id": "t1", "choices": [{"delta": {}, "finish_reason": "stop"}]},
                {"object": f"{api}.chunk", "id": "t1", "choices": [], "usage": {"prompt_tokens": 9}},
            ],
            {"text": " And", "id": "t1", "usage": {"prompt_tokens": 9}, "choices": None},
        )
        for api in ("transcriptions", "translations")
    ),
    # Together's numbers are those of an answer's list, for chat and completions.
    *(
        (api, [{"choices": [{"index": 0, "logprobs": number, **piece}]} for number in (-0.5, -1)], {"choices": [{**rest,
            "index": 0, "finish_reason": None, "logprobs": {"token_logprobs": [-0.5, -1]}}]})
        for api, piece, rest in (
            ("chat_completions", {"delta": {"content": "a"}}, {"message": {"role": "assistant", "content": "aa"}}),
            ("completions", {"text": "a"}, {"text": "aa"}),
        )
    ),
]  # fmt: skip


def in_pieces(data: bytes, size: int) -> list[str]:
    return [base64.b64encode(data[at : at + size]).decode() for at in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 3, 4, 100])
@pytest.mark.parametrize("kind", ["image", "audio", "video", "document"])
def test_files_in_pieces_are_one_in_converse(kind: str, size: int) -> None:
    pieces = in_pieces(b"one file", size)
    deltas = [{kind: {"format": "png", "source": {"bytes": piece}}} for piece in pieces]
    events: list[Json] = [{"contentBlockDelta": {"contentBlockIndex": 0, "delta": delta}} for delta in deltas]
    body = folded("converse", {"messageStart": {"role": "assistant"}}, *events)
    (block,) = body["output"]["message"]["content"]
    assert block == {kind: {"format": "png", "source": {"bytes": base64.b64encode(b"one file").decode()}}}


@pytest.mark.parametrize("field", ["audio", "audio_data", "b64"])
def test_speech_in_pieces_is_hashed_as_one(field: str) -> None:
    sound = folded("speech", *({"object": "chunk", field: piece} for piece in in_pieces(b"one file", 4)))
    reference = {"sha256": hashlib.sha256(b"one file").hexdigest(), "bytes": 8}
    assert sound == {"object": "chunk", "audio": {"callspan_media": reference}}


@pytest.mark.parametrize(("api", "events", "body"), BODIES)
def test_events_make_a_body(api: str, events: list[Json], body: Json) -> None:
    made = folded(api, *events)
    assert {name: made.get(name) for name in body} == body


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (None, []),
        ("", []),
        ("hi", [Message(role="user", parts=[Text(text="hi")])]),
        ([1, 2], [Message(role="user", parts=[UnknownPart(data=[1, 2])])]),
    ],
)
def test_prompt_is_a_user_message(prompt: object, expected: list[Message]) -> None:
    assert endpoint("completions").conversation({"prompt": prompt}, None) == Conversation(input=expected)


# All of them

CARRYING: dict[str, list[Json]] = {
    "chat_completions": [chunk(delta) for delta in (
        {"content": "x"}, {"content": [{"type": "text", "text": "x"}]}, {"refusal": "no"}, {"reasoning": "hm"},
        {"reasoning_content": "hm"}, {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f"}}]}, {"function_call": {"name": "f"}},
        {"audio": {"transcript": "x"}}, {"annotations": [{"type": "url_citation"}]},
    )],
    "responses": [events[0] for events, _ in PARTS[:8]],
    "messages": [
        delta("text_delta", text="x"), delta("thinking_delta", thinking="x"), PLAIN,
        delta("input_json_delta", partial_json="{"), delta("compaction_delta", content="s"),
        began(0, type="text", text="x"), began(0, type="tool_use", id="t", name="n", input={}),
        began(0, type="redacted_thinking", data="x"),
    ],
}  # fmt: skip
BARE: dict[str, list[Any]] = {
    "chat_completions": [chunk(delta) for delta in (
        {"role": "assistant", "content": ""}, {"content": [{"type": "text", "text": ""}]}, {"tool_calls": []},
        {"audio": {"id": "a"}}, {"channel": "analysis"}, {}, {"function_call": 5},
    )],
    "responses": [CREATED, added(MESSAGE)],
    "messages": [
        delta("text_delta", text=""), delta("input_json_delta", partial_json=""), began(0, type="text", text=""),
        delta("signature_delta", signature="s"), {"type": "content_block_delta", "index": 0}, START, BLOCK_STOP, OVER,
    ],
}  # fmt: skip
FIRST = {"chat_completions": A, "responses": text("a"), "messages": delta("text_delta", text="a")}


@pytest.mark.parametrize(
    ("api", "one", "carries"),
    [(api, one, of is CARRYING) for of in (CARRYING, BARE) for api, chunks in of.items() for one in chunks],
)
def test_only_content_counts_as_the_first_token(api: str, one: Any, carries: bool) -> None:
    """Also after the first piece, where streams are read in a shorter way."""
    assert endpoint(api).accumulator().add(one) is carries
    warm = endpoint(api).accumulator()
    warm.add(FIRST[api])
    assert warm.add(one) is carries
    assert carries or "a" in str(warm.body())


def test_equal_calls_without_arguments_are_paired_with_those_of_the_last_event() -> None:
    def calls(prefix: str) -> list[dict[str, Any]]:
        return [
            {
                "type": "function_call",
                "id": f"{prefix}{at}",
                "call_id": f"c{prefix}{at}",
                "name": "f",
                "arguments": "{}",
            }
            for at in range(2)
        ]

    events = [
        {"type": "response.output_item.done", "output_index": at, "item": call} for at, call in enumerate(calls("a"))
    ]
    last = {"type": "response.completed", "response": {"id": "r", "object": "response", "output": calls("b")}}
    assert [call["id"] for call in folded("responses", *events, last)["output"]] == ["b0", "b1"]
