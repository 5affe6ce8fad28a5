"""Identity: types, introspection, mocks, subclasses, copies and pickles are as without callspan."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import pickle
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

import anthropic
import openai
import pytest

import callspan
from callspan.testing import Captured, ScriptedProvider, capture
from tests.intercept import sdks
from tests.intercept.calls import QUESTION, Run, text_of, the_call
from tests.intercept.mode import Mode

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}
MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}


def test_streams_are_exactly_the_sdks_own_types(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        ours = await mode.wait(mode.openai().chat.completions.create(**CHAT, stream=True))
        theirs = await mode.wait(mode.anthropic().messages.create(**MESSAGE, stream=True))
        assert type(ours) is (openai.AsyncStream if mode.is_async else openai.Stream)
        assert type(theirs) is (anthropic.AsyncStream if mode.is_async else anthropic.Stream)
        assert type(ours.response) is sdks.http_of("openai").Response
        await mode.all(ours)
        await mode.all(theirs)

    run(body)
    assert len(seen.records) == 2


def test_results_are_exactly_the_sdks_own_types(mode: Mode, run: Run, seen: Captured) -> None:
    from anthropic.types import Message
    from openai.types.chat import ChatCompletion

    async def body() -> None:
        assert type(await mode.wait(mode.openai().chat.completions.create(**CHAT))) is ChatCompletion
        assert type(await mode.wait(mode.anthropic().messages.create(**MESSAGE))) is Message

    run(body)


@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_coroutine_functions_and_signatures_stay_what_they_are(sdk: str) -> None:
    base = __import__(f"{sdk}._base_client", fromlist=["x"])

    def look() -> list[Any]:
        return [
            inspect.iscoroutinefunction(base.AsyncAPIClient.request),
            inspect.iscoroutinefunction(base.SyncAPIClient.request),
            inspect.iscoroutinefunction(sdks.http_of(sdk).AsyncClient.send),
            inspect.iscoroutinefunction(sdks.http_of(sdk).Response.aclose),
            inspect.signature(base.SyncAPIClient.request),
            inspect.signature(base.BaseClient._process_response_data),
            inspect.signature(sdks.http_of(sdk).Client.send),
            base.SyncAPIClient.request.__name__,
            base.AsyncAPIClient.request.__qualname__,
        ]

    before = look()
    with capture():
        assert look() == before


def test_clients_and_streams_have_no_callspan_attributes(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        client = mode.openai()
        before = set(vars(client))
        stream = await mode.wait(client.chat.completions.create(**CHAT, stream=True))
        await mode.all(stream)
        assert set(vars(client)) - before <= {"chat"}, "a cached property of the SDK's"
        assert [name for name in vars(stream) if "callspan" in name] == []

    run(body)


def test_uninstrumenting_in_the_middle_of_a_stream_lets_it_end(mode: Mode, run: Run) -> None:
    mode.provider.reply(text="one two three")

    async def body() -> str:
        stream = await mode.wait(mode.openai().chat.completions.create(**CHAT, stream=True))
        first = await mode.next(stream)
        callspan.uninstrument()
        chunks = [first, *await mode.all(stream)]
        held.append(stream)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    held: list[Any] = []
    with capture() as seen:
        assert run(body) == "one two three", "the caller's stream is whole"
        record = the_call(seen)
    assert record.stream is not None
    assert record.stream.end == "complete", "it was observed from before"
    assert text_of(record) == "one two three"
    assert len(seen.spans) == 1


def test_hooks_left_for_an_open_stream_are_removed_at_the_next_uninstrument(
    provider: ScriptedProvider, seen: Captured
) -> None:
    response = sdks.http_of("openai").Response
    callspan.uninstrument()
    bare = response.close
    for _ in range(2):
        callspan.instrument()
        with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
            stream = client.chat.completions.create(**CHAT, stream=True)
            callspan.uninstrument()
            assert response.close is not bare, "the stream is still to be read"
            assert response.close.__wrapped__ is bare, "and wrapped once"
            list(stream)
    callspan.instrument()
    callspan.uninstrument()
    assert response.close is bare


def test_hooks_left_for_a_stream_and_wrapped_by_others_are_not_touched(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    response, closed = sdks.http_of("openai").Response, []
    with capture() as seen, openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        stream = client.chat.completions.create(**CHAT, stream=True)
        callspan.uninstrument()
        left = response.close

        @functools.wraps(left)
        def close(self: Any) -> None:
            closed.append(self)
            left(self)

        monkeypatch.setattr(response, "close", close)
        list(stream)
        assert len(seen.records) == 1
    handle = callspan.instrument()
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        list(client.chat.completions.create(**CHAT, stream=True))
    handle.uninstrument()
    assert response.close is close
    assert len({id(each) for each in closed}) == 2


both = pytest.mark.parametrize("sdk", ["openai", "anthropic"])
plain_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def made(mode: Mode, sdk: str, **options: Any) -> Any:
    return mode.openai(**options) if sdk == "openai" else mode.anthropic(**options)


def ask(client: Any, **options: Any) -> Any:
    """The result of the client's one method, awaitable or not."""
    if hasattr(client, "chat"):
        return client.chat.completions.create(**CHAT, **options)
    return client.messages.create(**MESSAGE, **options)


