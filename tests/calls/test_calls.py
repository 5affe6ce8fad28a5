"""Calls: one span with the right parent and one record, by every entry point; what the caller has is the SDKs'."""

from __future__ import annotations

import copy
import gc
import inspect
import json
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
from opentelemetry import baggage, trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from tests.conftest import Instrument, Read
from tests.support import sdks
from tests.support.calls import CHAT, QUESTION, REQUESTS, Wire, ask, client_of, parsing, text_of, the_call
from tests.support.mode import Mode
from tests.support.processes import ran
from tests.support.scale import scaled
from tests.support.telemetry import kept_spans
from tests.support.waiting import HANG_MS, HANG_S, until

import callspan
from callspan.testing import Capture, ScriptedProvider, capture

pytestmark = pytest.mark.usefixtures("no_settings")
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
    await wire.ask(wire.client().with_options(timeout=HANG_S))


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
async def test_every_entry_point_records_one_complete_call(name: str, wire: Wire, seen: Capture) -> None:
    wire.mode.provider.reply(text=ANSWER, input_tokens=9, output_tokens=3)
    await ENTRY_POINTS[name](wire)
    record = the_call(seen)
    assert (record.outcome, record.error, record.retries) == ("success", None, 0)
    assert (record.api, text_of(record)) == (wire.api, ANSWER)
    assert record.request.body_bytes
    assert [attempt.status for attempt in record.attempts] == [200]
    assert record.stream is None or (record.stream.complete, record.stream.end) == (True, "complete")


@pytest.mark.parametrize("form", [lambda sent: sent, lambda sent: iter([sent[:9], sent[9:]])], ids=["bytes", "pieces"])
def test_request_iterators_are_not_consumed(
    form: Callable[[bytes], Any], provider: ScriptedProvider, seen: Capture, nothing_warned: None
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


def test_module_level_client(provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch, seen: Capture) -> None:
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


def test_uninstrument_restores_every_hook() -> None:
    gc.collect()  # a stream that an earlier test left in a cycle keeps the hooks of running calls
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


def test_late_import_is_patched_once(tmp_path: Path) -> None:
    sdks.needs("openai", "1.99", "webhooks")
    done = ran("-c", LATE, *ACTS, cwd=tmp_path)
    assert done.stdout.splitlines() == [f"{given}: {states} restored" for given, states in ACTS.items()]


# Types, introspection and copies; calls in progress at `uninstrument()`.


COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]


async def test_results_and_streams_keep_type_and_can_be_copied(sdk: str, mode: Mode, seen: Capture) -> None:
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
    raw = await Wire("chat_completions" if sdk == "openai" else "messages", mode).ask(client, response="raw")
    answer, response = await mode.wait(raw.parse()), raw.http_response
    for copied in COPIES:
        assert copied(answer) == answer
        assert getattr(copied(answer), "_request_id", None) == getattr(answer, "_request_id", None)
        assert copied(response).content == response.content
    assert b"callspan" not in pickle.dumps(answer) + pickle.dumps(response)
    assert len(seen.records) == 3


def test_signatures_and_coroutine_functions_are_preserved(sdk: str) -> None:
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


async def test_uninstrument_does_not_break_an_open_stream(mode: Mode) -> None:
    mode.provider.reply(text="one two three")
    wire = Wire("chat_completions", mode)
    with capture() as seen:
        stream = await wire.stream()
        callspan.uninstrument()
        await wire.read(stream)
        record = the_call(seen)
    assert wire.received_text() == text_of(record) == "one two three"
    assert record.stream.end == "complete", "it was observed from before"


def of_callspan() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("callspan-")}


def open_below(place: Path) -> list[str]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(link.readlink()))
    return [name for name in found if str(place) in name]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts the files of a process")
