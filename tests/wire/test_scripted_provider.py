"""The scripted provider answers as those that were recorded, and fails as they do; recorded runs are replayed by it.

`callspan replay` sends a request again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from tests.support.bodies import folded
from tests.support.commands import Answer
from tests.support.commands import ask as ask_command
from tests.support.provider import FullProvider
from tests.support.records import made, raw
from tests.wire.corpus import Exchange, chunks, events, load, select

import callspan
from callspan.records import CallRecord, Response
from callspan.stores import CallFilter
from callspan.testing import ReceivedRequest, ReplayError, Reply, ScriptedProvider, capture, replay
from callspan.testing.replaying import Match

PATHS = {
    "chat_completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "embeddings": "/v1/embeddings",
}
TEXT_APIS = ("chat_completions", "responses", "completions", "messages")
CASES = [(api, stream) for api in PATHS for stream in (False, True) if (api, stream) != ("embeddings", True)]
OPAQUE = {"metadata", "logit_bias", "input"}
"""Objects whose keys are the caller's or the model's own."""
DONE = "[DONE]"
OWN_HOSTS = ("api.openai.com", "api.anthropic.com")
KINDS = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null", dict: "object", list: "array"}
DOCUMENTED = {("response.function_call_arguments.done|response.function_call_arguments.done.name", "text")}
"""Newer than the recordings; the openai SDK declares it as required."""
UNRECORDED_REASONING = [("responses", True)]
"""No recorded stream has a summary of reasoning."""
UNRECORDED_USAGE = [("completions", True)]
"""No recorded stream of the older endpoint was asked for usage."""


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "CALLSPAN_STORES", "CALLSPAN_CONTENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")


def shape(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield each place in a JSON value with the kind of what stands there."""
    yield path, KINDS[type(value)]
    if isinstance(value, dict) and path.rpartition(".")[2] not in OPAQUE:
        for key, each in value.items():
            yield from shape(each, f"{path}.{key}")
    for each in value if isinstance(value, list) else ():
        yield from shape(each, f"{path}[]")


def shapes(text: str, *, stream: bool) -> set[tuple[str, str]]:
    """The shapes of a whole answer; those of a stream by the type and the `event:` line of each event."""
    if not stream:
        return set(shape(json.loads(text), "body"))
    found = set[tuple[str, str]]()
    for event in events(text):
        data = None if event.data == DONE else event.json()
        kind = event.data if data is None else data.get("type", "chunk")
        found |= set(shape(data, f"{event.event}|{kind}"))
    return found


def recorded_shapes(api: str, stream: bool, *hosts: str) -> list[set[tuple[str, str]]]:
    """The shapes of each recorded answer, of any host if none is given."""
    chosen = [each for each in load() if (each.endpoint, each.stream, each.status) == (api, stream, 200) and each.body]
    of_hosts = [each for each in chosen if each.inference and (not hosts or each.host in hosts)]
    return [shapes(each.body, stream=stream) for each in of_hosts]


@pytest.mark.parametrize(
    ("api", "stream"), CASES, ids=[f"{api}-{'sse' if stream else 'json'}" for api, stream in CASES]
)
def test_scripted_provider_sends_recorded_shapes(api: str, stream: bool) -> None:
    tool = {"name": "move", "arguments": {"direction": "north"}}
    request: dict[str, object] = {"model": "m", "stream": stream, "messages": [], "input": "x", "prompt": "x"}
    reasoning = None if (api, stream) in UNRECORDED_REASONING else "A wall is east."
    if (api, stream) not in UNRECORDED_USAGE:
        request["stream_options"] = {"include_usage": True}
    with ScriptedProvider() as provider, httpx2.Client(trust_env=False) as client:
        provider.reply(text="Let us go.", reasoning=reasoning, tool_calls=[tool], cache_read_tokens=3)
        answer = client.post(provider.openai_url.removesuffix("/v1") + PATHS[api], json=request)
    ours = shapes(answer.text, stream=stream)
    assert sorted(ours - set().union(*recorded_shapes(api, stream)) - DOCUMENTED) == []
    always = set.intersection(*({path for path, _ in one} for one in recorded_shapes(api, stream, *OWN_HOSTS)))
    assert sorted(always - {path for path, _ in ours}) == []