def outcome_of(run: Run, body: Callable[[], Awaitable[Any]]) -> str:
    """What the caller sees: the value, or the exception."""

    async def seen() -> str:
        try:
            return repr(await body())
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
            return f"{type(error).__name__}: {error}"

    text: str = run(seen)
    return text


def same(run: Run, body: Callable[[], Awaitable[Any]]) -> tuple[str, Captured]:
    """What the caller sees, the same with callspan as without, and what was captured."""
    bare = outcome_of(run, body)
    with capture() as seen:
        assert outcome_of(run, body) == bare
        gc.collect()
        assert isinstance(seen.records, list)
    return bare, seen


# Mocks


@both
@plain_and_streamed
def test_a_mock_instead_of_a_client_is_not_observed(sdk: str, stream: bool, mode: Mode, run: Run) -> None:
    client = mock.AsyncMock() if mode.is_async else mock.MagicMock()
    create = client.chat.completions.create if sdk == "openai" else client.messages.create
    create.return_value = "mocked"
    text, seen = same(run, lambda: mode.wait(create(**CHAT, stream=stream)))
    assert (text, seen.records) == ("'mocked'", [])


@both
def test_a_patched_class_is_put_back_as_it_was(sdk: str, mode: Mode, run: Run, seen: Captured) -> None:
    """A test that patches the base client itself while we have patched it."""
    base = __import__(f"{sdk}._base_client", fromlist=["x"])
    owner = base.AsyncAPIClient if mode.is_async else base.SyncAPIClient
    ours = vars(owner)["request"]
    kind = mock.AsyncMock if mode.is_async else mock.MagicMock
    with mock.patch.object(owner, "request", kind(return_value="mocked")):
        assert run(lambda: mode.wait(ask(made(mode, sdk)))) == "mocked"
    assert vars(owner)["request"] is ours
    run(lambda: mode.wait(ask(made(mode, sdk))))
    assert the_call(seen).outcome == "success"


# Subclasses


@both
@plain_and_streamed
def test_a_subclass_that_overrides_request_is_called_once_per_call(
    sdk: str, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text="I am well.")
    requests: list[str] = []
    kinds: dict[tuple[str, bool], Any] = {
        ("openai", False): openai.OpenAI, ("openai", True): openai.AsyncOpenAI,
        ("anthropic", False): anthropic.Anthropic, ("anthropic", True): anthropic.AsyncAnthropic,
    }  # fmt: skip
    kind = kinds[sdk, mode.is_async]

    class Counting(kind):  # type: ignore[misc,valid-type]
        def request(self, *args: Any, **kwargs: Any) -> Any:
            requests.append("request")
            return super().request(*args, **kwargs)

        def _process_response(self, **kwargs: Any) -> Any:
            requests.append("response")
            return super()._process_response(**kwargs)

    url = mode.provider.openai_url if sdk == "openai" else mode.provider.anthropic_url

    async def body() -> None:
        client = mode.keep(Counting(api_key="k", base_url=url))
        result = await mode.wait(ask(client, stream=stream))
        if stream:
            await mode.all(result)
        assert type(client.with_options(timeout=3)) is Counting

    run(body)
    assert requests == ["request", "response"]
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")


# Copies and pickles

WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}
ways = pytest.mark.parametrize("way", WAYS)


# A copy that fails leaves a half of a client behind, of which its finalizer complains.


# A copy that fails leaves a half of a client behind, of which its finalizer complains.


@both
@ways
def test_answers_are_copied_whole_and_have_no_callspan_attributes(
    sdk: str, way: str, mode: Mode, run: Run, seen: Captured
) -> None:
    async def body() -> tuple[Any, Any]:
        client = made(mode, sdk)
        resource = client.chat.completions if sdk == "openai" else client.messages
        raw = await mode.wait(resource.with_raw_response.create(**(CHAT if sdk == "openai" else MESSAGE)))
        return await mode.wait(raw.parse()), raw.http_response

    answer, response = run(body)
    assert WAYS[way](answer) == answer
    assert getattr(WAYS[way](answer), "_request_id", None) == getattr(answer, "_request_id", None)
    twin = WAYS[way](response)
    assert twin.content == response.content
    assert b"callspan" not in pickle.dumps(answer) + pickle.dumps(response)
