"""What lies between SDK and server: HTTP clients, their requests that are no attempts, and middleware of anthropic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import openai
import pytest

from callspan.testing import Captured
from tests.support import sdks
from tests.support.calls import CHAT, MESSAGE, Run, ask, client_of, text_of, the_call
from tests.support.mode import Mode


def aiohttp(mode: Mode, sdk: str) -> Any:
    module: Any = openai if sdk == "openai" else anthropic
    if not mode.is_async or not hasattr(module, "DefaultAioHttpClient"):
        pytest.skip(f"{mode.name} clients of {sdk} {module.__version__} have no aiohttp transport")
    try:
        return module.DefaultAioHttpClient()
    except (ImportError, RuntimeError) as missing:
        pytest.skip(f"the aiohttp transport of this version needs another package: {missing}")


def older(mode: Mode, sdk: str) -> Any:
    if sdk != "openai":
        pytest.skip("anthropic takes no client of another library")
    sdks.needs("openai", "3.0", "a newer HTTP library beside which the older one is accepted")
    httpx = pytest.importorskip("httpx", reason="the older HTTP library is not installed")
    return httpx.AsyncClient() if mode.is_async else httpx.Client()


def overriding(mode: Mode, sdk: str) -> Any:
    """One that overrides `send` and calls the library's."""
    library = sdks.http_of(sdk)

    class Own(library.Client):  # type: ignore[name-defined,misc]
        def send(self, request: Any, **kwargs: Any) -> Any:
            return super().send(request, **kwargs)

    class OwnAsync(library.AsyncClient):  # type: ignore[name-defined,misc]
        async def send(self, request: Any, **kwargs: Any) -> Any:
            return await super().send(request, **kwargs)

    return OwnAsync() if mode.is_async else Own()


@pytest.mark.parametrize("http_client", [aiohttp, older, overriding])
def test_calls_of_any_http_client_are_captured_with_their_attempts(
    http_client: Callable[[Mode, str], Any], stream: bool, sdk: str, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(status=429, retry_after_s=0.001)
    mode.provider.reply(text="I am well.")

    async def body() -> None:
        client = client_of(mode, sdk, max_retries=1, http_client=http_client(mode, sdk))
        result = await mode.wait(ask(client, stream=stream))
        if stream:
            await mode.all(result)

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")
    assert [attempt.status for attempt in record.attempts] == [429, 200]


def test_a_request_of_the_transport_within_a_call_is_not_an_attempt(mode: Mode, run: Run, seen: Captured) -> None:
    """As an exchange of tokens does it: another request over the same library, while the call is running."""
    library = sdks.http_of("openai")
    url = f"{mode.provider.openai_url}/models"

    class Exchange(library.Auth):  # type: ignore[name-defined,misc]
        def sync_auth_flow(self, request: Any) -> Any:
            with library.Client() as other:
                other.get(url)
            yield request

        async def async_auth_flow(self, request: Any) -> Any:
            async with library.AsyncClient() as other:
                await other.get(url)
            yield request

    kind = library.AsyncClient if mode.is_async else library.Client
    run(lambda: mode.wait(mode.openai(http_client=kind(auth=Exchange())).chat.completions.create(**CHAT)))
    record = the_call(seen)
    assert len(mode.provider.requests) == 2
    assert len(record.attempts) == 1


@pytest.mark.parametrize("raw", [False, True], ids=["parsed", "raw"])
def test_compressed_answers_are_read(raw: bool, stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="I am well.", gzip=True)

    async def body() -> None:
        chat = mode.openai().chat.completions
        if raw:
            async with mode.entered(chat.with_streaming_response.create(**CHAT, stream=stream)) as response:
                await (mode.all(response.iter_lines()) if stream else mode.wait(response.json()))
            return
        result = await mode.wait(chat.create(**CHAT, stream=stream))
        if stream:
            await mode.all(result)

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")


Behaviour = Callable[[Any, Callable[[], Awaitable[Any]]], Awaitable[Any]]


async def asked_through(mode: Mode, behaviour: Behaviour, *, stream: bool = False) -> Any:
    """The answer to a client of anthropic with that middleware, or all of its stream."""
    sdks.needs("anthropic", "0.125", "middleware")
    result = await mode.wait(with_middleware(mode, behaviour).messages.create(**MESSAGE, stream=stream))
    return await mode.all(result) if stream else result


def with_middleware(mode: Mode, behaviour: Behaviour) -> Any:
    """A client whose middleware behaves so; the body is written once, for both colours."""

    async def handle_async(request: Any, call_next: Any) -> Any:
        return await behaviour(request, lambda: call_next(request))

    def handle(request: Any, call_next: Any) -> Any:
        async def later() -> Any:
            return call_next(request)

        step = behaviour(request, later)
        try:
            step.send(None)  # type: ignore[attr-defined] # a coroutine that awaits nothing but `later`
        except StopIteration as done:
            return done.value
        raise AssertionError("a sync middleware cannot wait")

    return mode.anthropic(middleware=[handle_async if mode.is_async else handle])


async def passes(request: Any, call_next: Any) -> Any:
    return await call_next()


@pytest.mark.parametrize("replaces", [False, True], ids=["passes", "replaces"])
def test_a_middleware_that_passes_or_replaces_the_response_is_followed(
    replaces: bool, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """A new HTTP response in place of the one that came: a copy of its bytes under another object."""
    mode.provider.reply(text="I am well.")

    async def replacing(request: Any, call_next: Any) -> Any:
        came = await call_next()
        old = came.http_response
        content = (await old.aread()) if mode.is_async else old.read()
        headers = {"content-type": old.headers["content-type"]}
        kind = sdks.http_of("anthropic").Response
        came.http_response = kind(200, headers=headers, content=content, request=old.request)
        return came

    run(lambda: asked_through(mode, replacing if replaces else passes, stream=stream))
    record = the_call(seen)
    assert (record.outcome, text_of(record), len(record.attempts)) == ("success", "I am well.", 1)


def test_a_middleware_that_answers_itself_is_a_call_without_attempts(mode: Mode, run: Run, seen: Captured) -> None:
    from anthropic.types import Message, TextBlock, Usage

    kept = Message(
        id="msg_kept", type="message", role="assistant", model="claude-sonnet-5", stop_reason="end_turn",
        content=[TextBlock(type="text", text="From the cache.")], usage=Usage(input_tokens=3, output_tokens=4),
    )  # fmt: skip

    async def answers(request: Any, call_next: Any) -> Any:
        return kept

    assert run(lambda: asked_through(mode, answers)) is kept
    assert mode.provider.requests == []
    record = the_call(seen)
    assert (record.outcome, text_of(record), record.attempts) == ("success", "From the cache.", [])
    assert record.usage is not None
    assert record.usage.input_tokens == 3


def test_a_middleware_that_calls_twice_is_one_call_of_the_answer_that_the_caller_gets(
    stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text="first", input_tokens=5, output_tokens=1)
    mode.provider.reply(text="second", input_tokens=6, output_tokens=2)

    async def twice(request: Any, call_next: Any) -> Any:
        first = await call_next()
        if stream:
            await mode.wait(first.close())
        return await call_next()

    run(lambda: asked_through(mode, twice, stream=stream))
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "second")
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (6, 2)
    assert ([one.status for one in record.attempts], record.retries) == ([200, 200], 0)
