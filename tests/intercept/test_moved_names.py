"""Missing private names and faulty OpenTelemetry components: calls have the same results and are recorded."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

import callspan
from callspan import Settings, private_names
from callspan.fail_open import Once
from callspan.private_names import READ, PrivateName
from callspan.records import CallRecord
from callspan.sdk_profiles import SDKS
from callspan.testing import Captured, ScriptedProvider, capture
from callspan.wiring import WIRING
from callspan.wiring.pipeline import Providers
from tests.intercept.calls import QUESTION
from tests.scale import scaled

with contextlib.suppress(ImportError):  # older SDKs come without it; their hooks wait for the import
    import_module("websockets.asyncio.client")
    import_module("websockets.sync.client")
VARIABLES = {value: name for name, value in vars(private_names).items() if isinstance(value, PrivateName)}
SAMPLE = (private_names.BASE_URL, private_names.EVENT)
ROWS = pytest.mark.parametrize("row", scaled([*SAMPLE], [*READ]), ids=lambda row: row.name)
CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}
MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}


@pytest.fixture(autouse=True)
def _answers(provider: ScriptedProvider) -> None:
    provider.reply(text="I am well.", repeat=True)


def work(provider: ScriptedProvider) -> list[object]:
    """Calls of each kind and what is around them: what the caller has of it."""
    received: list[object] = []
    with callspan.session("s") as session, callspan.timestep():
        session.event("note", {"a": 1})
        with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
            chat: Any = client.chat.completions
            received.append(chat.create(**CHAT).choices[0].message.content)
            received.append([type(chunk).__name__ for chunk in chat.create(**CHAT, stream=True)])
            left = chat.create(**CHAT, stream=True)
            received.append(type(next(left)).__name__)
            left.close()
        with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url, max_retries=0) as claude:
            received.append([block.type for block in claude.messages.create(**MESSAGE).content])
            received.append([item.type for item in claude.messages.create(**MESSAGE, stream=True)])

    async def streamed() -> list[str]:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
            chat: Any = client.chat.completions
            return [type(chunk).__name__ async for chunk in await chat.create(**CHAT, stream=True)]

    received.append(asyncio.run(streamed()))
    gc.collect()
    return received


def facts(seen: Captured) -> list[object]:
    """What was recorded and shown, without what differs from call to call."""
    records: list[object] = [
        (
            record.provider, record.server_address, record.outcome,
            record.stream and (record.stream.end, record.stream.chunks),
            record.usage and record.usage.output_tokens, record.response and record.response.finish_reasons,
        )
        for record in seen.records
    ]  # fmt: skip
    spans = [
        (
            span.name,
            sorted(span.attributes or ()),
            [(event.name, sorted(event.attributes or ())) for event in span.events],
        )
        for span in seen.spans
    ]
    return records + spans


def changed(row: PrivateName, name: str, monkeypatch: pytest.MonkeyPatch) -> PrivateName:
    other = row._replace(name=name)
    monkeypatch.setattr(private_names, VARIABLES[row], other)
    monkeypatch.setattr(private_names, "READ", tuple(other if each is row else each for each in READ))
    monkeypatch.setattr(private_names, "_warned", Once())
    return other


@ROWS
@pytest.mark.parametrize("name", ["_moved_since", "__class__"], ids=["renamed", "other-type"])
def test_without_a_private_name_the_fallback_is_used_and_the_loss_reported_once(
    name: str, row: PrivateName, provider: ScriptedProvider,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    bare = work(provider)
    with capture() as seen:
        assert work(provider) == bare
        usual = facts(seen)
    other = changed(row, name, monkeypatch)
    with caplog.at_level(logging.WARNING), capture() as seen:
        assert work(provider) == bare
        if not row.lost:
            assert facts(seen) == usual
        assert len(seen.records) == 6
    lines = [message for message in caplog.messages if "lacks names callspan uses" in message]
    if name == "_moved_since" and not row.where[0].startswith("types:"):
        assert len([line for line in lines if f".{other.name} (lost: {row.lost or 'nothing'}" in line]) == len(
            {where.partition(".")[0].partition(":")[0] for where in row.where if present(where, row)}
        )
        assert [message for message in caplog.messages if message.startswith("Could not")] == []


def present(where: str, row: PrivateName) -> bool:
    """Whether this version of the library has the place where such a name is looked for."""
    return private_names._lacks(where, row._replace(name="_surely_not_there"))


# What is around a call


class BrokenSpan(NonRecordingSpan):
    """A span of somebody else's, which raises whatever is asked of it."""

    def is_recording(self) -> bool:
        raise RuntimeError("broken")

    @property
    def attributes(self) -> Any:
        raise RuntimeError("broken")

    def set_attributes(self, attributes: Any) -> None:
        raise RuntimeError("broken")


