"""Every entry point of the SDKs: one span and one record per inference; for the caller all is as without callspan."""

from __future__ import annotations

import copy
import inspect
import json
import os
import pickle
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import anthropic
import openai
import pydantic
import pytest
from tests.conftest import Read
from tests.support import sdks
from tests.support.calls import CHAT, MESSAGE, REQUESTS, Wire, ask, client_of, parsing, text_of, the_call
from tests.support.mode import Mode
from tests.support.processes import ran
from tests.support.rig import until
from tests.support.scale import scaled

import callspan
from callspan.testing import Captured, ScriptedProvider, capture

ANSWER = '{"city": "Paris"}'
PATHS = {"chat_completions": "/chat/completions", "responses": "/responses", "messages": "/v1/messages"}


class Weather(pydantic.BaseModel):
    city: str


async def raw(wire: Wire, parses: int, **options: Any) -> None:
    """A raw response that is parsed so often, and read then if it is a stream."""
    response = await wire.ask(response="raw", **options)
    for _ in range(parses):
        parsed = await wire.mode.wait(response.parse())
    if options:
        await wire.mode.all(parsed)


async def posted(wire: Wire, cast_to: Callable[[str], Any]) -> None:
    await wire.mode.wait(wire.client().post(PATHS[wire.api], cast_to=cast_to(wire.sdk), body=REQUESTS[wire.api]))


async def with_options(wire: Wire) -> None:
    await wire.ask(wire.client().with_options(timeout=5))


async def parse(wire: Wire) -> None:
    if wire.api == "messages":
        pytest.skip("see the helpers of streams")
    if wire.api == "responses":
        await wire.mode.wait(wire.resource().parse(**REQUESTS[wire.api], text_format=Weather))
    else:
        await wire.mode.wait(parsing(wire.mode).parse(**CHAT, response_format=Weather))


ENTRY_POINTS: dict[str, Callable[[Wire], Awaitable[None]]] = {
    "raw": partial(raw, parses=0),
    "raw parsed": partial(raw, parses=1),
    "raw parsed twice": partial(raw, parses=2),
    "raw stream parsed": partial(raw, parses=1, stream=True),
    "streaming parse": partial(Wire.streaming, read="parse"),
    "streaming json": partial(Wire.streaming, read="json"),
    "streaming read": partial(Wire.streaming, read="read"),
    "streaming text": partial(Wire.streaming, read="text"),
    "streaming lines": partial(Wire.streaming, read="iter_lines"),
    "streaming bytes": partial(Wire.streaming, read="iter_bytes"),
    "streaming parse of events": partial(Wire.streaming, read="parse", stream=True),
    "streaming lines of events": partial(Wire.streaming, read="iter_lines", stream=True),
    "posted": partial(posted, cast_to=lambda sdk: object),
    "posted for the HTTP response": partial(posted, cast_to=lambda sdk: sdks.http_of(sdk).Response),
    "with options": with_options,
    "parse": parse,
}


@pytest.mark.parametrize("name", ENTRY_POINTS)
async def test_every_entry_point_gives_one_complete_call(name: str, wire: Wire, seen: Captured) -> None:
    wire.mode.provider.reply(text=ANSWER, input_tokens=9, output_tokens=3)
    await ENTRY_POINTS[name](wire)
    record = the_call(seen)
    assert (record.outcome, record.error, record.retries) == ("success", None, 0)
    assert (record.api, text_of(record)) == (wire.api, ANSWER)
    assert record.request.body_bytes
    assert [attempt.status for attempt in record.attempts] == [200]
    assert record.stream is None or (record.stream.complete, record.stream.end) == (True, "complete")


@pytest.mark.parametrize("form", [lambda sent: sent, lambda sent: iter([sent[:9], sent[9:]])], ids=["bytes", "pieces"])
def test_a_body_given_as_bytes_is_read_and_one_given_in_pieces_is_left_to_be_sent(
    form: Callable[[bytes], Any], provider: ScriptedProvider, seen: Captured, nothing_warned: None
) -> None:
    if "content" not in inspect.signature(openai.OpenAI.post).parameters:
        pytest.skip("this version takes no content")
    sent, options = json.dumps(CHAT).encode(), {"headers": {"content-type": "application/json"}}
    provider.reply(text="I am well.")
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        client.post("/chat/completions", cast_to=object, content=form(sent), options=options)
    record = the_call(seen)
    whole = isinstance(form(sent), bytes)
    assert (record.request.model, bytes(record.request.body)) == (("gpt-5", sent) if whole else (None, b""))
    assert (record.outcome, provider.requests[0].body) == ("success", CHAT)


def test_calls_of_the_module_level_client_are_observed_once_however_often_we_instrument(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, seen: Captured
) -> None:
    monkeypatch.setattr(openai, "api_key", "sk-test")
    monkeypatch.setattr(openai, "base_url", provider.openai_url)
    callspan.instrument()
    openai.chat.completions.create(**CHAT)
    assert the_call(seen).outcome == "success"
    openai._client.close()  # type: ignore[attr-defined]
    openai._reset_client()  # type: ignore[attr-defined]


def functions() -> dict[str, Any]:
    """Every function of the classes that have hooks, with the code of those whose code is replaced."""
    sdk_modules = [f"{sdk}.{part}" for sdk in ("openai", "anthropic") for part in ("_base_client", "_streaming")]
    return {
        f"{kind.__module__}.{kind.__name__}.{name}": (value, value.__code__, value.__kwdefaults__, {**vars(value)})
        for module in [*map(import_module, sdk_modules), sdks.http_of("anthropic")]
        for kind in vars(module).values() if inspect.isclass(kind)
        for name, value in vars(kind).items() if inspect.isfunction(value)
    }  # fmt: skip