MESSAGES: list[Any] = [{"role": "user", "content": "Which way?"}]
REQUEST: dict[str, Any] = {"model": "m", "messages": MESSAGES, "extra_body": {"return_token_ids": True}}
TOOL = {"name": "move", "arguments": {"direction": "north", "steps": 3}}


def test_failing_responder_fails_the_call_and_the_test() -> None:
    def broken(_: ReceivedRequest) -> Reply:
        raise AssertionError("the agent asked for nonsense")

    provider = FullProvider()
    provider.reply(responder=broken)
    client = openai.OpenAI(base_url=provider.openai_url, api_key="key", max_retries=3)
    with client, pytest.raises(openai.InternalServerError, match="responder"):
        client.chat.completions.create(model="m", messages=[])
    assert len(provider.requests) == 1
    with pytest.raises(AssertionError, match="nonsense"):
        provider.close()
    provider.close()


def test_unknown_paths_are_404s(provider: ScriptedProvider, client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    provider.reply(text="kept for a known path")
    with pytest.raises(openai.NotFoundError, match="POST /v1/elsewhere"):
        client.post("/elsewhere", body={}, cast_to=object)
    with pytest.raises(anthropic.NotFoundError):
        claude.beta.skills.list()
    assert provider.pending == 1


def test_log_probabilities_are_sent_when_requested(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    def chat(**more: Any) -> Any:
        return client.chat.completions.create(model="m", messages=MESSAGES, **more)

    provider.reply(text="Paris, no doubt", tool_calls=[TOOL], repeat=True)
    whole = chat(logprobs=True).choices[0].logprobs.content
    parts = [choice.logprobs for chunk in chat(logprobs=True, stream=True) for choice in chunk.choices]
    assert [token.token for token in whole] == ["Paris,", " no", " doubt"]
    assert bytes(whole[1].bytes) == b" no"
    assert [part.content[0] for part in parts if part] == whole
    assert chat().choices[0].logprobs is None


def test_stream_ids_add_up_to_the_answer_ids(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    provider.reply("go east go east", repeat=True)
    whole = client.chat.completions.create(**REQUEST).to_dict()
    chunks = [chunk.to_dict() for chunk in client.chat.completions.create(**REQUEST, stream=True)]
    streamed = [one for chunk in chunks for choice in chunk["choices"] for one in choice.get("token_ids") or ()]
    assert streamed == whole["choices"][0]["token_ids"]
    prompts = [chunk.get("prompt_token_ids") for chunk in chunks]
    assert prompts == [whole["prompt_token_ids"], *[None] * (len(chunks) - 1)]


# Recorded runs.

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def ask(client: openai.OpenAI, question: str, **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": question}]
    return client.chat.completions.create(model="gpt-5", messages=messages, temperature=0.5, **options)


def application(openai_url: str, anthropic_url: str) -> list[str]:
    """What the tests replay: a call of every endpoint of text, and a stream; tools, an error, embeddings."""
    texts: list[str] = []
    with openai.OpenAI(base_url=openai_url, api_key="any", max_retries=0) as client:
        texts.append(str(ask(client, "One?").choices[0].message.content))
        with ask(client, "Stream?", stream=True, stream_options={"include_usage": True}) as stream:
            chunks = list(stream)
            texts.append("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
        called = ask(client, "Tool?", tools=[LOOK]).choices[0].message.tool_calls[0]
        texts.append(f"{called.id} {called.function.name} {called.function.arguments}")
        texts.append(client.responses.create(model="gpt-5", input="Respond?").output_text)
        with client.responses.create(model="gpt-5", input="Respond in pieces?", stream=True) as events:
            texts.append("".join(event.delta for event in events if event.type == "response.output_text.delta"))
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client, "Too much?")
        texts.append(str(caught.value.status_code))
        texts.append(client.completions.create(model="gpt-5", prompt="Complete?").choices[0].text)
        with client.completions.create(model="gpt-5", prompt="Complete in pieces?", stream=True) as pieces:
            texts.append("".join(piece.choices[0].text for piece in pieces if piece.choices))
        vectors = client.embeddings.create(model="text-embedding-3-small", input=["One", "Two"]).data
        texts.append(str([vector.embedding for vector in vectors]))
    with anthropic.Anthropic(base_url=anthropic_url, api_key="any", max_retries=0) as claude:
        question: Any = {"model": "claude", "max_tokens": 50, "messages": [{"role": "user", "content": "Claude?"}]}
        texts.append(getattr(claude.messages.create(**question).content[0], "text", ""))
        with claude.messages.stream(**question) as stream:
            texts.append(stream.get_final_text())
    return texts


class Recorded:
    """A store, the first call to each API in it, plain and streamed, and the provider that has answered."""

    def __init__(self, provider: ScriptedProvider, url: str, texts: list[str]) -> None:
        self.provider, self.url, self.texts = provider, url, texts
        with closing(callspan.open_store(url)) as reader:
            self.calls = list(reader.calls(CallFilter(newest_first=False)))
        self.first: dict[str, CallRecord] = {}
        for call in self.calls:
            self.first.setdefault(f"{call.api}{' stream' if call.request.stream else ''}", call)

    def again(self, api: str, *arguments: str) -> Answer:
        """Send a call again by the command."""
        base = self.provider.anthropic_url if api.startswith("messages") else self.provider.openai_url
        return ask_command("--store", self.url, "replay", self.first[api].call_id, "--base-url", base, *arguments)


@pytest.fixture
def recorded(store: str, provider: ScriptedProvider) -> Recorded:
    provider.reply("The first answer.")
    provider.reply("An answer in many small pieces.")
    provider.reply(tool_calls=[{"name": "look", "arguments": {"at": "east"}, "id": "call_7"}])
    provider.reply("From Responses.")
    provider.reply("From Responses, in pieces.")
    provider.reply(status=429, message="Slow down.")
    provider.reply("From completions.")
    provider.reply("From completions, in pieces.")
    provider.reply(embedding=(0.25, -0.5))
    provider.reply("From Claude.")
    provider.reply("From Claude, in pieces.")
    with capture(stores=store, media="inline"):
        texts = application(provider.openai_url, provider.anthropic_url)
    callspan.open_store(store, deliver=True).close()  # on a busy machine some records still wait
    return Recorded(provider, store, texts)


def test_replay_returns_the_recorded_answers(recorded: Recorded) -> None:
    for _ in range(2):
        with replay(recorded.url) as provider:
            assert application(provider.openai_url, provider.anthropic_url) == recorded.texts
            assert provider.unused == []


def test_reordered_requests_receive_their_own_answers(recorded: Recorded) -> None:
    """The SDK's own retries of an error get the same error."""
    with replay(recorded.url) as provider, openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
        assert ask(client, "Tool?", tools=[LOOK]).choices[0].message.tool_calls[0].id == "call_7"
        assert ask(client, "One?").choices[0].message.content == "The first answer."
        with pytest.raises(openai.RateLimitError, match=r"Slow down\."):
            ask(client, "Too much?")
        assert len(provider.requests) == 3
        assert ask(client, "Two?", stream=True).response.status_code == 200
        assert client.responses.create(model="gpt-6", input="New").output_text == "From Responses."
        assert len(provider.unused) == 6


def refused(
    store: str | list[CallRecord], *questions: str, match: Match = "order", says: str = "no recorded call"
) -> None:
    """Ask until an error comes, which must be the last question's, then leave the replay."""
    with replay(store, match=match) as provider, openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
        for question in questions[:-1]:
            client.responses.create(model="gpt-5", input=question)
        with pytest.raises(openai.InternalServerError, match=says):
            client.responses.create(model="gpt-5", input=questions[-1])


def test_request_without_a_recorded_answer_fails(recorded: Recorded) -> None:
    with pytest.raises(ReplayError, match="9 recorded calls are left"):
        refused(recorded.url, "Respond?", "Respond?", "Respond?")
    with pytest.raises(ReplayError, match=r"no recorded call with this body for POST /v1/responses"):
        refused(recorded.url, "Respond?", "Respond, please?", match="body")


@pytest.fixture
def thin(store: str, provider: ScriptedProvider, client: openai.OpenAI) -> Recorded:
    """A session without calls, and a call without content outside of it."""
    with capture(stores=store, content="metadata"):
        with callspan.session("without calls", session_id="empty"):
            pass
        client.responses.create(model="gpt-5", input="One?")
    callspan.open_store(store, deliver=True).close()
    return Recorded(provider, store, [])


@pytest.mark.parametrize(("session", "expected"), [("empty", "nothing to replay"), ("nope", "no session nope")])
def test_empty_replay_fails_immediately(thin: Recorded, session: str, expected: str) -> None:
    with pytest.raises(ReplayError, match=expected), replay(thin.url, session=session):
        pass


def test_truncated_records_are_not_replayed(thin: Recorded, client: openai.OpenAI) -> None:
    with pytest.raises(ReplayError, match="content='full'"):
        refused(thin.url, "One?", says="content='full'")
    answer = thin.again("responses")
    assert (answer.code, "content='full'" in answer.out + answer.err) == (1, True)
    assert len(thin.provider.requests) == 1
    with capture(max_record_bytes=500) as seen:
        client.responses.create(model="gpt-5", input="One?")
    with pytest.raises(ReplayError, match="max_record_bytes"):
        refused(seen.records, "One?", says="max_record_bytes")


def test_records_can_be_replayed_without_a_store(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    """Those that a capture has seen; of one session by its id or the beginning of it."""
    with capture() as seen:
        for text in ("One.", "Two."):
            provider.reply(text)
            with callspan.session("s", session_id=f"session-{text}"):
                ask(client, "Which?")
    records = seen.records
    for session, expected in ((None, ["One.", "Two."]), ("session-Two.", ["Two."]), ("session-T", ["Two."])):
        with replay(records, session=session) as again:
            with openai.OpenAI(base_url=again.openai_url, api_key="any") as other:
                found = [ask(other, "Which?").choices[0].message.content for _ in expected]
            assert (found, again.unused) == (expected, [])
    for session in (None, "other"):
        with pytest.raises(ReplayError, match="nothing to replay in the records"), replay([], session=session):
            pass


def broken(url: str) -> tuple[str, str, object]:
    """The text of a stream that fails, and its error."""
    texts: list[str] = []
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
        with pytest.raises(openai.APIError) as caught:
            texts.extend(chunk.choices[0].delta.content or "" for chunk in ask(client, "Which?", stream=True))
        return "".join(texts), type(caught.value).__name__, caught.value.body


@pytest.mark.parametrize(
    "fields",
    [
        {
            "raw": {"error": {"message": "No.", "type": "bad", "code": "b1", "param": "n", "inner": {"at": 1}}},
            "status": 400,
        },
        {"error_after": 3, "message": "Overloaded.", "text": "One two three"},
        {"cut_after": 3, "text": "One two three"},
    ],
    ids=["answer", "event", "connection"],
)
def test_error_is_replayed_after_the_received_part(fields: Any) -> None:
    with ScriptedProvider() as provider, capture() as seen:
        provider.reply(**fields)
        expected = broken(provider.openai_url)
    with replay(seen.records) as again:
        assert broken(again.openai_url) == expected


def test_error_of_a_stream_of_responses_is_an_event_of_its_own() -> None:
    with ScriptedProvider() as provider:
        provider.reply(text="One two", error_after=2, error_type="overloaded", message="No more.")
        body = {"model": "m", "input": "Hi", "stream": True}
        *_, name, data = httpx2.post(f"{provider.openai_url}/responses", json=body).text.split("\n\n")[2].splitlines()
    error = {"type": "overloaded", "code": None, "message": "No more.", "param": None}
    assert (name, json.loads(data.removeprefix("data: "))) == ("event: error", {"type": "error", "error": error})


def body_of(exchange: Exchange) -> Any:
    if exchange.stream:
        return folded(exchange.endpoint, *chunks(exchange.body))
    return json.loads(exchange.body)


def lost(body: Any, streamed: Any, path: str = "") -> Iterator[str]:
    """What a body states and the same in a stream does not; numbers that are the place in a list are left out."""
    if isinstance(body, dict) and isinstance(streamed, dict | None):
        for key in body.keys() - {"index"}:
            yield from lost(body[key], (streamed or {}).get(key), f"{path}.{key}")
    elif isinstance(body, list) and isinstance(streamed, list) and len(body) == len(streamed):
        for one, other in zip(body, streamed, strict=True):
            yield from lost(one, other, f"{path}[]")
    elif body not in (None, "", [], {}, streamed):
        yield f"{path}: {str(body)[:200]}, not {str(streamed)[:200]}"


TOKENS = [{"token": word, "logprob": -0.5} for word in ("No", ",", " not", " that", ".")]
CUSTOM = {"type": "custom", "id": "call_1", "custom": {"name": "run", "input": "ls -l /home"}}
UNRECORDED: dict[str, list[dict[str, Any]]] = {
    "chat_completions": [
        {"message": {"role": "assistant", "content": "No, not that.", "tool_calls": [CUSTOM]},
         "logprobs": {"content": TOKENS}, "token_ids": [1, 2, 3, 4, 5]},
        {"message": {"role": "assistant", "refusal": "No, not that."}, "logprobs": {"refusal": TOKENS}},
        {"message": {"role": "assistant", "tool_calls": [CUSTOM]}, "token_ids": [1, 2, 3, 4, 5]},
    ],
    "completions": [{"text": "No, not that.", "logprobs": {"tokens": ["No, ", "not ", "that."]}, "token_ids": [1, 2]}],
}  # fmt: skip
"""Choices of answers that the wire data lack."""


@pytest.mark.parametrize("api", TEXT_APIS)
def test_replayed_stream_contains_the_recorded_answer(api: str) -> None:
    """Each answer of the wire data, whether it was a stream then or not."""
    answers = select(lambda one: (one.endpoint, one.status, one.inference) == (api, 200, True) and bool(one.body))
    bodies = [body for body in map(body_of, answers) if body and not body.get("error")]
    bodies += [{"id": "c", "choices": [{"index": 0, **choice}]} for choice in UNRECORDED.get(api, ())]
    calls = [made(str(number), api=api, response=Response(body=raw(body))) for number, body in enumerate(bodies)]
    asked = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    with replay(calls) as provider, httpx2.Client(base_url=provider.anthropic_url, trust_env=False) as client:
        streams = [client.post(PATHS[api], json=asked).text for _ in bodies]
    for body, text in zip(bodies, streams, strict=True):
        assert [*lost(body, folded(api, *chunks(text)))] == []


@pytest.mark.parametrize("api", [*TEXT_APIS, *(f"{api} stream" for api in TEXT_APIS)])
def test_replay_sends_the_same_request_and_prints_both_answers(recorded: Recorded, api: str) -> None:
    first = {request.content for request in recorded.provider.requests}
    recorded.provider.reply("The new answer.")
    result = recorded.again(api)
    assert result.code == 0
    assert all(text in result.out for text in (str(recorded.first[api].text), "The new answer.", "other words"))
    assert json.loads(recorded.provider.requests[-1].content) in [json.loads(content) for content in first]


def test_replay_accepts_another_model_and_names_equal_answers(recorded: Recorded) -> None:
    recorded.provider.reply("From Responses.")
    result = recorded.again("responses", "--json").json
    assert result["same"] is True
    assert result["recorded"]["output"] == result["replayed"]["output"] == "From Responses."
    assert recorded.again("chat_completions", "--model", "gpt-6", "--json").json["replayed"]["model"] == "gpt-6"
    body = recorded.provider.requests[-1].body
    assert (body["model"], body["temperature"]) == ("gpt-6", 0.5)


def test_replayed_answers_use_the_price_file(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.json"
    monkeypatch.setenv("CALLSPAN_PRICES", str(prices))
    prices.write_text('{"models": {"mine": {"input": "1000000", "output": "0"}}}')
    recorded.provider.reply(text="New.", input_tokens=12)
    again = recorded.again("chat_completions", "--model", "mine", "--json").json["replayed"]
    assert Decimal(again["cost_usd"]) == 12
    sent = len(recorded.provider.requests)
    monkeypatch.setenv("CALLSPAN_PRICES", str(tmp_path / "missing.json"))
    assert "missing.json" in recorded.again("chat_completions").err
    assert len(recorded.provider.requests) == sent


def test_replay_errors_are_printed_with_exit_codes(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call goes to no other host than it went to."""
    before = len(recorded.provider.requests)
    elsewhere = ask_command("--store", recorded.url, "replay", recorded.first["responses"].call_id)
    assert "the call went to 127.0.0.1" in elsewhere.err
    assert "--base-url" in elsewhere.err
    unknown = ask_command("--store", recorded.url, "replay", "nope")
    assert "nope" in unknown.err
    assert len(recorded.provider.requests) == before
    recorded.provider.reply(status=400, message="No \x1b[31msuch\x07 model.")
    refused = recorded.again("chat_completions")
    assert "such" in refused.out + refused.err
    assert not {"\x1b", "\x07"} & {*(refused.out + refused.err)}
    monkeypatch.delenv("OPENAI_API_KEY")
    without_key = recorded.again("responses")
    assert "OPENAI_API_KEY" in without_key.out + without_key.err
    assert {one.code for one in (elsewhere, unknown, refused, without_key)} == {1}