class NamelessSpan(BrokenSpan):
    """One that does not even tell what it is."""

    def get_span_context(self) -> SpanContext:
        raise RuntimeError("broken")


@pytest.mark.parametrize("kind", [BrokenSpan, NamelessSpan])
def test_a_foreign_span_that_misbehaves_costs_no_record(kind: type[BrokenSpan], provider: ScriptedProvider) -> None:
    outer = kind(SpanContext(1, 2, is_remote=False))
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client, capture() as seen:
        token = otel_context.attach(trace.set_span_in_context(outer))
        try:
            assert client.chat.completions.create(**CHAT).choices[0].message.content == "I am well."
            assert len(list(client.chat.completions.create(**CHAT, stream=True))) > 1
        finally:
            otel_context.detach(token)
        assert [record.outcome for record in seen.records] == ["success", "success"]
        assert all(record.response is not None for record in seen.records)


class BrokenTracers(trace.TracerProvider):
    """A provider of somebody else's, whose spans are none or cannot be made."""

    def __init__(self, give: Callable[[], Any]) -> None:
        self._give = give

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        give = self._give

        class Broken(trace.NoOpTracer):
            def start_span(self, *args: Any, **kwargs: Any) -> Any:
                return give()

        return Broken()


def raises() -> Any:
    raise RuntimeError("broken")


@pytest.mark.parametrize("give", [raises, lambda: None, object, lambda: NamelessSpan(SpanContext(1, 2, False))])
def test_a_tracer_that_misbehaves_costs_no_record(give: Callable[[], Any], provider: ScriptedProvider) -> None:
    received: list[Any] = []
    listeners = (lambda processed: received.append(processed.record),)
    parts = Providers(tracer_provider=BrokenTracers(give), listeners=listeners)
    handle = WIRING.install(Settings(), parts, SDKS)
    try:
        with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
            chat: Any = client.chat.completions
            assert chat.create(**CHAT).choices[0].message.content == "I am well."
            assert len(list(chat.create(**CHAT, stream=True))) > 1
    finally:
        handle.uninstrument()
    ended = [record for record in received if isinstance(record, CallRecord) and record.outcome != "started"]
    assert [record.outcome for record in ended] == ["success", "success"]


def test_an_attach_that_raises_costs_no_call_and_no_record(
    provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client, capture() as seen:
        with monkeypatch.context() as patched:
            patched.setattr(otel_context, "attach", lambda context: raises())
            assert client.chat.completions.create(**CHAT).choices[0].message.content == "I am well."
        assert client.chat.completions.create(**CHAT).choices[0].message.content == "I am well."
        assert [record.outcome for record in seen.records] == ["success", "success"]
        assert len(seen.spans) == 2
    assert trace.get_current_span() is trace.INVALID_SPAN


# What is on a response


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left() -> Iterator[None]:
    from callspan.intercept.responses import OBSERVERS

    # Other tests may have left responses of theirs behind.
    gc.collect()
    before = len(OBSERVERS)
    yield
    gc.collect()
    assert len(OBSERVERS) < before + 20, "observers go with their responses"