def test_no_hook_remains_after_running_calls_end(
    provider: ScriptedProvider, client: openai.OpenAI, store: str, tmp_path: Path, reading: Read,
    unwarned: None, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Three threads call all the time, while callspan is switched on and off."""
    before_all = of_callspan()
    provider.reply(text="a b c", delay_s=0.01, repeat=True)
    cycles, over, surely = scaled(8, 100), threading.Event(), set[str | None]()
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
            inside, before = object(), len(surely)
            time.sleep(0.02)
            until(lambda before=before: len(surely) > before)  # type: ignore[misc]
            inside = None
            handle.uninstrument()
        over.set()
    assert [one.exception() for one in calling] == [None] * 3
    # The end of a call may have come as the stores closed: it would be delivered a second later.
    handle.force_flush(HANG_MS)
    until(lambda: not open_below(tmp_path) and not of_callspan() - before_all)
    calls = list(reading(store).calls())
    models = [call.request.model for call in calls]
    assert len(calls) >= cycles
    assert (len(models), surely - set(models)) == (len(set(models)), set())
    assert {call.outcome for call in calls} == {"success"}
    assert "not recorded" not in caplog.text, "a call that began before `instrument()` is not sent in another way"


# The facts of a call on its span and record.


async def test_call_span_is_a_child_of_the_caller(wire: Wire, seen: Capture) -> None:
    wire.mode.provider.reply(text="I am well.")
    tracer = TracerProvider().get_tracer("application")
    with tracer.start_as_current_span("mine") as mine:
        result = await wire.ask()
        assert trace.get_current_span() is mine, "the caller's span is current again"
    the_call(seen)
    (span,) = seen.spans
    assert span.parent == mine.get_span_context()
    assert type(result).__module__.split(".")[0] == wire.sdk
    assert "I am well." in result.model_dump_json()


@pytest.mark.parametrize(
    ("scope", "name", "attributes", "is_adopted"),
    [
        ("conventions", "chat", {"gen_ai.operation.name": "chat"}, True),
        ("openinference", "ChatCompletion", {"openinference.span.kind": "LLM"}, True),
        ("traceloop", "openai.chat", {"llm.request.type": "chat"}, True),
        ("openlit.otel.tracing", "chat claude-opus-4-1", {}, True),
        ("openlit.otel.tracing", "invoke_agent planner", {}, False),
        ("application", "chat claude-opus-4-1", {}, False),
        ("conventions", "invoke_agent", {"gen_ai.operation.name": "invoke_agent"}, False),
    ],
)
async def test_call_uses_span_of_another_instrumentation(
    wire: Wire, scope: str, name: str, attributes: dict[str, str], is_adopted: bool
) -> None:
    provider, ended = kept_spans()
    with capture() as seen, provider.get_tracer(scope).start_as_current_span(name, attributes=attributes) as theirs:
        await wire.ask()
        await wire.ask()
    first, second = seen.records
    other = f"{theirs.get_span_context().span_id:016x}"
    assert (first.span_id == other) == is_adopted
    assert second.span_id != other, "one span is one call"
    assert ("callspan.call_id" in dict(ended.get_finished_spans()[0].attributes or {})) == is_adopted


async def test_call_has_a_span_of_its_own_if_the_other_ends_first(wire: Wire) -> None:
    """Its attributes cannot be set on a span that has ended: the record has the ids of the span that has them."""
    provider, ended = kept_spans()
    attributes = {"gen_ai.operation.name": "chat"}
    with capture() as seen:
        with provider.get_tracer("conventions").start_as_current_span("chat", attributes=attributes) as theirs:
            stream = await wire.stream()
        await wire.mode.all(stream)
    record, other = the_call(seen), theirs.get_span_context()
    (span,) = seen.spans
    assert len(ended.get_finished_spans()) == 1
    assert span.parent == other
    assert span.context is not None
    ids = record.trace_id, record.span_id, record.parent_span_id
    assert ids == (f"{other.trace_id:032x}", f"{span.context.span_id:016x}", f"{other.span_id:016x}")
    assert dict(span.attributes or {})["callspan.outcome"] == record.outcome == "success"
    assert span.start_time == record.timing.start_ns


async def test_traceparent_is_sent_only_if_enabled(wire: Wire) -> None:
    """With the switch every request carries the call's span as its parent; without it none of openai's does.

    Anthropic's SDK sends one by default, unless its own setting disables it: that setting is respected. Neither the
    application's baggage nor what others keep in the state of its trace is sent.
    """
    state = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("vendor", "ann")]))
    around = trace.set_span_in_context(NonRecordingSpan(state), baggage.set_baggage("customer.email", "ann"))
    with capture(propagate=True) as seen:
        token = attach(around)
        await wire.ask()
        detach(token)
        record = the_call(seen)
    with capture(propagate=False):
        await wire.ask()
    assert not any({"baggage", "tracestate"} & request.headers.keys() for request in wire.mode.provider.requests)
    sent, unsent = [request.headers.get("traceparent") for request in wire.mode.provider.requests]
    assert sent.rpartition("-")[0] == f"00-{record.trace_id}-{record.span_id}"
    assert unsent is None or wire.api == "messages"


@pytest.mark.parametrize(
    ("option", "sends"),
    [({}, True), ({"propagation": False}, False), (False, False), ({"traces": False, "propagation": True}, False)],
)
async def test_anthropic_trace_is_sent_only_if_enabled(mode: Mode, seen: Capture, option: Any, sends: bool) -> None:
    sdks.needs("anthropic", "1.17", "spans of its own")
    with trace.use_span(TracerProvider().get_tracer("application").start_span("mine")):
        await mode.wait(ask(mode.anthropic(open_telemetry=option)))
    the_call(seen)
    (request,) = mode.provider.requests
    assert ("traceparent" in request.headers) is sends


async def test_clock_set_back_during_a_call(wire: Wire, seen: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock goes back an hour while a stream is read: every duration is still one."""
    wire.mode.provider.reply(text="one two three")
    real = time.time_ns
    with callspan.session("s") as session, session.timestep():
        stream = await wire.stream()
        monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600_000_000_000)
        await wire.mode.all(stream)
    (record,) = seen.records
    timing = record.timing
    offsets = [0, timing.answer_ns, timing.headers_ns, timing.first_chunk_ns, timing.last_chunk_ns, timing.duration_ns]
    known = [offset for offset in offsets if offset is not None]
    assert len(known) == 6
    assert known == sorted(known)
    for span in seen.spans:
        assert (span.end_time or 0) >= (span.start_time or 0) > 0, span.name
    for scope in [*seen.sessions, *seen.timesteps]:
        assert scope.end_ns is None or scope.end_ns >= (scope.start_ns or 0)