def test_every_hook_is_on_in_the_installed_sdks_and_uninstrumenting_restores_every_original() -> None:
    before = functions()
    handle = callspan.instrument()
    statuses = callspan.patch_status()
    assert {status.sdk for status in statuses} >= {"openai", "anthropic"}
    assert [status for status in statuses if status.state != "on"] == []
    replaced = {name.rpartition(".")[2] for name, function in functions().items() if function != before.get(name)}
    assert replaced >= {"request", "_process_response_data", "__stream__", "close", "aiter_bytes", "send"}
    handle.uninstrument()
    assert functions() == before


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
ACTS = {
    "on import": "on on", "on off on import": "on on", "on off import on": "on on", "import on": "on on",
    "on import off on": "on on", "on on import": "on on", "on off import": "",
}  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_module_that_is_imported_late_is_patched_once_whatever_came_before(tmp_path: Path) -> None:
    sdks.needs("openai", "1.99", "webhooks")
    done = ran("-c", LATE, *ACTS, cwd=tmp_path)
    assert done.stdout.splitlines() == [f"{given}: {states} restored" for given, states in ACTS.items()]


# Types, introspection and copies; calls in progress at `uninstrument()`.


COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]


async def test_results_and_streams_are_the_sdks_own_and_copied_whole(sdk: str, mode: Mode, seen: Captured) -> None:
    module: Any = openai if sdk == "openai" else anthropic
    client = client_of(mode, sdk)
    before = set(vars(client))
    answer = await mode.wait(ask(client))
    assert (type(answer).__name__, type(answer).__module__.split(".")[0]) == (
        "ChatCompletion" if sdk == "openai" else "Message", sdk,
    )  # fmt: skip
    stream = await mode.wait(ask(client, stream=True))
    assert type(stream) is (module.AsyncStream if mode.is_async else module.Stream)
    assert type(stream.response) is sdks.http_of(sdk).Response
    # Older versions of Sentry, such as 2.48, tell sync and async streams apart by this name.
    assert str(type(stream._iterator)) == f"<class '{'async_' if mode.is_async else ''}generator'>"
    await mode.all(stream)
    assert set(vars(client)) - before <= {"chat", "messages"}, "cached properties of the SDK's"
    assert [name for name in vars(stream) if "callspan" in name] == []
    resource = client.chat.completions if sdk == "openai" else client.messages
    raw = await mode.wait(resource.with_raw_response.create(**(CHAT if sdk == "openai" else MESSAGE)))
    answer, response = await mode.wait(raw.parse()), raw.http_response
    for copied in COPIES:
        assert copied(answer) == answer
        assert getattr(copied(answer), "_request_id", None) == getattr(answer, "_request_id", None)
        assert copied(response).content == response.content
    assert b"callspan" not in pickle.dumps(answer) + pickle.dumps(response)
    assert len(seen.records) == 3


def test_coroutine_functions_and_signatures_stay_what_they_are(sdk: str) -> None:
    base, http = import_module(f"{sdk}._base_client"), sdks.http_of(sdk)
    functions = [
        (base.AsyncAPIClient, "request"), (base.SyncAPIClient, "request"), (http.AsyncClient, "send"),
        (http.Client, "send"), (http.Response, "aclose"), (base.BaseClient, "_process_response_data"),
    ]  # fmt: skip

    def look() -> list[Any]:
        found = [getattr(owner, name) for owner, name in functions]
        return [
            (inspect.signature(one), inspect.iscoroutinefunction(one), one.__name__, one.__qualname__, one.__doc__)
            for one in found
        ]

    before = look()
    with capture():
        assert look() == before


async def test_uninstrumenting_before_a_stream_is_read_lets_it_end(mode: Mode) -> None:
    mode.provider.reply(text="one two three")
    wire = Wire("chat_completions", mode)
    with capture() as seen:
        stream = await wire.stream()
        callspan.uninstrument()
        await wire.read(stream)
        record = the_call(seen)
    assert wire.received_text() == text_of(record) == "one two three"
    assert record.stream is not None
    assert record.stream.end == "complete", "it was observed from before"


def open_below(place: Path) -> list[str]:
    """The threads of stores below a directory, and the open files there."""
    found = [thread.name for thread in threading.enumerate()]
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return [name for name in found if str(place) in name]


@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts the files of a process")
def test_nothing_stays_open_after_calls_that_were_running_have_ended(
    provider: ScriptedProvider, client: openai.OpenAI, store: str, tmp_path: Path, reading: Read,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Three threads call all the time, while callspan is switched on and off."""
    provider.reply(text="a b c", delay_s=0.01, repeat=True)
    cycles, over, surely = scaled(20, 100), threading.Event(), set[str | None]()
    inside: object = None

    def call(thread: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            model, before = f"m{thread}-{number}", inside
            stream = client.chat.completions.create(model=model, messages=[], stream=True)
            if before is not None and inside is before:
                surely.add(model)
            for _ in stream:
                time.sleep(0.001)

    with ThreadPoolExecutor(3) as pool:
        calling = [pool.submit(call, thread) for thread in range(3)]
        for _ in range(cycles):
            handle = callspan.instrument(stores=store)
            inside = object()
            time.sleep(0.02)
            inside = None
            handle.uninstrument()
        over.set()
    assert [one.exception() for one in calling] == [None] * 3
    # The end of a call may have come as the stores closed: it would be delivered a second later.
    handle.force_flush()
    until(lambda: not open_below(tmp_path))
    calls = list(reading(store).calls())
    models = [call.request.model for call in calls]
    assert len(calls) > cycles / 4
    assert (len(models), surely - set(models)) == (len(set(models)), set())
    assert {call.outcome for call in calls} == {"success"}
    assert "not recorded" not in caplog.text, "a call that began before `instrument()` is not sent in another way"
