"""Rewards and feedback after the end: they arrive at a real OTLP receiver as children of their target span."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from tests.agent.conftest import elsewhere
from tests.otel.receiver import OtlpReceiver, ReceivedSpan

import callspan
from callspan import Handle
from callspan.testing import ScriptedProvider

QUESTION: Any = [{"role": "user", "content": "Write a haiku."}]
RESULT = "gen_ai.evaluation.result"


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture
def exporting(receiver: OtlpReceiver) -> Iterator[Callable[..., Handle]]:
    """Instrument with providers that send to the receiver, span by span."""
    shutdowns: list[Callable[[], object]] = []

    def instrument(*, sampler: Any = None, **settings: Any) -> Handle:
        provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{receiver.url}/v1/traces")))
        handle = callspan.instrument(tracer_provider=provider, **settings)
        shutdowns.extend((provider.shutdown, handle.uninstrument))
        return handle

    with elsewhere():
        yield instrument
    for shut in reversed(shutdowns):
        shut()


def ask(provider: ScriptedProvider) -> None:
    provider.reply(text="Old pond.")
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        client.chat.completions.create(model="gpt-5", messages=QUESTION)


def evaluations(receiver: OtlpReceiver) -> list[ReceivedSpan]:
    return [span for span in receiver.spans if span.name.startswith("evaluation ")]


def the(receiver: OtlpReceiver, name: str) -> ReceivedSpan:
    (span,) = [span for span in receiver.spans if span.name == name]
    return span


def test_a_reward_after_the_end_is_a_child_span_of_the_session(
    exporting: Callable[..., Handle], receiver: OtlpReceiver
) -> None:
    exporting()
    with callspan.session("game") as session:
        pass
    name = callspan.reward(0.5, session_id=session.id, objective="novelty", source="judge", annotation="seen before")
    (shown,) = evaluations(receiver)
    ended = the(receiver, "invoke_workflow game")
    assert (shown.name, shown.kind) == ("evaluation novelty", "INTERNAL")
    assert (shown.trace_id, shown.parent_id) == (ended.trace_id, ended.span_id)
    ((event, attributes),) = shown.events
    assert event == RESULT
    assert attributes == {
        "gen_ai.evaluation.name": "novelty",
        "gen_ai.evaluation.score.value": 0.5,
        "gen_ai.evaluation.explanation": "seen before",
        "callspan.reward.id": name,
        "callspan.reward.scope": "session",
        "callspan.reward.source": "judge",
        "session.id": session.id,
        "gen_ai.conversation.id": session.id,
    }
    assert shown.attributes == {**attributes, "openinference.span.kind": "EVALUATOR"}


def test_each_late_reward_is_a_child_of_its_target(
    exporting: Callable[..., Handle], receiver: OtlpReceiver, provider: ScriptedProvider
) -> None:
    """By object and by id: the step's below the step, the call's below the call, with the answer's id."""
    exporting()
    with callspan.session("game") as session, session.timestep() as step:
        ask(provider)
    call = the(receiver, "chat gpt-5")
    step.reward(1, objective="by object")
    callspan.reward(2, timestep_id=step.id, objective="by id")
    callspan.feedback(call.attributes["llm.item_id"], label="thumbs up", objective="of the call")
    session.outcome(reward=3)
    assert {span.end_ns - span.start_ns for span in evaluations(receiver)} == {1_000}
    parents = {span.name.removeprefix("evaluation "): span.parent_id for span in evaluations(receiver)}
    assert parents == {
        "by object": the(receiver, "timestep").span_id,
        "by id": the(receiver, "timestep").span_id,
        "of the call": call.span_id,
        "reward": the(receiver, "invoke_workflow game").span_id,
    }
    (judged,) = [span for span in evaluations(receiver) if span.parent_id == call.span_id]
    assert judged.attributes["gen_ai.response.id"] == call.attributes["gen_ai.response.id"]
    assert judged.attributes["session.id"] == session.id
    assert judged.attributes["callspan.step.id"] == step.id
    assert judged.attributes["gen_ai.evaluation.score.label"] == "thumbs up"


def test_late_reports_of_an_unsampled_scope_are_not_sampled(
    exporting: Callable[..., Handle], receiver: OtlpReceiver, provider: ScriptedProvider, tmp_path: Path
) -> None:
    """By object and by id, of a session, a step or a call, which a store file knows of too."""
    calls: list[Any] = []
    handle = exporting(sampler=ParentBased(ALWAYS_OFF), stores=f"sqlite:///{tmp_path}/calls.db")
    remove = callspan.add_callback("after_record", calls.append, kinds=["call"])
    with callspan.session("quiet") as session, session.timestep() as step:
        ask(provider)
        session.reward(1)
    remove()
    session.reward(2)
    callspan.reward(3, session_id=session.id)
    callspan.reward(3, carrier=session.carrier())
    callspan.reward(4, timestep_id=step.id)
    callspan.feedback(calls[-1].call_id, 5)
    assert handle.force_flush(30_000)
    with elsewhere():
        callspan.feedback(calls[-1].call_id, 6)
    assert receiver.spans == []


def test_a_reward_with_a_carrier_joins_the_trace(exporting: Callable[..., Handle], receiver: OtlpReceiver) -> None:
    """For processes that never saw the session, whatever stores there are."""
    exporting()
    with callspan.session("chat", session_id="chat-42") as session:
        carrier = session.carrier()
    with elsewhere():
        callspan.reward(1, carrier=carrier)
        callspan.feedback("some call", label="good", carrier=carrier)
    of_session, of_call = evaluations(receiver)
    span = the(receiver, "invoke_workflow chat")
    assert {of_session.parent_id, of_call.parent_id} == {span.span_id}
    assert of_session.attributes["session.id"] == of_call.attributes["session.id"] == "chat-42"


def test_a_session_continued_in_another_trace_is_linked_to_the_first(
    exporting: Callable[..., Handle], receiver: OtlpReceiver
) -> None:
    """One conversation, two requests: the second span links to the first; within one trace there is no link."""
    exporting()
    with callspan.session("chat", session_id="c1"):
        pass
    with callspan.session("chat", session_id="c1"), callspan.session("chat", session_id="c1"):
        pass
    first, inner, second = [span for span in receiver.spans if span.name == "invoke_workflow chat"]
    assert inner.parent_id == second.span_id
    assert [span.links for span in (first, second, inner)] == [[], [first.span_id], []]


@pytest.mark.parametrize("settings", [{"content": "metadata"}, {"content_on_spans": False}])
def test_evaluations_have_no_text_where_spans_have_none(
    exporting: Callable[..., Handle], receiver: OtlpReceiver, settings: dict[str, Any]
) -> None:
    """That of the request which brings the feedback is linked."""
    exporting(**settings)
    with callspan.session("chat") as session:
        pass
    with TracerProvider().get_tracer("web").start_as_current_span("POST /feedback") as request:
        callspan.reward(1, session_id=session.id, annotation="secret words")
    (shown,) = evaluations(receiver)
    assert b"secret words" not in b"".join(receiver.raw)
    assert shown.attributes["gen_ai.evaluation.score.value"] == 1.0
    assert shown.links == [f"{request.get_span_context().span_id:016x}"]
