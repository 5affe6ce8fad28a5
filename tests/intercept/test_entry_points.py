"""Every entry point of the SDKs: one span and one record per inference, none for other requests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pydantic
import pytest

import callspan
from callspan.records import CallRecord
from callspan.testing import Captured, ScriptedProvider, capture
from tests.intercept import sdks
from tests.intercept.calls import QUESTION, Run, parsing, text_of, the_call
from tests.intercept.mode import Mode

CHAT = {"model": "gpt-5", "messages": QUESTION}
MESSAGE = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}


class Weather(pydantic.BaseModel):
    city: str


async def chat_parse(mode: Mode) -> None:
    await mode.wait(parsing(mode).parse(**CHAT, response_format=Weather))


async def responses_parse(mode: Mode) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    await mode.wait(mode.openai().responses.parse(model="gpt-5", input="hi", text_format=Weather))


async def chat_stream_helper(mode: Mode) -> None:
    async with mode.entered(parsing(mode).stream(**CHAT)) as stream:
        await mode.all(stream)
        await mode.wait(stream.get_final_completion())


async def chat_stream_helper_until_done(mode: Mode) -> None:
    async with mode.entered(parsing(mode).stream(**CHAT)) as stream:
        await mode.wait(stream.until_done())


async def responses_stream_helper(mode: Mode) -> None:
    sdks.needs("openai", "1.66", "the Responses API")
    async with mode.entered(mode.openai().responses.stream(model="gpt-5", input="hi")) as stream:
        await mode.wait(stream.get_final_response())


async def messages_stream_helper(mode: Mode) -> None:
    async with mode.entered(mode.anthropic().messages.stream(**MESSAGE)) as stream:
        await mode.wait(stream.get_final_message())


async def messages_text_stream(mode: Mode) -> None:
    async with mode.entered(mode.anthropic().messages.stream(**MESSAGE)) as stream:
        await mode.all(stream.text_stream)


async def messages_until_done(mode: Mode) -> None:
    async with mode.entered(mode.anthropic().messages.stream(**MESSAGE)) as stream:
        await mode.wait(stream.until_done())


async def beta_messages(mode: Mode) -> None:
    client = mode.anthropic()
    sdks.needs_name(client, "beta.messages")
    await mode.wait(client.beta.messages.create(**MESSAGE))


async def raw_parsed(mode: Mode) -> None:
    raw = await mode.wait(mode.openai().chat.completions.with_raw_response.create(**CHAT))
    await mode.wait(raw.parse())


async def raw_never_parsed(mode: Mode) -> None:
    await mode.wait(mode.openai().chat.completions.with_raw_response.create(**CHAT))


async def raw_parsed_twice(mode: Mode) -> None:
    raw = await mode.wait(mode.openai().chat.completions.with_raw_response.create(**CHAT))
    await mode.wait(raw.parse())
    await mode.wait(raw.parse())


async def raw_stream_parsed(mode: Mode) -> None:
    raw = await mode.wait(mode.openai().chat.completions.with_raw_response.create(**CHAT, stream=True))
    await mode.all(await mode.wait(raw.parse()))


async def anthropic_raw_parsed(mode: Mode) -> None:
    raw = await mode.wait(mode.anthropic().messages.with_raw_response.create(**MESSAGE))
    await mode.wait(raw.parse())


async def anthropic_raw_never_parsed(mode: Mode) -> None:
    await mode.wait(mode.anthropic().messages.with_raw_response.create(**MESSAGE))


async def _streaming(mode: Mode, how: Callable[[Any], Awaitable[Any]], **options: Any) -> None:
    manager = mode.openai().chat.completions.with_streaming_response.create(**CHAT, **options)
    async with mode.entered(manager) as response:
        await how(response)


async def streaming_parse(mode: Mode) -> None:
    await _streaming(mode, lambda response: mode.wait(response.parse()))


async def streaming_json(mode: Mode) -> None:
    await _streaming(mode, lambda response: mode.wait(response.json()))


async def streaming_read(mode: Mode) -> None:
    await _streaming(mode, lambda response: mode.wait(response.read()))


async def streaming_text(mode: Mode) -> None:
    await _streaming(mode, lambda response: mode.wait(response.text()))


async def streaming_lines(mode: Mode) -> None:
    await _streaming(mode, lambda response: mode.all(response.iter_lines()))


async def streaming_bytes(mode: Mode) -> None:
    await _streaming(mode, lambda response: mode.all(response.iter_bytes()))


async def streaming_stream_lines(mode: Mode) -> None:
    await _streaming(mode, lambda response: mode.all(response.iter_lines()), stream=True)


async def streaming_stream_parsed(mode: Mode) -> None:
    async def parsed(response: Any) -> None:
        await mode.all(await mode.wait(response.parse()))

    await _streaming(mode, parsed, stream=True)


async def posted(mode: Mode) -> None:
    await mode.wait(mode.openai().post("/chat/completions", cast_to=object, body=CHAT))


async def posted_for_the_http_response(mode: Mode) -> None:
    await mode.wait(mode.openai().post("/chat/completions", cast_to=sdks.http_of("openai").Response, body=CHAT))


async def with_options(mode: Mode) -> None:
    await mode.wait(mode.openai().with_options(timeout=5).chat.completions.create(**CHAT))


async def generator_of_messages(mode: Mode) -> None:
    await mode.wait(mode.anthropic().messages.create(**{**MESSAGE, "messages": (dict(m) for m in QUESTION)}))


ENTRY_POINTS = [
    chat_parse, responses_parse, chat_stream_helper, chat_stream_helper_until_done, responses_stream_helper,
    messages_stream_helper, messages_text_stream, messages_until_done, beta_messages, raw_parsed, raw_never_parsed,
    raw_parsed_twice, raw_stream_parsed, anthropic_raw_parsed, anthropic_raw_never_parsed, streaming_parse,
    streaming_json, streaming_read, streaming_text, streaming_lines, streaming_bytes, streaming_stream_lines,
    streaming_stream_parsed, posted, posted_for_the_http_response, with_options, generator_of_messages,
]  # fmt: skip


@pytest.mark.parametrize("enter", ENTRY_POINTS, ids=lambda enter: enter.__name__)
def test_every_entry_point_gives_one_complete_call(
    enter: Callable[[Mode], Awaitable[None]], mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text='{"city": "Paris"}', input_tokens=9, output_tokens=3)
    run(lambda: enter(mode))
    record = the_call(seen)
    assert record.outcome == "success", record.error
    assert text_of(record) == '{"city": "Paris"}'
    assert record.retries == 0
    assert record.request.body_bytes
    assert [attempt.status for attempt in record.attempts] == [200]
    if record.stream is not None:
        assert (record.stream.complete, record.stream.end) == (True, "complete")


def test_requests_that_are_not_inference_make_no_span(mode: Mode, run: Run, seen: Captured) -> None:
    for path in ("/batches", "/files"):
        mode.provider.reply(raw={"object": "list", "data": [], "has_more": False}, on=path)

    async def body() -> None:
        await mode.all(await mode.wait(mode.openai().models.list()))
        client = mode.anthropic()
        if hasattr(client.messages, "count_tokens"):
            await mode.wait(client.messages.count_tokens(model="claude-sonnet-5", messages=QUESTION))
        if hasattr(client.messages, "batches"):
            await mode.wait(client.messages.batches.list())
        await mode.wait(mode.openai().files.list())

    run(body)
    assert seen.spans == []
    assert seen.records == []


def test_calls_of_the_module_level_client_are_observed(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai, "api_key", "sk-test")
    monkeypatch.setattr(openai, "base_url", provider.openai_url)
    with capture() as seen:
        openai.chat.completions.create(**CHAT)  # type: ignore[call-overload]
    the_call(seen)
    openai._client.close()  # type: ignore[attr-defined]
    openai._reset_client()  # type: ignore[attr-defined]


def originals() -> dict[str, object]:
    """The functions that are replaced, and the code of those whose code is."""
    import anthropic._base_client
    import anthropic._streaming
    import openai._base_client
    import openai._streaming

    found = {
        f"{module.__name__}.{owner}.{name}": vars(getattr(module, owner)).get(name)
        for module, owner, name in [
            (openai._base_client, "SyncAPIClient", "request"),
            (openai._base_client, "AsyncAPIClient", "request"),
            (openai._base_client, "BaseClient", "_process_response_data"),
            (openai._streaming, "Stream", "__stream__"),
            (anthropic._base_client, "SyncAPIClient", "request"),
            (anthropic._streaming, "AsyncStream", "__stream__"),
            (sdks.http_of("anthropic"), "Response", "close"),
            (sdks.http_of("anthropic"), "Response", "aiter_bytes"),
            (sdks.http_of("anthropic"), "Client", "send"),
        ]
    }
    return {name: one.__code__ if name.endswith(".request") else one for name, one in found.items()}


def test_uninstrumenting_restores_every_original() -> None:
    before = originals()
    assert None not in before.values()
    handle = callspan.instrument()
    assert all(originals()[name] is not value for name, value in before.items())
    handle.uninstrument()
    assert originals() == before


def test_instrumenting_twice_has_the_effect_of_once(provider: ScriptedProvider) -> None:
    with capture() as seen, openai.OpenAI(api_key="sk-test", base_url=provider.openai_url) as client:
        callspan.wiring.WIRING.install(  # type: ignore[attr-defined]
            callspan.wiring.WIRING.pipeline.settings,
            callspan.wiring.WIRING.pipeline.providers,
            ("openai",),  # type: ignore[union-attr]
        )
        client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
        record: CallRecord = the_call(seen)
    assert record.outcome == "success"


def test_every_hook_is_on_in_the_installed_sdks(seen: Captured) -> None:
    statuses = callspan.patch_status()
    assert {status.sdk for status in statuses} >= {"openai", "anthropic"}
    assert [status for status in statuses if status.state != "on"] == []


LATE = """
import os, sys, callspan, openai
late = "openai.resources.webhooks"
acts = {"on": callspan.instrument, "off": callspan.uninstrument, "import": lambda: __import__(late)}
for given in sys.argv[1:]:
    if os.fork() == 0:
        for act in given.split():
            acts[act]()
        states = [status.state for status in callspan.patch_status() if status.name.startswith(late)]
        callspan.uninstrument()
        import openai.resources.webhooks as webhooks
        restored = not hasattr(webhooks.Webhooks.unwrap, "callspan_observed")
        print(f"{given}: {' '.join(states)}", "restored" if restored else "", flush=True)
        os._exit(0)
    os.wait()
"""
ACTS = ["on import", "on off on import", "on off import on", "import on", "on import off on", "on on import on"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_module_that_is_imported_late_is_patched_once_whatever_came_before() -> None:
    sdks.needs("openai", "1.99", "webhooks")
    done = subprocess.run([sys.executable, "-c", LATE, *ACTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{given}: on on restored" for given in ACTS]
