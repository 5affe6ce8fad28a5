"""The scripted provider answers the clients of cohere, ollama and mistralai as their servers do.

The clients parse every answer, and the adapters read what they received, plain and streamed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import anthropic
import httpx2
import pytest
from tests.support.bodies import endpoint, folded
from tests.support.commands import ask

import callspan
from callspan.testing import ScriptedProvider, capture

QUESTION: list[Any] = [{"role": "user", "content": "How are you?"}]
TOOL = {"name": "look", "arguments": {"place": "the sky"}}
SCRIPT: dict[str, Any] = {"text": "I am quite well.", "reasoning": "Hm, well.", "input_tokens": 20, "output_tokens": 9}
CHATS: dict[str, tuple[str, dict[str, Any]]] = {
    "cohere_chat": ("/v2/chat", {"messages": QUESTION}),
    "cohere_chat_v1": ("/v1/chat", {"message": "How are you?"}),
    "ollama_chat": ("/api/chat", {"messages": QUESTION}),
    "ollama_generate": ("/api/generate", {"prompt": "How are you?"}),
}


def sent(provider: ScriptedProvider, path: str, body: dict[str, Any]) -> httpx2.Response:
    with httpx2.Client(trust_env=False) as client:
        return client.post(provider.url + path, json={"model": "m", **body})


def events_of(answer: httpx2.Response) -> list[Any]:
    """The events of a stream, by its content type."""
    lines = answer.text.splitlines()
    if answer.headers["content-type"].startswith("text/event-stream"):
        lines = [line.removeprefix("data: ") for line in lines if line.startswith("data: {")]
    return [json.loads(line) for line in lines if line]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("api", CHATS)
def test_answer_is_read_back_as_scripted(api: str, stream: bool, provider: ScriptedProvider) -> None:
    path, request = CHATS[api]
    provider.reply(**SCRIPT, tool_calls=[TOOL] if "generate" not in api else [])
    answer = sent(provider, path, {**request, "stream": stream})
    body = folded(api, *events_of(answer)) if stream else answer.json()
    reads = endpoint(api)
    info = reads.response_info(body)
    assert (info.recognized, info.error) == (True, None)
    assert (info.usage.input_tokens, info.usage.output_tokens, info.usage.total_tokens) == (20, 9, 29)
    (message,) = reads.conversation(request, body).output
    assert message.text == "I am quite well."
    assert [call.name for call in message.tool_calls] == ([] if "generate" in api else ["look"])
    assert all(json.loads(call.arguments) == TOOL["arguments"] for call in message.tool_calls)


@pytest.mark.parametrize("api", CHATS)
def test_stream_folds_into_the_plain_answer(api: str, provider: ScriptedProvider) -> None:
    path, request = CHATS[api]
    provider.reply(**SCRIPT, repeat=True)
    whole = sent(provider, path, {**request, "stream": False}).json()
    accumulator = endpoint(api).accumulator()
    has_content = [accumulator.add(event) for event in events_of(sent(provider, path, {**request, "stream": True}))]
    assert accumulator.complete
    assert (has_content[-1], any(has_content)) == (False, True)
    given = {"id", "created_at", "response_id", "generation_id"}
    comparable = [
        {key: value for key, value in body.items() if key not in given} for body in (accumulator.body(), whole)
    ]
    assert comparable[0] == comparable[1]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("api", CHATS)
def test_error_is_read(api: str, stream: bool, provider: ScriptedProvider) -> None:
    path, request = CHATS[api]
    failure: dict[str, Any] = {"error_after": 2} if stream else {"status": 429}
    provider.reply(**SCRIPT, message="too many", **failure)
    answer = sent(provider, path, {**request, "stream": stream})
    body = folded(api, *events_of(answer)) if stream else answer.json()
    error = endpoint(api).response_info(body).error
    assert error is not None
    assert error.message == "too many"


Call = Callable[[ScriptedProvider], Any]


def of_cohere(provider: ScriptedProvider) -> Any:
    cohere = pytest.importorskip("cohere", reason="cohere is not installed")
    return cohere.ClientV2("key", base_url=provider.cohere_url)


def of_cohere_v1(provider: ScriptedProvider) -> Any:
    cohere = pytest.importorskip("cohere", reason="cohere is not installed")
    return cohere.Client("key", base_url=provider.cohere_url)


def of_ollama(provider: ScriptedProvider) -> Any:
    return pytest.importorskip("ollama", reason="ollama is not installed").Client(provider.ollama_url)


def of_mistral(provider: ScriptedProvider) -> Any:
    client = pytest.importorskip("mistralai.client", reason="mistralai is not installed")
    return client.Mistral(api_key="key", server_url=provider.mistral_url)


ANSWERS: dict[str, Call] = {
    "cohere": lambda p: of_cohere(p).chat(model="m", messages=QUESTION).message.content[-1].text,
    "cohere stream": lambda p: "".join(
        event.delta.message.content.text or ""
        for event in of_cohere(p).chat_stream(model="m", messages=QUESTION)
        if event.type == "content-delta"
    ),
    "cohere v1": lambda p: of_cohere_v1(p).chat(model="m", message="How are you?").text,
    "cohere v1 stream": lambda p: "".join(
        event.text
        for event in of_cohere_v1(p).chat_stream(model="m", message="How are you?")
        if event.event_type == "text-generation"
    ),
    "ollama": lambda p: of_ollama(p).chat("m", QUESTION).message.content,
    "ollama stream": lambda p: "".join(line.message.content for line in of_ollama(p).chat("m", QUESTION, stream=True)),
    "ollama generate": lambda p: of_ollama(p).generate("m", "How are you?").response,
    "mistralai": lambda p: of_mistral(p).chat.complete(model="m", messages=QUESTION).choices[0].message.content,
    "mistralai stream": lambda p: "".join(
        event.data.choices[0].delta.content or ""
        for event in of_mistral(p).chat.stream(model="m", messages=QUESTION)
        if event.data.choices
    ),
}


@pytest.mark.parametrize("client", ANSWERS)
def test_client_reads_the_answer(client: str, provider: ScriptedProvider) -> None:
    provider.reply(**SCRIPT)
    assert ANSWERS[client](provider) == "I am quite well."


MISTRAL: Final[dict[str, Callable[[Any], Any]]] = {
    "chat": lambda client: client.chat.stream(model="m", messages=QUESTION),
    "agents": lambda client: client.agents.stream(agent_id="a", messages=QUESTION),
    "fim": lambda client: client.fim.stream(model="m", prompt="def "),
}


@pytest.mark.parametrize("name", MISTRAL)
def test_mistral_reads_usage_and_whole_tool_calls_of_a_stream(name: str, provider: ScriptedProvider) -> None:
    client = of_mistral(provider)
    provider.reply(**SCRIPT, tool_calls=[TOOL, {**TOOL, "name": "listen"}])
    with capture() as seen:
        chunks = [event.data for event in MISTRAL[name](client)]
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("look", TOOL["arguments"]), ("listen", TOOL["arguments"]),
    ]  # fmt: skip
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert [(usage.prompt_tokens, usage.completion_tokens) for usage in usages] == [(20, 9)]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    (record,) = seen.records
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (20, 9)
    assert [call.name for call in record.tool_calls or ()] == ["look", "listen"]


NAMED: Final = [
    ({}, "ThrottlingException"),
    ({"error_type": "ServiceQuotaExceededException"}, "ServiceQuotaExceededException"),
    ({"error_code": "ModelNotReadyException"}, "ModelNotReadyException"),
    ({"error_type": "Tired", "error_code": "tired"}, "Tired"),
]


@pytest.mark.parametrize("verb", ["converse", "converse_stream", "invoke_model", "invoke_stream"])
@pytest.mark.parametrize(("fields", "code"), NAMED)
def test_error_of_bedrock_has_the_scripted_name(
    verb: str, fields: dict[str, str], code: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3, exceptions = pytest.importorskip("boto3"), pytest.importorskip("botocore.exceptions")
    config = pytest.importorskip("botocore.config").Config(retries={"total_max_attempts": 1})
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(variable, "us-east-1")
    client = boto3.Session().client("bedrock-runtime", endpoint_url=provider.bedrock_url, config=config)
    for where in ({"status": 429}, {"error_after": 1}):
        if "error_after" in where and "stream" not in verb:
            continue
        provider.reply(text="Well.", message="too many", **where, **fields)
        with capture() as seen, pytest.raises(exceptions.ClientError) as caught:
            OF_BEDROCK[verb](client)
        expected = "modelStreamErrorException" if "error_after" in where and not fields else code
        assert caught.value.response["Error"] == {"Code": expected, "Message": "too many"}
        (record,) = seen.records
        assert record.error is not None
        assert (record.error.type, record.error.message) == (expected, "too many")


def test_client_reads_embeddings_and_rankings(provider: ScriptedProvider) -> None:
    embedded = of_cohere(provider).embed(
        model="m", texts=["a", "b"], input_type="search_query", embedding_types=["float"]
    )
    assert len(embedded.embeddings.float_) == 2
    ranked = of_cohere(provider).rerank(model="m", query="q", documents=["a", "b", "c"], top_n=2)
    assert ([result.index for result in ranked.results], ranked.meta.billed_units.search_units) == ([0, 1], 1)
    assert len(of_ollama(provider).embed("m", ["a", "b", "c"]).embeddings) == 3


RESENT: dict[str, tuple[str, dict[str, Any]]] = {
    **CHATS,
    "fim_completions": ("/v1/fim/completions", {"prompt": "def "}),
    "generate_content": ("/v1beta/models/m:generateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}),
    "generate_content stream": ("/v1beta/models/m:streamGenerateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}),
}


@pytest.mark.parametrize("name", RESENT)
def test_request_is_sent_again_by_the_command(
    name: str, store: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("CO_API_KEY", "COHERE_API_KEY", "MISTRAL_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    path, request = RESENT[name]
    provider.reply("The first answer.")
    with capture(stores=store) as seen:
        sent(provider, path, request)
    (call,) = seen.records
    callspan.open_store(store, deliver=True).close()
    provider.reply("The new answer.")
    result = ask("--store", store, "replay", call.call_id, "--base-url", provider.url)
    assert result.code == 0, result.err
    assert all(text in result.out for text in ("The first answer.", "The new answer.", "other words"))
    first, again = provider.requests
    assert (first.path, first.json) == (again.path, again.json)
    assert "authorization" not in again.headers
    if name.startswith("ollama"):
        return
    keyless = ask("--store", store, "replay", call.call_id)
    assert keyless.code == 1
    assert "_API_KEY" in keyless.err
    for key in ("CO_API_KEY", "MISTRAL_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(key, "canary")
    elsewhere = ask("--store", store, "replay", call.call_id)
    assert "the call went to 127.0.0.1" in elsewhere.err
    assert len(provider.requests) == 2


PICTURE: dict[str, Any] = {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"bytes": {"type": "string"}}}
CONVERSED: dict[str, Any] = {
    "modelId": "us.amazon.nova-micro-v1:0",
    "messages": [{"role": "user", "content": [{"text": "Hi"}, PICTURE]}],
    "toolConfig": {"tools": [{"toolSpec": {"name": "look", "inputSchema": {"json": SCHEMA}}}]},
}
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
INVOKED: dict[str, Any] = {"modelId": "us.anthropic.claude-x", "body": json.dumps(CLAUDE)}
OF_BEDROCK: dict[str, Callable[[Any], Any]] = {
    "converse": lambda client: client.converse(**CONVERSED),
    "converse_stream": lambda client: list(client.converse_stream(**CONVERSED)["stream"]),
    "invoke_model": lambda client: client.invoke_model(**INVOKED)["body"].read(),
    "invoke_stream": lambda client: list(client.invoke_model_with_response_stream(**INVOKED)["body"]),
}


SIGNED: Final = {"aws_access_key": "k", "aws_secret_key": "s", "aws_region": "us-east-1"}
ON_WIRE: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "converse": ("converse", {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}),
    "converse_stream": ("converse-stream", {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}),
    "invoke_model": ("invoke", CLAUDE),
    "invoke_stream": ("invoke-with-response-stream", CLAUDE),
}


def by_httpx(name: str, provider: ScriptedProvider) -> None:
    verb, body = ON_WIRE[name]
    with httpx2.Client() as client:
        client.post(f"{provider.bedrock_url}/model/us.anthropic.claude-x/{verb}", json=body)


def by_anthropic(name: str, provider: ScriptedProvider) -> None:
    client = anthropic.AnthropicBedrock(base_url=provider.bedrock_url, **SIGNED)
    asked: dict[str, Any] = {"model": "us.anthropic.claude-x", "max_tokens": 9, "messages": CLAUDE["messages"]}
    with client:
        if name.endswith("stream"):
            list(client.messages.create(**asked, stream=True))
        else:
            client.messages.create(**asked)


SENT_BY_OTHERS: Final = [
    *((by_httpx, name) for name in ON_WIRE), (by_anthropic, "invoke_model"), (by_anthropic, "invoke_stream"),
]  # fmt: skip


@pytest.mark.parametrize(("send", "name"), SENT_BY_OTHERS)
def test_request_to_bedrock_by_another_client_is_sent_again(
    send: Callable[[str, ScriptedProvider], None],
    name: str,
    store: str,
    provider: ScriptedProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("boto3")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(variable, "us-east-1")
    provider.reply("The first answer.")
    with capture(stores=store, http=True) as seen:
        send(name, provider)
    (call,) = seen.records
    assert not (call.sdk or "").startswith("boto")
    callspan.open_store(store, deliver=True).close()
    provider.reply("The new answer.")
    result = ask("--store", store, "replay", call.call_id, "--base-url", provider.bedrock_url)
    assert result.code == 0, result.err
    assert all(text in result.out for text in ("The first answer.", "The new answer."))
    first, again = provider.requests
    assert (first.json, first.path) == (again.json, again.path)
    elsewhere = ask("--store", store, "replay", call.call_id)
    assert "the call went to 127.0.0.1, and boto3 would now call" in elsewhere.err


@pytest.mark.parametrize("name", OF_BEDROCK)
def test_request_to_bedrock_is_sent_again_by_the_command(
    name: str, store: str, provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto3 = pytest.importorskip("boto3")
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(variable, "us-east-1")
    provider.reply("The first answer.")
    with capture(stores=store, media="inline") as seen:
        OF_BEDROCK[name](boto3.Session().client("bedrock-runtime", endpoint_url=provider.bedrock_url))
    (call,) = seen.records
    callspan.open_store(store, deliver=True).close()
    provider.reply("The new answer.")
    result = ask("--store", store, "replay", call.call_id, "--base-url", provider.bedrock_url, "--model", "another")
    assert result.code == 0, result.err
    assert all(text in result.out for text in ("The first answer.", "The new answer.", "other words"))
    first, again = provider.requests
    assert first.json == again.json
    assert (first.path.rpartition("/")[2], "another" in again.path) == (again.path.rpartition("/")[2], True)
    elsewhere = ask("--store", store, "replay", call.call_id)
    assert (elsewhere.code, len(provider.requests)) == (1, 2)
    assert (
        "the call went to 127.0.0.1, and boto3 would now call bedrock-runtime.us-east-1.amazonaws.com" in elsewhere.err
    )
