"""What callspan touches of OpenTelemetry and of the process: one provider, and nothing after `uninstrument()`."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from tests.conftest import Instrument, Read
from tests.support.processes import plain_environment, ran
from tests.support.waiting import until

import callspan
from callspan.testing import ScriptedProvider

AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}


def processors(provider: TracerProvider) -> list[str]:
    """The types of the processors of a provider."""
    return [type(each).__module__ for each in provider._active_span_processor._span_processors]


def finders() -> Iterator[Any]:
    return (each for each in sys.meta_path if type(each).__module__.startswith("callspan"))


def test_only_the_provider_that_was_given_is_touched(instrumented: Instrument, store: str, reading: Read) -> None:
    given, other = TracerProvider(), TracerProvider()
    get_tracer = TracerProvider.get_tracer
    handle = instrumented(tracer_provider=given, stores=store)
    tracer = other.get_tracer("a.framework")
    with (
        tracer.start_as_current_span("invoke_agent planner", attributes=AGENT),
        callspan.record_call(provider="mine", model="m"),
    ):
        pass
    assert (len(processors(given)), processors(other)) == (1, [])
    assert TracerProvider.get_tracer is get_tracer
    handle.uninstrument()
    assert [*reading(store).sessions()] == []


def test_uninstrument_leaves_nothing(instrumented: Instrument, store: str) -> None:
    threads, handler, setter = threading.active_count(), signal.getsignal(signal.SIGTERM), trace._set_tracer_provider
    given = TracerProvider()
    instrumented(tracer_provider=given, stores=store).uninstrument()
    assert (processors(given), [*finders()], signal.getsignal(signal.SIGTERM)) == ([], [], handler)
    assert trace._set_tracer_provider is setter
    until(lambda: threading.active_count() <= threads)


def test_open_agent_is_seen_to_its_end(instrumented: Instrument, store: str) -> None:
    given = TracerProvider()
    handle = instrumented(tracer_provider=given, stores=store, sdks=["openai"])
    tracer = given.get_tracer("a.framework")
    with tracer.start_as_current_span("invoke_agent planner", attributes=AGENT):
        with callspan.record_call(provider="mine", model="m"):
            pass
        handle.uninstrument()
        assert len(processors(given)) == 1
    assert processors(given) == []


def test_instrumented_again_it_is_seen_again(instrumented: Instrument, store: str) -> None:
    given = TracerProvider()
    for _ in range(2):
        handle = instrumented(tracer_provider=given, stores=store)
        assert (len(processors(given)), len([*finders()])) == (1, 1)
        handle.uninstrument()


SET = {
    "the API": "trace.set_tracer_provider(provider)",
    "a name imported before": "setter(provider)",
    "the first of two": "setter(provider); setter(TracerProvider())",
}
PROGRAM = """
import sys, openai
from opentelemetry import trace
from opentelemetry.trace import set_tracer_provider as setter
from opentelemetry.sdk.trace import TracerProvider
import callspan
handle = callspan.instrument(stores=sys.argv[1])
tracer, provider = trace.get_tracer("a.framework"), TracerProvider()
{set}
client = openai.OpenAI(api_key="k", base_url=sys.argv[2])
with tracer.start_as_current_span("invoke_agent planner"):
    with tracer.start_as_current_span("execute_tool search", attributes={{"gen_ai.tool.name": "search"}}):
        pass
    client.chat.completions.create(model="gpt-5", messages=[{{"role": "user", "content": "Hi"}}])
"""


@pytest.mark.parametrize("way", SET)
def test_global_provider_set_later_tells_of_its_first_agent(
    tmp_path: Path, provider: ScriptedProvider, store: str, reading: Read, way: str
) -> None:
    """An agent that begins before any call is whole."""
    provider.reply(text="Hello.")
    ran("-c", PROGRAM.format(set=SET[way]), store, provider.openai_url, cwd=tmp_path, **plain_environment())
    reader = reading(store)
    (summary,) = reader.sessions()
    tools = [entry.name for entry in reader.events(summary.session.session_id) if entry.event_type == "tool"]
    assert (summary.session.name, summary.calls, tools) == ("planner", 1, ["search"])
