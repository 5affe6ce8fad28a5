"""Rewards: one definition on spans, in totals and where read; which call made what the application holds."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anthropic
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from openai.types.chat import ChatCompletion
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span
from tests.sessions.conftest import Seen, elsewhere, logged_misuse, parent_of
from tests.support.calls import CHAT, MESSAGE, everywhere
from tests.support.programs import REMOTE
from tests.support.records import keep
from tests.support.scale import scaled

import callspan
from callspan import Session, feedback, open_store, reward, session
from callspan.records import EventRecord, RewardRecord, SessionRecord, TimestepRecord
from callspan.testing import Capture, ScriptedProvider, capture

STYLE: dict[str, Any] = {"objective": "style", "source": "judge", "annotation": "neat", "label": "ok"}


@pytest.mark.parametrize(
    ("given", "place", "scope"),
    [
        ({}, ("own", "step", 0), "event"),
        ({"timestep_id": "t9"}, (None, "t9", None), "event"),
        ({"call_id": "c1"}, (None, None, None), "call"),
        ({"session_id": "s9"}, ("s9", None, None), "session"),
        ({"event_id": "e9"}, (None, None, None), "event"),
    ],
)
def test_reward_ids_and_place(seen: Seen, given: dict[str, str], place: tuple[object, ...], scope: str) -> None:
    """An unknown call may be of another session; stores join the two."""
    with session("s") as own, own.timestep() as step, step.tool("t"):
        reward(0.5, **given, **STYLE)
    (record,) = seen.of(RewardRecord)
    known = {"own": own.id, "step": step.id}
    assert (record.session_id, record.timestep_id, record.timestep) == tuple(known.get(one, one) for one in place)
    assert (record.value, record.objective, record.source, record.label) == (0.5, "style", "judge", "ok")
    assert (record.annotation, record.scope) == ("neat", scope)
    counted = {} if given else {"style": 0.5}
    assert seen.ended(TimestepRecord)[0].totals.rewards == seen.ended(SessionRecord)[0].totals.rewards == counted


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("thumbs_up", 1.0), ("thumbs up", 1.0), ("Thumbs-Down", 0.0), (True, 1.0), (False, 0.0), ("true", 1.0),
        ("False", 0.0), ("thumbs", None), ("polite", None),
    ],
)  # fmt: skip
def test_yes_or_no_label_is_a_number(seen: Seen, label: Any, value: float | None) -> None:
    feedback("c1", label=label)
    feedback("c1", 0.25, label=label)
    first, second = seen.of(RewardRecord)
    stored = {True: "true", False: "false"}.get(label, label)
    assert (first.value, first.label, second.value) == (value, stored, 0.25)
    assert (first.objective, first.scope, first.call_id) == ("feedback", "call", "c1")


_AMOUNTS = st.sampled_from([-1.0, 0.0, 0.25, 3.0])
_OBJECTIVES = st.sampled_from(["reward", "reward", "style"])
_ACTS = st.lists(
    st.tuples(
        st.sampled_from(["step", "end", "event", "loose", "judge", "session", "call", "late"]), _AMOUNTS, _OBJECTIVES
    ),
    max_size=12,
)


@settings(max_examples=scaled(20, 60))
@given(_ACTS)
def test_spans_totals_and_readers_agree(acts: list[tuple[str, float, str]]) -> None:
    with capture() as captured, logged_misuse(), session("s") as own:
        _play(own, acts)
    seen = Seen(captured)
    totals = seen.ended(SessionRecord)[-1].totals
    expected = {} if totals.reward is None else {"callspan.reward": totals.reward}
    expected |= {f"callspan.reward.{name}": value for name, value in totals.rewards.items()}
    shown = seen.the("invoke_workflow s").attributes
    assert {key: value for key, value in shown.items() if key.startswith("callspan.reward")} == expected
    with (
        TemporaryDirectory() as place,
        closing(open_store(keep(f"sqlite:///{place}/calls.db", *seen.records))) as reader,
    ):
        found: Any = reader.session(own.id)
        means = {name: score.mean for name, score in found.scores.items()}
        assert (found.reward, means) == (totals.reward, totals.rewards)
        steps = {one.timestep_id: one.totals for one in reader.timesteps(own.id)}
    assert steps == {one.timestep_id: one.totals for one in seen.ended(TimestepRecord)}


def test_stores_sum_all_objectives(tmp_path: Path) -> None:
    with capture() as captured, session("s") as own:
        for number in range(70):
            own.reward(1.0, objective=f"criterion {number}")
    seen = Seen(captured)
    assert len(seen.ended(SessionRecord)[-1].totals.rewards) == 64
    with closing(open_store(keep(f"sqlite:///{tmp_path}/calls.db", *seen.records))) as reader:
        assert len(reader.session(own.id).scores) == 70


@pytest.mark.parametrize("precision", [28, 3])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.8, 0.8, 0.8), 2.4), ((1e300, 0.8), 1e300), ((-1e22, 0.5, 0.25), -1e22), ((1e-300, 2e-300), 3e-300),
        ((0.123456789, 0.1), 0.223456789), ((1.7e308, -1.7e308), 0.0),
    ],
)  # fmt: skip
def test_totals_of_any_size_in_any_decimal_context(
    precision: int, values: tuple[float, ...], expected: float, tmp_path: Path
) -> None:
    with decimal.localcontext() as context, capture() as captured, session("s") as own:
        context.prec, context.traps[decimal.Inexact] = precision, precision < 28
        with own.timestep() as step:
            for value in values:
                step.reward(value)
                step.reward(value, "style")
    seen = Seen(captured)
    ended = (*seen.ended(SessionRecord), *seen.ended(TimestepRecord))
    assert [(one.outcome, one.totals.reward) for one in ended] == [("success", expected)] * 2
    with closing(open_store(keep(f"sqlite:///{tmp_path}/calls.db", *seen.records))) as reader:
        assert reader.session(own.id).reward == pytest.approx(expected, rel=1e-12)


def _play(own: Session, acts: list[tuple[str, float, str]]) -> None:
    open_steps: list[Any] = []
    for act, value, objective in acts:
        if act == "step":
            open_steps.append(own.timestep().start())
        elif act == "end" and open_steps:
            open_steps.pop().end()
        elif act == "session":
            own.outcome(reward=value)
        else:
            _reward(open_steps[-1] if open_steps else own, act, value, objective)
    for step in reversed(open_steps):
        step.end()


def _reward(here: Any, act: str, value: float, objective: str) -> None:
    if act == "event":
        here.environment("x", reward=value)
    elif act == "judge":
        event = here.action("a")
        here.reward(value, objective=objective, event=event)
        here.reward(value + 1, objective=objective, event=event)
    elif act == "call":
        reward(value, call_id="c", objective=objective)
    elif act == "late" and here.step is not None:
        reward(value, timestep_id=here.id, objective=objective)
    elif act == "loose":
        here.reward(value, objective=objective)


def without_rewards(record: Any) -> Any:
    field = {EventRecord: "reward", RewardRecord: "value"}.get(type(record))
    return record if field is None else replace(record, **{field: None})


@pytest.mark.parametrize(
    ("redact", "counted"),
    [(callspan.redact_texts(lambda text: text.replace("Ada", "[name]")), (3.0, {"[name]": 2.0})),
     (without_rewards, (None, {}))],
)  # fmt: skip
def test_rewards_count_when_recorded(redact: Any, counted: tuple[object, object]) -> None:
    with capture(redact=redact) as seen:
        with session("s") as own, own.timestep() as step:
            step.environment("x", reward=1)
            with step.environment_step() as world:
                world.set_result("x", reward=2)
            step.reward(1, "Ada")
            reward(3, timestep_id=step.id, objective="Ada")
        own.update()
    totals = [one.totals for one in (*seen.sessions, *seen.timesteps) if one.totals is not None]
    assert [(one.reward, one.rewards) for one in totals] == [counted] * 3
    assert "callspan.reward.Ada" not in everywhere(seen)


SENT, GIVEN = {"input_tokens": 3}, {"input_tokens": 4, "output_tokens": 2}


CALLS: list[tuple[list[dict[str, int] | None], tuple[int | None, int | None]]] = [
    ([], (None, None)),
    ([None], (None, None)),
    ([{"input_tokens": 0}], (0, None)),
    ([SENT, None], (3, None)),
    ([None, GIVEN], (4, 2)),
    ([SENT, GIVEN], (7, 2)),
    ([GIVEN, SENT, GIVEN], (11, 4)),
]


@pytest.mark.parametrize(("usages", "tokens"), CALLS)
def test_totals_without_usage(usages: list[dict[str, int] | None], tokens: tuple[int | None, int | None]) -> None:
    """In the step and in the session; a call that failed counts as one without usage."""
    with capture() as seen, callspan.session("game") as own:
        with own.timestep():
            for usage in usages:
                with callspan.record_call(provider="mine", api="responses") as call:
                    call.response({"output": []} if usage is None else {"output": [], "usage": usage})
        with pytest.raises(KeyError), callspan.record_call(provider="mine"):
            raise KeyError
    step, whole = seen.timesteps[-1].totals, seen.sessions[-1].totals
    assert (step.calls, step.errors, step.input_tokens, step.output_tokens) == (len(usages), 0, *tokens)
    assert (whole.calls, whole.errors, whole.input_tokens, whole.output_tokens) == (len(usages) + 1, 1, *tokens)
    assert whole.model_ns == sum(record.timing.duration_ns or 0 for record in seen.records)
    shown = dict(next(span for span in seen.spans if span.name == "invoke_workflow game").attributes or {})
    assert shown["callspan.totals.model_s"] == pytest.approx(whole.model_ns / 1e9)


def test_late_rewards_of_an_unsampled_scope_are_not_sampled(seen: Seen, chat: Callable[..., None]) -> None:
    """By object and by id, of a session, a step or a call."""
    calls: list[Any] = []
    remove = callspan.add_callback("after_record", calls.append, kinds=["call"])
    unsampled = NonRecordingSpan(SpanContext(REMOTE.trace_id, REMOTE.span_id, is_remote=True))
    with use_span(unsampled), callspan.session("quiet") as session, session.timestep() as step:
        chat("Old pond.")
        session.reward(1)
    remove()
    session.reward(2)
    callspan.reward(3, session_id=session.id)
    callspan.reward(3, carrier=session.carrier())
    callspan.reward(4, timestep_id=step.id)
    callspan.feedback(calls[-1].call_id, 5)
    assert len(seen.of(RewardRecord)) == 6
    assert seen.spans == []


def test_reward_with_a_carrier_joins_the_trace(seen: Seen) -> None:
    """For processes that never saw the session."""
    with callspan.session("chat", session_id="chat-42") as session:
        carrier = session.carrier()
    with elsewhere():
        callspan.reward(1, carrier=carrier)
        callspan.feedback("some call", label="good", carrier=carrier)
    of_session, of_call = [span for span in seen.spans if span.name.startswith("evaluation ")]
    assert {parent_of(of_session), parent_of(of_call)} == {seen.the("invoke_workflow chat").context.span_id}
    assert [one.attributes["session.id"] for one in (of_session, of_call)] == ["chat-42"] * 2


def test_session_continued_in_another_trace_is_linked(seen: Seen) -> None:
    """One conversation, two requests: the second span links to the first; within one trace there is no link."""
    with callspan.session("chat", session_id="c1"):
        pass
    with callspan.session("chat", session_id="c1"), callspan.session("chat", session_id="c1"):
        pass
    first, inner, second = seen.named("invoke_workflow chat")
    assert parent_of(inner) == second.context.span_id
    links = [[link.context.span_id for link in span.links] for span in (first, second, inner)]
    assert links == [[], [first.context.span_id], []]


def read_through(stream: Any) -> Any:
    """Read a stream to its end while its call is asked for, and return it."""
    early = callspan.call_id(stream)
    assert early is not None
    for _ in stream:
        assert callspan.call_id(stream) == early
    return stream


def read_late(stream: Any) -> Any:
    """Read a stream whose first event says what its call is named."""
    list(stream)
    return stream


def helper(manager: Any, final: Callable[[Any], Any]) -> Any:
    """Use a stream helper; its stream, the HTTP response and the final object are of one call."""
    with manager as stream:
        stream_id = callspan.call_id(read_through(stream))
        made = final(stream)
    assert stream_id == callspan.call_id(made) is not None
    return stream


def raw(response: Any) -> Any:
    assert callspan.call_id(response) == callspan.call_id(response.parse()) == callspan.call_id(response.http_response)
    return response


WAYS: dict[str, Callable[[openai.OpenAI, anthropic.Anthropic], Any]] = {
    "chat": lambda client, _: client.chat.completions.create(**CHAT),
    "chat stream": lambda client, _: read_through(client.chat.completions.create(**CHAT, stream=True)),
    "responses helper": lambda client, _: helper(
        client.responses.stream(model="gpt-5", input="Hi"), lambda stream: stream.get_final_response()
    ),
    "responses background": lambda client, _: client.responses.create(model="gpt-5", input="Hi", background=True),
    "responses background stream": lambda client, _: read_late(
        client.responses.create(model="gpt-5", input="Hi", background=True, stream=True)
    ),
    "embeddings raw": lambda client, _: raw(client.embeddings.with_raw_response.create(model="e", input="Hi")),
    "messages": lambda _, claude: claude.messages.create(**MESSAGE),
    "messages stream": lambda _, claude: read_through(claude.messages.create(**MESSAGE, stream=True)),
    "messages helper": lambda _, claude: helper(
        claude.messages.stream(**MESSAGE), lambda stream: stream.get_final_message()
    ),
}


def test_every_kind_of_result_has_a_call_id(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    """Exactly, also beside calls of the same kind, in another thread, and after its end."""
    with capture() as seen:
        for name, way in WAYS.items():
            way(client, claude)
            made = way(client, claude)
            own, newest = seen.records[-1], callspan.last_call_id()
            way(client, claude)
            with ThreadPoolExecutor(1) as threads:
                assert threads.submit(callspan.call_id, made).result() == own.call_id == newest, name
    assert callspan.last_call_id() is not None


@pytest.mark.parametrize(
    "unknown", ["no call", b"", None, 1, object(), {"id": "of nobody"}, [], (chunk for chunk in ())]
)
def test_unknown_object_has_no_call_id_and_says_so(unknown: object, caplog: pytest.LogCaptureFixture) -> None:
    """Each time, because each time a rating is lost later; but not where nothing is recorded."""
    assert callspan.call_id(unknown) is None
    with capture() as seen, pytest.raises(callspan.UsageError, match="no call of this process"):
        callspan.call_id(unknown)
    handle = callspan.instrument()
    try:
        caplog.clear()
        assert [callspan.call_id(unknown) for _ in range(2)] == [None, None]
    finally:
        handle.uninstrument()
    assert [type(unknown).__name__ in one.message or "no id" in one.message for one in caplog.records] == [True, True]
    assert not seen.records


def test_last_call_of_a_session_includes_tasks_and_threads(provider: ScriptedProvider) -> None:
    async def ask(client: openai.AsyncOpenAI) -> str | None:
        await client.chat.completions.create(**CHAT)
        return callspan.last_call_id()

    async def main(seen: Capture) -> None:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
            assert callspan.last_call_id() is None
            with callspan.session("s") as session:
                with session.timestep():
                    await asyncio.gather(ask(client), ask(client))
                    assert callspan.last_call_id() == max(seen.records, key=lambda one: one.timing.start_ns).call_id
                mine = await ask(client)
                other = await asyncio.create_task(ask(client))
                assert mine != other == callspan.last_call_id()
                with session.timestep():
                    assert callspan.last_call_id() == other, "nothing was begun below this step"
            with callspan.session("without calls"):
                assert callspan.last_call_id() is None
            last = await ask(client)
            assert last is not None
            await asyncio.create_task(ask(client))
            assert callspan.last_call_id() == last, "outside of sessions only this context counts"

    with capture() as seen:
        contextvars.Context().run(asyncio.run, main(seen))


TARGETS: dict[str, Callable[[Any, Any], Any]] = {
    "object": lambda answer, _: answer,
    "response id": lambda answer, _: answer.id,
    "request id": lambda _, own: own.request_id,
    "call id": lambda _, own: own.call_id,
}


def test_feedback_accepts_any_result_object(client: openai.OpenAI) -> None:
    with capture() as seen:
        answer = client.chat.completions.create(**CHAT)
        own = seen.records[0]
        for name, target in TARGETS.items():
            callspan.feedback(target(answer, own), 1.0, objective=name)
            callspan.reward(1.0, call_id=target(answer, own), objective=f"reward {name}")
        callspan.feedback(trace_id=own.trace_id, span_id=own.span_id, value=1.0, objective="span")
        numbers = {"trace_id": int(own.trace_id or "", 16), "span_id": int(own.span_id or "", 16)}
        callspan.feedback(**numbers, label="as OpenTelemetry has them")
        stream = client.chat.completions.create(**CHAT, stream=True)
        callspan.feedback(stream, label="while it is read")
        list(stream)
        callspan.reward(0.5, event_id="0b5e2f66-5a2e-7d1c-8e29-6b7e8c1c1d10", objective="event")
        callspan.feedback("of another process", 1.0)
    *of_calls, streamed, event, foreign = seen.rewards
    assert len(of_calls) == 2 * len(TARGETS) + 2
    assert {one.call_id for one in of_calls} == {own.call_id}
    assert (streamed.call_id, foreign.call_id) == (seen.records[1].call_id, "of another process")
    assert (event.event_id, event.scope) == ("0b5e2f66-5a2e-7d1c-8e29-6b7e8c1c1d10", "event")


def test_feedback_rates_a_session_as_the_page_does(client: openai.OpenAI) -> None:
    """As a whole, also after its end, and by its id alone; the page's ratings have these fields."""
    with capture() as seen:
        with session("chat") as own:
            client.chat.completions.create(**CHAT)
        callspan.feedback(session_id=own, label="thumbs_up", annotation="polite")
        callspan.feedback(session_id="of another process", label=False)
    rated = [(one.session_id, one.call_id, one.scope, one.objective, one.source, one.value) for one in seen.rewards]
    assert rated == [
        (own.id, None, "session", "feedback", "human", 1.0),
        ("of another process", None, "session", "feedback", "human", 0.0),
    ]
    assert [(one.label, one.annotation) for one in seen.rewards] == [("thumbs_up", "polite"), ("false", None)]


def test_feedback_finds_the_answer_by_id_and_time(client: openai.OpenAI, provider: ScriptedProvider) -> None:
    """Objects that the SDK makes of an answer have its id; servers repeat ids."""
    body = {"id": "chatcmpl-12", "object": "chat.completion", "model": "m", "choices": []}
    with capture() as seen:
        for created in (7, 8):
            provider.reply(raw={**body, "created": created})
            client.chat.completions.create(**CHAT)
        first, second = (record.call_id for record in seen.records)
        for created in (7, 8, 9, None):
            made = ChatCompletion.construct(id="chatcmpl-12", created=created)
            callspan.feedback(made, 1.0)
    assert [one.call_id for one in seen.rewards] == [first, second, "chatcmpl-12", "chatcmpl-12"]