async def test_event_times_increase(wire: Wire, seen: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the thread is suspended as it reads the clocks: the order of records is that of these times."""
    real = time.time_ns
    with callspan.session("s") as session:
        with monkeypatch.context() as slowly:
            slowly.setattr(time, "time_ns", lambda: (time.sleep(0.02), real())[1])
            await wire.ask()
        session.action("north")
    (record,), (action,) = seen.records, seen.events
    assert action.time_ns >= record.timing.start_ns + (record.timing.duration_ns or 0)


async def test_calls_before_1970_are_recorded(wire: Wire, seen: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a test that freezes the time in 1969."""
    began_ns = -18_489_600_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: began_ns)
    with callspan.session("s") as session, session.timestep():
        await wire.ask()
    (record,) = seen.records
    assert (record.timing.start_ns, record.place.session_id) == (began_ns, session.id)


def test_flush_ends_with_a_frozen_clock(
    client: openai.OpenAI, instrumented: Instrument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As freezegun does, a store refuses, and the flush ends after its time as ever."""
    handle = instrumented(stores=f"unix://{tmp_path}/nobody.sock")
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    ask(client)
    began = time.perf_counter()
    assert not handle.force_flush(500)
    assert time.perf_counter() - began < HANG_S


def prompts(seen: Capture) -> list[dict[str, Any]]:
    """The attributes of the prompt of each span, without their prefix."""
    prefix = "gen_ai.prompt."
    found = [dict(span.attributes or {}).items() for span in seen.spans]
    return [{name.removeprefix(prefix): value for name, value in each if name.startswith(prefix)} for each in found]


async def test_prompt_name_and_version(wire: Wire, seen: Capture) -> None:
    """From the metadata, under the conventions' names, as texts; without a name there is no version."""
    with callspan.metadata(prompt_version=2):
        await wire.ask()
        with callspan.metadata(prompt_id="greet"):
            await wire.read()
    assert prompts(seen) == [{}, {"name": "greet", "version": "2"}]


@pytest.mark.parametrize("content", ["full", "metadata"])
@pytest.mark.parametrize(
    ("template", "expected"),
    [("pmpt_0123abcd", {"name": "pmpt_0123abcd", "version": "7"}), (None, {"name": "greet", "version": "2"})],
)
def test_prompt_templates(
    template: str | None, expected: dict[str, str], content: Any, provider: ScriptedProvider
) -> None:
    """Responses' own `prompt` goes before the metadata, of which nothing is mixed in; its variables are content."""
    prompt = {"id": template, "version": "7", "variables": {"city": "Rome"}}
    with capture(content=content) as seen, Mode("sync", provider) as mode:
        with callspan.metadata(prompt_id="greet", prompt_version=2):
            Wire("responses", mode).create(prompt=prompt)
        params = the_call(seen).request.params
    assert prompts(seen) == [expected]
    assert params.get("prompt", {}).get("id") == template
    assert "Rome" not in json.dumps(params)


# What a response says of the whole conversation.

COMPACTION: dict[str, Any] = {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}


async def test_compacted_conversation_is_marked(mode: Mode, seen: Capture) -> None:
    """The call that compacts, and those that send what it returned."""
    sdks.needs_name(mode.openai(), "responses.compact")
    compact = {"id": "resp_1", "object": "response.compaction", "created_at": 1, "output": [COMPACTION],
               "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}}  # fmt: skip
    mode.provider.reply(raw=compact, on="/responses/compact")
    responses = mode.openai().responses
    await mode.wait(responses.compact(model="gpt-5", input="How are you?"))
    await mode.wait(responses.create(model="gpt-5", input=[COMPACTION, *QUESTION]))
    await mode.wait(responses.create(model="gpt-5", input=QUESTION))
    marks = [(span.attributes or {}).get("gen_ai.conversation.compacted") for span in seen.spans]
    assert marks == [True, True, None]


@pytest.mark.skipif(sdks.OPENAI < (1, 107), reason="openai has conversations since 1.107")
@pytest.mark.parametrize("link", ["previous_response_id", "conversation"])
async def test_response_continues_stored_conversation(link: str, stream: bool, mode: Mode, seen: Capture) -> None:
    """The links with which `tests/stores/test_history.py` makes them whole again."""
    client, ids = mode.openai(), list[str]()
    for number in range(3):
        links: dict[str, Any] = {link: ids[-1]} if ids else {}
        if link == "conversation":
            links = {link: "conv_1" if number else {"id": "conv_1"}}
        answer = await mode.whole(client.responses.create(model="gpt-5", input="Hi", stream=stream, **links))
        ids.append(answer[0].response.id if stream else answer.id)
    continues = [None, *ids[:2]] if link == "previous_response_id" else [None] * 3
    assert [call.response and call.response.id for call in seen.records] == ids
    assert [call.request.continues for call in seen.records] == continues
    assert [call.request.conversation_id for call in seen.records] == [None if continues[1] else "conv_1"] * 3
