"""Proof: every public function and method is called by a test."""

from __future__ import annotations

import asyncio
import doctest
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
import callspan.testing
from callspan.records import Message, ToolCall
from callspan.testing import ScriptedProvider, capture
from callspan.wiring import WIRING

SOURCE = str(Path(callspan.__file__).parent)
MODULES = (callspan, callspan.testing)
ENTRANCES = ("__enter__", "__exit__", "__aenter__", "__aexit__")
OURS = {"output", "state"}
"""Methods of public classes that callspan calls itself, and no page tells users to."""


def public_code() -> dict[CodeType, str]:
    """Every public function, method and property of ours, by its code."""
    found: dict[CodeType, str] = {}
    for module in MODULES:
        names: list[str] = module.__all__  # type: ignore[attr-defined]
        for name in names:
            thing = getattr(module, name)
            if inspect.isfunction(thing):
                found[inspect.unwrap(thing).__code__] = name
            elif inspect.isclass(thing) and not getattr(thing, "_is_protocol", False):
                found |= {code: f"{name}.{method}" for method, code in methods(thing) if method not in OURS}
    return found


def methods(kind: type) -> Iterator[tuple[str, CodeType]]:
    """The methods of a class and of those of ours that it is made of."""
    for part in kind.__mro__:
        for name, value in vars(part).items():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if inspect.isfunction(function) and (not name.startswith("_") or name in ENTRANCES):
                code = inspect.unwrap(function).__code__
                if code.co_filename.startswith(SOURCE):
                    yield name, code


@contextmanager
def watched(codes: dict[CodeType, str]) -> Iterator[set[str]]:
    """The names of what is called within, on any thread that starts within too."""
    called: set[str] = set()

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code in codes:
            called.add(codes[frame.f_code])

    before = sys.getprofile()
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield called
    finally:
        sys.setprofile(before)
        threading.setprofile(None)


def examples(module: ModuleType, name: str, names: dict[str, Any], again: Callable[[], None]) -> None:
    """Run the example in the docstring of a name; `tests/documents` checks that each says what is true."""
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(getattr(module, name)) or "", names, name, None, None)
    # A runner sets its own trace around what it runs.
    again()
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=lambda _: None, clear_globs=False)
    callspan.uninstrument()


def the_rest(provider: ScriptedProvider) -> None:
    """What no docstring shows: each is used, and what it does is checked."""
    with capture() as seen:
        carrier = a_session(provider)
        (session,) = {record.session_id for record in seen.sessions if record.name == "s"}
        assert {record.session_id for record in seen.timesteps} == {session}
        assert {type(one).__name__ for one in seen.events} == {"EventRecord"}
        assert not seen.messages
        assert not seen.rewards
        assert session in str(carrier)
        kinds = {event.event_type for event in seen.events}
        assert {"tool", "guardrail", "handoff", "agent", "environment"} <= kinds
        asyncio.run(by_hand())
        reported = seen.records[-1]
        assert (reported.attempts[0].status, reported.text) == (429, "Well.")
        assert (reported.is_cut_by_length, reported.is_cut_off) == (False, False)
        assert [call.name for call in seen.records[0].tool_calls] == ["look"]
    assert Message(role="assistant", parts=[ToolCall(name="look")]).tool_calls[0].name == "look"
    exporters()
    a_webhook(provider)
    for_a_path(provider)
    assert provider.groq_url == provider.url


def a_webhook(provider: ScriptedProvider) -> None:
    with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
        job = client.responses.create(model="m", input="Hi", background=True)
        secret = "whsec_c2VjcmV0"
        payload, headers = provider.webhook(job.id, secret)
        event = client.webhooks.unwrap(payload, dict(headers), secret=secret)
    assert (event.type, event.data.id) == ("response.completed", job.id)


def for_a_path(provider: ScriptedProvider) -> None:
    provider.reply(text="Here.", on="/chat/completions")
    with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
        answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Where?"}])
    assert answer.choices[0].message.content == "Here."
    assert not provider.requests[-1].is_upgrade


def a_session(provider: ScriptedProvider) -> dict[str, Any]:
    provider.reply(tool_calls=[{"id": "t1", "name": "look", "arguments": {"at": "sky"}}])
    assert provider.pending == 1
    assert provider.anthropic_url.startswith("http://127.0.0.1")
    with callspan.session("s") as session, session.timestep(step_id="mine") as step:
        assert (step.session, step.step_id) == (session, "mine")
        with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
        assert provider.pending == 0
        left = stream({"model": "m"})
        next(left)
        left.close()
        with step.tool("look", arguments='{"at": "sky"}') as tool:
            assert (tool.arguments, tool.session) == ({"at": "sky"}, session)
            tool.result = "blue"
            assert tool.result == "blue"
        with step.guardrail("polite"), step.invoke_agent("helper"):
            pass
        step.handoff("a", "b")
        with step.environment_step() as environment:
            environment.set_result("next", reward=1)
        step.update(metadata={"judged": True})
        asyncio.run(in_a_tool())
        other = callspan.copy_context(callspan.current_session)
        with session.using():
            assert other() is session
        return dict(session.carrier())


@callspan.record_call(provider="p", model="m")
def stream(body: dict[str, str]) -> Iterator[object]:
    yield {"choices": [{"index": 0, "delta": {"content": body["model"]}}]}


async def in_a_tool() -> None:
    async with callspan.tool("dig") as tool:
        tool.result = 1


async def by_hand() -> None:
    async with callspan.record_call(provider="p", model="m") as call:
        assert call.call_id
        call.attempt_started()
        call.response_headers(429, {"x-request-id": "r1"})
        call.response({"choices": [{"message": {"content": "Well."}}]})
        call.first_token()
        call.end()


def exporters() -> None:
    """Spans through the bounded exporter; records of other libraries' spans through ours."""
    inner = InMemorySpanExporter()
    bounded = callspan.ByteBoundedExporter(inner)
    spans = TracerProvider()
    spans.add_span_processor(SimpleSpanProcessor(bounded))
    exporter = callspan.CallRecordExporter()
    spans.add_span_processor(SimpleSpanProcessor(exporter))
    spans.get_tracer("other").start_span("chat m", attributes={"gen_ai.operation.name": "chat"}).end()
    assert spans.force_flush(5_000)
    assert bounded.force_flush(5_000)
    assert exporter.force_flush(5_000)
    assert [span.name for span in inner.get_finished_spans()] == ["chat m"]
    spans.shutdown()
    handle = callspan.instrument(stores="counted.db")
    with callspan.session("counted"):
        pass
    assert handle.force_flush(30_000)
    assert sum(handle.counters().values()) > 0
    handle.uninstrument()


def test_every_public_function_and_method_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No helper is shipped that only a copy of it was tested: the code itself runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(WIRING, "_exporter_stores", ())
    codes = public_code()
    assert len(codes) > 100
    with ScriptedProvider() as provider, watched(codes) as called:
        profile = sys.getprofile()
        for module in (callspan, callspan.testing):
            for name in module.__all__:
                provider.reply(text="Hello!", usage={"input_tokens": 9, "output_tokens": 3}, repeat=True)
                with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client:
                    callspan.instrument(stores="recorded.db")
                    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
                    callspan.uninstrument()
                    names = {"callspan": callspan, "openai": openai, "client": client, "provider": provider}
                    examples(module, name, names, lambda: sys.setprofile(profile))
        the_rest(provider)
    missing = sorted(set(codes.values()) - called)
    assert not missing, missing
