"""The wires of Cohere, Ollama, Mistral and Hugging Face: parts, counters, errors, and streams."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.bodies import endpoint, folded

from callspan.providers import registry
from callspan.records import Conversation, Media, Message, Reasoning, Text, ToolCall, ToolResult, UnknownPart

Json = dict[str, Any]
TURNS: list[Json] = [{"role": "user", "content": "Hi"}]
CHAT: Json = {"model": "m", "messages": TURNS}


# Cohere


def test_billed_units_are_the_tokens() -> None:
    usage: Json = {
        "billed_units": {"input_tokens": 45, "output_tokens": 29, "search_units": 2},
        "tokens": {"input_tokens": 1469, "output_tokens": 42}, "cached_tokens": 1024,
    }  # fmt: skip
    found = endpoint("cohere_chat").response_info({"message": {}, "usage": usage}).usage
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (45, 29, 74)
    assert (found.cache_read_tokens, found.estimated, found.hosted_tools) == (None, False, {"search_units": 2})
    assert found.raw == usage
    unbilled = {"message": {}, "usage": {"tokens": {"input_tokens": 3, "output_tokens": 2}}}
    assert endpoint("cohere_chat").response_info(unbilled).usage.total_tokens == 5
    images = {"embeddings": {}, "meta": {"billed_units": {"input_tokens": 2, "image_tokens": 7}}}
    found = endpoint("cohere_embed").response_info(images).usage
    assert (found.input_tokens, found.input_image_tokens, found.output_tokens) == (9, 7, None)
    ranked = {"results": [], "meta": {"billed_units": {"search_units": 1}}}
    found = endpoint("rerank").response_info(ranked).usage
    assert (found.input_tokens, found.hosted_tools) == (None, {"search_units": 1})


def test_plan_content_and_citations_are_parts() -> None:
    citation = {"start": 0, "end": 2, "text": "It", "sources": [], "type": "TEXT_CONTENT"}
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    content = [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "It is."}]
    answer = {
        "role": "assistant",
        "tool_plan": "Look.",
        "content": content,
        "tool_calls": [call],
        "citations": [citation],
    }
    given = {"messages": [answer, {"role": "tool", "tool_call_id": "c1", "content": "seen"}]}
    found = endpoint("cohere_chat").conversation(given, {"message": answer, "finish_reason": "TOOL_CALL"})
    parts = [
        Reasoning(text="Look."), Reasoning(text="Hm."), Text(text="It is.", annotations=[citation]),
        ToolCall(id="c1", name="look", arguments="{}"),
    ]  # fmt: skip
    result = Message(role="tool", parts=[ToolResult(id="c1", content="seen")])
    assert found.input == [Message(role="assistant", parts=parts), result]
    assert found.output == [Message(role="assistant", parts=parts, finish_reason="TOOL_CALL")]


def event(kind: str, index: int | None = None, **message: Any) -> Json:
    return {"type": kind, "index": index, "delta": {"message": message}}


CALL: Json = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}
STARTED = [
    {**event("message-start", role="assistant"), "id": "1"},
    event("tool-plan-delta", tool_plan="Loo"),
    event("tool-plan-delta", tool_plan="k."),
    event("tool-call-start", 0, tool_calls=CALL),
    event("tool-call-delta", 0, tool_calls={"function": {"arguments": '{"a":'}}),
]


def test_cut_stream_has_what_was_received() -> None:
    body = folded("cohere_chat", *STARTED)
    (message,) = endpoint("cohere_chat").conversation(None, body).output
    assert message.parts == [
        Reasoning(text="Look."),
        ToolCall(id="c1", name="look", arguments='{"a":', incomplete=True),
    ]
    info = endpoint("cohere_chat").response_info(body)
    assert (info.response.finish_reasons, info.usage, info.error) == ([None], None, None)


def test_ended_call_is_complete_and_indices_of_calls_and_content_are_apart() -> None:
    body = folded(
        "cohere_chat", *STARTED, event("tool-call-delta", 0, tool_calls={"function": {"arguments": "1}"}}),
        event("tool-call-end", 0), event("content-start", 0, content={"type": "text", "text": ""}),
        event("content-delta", 0, content={"text": "Well."}), event("citation-start", 0, citations={"text": "W"}),
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
    )  # fmt: skip
    (message,) = endpoint("cohere_chat").conversation(None, body).output
    assert message.parts == [
        Reasoning(text="Look."), Text(text="Well.", annotations=[{"text": "W"}]),
        ToolCall(id="c1", name="look", arguments='{"a":1}'),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("api", "body", "kind", "message"),
    [
        ("cohere_chat", {"id": "1", "message": "model 'x' was removed"}, "unknown", "model 'x' was removed"),
        ("cohere_chat", {"message": {}, "finish_reason": "TIMEOUT", "error": "slow"}, "timeout", "slow"),
        ("cohere_chat", {"message": {}, "finish_reason": "ERROR"}, "unknown", None),
        (
            "cohere_chat",
            {"finish_reason": "ERROR", "error": "bad", "error_type": "INVALID_TOOL_GENERATION"},
            "server",
            "bad",
        ),
        ("cohere_chat_v1", {"text": "", "finish_reason": "ERROR_TOXIC"}, None, None),
        ("ollama_chat", {"error": "model requires more system memory"}, "unknown", "model requires more system memory"),
    ],
)
def test_error_in_a_body(api: str, body: Json, kind: str | None, message: str | None) -> None:
    error = endpoint(api).response_info(body).error
    assert (None if error is None else error.kind, None if error is None else error.message) == (kind, message)


def test_first_version_of_chat() -> None:
    request: Json = {
        "preamble": "Be brief.", "message": "Go on", "chat_history": [
            {"role": "User", "message": "Look"},
            {"role": "CHATBOT", "message": "", "tool_calls": [{"name": "look", "parameters": {"at": 1}}] * 2},
        ],
        "tool_results": [{"call": {"name": "look"}, "outputs": [{"seen": 1}]}],
        "tools": [{"name": "look", "description": "Look.", "parameter_definitions": {
            "at": {"type": "int", "description": "Where", "required": True}, "by": {"type": "List[str]"}, "on": {},
        }}],
        "p": 0.5, "stream": True,
    }  # fmt: skip
    schema = {
        "type": "object",
        "properties": {"at": {"type": "integer", "description": "Where"}, "by": {"type": "array"}, "on": {}},
        "required": ["at"],
    }
    reads = endpoint("cohere_chat_v1")
    stated = reads.request(request)
    assert (stated.params, stated.message_count, stated.tool_names) == ({"top_p": 0.5}, 3, ["look"])
    lines: list[Json] = [
        {"event_type": "stream-start", "generation_id": "g"},
        {"event_type": "text-generation", "text": "We"}, {"event_type": "text-generation", "text": "ll."},
        {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0.0, "name": "look"}},
        {"event_type": "tool-calls-chunk", "tool_call_delta": {"index": 0.0, "parameters": '{"at"'}},
    ]  # fmt: skip
    cut = folded("cohere_chat_v1", *lines)
    pending = ToolCall(id="look", name="look", arguments='{"at"', incomplete=True)
    calls = [ToolCall(id=name, name="look", arguments='{"at":1}') for name in ("look", "look:2")]
    assert reads.conversation(request, cut) == Conversation(
        system=[Text(text="Be brief.")],
        input=[
            Message(role="user", parts=[Text(text="Look")]),
            Message(role="assistant", parts=[*calls]),
            Message(role="user", parts=[Text(text="Go on")]),
            Message(role="tool", parts=[ToolResult(id="look", content=[{"seen": 1}])]),
        ],
        output=[Message(role="assistant", parts=[Text(text="Well."), pending])],
        tools=[{"name": "look", "description": "Look.", "parameters": schema}],
    )
    answer = {"response_id": "r", "text": "Well.", "finish_reason": "COMPLETE"}
    whole = folded("cohere_chat_v1", *lines, {"event_type": "stream-end", "response": answer})
    assert reads.response_info(whole).response.id == "r"


# Ollama


def test_prompt_in_the_cache_is_unknown() -> None:
    found = endpoint("ollama_chat").response_info({"done": True, "eval_count": 5, "total_duration": 9}).usage
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (None, 5, None)
    assert found.raw == {"eval_count": 5, "total_duration": 9}
    assert endpoint("ollama_chat").response_info({"done": True, "done_reason": "load"}).usage is None


def test_stream_is_the_default_and_options_are_parameters() -> None:
    stated = endpoint("ollama_chat").request({**CHAT, "options": {"num_predict": 5, "top_k": 3}, "think": True})
    assert (stated.stream, stated.params) == (True, {"max_tokens": 5, "top_k": 3, "think": True})
    unlimited = endpoint("ollama_chat").request({**CHAT, "stream": False, "options": {"num_predict": -1}})
    assert (unlimited.stream, unlimited.params) == (False, {"num_predict": -1})


def test_calls_of_ollama_are_paired_by_name_with_their_results() -> None:
    calls = [{"function": {"name": "look", "arguments": {"at": at}}} for at in (1, 2)]
    results = [{"role": "tool", "tool_name": "look", "content": at} for at in ("a", "b")]
    turns = [*TURNS, {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": calls}, *results]
    parts = [
        ToolCall(id=name, name="look", arguments=f'{{"at":{at}}}') for at, name in enumerate(("look", "look:2"), 1)
    ]
    found = endpoint("ollama_chat").conversation({"messages": turns * 2}, None).input
    assert found[1:4] == [
        Message(role="assistant", parts=[Reasoning(text="Hm."), *parts]),
        Message(role="tool", parts=[ToolResult(id="look", content="a")]),
        Message(role="tool", parts=[ToolResult(id="look:2", content="b")]),
    ]
    assert found[4:] == found[:4]


def test_line_with_an_error_ends_the_stream_of_ollama() -> None:
    lines: list[Json] = [{"message": {"role": "assistant", "content": "We"}, "done": False}, {"error": "out of memory"}]
    body = folded("ollama_chat", *lines)
    info = endpoint("ollama_chat").response_info(body)
    assert (info.error.message, endpoint("ollama_chat").conversation(None, body).output[0].text) == (
        "out of memory",
        "We",
    )


# Mistral and Hugging Face


def test_references_are_annotations_of_the_text_before() -> None:
    reference = {"type": "reference", "reference_ids": [1, 2]}
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    content = [reference, thought, {"type": "text", "text": "So"}, reference, {"type": "text", "text": " it is"}]
    message = {"role": "assistant", "content": content}
    (found,) = endpoint("chat_completions").conversation(None, {"choices": [{"message": message}]}).output
    assert found.parts == [
        UnknownPart(data=reference), Reasoning(text="Hm."), Text(text="So", annotations=[reference]),
        Text(text=" it is"),
    ]  # fmt: skip


def test_sound_is_sent_to_mistral_without_an_object_around_it() -> None:
    turn = {"role": "user", "content": [{"type": "input_audio", "input_audio": "https://a.example.com/s.mp3"}]}
    (found,) = endpoint("chat_completions").conversation({"messages": [turn]}, None).input
    assert found.parts == [Media(modality="audio", url="https://a.example.com/s.mp3")]


def test_code_is_filled_in_between_prompt_and_suffix() -> None:
    reads = endpoint("fim_completions")
    answer = {"choices": [{"message": {"content": "return a"}, "finish_reason": "stop"}]}
    found = reads.conversation({"prompt": "def f(a): ", "suffix": "\n"}, answer)
    assert ([message.text for message in found.input], found.output[0].text) == (["def f(a): "], "return a")
    streamed = folded("fim_completions", {"choices": [{"index": 0, "delta": {"content": "return a"}}]})
    assert reads.conversation(None, streamed).output[0].text == "return a"


def test_generated_text_of_hugging_face() -> None:
    reads = endpoint("text_generation")
    request = {"inputs": "Hi", "parameters": {"max_new_tokens": 5, "temperature": 0.5}, "stream": True}
    stated = reads.request(request)
    assert (stated.stream, stated.params) == (True, {"max_tokens": 5, "temperature": 0.5})
    details = {"finish_reason": "length", "generated_tokens": 2, "input_length": 3}
    tokens: list[Json] = [
        {"index": 1, "token": {"text": "We", "special": False}, "generated_text": None, "details": None},
        {"index": 2, "token": {"text": "ll", "special": False}, "generated_text": "Well", "details": details},
    ]
    cut, whole = folded("text_generation", *tokens[:1]), folded("text_generation", *tokens)
    assert [reads.conversation(request, body).output[0].text for body in (cut, whole)] == ["We", "Well"]
    info = reads.response_info(whole)
    assert (info.response.finish_reasons, info.response.truncated) == (["length"], True)
    assert (info.usage.input_tokens, info.usage.output_tokens, info.usage.total_tokens) == (3, 2, 5)
    plain = reads.response_info([{"generated_text": "Well"}])
    assert (plain.recognized, plain.usage, plain.response.finish_reasons) == (True, None, [None])
    failed = reads.response_info({"error": "Model is overloaded", "error_type": "overloaded"})
    assert (failed.error.kind, failed.error.message) == ("overloaded", "Model is overloaded")


# Bedrock


@pytest.mark.parametrize(
    ("model", "cached", "counted"),
    [
        ("openai.gpt-5.6", {"cacheWriteInputTokens": 4993, "cacheReadInputTokens": 0}, (4995, 5014, True)),
        ("us.openai.gpt-5.6", {"cacheReadInputTokens": 4993}, (4995, 5014, True)),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/openai.gpt-5.6",
            {"cacheReadInputTokens": 4993},
            (4995, 5014, True),
        ),
        ("openai.gpt-5.6", {"cacheReadInputTokens": 0}, (4995, 5014, False)),
        ("us.anthropic.claude-sonnet-4-5", {"cacheReadInputTokens": 4993}, (9988, 10007, False)),
    ],
)
def test_input_of_openai_in_converse_includes_what_is_cached(model: str, cached: Json, counted: Any) -> None:
    usage = {"inputTokens": 4995, "outputTokens": 19, "totalTokens": 4995 + 19 + sum(cached.values()), **cached}
    converse = registry.of_call("converse", model)
    assert converse is not None
    found = converse.response_info({"usage": usage, "stopReason": "end_turn"}).usage
    assert found is not None
    assert (found.input_tokens, found.total_tokens, found.estimated) == counted


def test_total_tells_that_input_includes_what_is_cached() -> None:
    usage = {"inputTokens": 4995, "outputTokens": 19, "totalTokens": 5014, "cacheReadInputTokens": 4993}
    converse = registry.of_call("converse", "openai.gpt-5.6")
    assert converse is not None
    found = converse.response_info({"usage": usage, "stopReason": "end_turn"}).usage
    assert found is not None
    assert (found.input_tokens, found.cache_read_tokens, found.estimated) == (4995, 4993, False)


HELD_BACK: list[tuple[str, Any]] = [
    ("predict", {"predictions": [{"raiFilteredReason": "All images were filtered out."}]}),
    ("invoke_model", {"seeds": [], "finish_reasons": ["Filter reason: prompt"], "images": []}),
    ("invoke_model", {"images": ["aGk="], "error": "Some of the images were blocked by our content filters."}),
    ("invoke_model", {"images": [], "error": "All of the images were blocked by our content filters."}),
    ("invoke_model", {"images": None, "error": "This request has been blocked by our content filters."}),
    ("invoke_model", {"result": "success", "artifacts": [
        {"base64": "aGk=", "seed": 1, "finishReason": "SUCCESS"},
        {"base64": "aGk=", "seed": 2, "finishReason": "CONTENT_FILTERED"},
    ]}),
    ("images", {"data": [{"b64_json": "aGk=", "finish_reason": "CONTENT_FILTERED"}]}),
    ("images", {"data": [{"url": "https://x.example/a.png", "respect_moderation": False}]}),
    ("images", {"data": [{"url": "https://x.example/a.png", "content_filter_results": {
        "hate": {"filtered": False, "severity": "safe"}, "sexual": {"filtered": True, "severity": "high"},
    }}]}),
    ("images", {"data": [{"url": "https://x.example/a.png", "prompt_filter_results": {
        "jailbreak": {"filtered": True, "detected": True},
    }}]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "outcome"),
    [({"request_id": "r-1"}, "in_progress"), ({"request_id": "r-1", "choices": []}, None), ({"id": "r-1"}, None)],
)
def test_deferred_completion_has_no_answer_yet(body: Any, outcome: str | None) -> None:
    info = endpoint("chat_completions").response_info(body)
    assert (info.outcome, info.background, info.error) == (outcome, outcome is not None, None)


SHOWN: list[tuple[str, Any]] = [
    ("invoke_model", {"images": ["aGk="], "error": None}),
    ("invoke_model", {"result": "success", "artifacts": [{"base64": "aGk=", "finishReason": "SUCCESS"}]}),
    ("images", {"data": [{"b64_json": "aGk=", "finish_reason": "SUCCESS", "respect_moderation": True,
        "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}]}),
]  # fmt: skip


@pytest.mark.parametrize(("api", "body"), HELD_BACK)
def test_picture_that_a_filter_held_back_is_refused(api: str, body: Any) -> None:
    info = endpoint(api).response_info(body)
    assert (info.response.refused, info.error) == (True, None)


@pytest.mark.parametrize(("api", "body"), SHOWN)
def test_picture_that_filters_let_pass_is_not_refused(api: str, body: Any) -> None:
    info = endpoint(api).response_info(body)
    assert (info.response.refused, info.response.unknown_finish, info.error) == (False, False, None)


@pytest.mark.parametrize("field", ["bytesBase64Encoded", "audioContent"])
def test_music_of_a_prediction_is_no_picture(field: str) -> None:
    body = {"predictions": [{field: "aGk=", "mimeType": "audio/wav"}]}
    (message,) = endpoint("predict").conversation(None, body).output
    assert [part.modality for part in message.parts if isinstance(part, Media)] == ["audio"]
    assert endpoint("predict").response_info(body).usage is None


EMBEDDED: list[tuple[str, str, Any]] = [
    ("predict", "image", lambda source: {"instances": [{"text": "a", "image": {"bytesBase64Encoded": source}}]}),
    ("predict", "video", lambda source: {"instances": [{"video": {"bytesBase64Encoded": source}}]}),
    ("predict", "image", lambda source: {"instances": [
        {"prompt": "a", "referenceImages": [{"referenceImage": {"bytesBase64Encoded": source}}]},
    ]}),
    ("invoke_embeddings", "image", lambda source: {"singleEmbeddingParams": {"image": {"source": {"bytes": source}}}}),
    ("invoke_embeddings", "audio", lambda source: {
        "segmentedEmbeddingParams": {"audio": {"source": {"bytes": source}}},
    }),
    ("embeddings", "image", lambda source: {"input": [{"image": source}]}),
    ("embeddings", "video", lambda source: {"input": ["a", {"video": source}]}),
    ("embeddings", "image", lambda source: {"messages": [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": source}}]},
    ]}),
]  # fmt: skip
"""Requests with a medium, and its kind."""


@pytest.mark.parametrize("is_reference", [False, True])
@pytest.mark.parametrize(("api", "kind", "request_of"), EMBEDDED)
def test_medium_in_a_request_is_shown_by_bytes_and_by_reference(
    api: str, kind: str, request_of: Any, is_reference: bool
) -> None:
    reference = {"callspan_media": {"sha256": "0", "bytes": 2, "mime": f"{kind}/x"}}
    source = reference if is_reference else f"data:{kind}/x;base64,aGk=" if api == "embeddings" else "aGk="
    messages = endpoint(api).conversation(request_of(source), None).input
    shown = [(part.modality, part.size) for message in messages for part in message.parts if isinstance(part, Media)]
    assert shown == [(kind, 2)]


@pytest.mark.parametrize("picture", ["aGk=", {"callspan_media": {"sha256": "0", "bytes": 2, "mime": "image/png"}}])
def test_embedded_picture_is_shown_by_bytes_and_by_reference(picture: Any) -> None:
    (message,) = endpoint("invoke_embeddings").conversation({"inputImage": picture}, None).input
    assert [part.size for part in message.parts if isinstance(part, Media)] == [2]
