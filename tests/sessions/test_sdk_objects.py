"""The objects of every SDK as arguments that name a call or a tool call. A new SDK is a row of `ROWS`."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import pickle
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import httpx
import pytest
from tests.sessions.conftest import elsewhere, known_objects, logged_misuse
from tests.sessions.sdk_clients import (
    ASK,
    CONVERSE,
    EMBEDDINGS,
    INTERACTION,
    INTERACTION_EVENTS,
    INVOKE,
    MARKS,
    of_anthropic,
    of_bedrock,
    of_cohere,
    of_cohere_v1,
    of_google,
    of_hugging_face,
    of_mistral,
    of_ollama,
    of_openai,
    sdk,
)
from tests.support.waiting import HANG_S

import callspan
from callspan.testing import ScriptedProvider, capture

pytestmark = MARKS


class Row(NamedTuple):
    """A call by an SDK."""

    ask: Callable[[ScriptedProvider], list[Any]]
    """Makes one call; returns the objects by which the application may name it."""
    tool_call: Callable[[Any], Any] | None = None
    """Takes the first object; returns the tool call in it."""
    is_known: bool = True
    """Whether the objects name their call."""
    answer: Mapping[str, Any] = {}


def read(stream: Any, *names: Callable[[list[Any]], Any]) -> list[Any]:
    """Read a stream to its end; return it with some of its chunks."""
    chunks = list(stream)
    return [stream, *(name(chunks) for name in names)]


def first(chunks: list[Any]) -> Any:
    return chunks[0]


def last(chunks: list[Any]) -> Any:
    return chunks[-1]


def generated(name: str, title: str, url: str) -> Callable[[ScriptedProvider], Any]:
    return lambda p: getattr(sdk(name), title)(base_url=getattr(p, url), api_key="k").chat.completions.create(**ASK)


def streamed(p: ScriptedProvider) -> list[Any]:
    return read(of_openai(p).chat.completions.create(**ASK, stream=True), first, last)


def raw(p: ScriptedProvider) -> list[Any]:
    answer = of_openai(p).chat.completions.with_raw_response.create(**ASK)
    return [answer, answer.parse()]


def helped(p: ScriptedProvider) -> list[Any]:
    with of_anthropic(p).messages.stream(**ASK, max_tokens=9) as stream:
        return [stream.get_final_message(), stream]


def content(p: ScriptedProvider) -> list[Any]:
    answer = of_google(p).models.generate_content(model="m", contents="q")
    return [answer, answer.model_copy(deep=True), answer.model_dump()]


def content_async(p: ScriptedProvider) -> list[Any]:
    async def asked() -> Any:
        client = of_google(p).aio
        chunks = [one async for one in await client.models.generate_content_stream(model="m", contents="q")]
        return [chunks[-1], *chunks[:-1]]

    return asyncio.run(asked())


def embedded(p: ScriptedProvider) -> list[Any]:
    return [of_google(p).models.embed_content(model="gemini-embedding-001", contents="q")]


def interaction(p: ScriptedProvider) -> list[Any]:
    client = of_google(p)
    if not hasattr(client, "interactions"):
        pytest.skip("this version has no interactions")
    return [client.interactions.create(model="m", input="q")]


def interaction_stream(p: ScriptedProvider) -> list[Any]:
    client = of_google(p)
    if not hasattr(client, "interactions"):
        pytest.skip("this version has no interactions")
    return read(client.interactions.create(model="m", input="q", stream=True), first, last)


def conversed(p: ScriptedProvider) -> list[Any]:
    answer = of_bedrock(p).converse(**CONVERSE)
    return [answer, dict(answer)]


def converse_stream(p: ScriptedProvider) -> list[Any]:
    answer = of_bedrock(p).converse_stream(**CONVERSE)
    list(answer["stream"])
    return [answer, answer["stream"]]


def invoked(p: ScriptedProvider) -> list[Any]:
    answer = of_bedrock(p).invoke_model(**INVOKE)
    return [json.loads(answer["body"].read()), answer, answer["body"]]


def invoke_stream(p: ScriptedProvider) -> list[Any]:
    answer = of_bedrock(p).invoke_model_with_response_stream(**INVOKE)
    events = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    return [answer, answer["body"], events[0]]


def conversed_async(p: ScriptedProvider) -> list[Any]:
    session = sdk("aiobotocore.session").get_session()

    async def asked() -> list[Any]:
        options = {"region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
        async with session.create_client("bedrock-runtime", endpoint_url=p.bedrock_url, **options) as client:
            answer = await client.converse_stream(**CONVERSE)
            async for _ in answer["stream"]:
                continue
            return [answer, answer["stream"]]

    return asyncio.run(asked())


def by_http(p: ScriptedProvider) -> list[Any]:
    answer = httpx.post(f"{p.openai_url}/chat/completions", json=ASK, trust_env=False)
    return [answer.json(), answer]


def by_requests(p: ScriptedProvider) -> list[Any]:
    answer = sdk("requests").post(f"{p.openai_url}/chat/completions", json=ASK, timeout=HANG_S)
    return [answer.json(), answer]


def by_aiohttp(p: ScriptedProvider) -> list[Any]:
    async def asked() -> list[Any]:
        async with sdk("aiohttp").ClientSession() as session:
            answer = await session.post(f"{p.openai_url}/chat/completions", json=ASK)
            return [await answer.json(), answer]

    return asyncio.run(asked())


def by_litellm(p: ScriptedProvider) -> list[Any]:
    litellm = sdk("litellm")
    return [litellm.completion(**{**ASK, "model": "anthropic/claude"}, api_key="k", api_base=p.anthropic_url)]


def chat_call(answer: Any) -> Any:
    return answer.choices[0].message.tool_calls[0]


def block(answer: Any) -> Any:
    return next(one for one in answer.content if one.type == "tool_use")


def item(answer: Any) -> Any:
    return next(one for one in answer.output if one.type == "function_call")


def part(answer: Any) -> Any:
    return next(one for one in answer["output"]["message"]["content"] if "toolUse" in one)


V1 = {"answer": {"text": "", "tool_calls": [{"name": "look", "arguments": {"place": "east"}}]}}
ROWS: Final = {
    "openai": Row(lambda p: [of_openai(p).chat.completions.create(**ASK)], chat_call),
    "openai stream": Row(streamed),
    "openai raw": Row(raw),
    "openai embeddings": Row(lambda p: [of_openai(p).embeddings.create(model="m", input="q")]),
    "openai responses": Row(lambda p: [of_openai(p).responses.create(model="m", input="q")], item),
    "openai responses stream": Row(
        lambda p: read(of_openai(p).responses.create(model="m", input="q", stream=True), first, last)
    ),
    "anthropic": Row(lambda p: [of_anthropic(p).messages.create(**ASK, max_tokens=9)], block),
    "anthropic helper": Row(helped, block),
    "anthropic stream": Row(
        lambda p: read(of_anthropic(p).messages.create(**ASK, max_tokens=9, stream=True), first)
    ),
    "groq": Row(lambda p: [generated("groq", "Groq", "groq_url")(p)], chat_call),
    "together": Row(lambda p: [generated("together", "Together", "openai_url")(p)], chat_call),
    "cerebras": Row(lambda p: [generated("cerebras.cloud.sdk", "Cerebras", "openai_url")(p)], chat_call),
    "google": Row(content, lambda answer: answer.function_calls[0]),
    "google part": Row(content, lambda answer: next(one for one in answer.parts if one.function_call)),
    "google stream": Row(lambda p: list(of_google(p).models.generate_content_stream(model="m", contents="q"))),
    "google stream async": Row(content_async),
    "google chat": Row(
        lambda p: [of_google(p).chats.create(model="m").send_message("q")], lambda answer: answer.function_calls[0]
    ),
    "google chat stream": Row(lambda p: list(of_google(p).chats.create(model="m").send_message_stream("q"))),
    "google embeddings": Row(embedded),
    "google interaction": Row(
        interaction, lambda answer: answer.steps[0], answer={"raw": INTERACTION, "on": "/interactions"}
    ),
    "google interaction stream": Row(interaction_stream, answer={"raw": INTERACTION_EVENTS, "on": "/interactions"}),
    "boto3": Row(conversed, lambda answer: part(answer)["toolUse"]),
    "boto3 part": Row(conversed, part),
    "boto3 stream": Row(converse_stream),
    "boto3 invoked": Row(invoked, lambda body: next(one for one in body["content"] if one["type"] == "tool_use")),
    "boto3 invoked stream": Row(invoke_stream),
    "aiobotocore": Row(conversed_async),
    "mistralai": Row(lambda p: [of_mistral(p).chat.complete(**ASK)], chat_call),
    "mistralai stream": Row(lambda p: read(of_mistral(p).chat.stream(**ASK), first, last), answer={"tool_calls": []}),
    "mistralai embeddings": Row(
        lambda p: [of_mistral(p).embeddings.create(model="m", inputs=["q"])], answer={"raw": EMBEDDINGS}
    ),
    "cohere": Row(lambda p: [of_cohere(p).chat(**ASK)], lambda answer: answer.message.tool_calls[0]),
    "cohere stream": Row(lambda p: read(of_cohere(p).chat_stream(**ASK), first)[1:]),
    "cohere embeddings": Row(
        lambda p: [of_cohere(p).embed(model="m", texts=["a"], input_type="search_query", embedding_types=["float"])]
    ),
    "cohere ranking": Row(lambda p: [of_cohere(p).rerank(model="m", query="q", documents=["a"])]),
    "cohere v1": Row(lambda p: [of_cohere_v1(p).chat(model="m", message="q")], lambda answer: answer.tool_calls[0]),
    "cohere v1 stream": Row(lambda p: read(of_cohere_v1(p).chat_stream(model="m", message="q"), last)[1:]),
    "huggingface_hub": Row(lambda p: [of_hugging_face(p).chat_completion(**ASK)], chat_call),
    "huggingface_hub stream": Row(lambda p: read(of_hugging_face(p).chat_completion(**ASK, stream=True), first)[1:]),
    "httpx": Row(by_http, lambda body: body["choices"][0]["message"]["tool_calls"][0]),
    "requests": Row(by_requests, lambda body: body["choices"][0]["message"]["tool_calls"][0]),
    "aiohttp": Row(by_aiohttp, lambda body: body["choices"][0]["message"]["tool_calls"][0]),
    "litellm": Row(by_litellm, chat_call, is_known=False),
    "ollama": Row(lambda p: [of_ollama(p).chat(**ASK)], lambda answer: answer.message.tool_calls[0], is_known=False),
    "ollama stream": Row(lambda p: list(of_ollama(p).chat(**ASK, stream=True)), is_known=False),
}  # fmt: skip


def script(provider: ScriptedProvider, row: Row) -> None:
    usual = {"text": "There.", "tool_calls": [{"name": "look", "arguments": {"place": "east"}, "id": "call_1"}]}
    provider.reply(**{**({} if "raw" in row.answer else usual), **row.answer}, repeat=True)


USES: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "message": lambda step, call: step.message("m", call=call),
    "event": lambda step, call: step.event("e", call=call),
    "reward": lambda step, call: callspan.reward(1, call_id=call),
    "feedback": lambda step, call: callspan.feedback(call, label="thumbs_up"),
}


@pytest.mark.parametrize("name", ROWS)
def test_objects_name_their_call(name: str, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture) -> None:
    row = ROWS[name]
    script(provider, row)
    with capture() as seen, callspan.session("s") as session, session.timestep() as step:
        objects = row.ask(provider)
        (record,) = seen.records
        expected = record.call_id if row.is_known else None
        assert [callspan.call_id(one) for one in objects] == [expected] * len(objects)
        for one in objects:
            for use in USES.values():
                if row.is_known:
                    assert use(step, one) is not None
                else:
                    with pytest.raises(callspan.UsageError, match="last_call_id"):
                        use(step, one)
        named: list[Any] = [*seen.messages, *seen.events, *seen.rewards]
        assert [one.call_id for one in named] == [expected] * len(named)
        assert len(named) == (len(USES) * len(objects) if row.is_known else 0)
        if not row.is_known:
            with logged_misuse(), caplog.at_level(logging.WARNING):
                assert [USES["feedback"](step, objects[0]) for _ in range(2)] == [None, None]
            assert sum("last_call_id" in line for line in caplog.messages) == 2
            assert seen.rewards == []
        if row.tool_call is not None:
            tool_call = row.tool_call(objects[0])
            with step.tool(call=tool_call) as tool:
                tool.result = tool.arguments["place"]  # type: ignore[index]
            assert (tool.name, tool.result) == ("look", "east")
    if row.tool_call is not None:
        runs = [one for one in seen.events if one.event_type in ("tool_start", "tool")]
        tool_calls: Any = record.tool_calls
        assert [(one.call_id, one.tool_call_id) for one in runs] == [(record.call_id, tool_calls[0].id)] * 2


@pytest.mark.parametrize("name", ["google stream", "boto3 stream", "google interaction stream", "mistralai stream"])
def test_streams_name_their_call_while_they_are_read(name: str, provider: ScriptedProvider) -> None:
    script(provider, ROWS[name])
    with capture() as seen:
        if name == "boto3 stream":
            answer = of_bedrock(provider).converse_stream(**CONVERSE)
            stream: Any = iter(answer["stream"])
            objects = [answer, answer["stream"]]
            next(stream)
        elif name == "google stream":
            stream = of_google(provider).models.generate_content_stream(model="m", contents="q")
            objects = [next(stream)]
        elif name == "mistralai stream":
            stream = of_mistral(provider).chat.stream(**ASK)
            objects = [stream]
            next(stream)
        else:
            stream = of_google(provider).interactions.create(model="m", input="q", stream=True)
            objects = [stream]
            next(iter(stream))
        ids = {callspan.call_id(one) for one in objects}
        list(stream)
    assert ids == {seen.records[0].call_id}


def test_answers_with_one_request_id_name_no_call() -> None:
    """As those of a stub, which repeats what it was given."""
    client = of_bedrock(ScriptedProvider())
    answer = {
        "output": {"message": {"role": "assistant", "content": [{"text": "x"}]}}, "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}, "metrics": {"latencyMs": 1},
        "ResponseMetadata": {"RequestId": "r"},
    }  # fmt: skip
    with sdk("botocore.stub").Stubber(client) as stub, capture() as seen:
        stub.add_response("converse", answer)
        first_answer = client.converse(**CONVERSE)
        assert callspan.call_id(first_answer) == seen.records[0].call_id
        stub.add_response("converse", answer)
        client.converse(**CONVERSE)
        with pytest.raises(callspan.UsageError, match="no call of this process"):
            callspan.call_id(first_answer)


@pytest.mark.parametrize("name", ["openai", "google", "anthropic"])
def test_sdk_object_of_another_process_names_its_providers_id(name: str, provider: ScriptedProvider) -> None:
    """Stores join the rating with the record that has this id, from any process."""
    script(provider, ROWS[name])
    with capture():
        answer = pickle.loads(pickle.dumps(ROWS[name].ask(provider)[0]))
    stated = answer.response_id if name == "google" else answer.id
    with elsewhere(), capture() as seen:
        with pytest.raises(callspan.UsageError, match="no call of this process"):
            callspan.call_id(answer)
        assert callspan.feedback(answer, 1) is not None
    assert [one.call_id for one in seen.rewards] == [stated]


def test_no_object_is_kept_alive(provider: ScriptedProvider) -> None:
    script(provider, ROWS["google"])
    with capture():
        gc.collect()  # what earlier tests have dropped is no part of the count
        before = known_objects()
        answers = [of_google(provider).models.generate_content(model="m", contents="q") for _ in range(5)]
        streams = [of_bedrock(provider).converse_stream(**CONVERSE) for _ in range(5)]
        assert known_objects() >= before + 10
        del answers, streams
        gc.collect()
        assert known_objects() <= before


REQUESTS: Final[dict[str, Callable[[Any], dict[str, Any]]]] = {
    "name and arguments": lambda call: {"name": "look", "arguments": {"place": "west"}},
    "tool call": lambda call: {"call": call},
    "dict": lambda call: {"call": call.model_dump()},
    "function alone": lambda call: {"call": {"name": "look", "arguments": '{"place": "west"}'}},
}


@pytest.mark.parametrize("by", REQUESTS)
def test_tool_calls_without_ids_are_joined_by_name_and_arguments(by: str, provider: ScriptedProvider) -> None:
    """As local servers that are compatible with OpenAI's answer them, in parallel and twice the same."""
    places = ["east", "west", "west"]
    calls = [{"type": "function", "function": {"name": "look", "arguments": json.dumps({"place": p})}} for p in places]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    provider.reply(raw={"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
    with capture() as seen, callspan.session("s") as session, session.timestep() as step:
        answer = of_openai(provider).chat.completions.create(**ASK)
        for _ in range(3):
            with step.tool(**REQUESTS[by](answer.choices[0].message.tool_calls[1])):
                pass
        with step.tool("look", arguments={"place": "north"}):
            pass
    runs = [one for one in seen.events if one.event_type == "tool"]
    third = None if by == "name and arguments" else seen.records[0].call_id  # the model has asked for it twice only
    assert [one.call_id for one in runs] == [seen.records[0].call_id] * 2 + [third, None]
    assert {one.tool_call_id for one in runs} == {None}
