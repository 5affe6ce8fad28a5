"""`callspan send`: the traces of what any store has recorded equal those that the process exported."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from click.testing import CliRunner, Result
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan
from tests.agent.test_spans_of_records import demo, everything, support_desk
from tests.otel.receiver import OtlpReceiver
from tests.spans_of_records import sent

import callspan
from callspan.cli import commands
from callspan.records import EventRecord, TimestepRecord
from callspan.testing import Captured, ScriptedProvider, capture

from .conftest import START_NS, Delivery, Records

HI: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def provider() -> Iterator[ScriptedProvider]:
    with ScriptedProvider() as scripted:
        yield scripted


@pytest.fixture
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as running:
        yield running


@pytest.fixture
def record(url: str, tmp_path: Path, provider: ScriptedProvider) -> Callable[..., Captured]:
    """Plays programs, recorded in the store."""

    def play(*programs: Callable[[ScriptedProvider], object], **settings: Any) -> Captured:
        with capture(stores=url, spool_dir=tmp_path / "spool", **settings) as seen:
            for program in programs:
                program(provider)
        return seen

    return play


def loose(provider: ScriptedProvider) -> None:
    """What is in no session: calls, an agent with a call and a tool in it, feedback."""
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        first = client.chat.completions.create(model="m", messages=HI)
        with callspan.invoke_agent("lone", input="q") as agent:
            client.chat.completions.create(model="m", messages=HI)
            with callspan.tool("look", arguments={"x": 1}) as tool:
                tool.result = 2
            agent.output = "a"
    callspan.reward(1.0, call_id=first.id)


def send(url: str, receiver: OtlpReceiver, *options: str) -> Result:
    arguments = ["--store", url, "send", "--otlp", f"otlp+{receiver.url}", *options]
    return CliRunner().invoke(commands.callspan, arguments, catch_exceptions=False)


def received(receiver: OtlpReceiver) -> list[SentSpan]:
    scopes = (scope for request in receiver.requests for one in request.resource_spans for scope in one.scope_spans)
    return [span for scope in scopes for span in scope.spans]


def named(spans: Any) -> dict[str, SentSpan]:
    found = {span.span_id.hex(): span for span in spans}
    assert len(found) == len(spans)
    return found


def differing(seen: Captured, receiver: OtlpReceiver) -> list[str]:
    """Names of the spans that differ.

    But in the rewards that came after the end of a session, which a store counts and the span could not have.
    """
    live, found = named([sent(span) for span in seen.spans]), named(received(receiver))
    names = [f"lacks {live[key].name}" for key in live.keys() - found.keys()]
    for key, span in found.items():
        other = live.get(key, SentSpan())
        if without_rewards(span).SerializeToString() != without_rewards(other).SerializeToString():
            names.append(f"{span.name}: {span} for {other}")
    return names


def without_rewards(span: SentSpan) -> SentSpan:
    if not span.name.startswith("invoke_workflow"):
        return span
    kept = [one for one in span.attributes if not one.key.startswith("callspan.reward")]
    copy = SentSpan.FromString(span.SerializeToString())
    del copy.attributes[:]
    copy.attributes.extend(kept)
    return copy


def test_what_is_sent_equals_what_was_exported(
    url: str, record: Callable[..., Captured], receiver: OtlpReceiver
) -> None:
    seen = record(support_desk, everything, loose)
    done = send(url, receiver)
    assert done.exit_code == 0, done.output
    assert differing(seen, receiver) == []
    before = [*receiver.raw]
    assert "Nothing is new" in send(url, receiver).stdout
    assert receiver.raw == before
    assert send(url, receiver, "--again").exit_code == 0
    assert receiver.raw == [*before, *before]


SETTINGS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({"content": "metadata"}, {"CALLSPAN_CONTENT": "metadata"}),
    ({"content": "off"}, {"CALLSPAN_CONTENT": "off"}),
    ({"content_on_spans": False}, {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "event_only"}),
    ({"vocabularies": "gen_ai", "compatibility": False},
     {"CALLSPAN_VOCABULARIES": "gen_ai", "CALLSPAN_COMPATIBILITY": "off"}),
    ({"trace_per": "timestep", "span_cost": True}, {"CALLSPAN_SPAN_COST": "on"}),
]  # fmt: skip


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_settings_of_the_environment_say_what_spans_show(
    url: str, provider: ScriptedProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (settings, environment) in enumerate(SETTINGS):
        store = url.replace("calls.db", f"{number}.db")
        with capture(stores=store, spool_dir=tmp_path / str(number), **settings) as seen:
            support_desk(provider)
            loose(provider)
        with OtlpReceiver() as receiver, monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            assert send(store, receiver).exit_code == 0
            assert differing(seen, receiver) == [], settings


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_the_demo_is_sent_as_it_was_exported(url: str, record: Callable[..., Captured], receiver: OtlpReceiver) -> None:
    seen = record(demo)
    assert send(url, receiver).exit_code == 0
    assert differing(seen, receiver) == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_second_run_sends_what_is_new(url: str, record: Callable[..., Captured], receiver: OtlpReceiver) -> None:
    def more(provider: ScriptedProvider) -> None:
        with callspan.session("s", session_id="own"), callspan.tool("later"):
            loose(provider)
        callspan.reward(0.9, session_id="own", objective="much later")

    first = record(everything, loose)
    assert send(url, receiver).exit_code == 0
    assert len(receiver.spans) == len(first.spans)
    second = record(more)
    done = send(url, receiver, "--json")
    assert json.loads(done.stdout)["sent"] == len(second.spans)
    new = {span.name for span in receiver.spans[len(first.spans) :]}
    assert new == {span.name for span in second.spans}
    with OtlpReceiver() as other:
        assert send(url, other).exit_code == 0
        assert {span.span_id for span in other.spans} >= {span.span_id for span in receiver.spans[len(first.spans) :]}


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_background_call_is_sent_with_its_answer(
    url: str, record: Callable[..., Captured], receiver: OtlpReceiver
) -> None:
    def background(provider: ScriptedProvider) -> None:
        with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
            waits = client.responses.create(model="m", input="Hi", background=True)
            other = client.responses.create(model="m", input="Hi", background=True)
            assert other.status != "completed"
            while client.responses.retrieve(waits.id).status != "completed":
                pass

    seen = record(background)
    assert [span.name for span in seen.spans] == ["chat m", "chat m", "fetch_response"]
    assert send(url, receiver).exit_code == 0
    (span,) = receiver.spans
    assert (span.span_id, span.attributes["callspan.outcome"]) == (f"{seen.spans[0].context.span_id:016x}", "success")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_filters_choose_calls_and_the_sessions_around_them(
    url: str, record: Callable[..., Captured], receiver: OtlpReceiver
) -> None:
    record(support_desk, everything, loose)
    assert send(url, receiver, "--session", "own").exit_code == 0
    assert {span.attributes.get("session.id") for span in receiver.spans} == {"own"}
    assert send(url, receiver, "--user", "nobody").exit_code == 1
    before = len(receiver.spans)
    assert send(url, receiver, "--provider", "vllm").exit_code == 0
    assert len(receiver.spans) == before
    assert send(url, receiver, "--model", "m").exit_code == 0
    names = [span.name for span in receiver.spans[before:]]
    assert {"invoke_workflow desk", "invoke_agent lone", "execute_tool look"} <= {*names}
    assert "evaluation reward" in names


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_was_not_sampled_or_has_not_ended_is_not_sent(
    url: str, deliver: Callable[[str], Delivery], records: Records, receiver: OtlpReceiver
) -> None:
    ids = {"trace_id": "a" * 32, "parent_span_id": None}
    deliver(url).write(
        records.session("s1", start_ns=5, **ids, span_id="1" * 16, sampled=True, host="elsewhere", pid=1),
        records.call(session_id="s1", **ids, span_id="2" * 16, sampled=True, service="shop", host="h", pid=7),
        records.call(session_id="s1", **ids, span_id="3" * 16, sampled=False),
        records.call(session_id="s1", **ids, span_id="4" * 16, sampled=True, outcome="in_progress"),
        records.call(session_id="s1"),
        records.call(session_id="s1", **ids, span_id="5" * 16, sampled=True, batch_id="batch_1"),
    )
    assert send(url, receiver).exit_code == 0
    (span,) = receiver.spans
    assert span.span_id == "2" * 16
    assert span.scope == "callspan"
    assert span.resource == {
        "telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry", "service.name": "shop",
        "host.name": "h", "process.pid": 7,
    }  # fmt: skip


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_session_whose_process_was_killed_ends_with_its_last_record(
    url: str, deliver: Callable[[str], Delivery], records: Records, receiver: OtlpReceiver
) -> None:
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    ids = {"trace_id": "a" * 32, "sampled": True}
    step = TimestepRecord(
        timestep_id="t", session_id="s1", index=0, seen_ns=1, start_ns=START_NS, **ids, span_id="2" * 16,
        parent_span_id="1" * 16,
    )  # fmt: skip
    agent = EventRecord(
        event_id="e:start", session_id="s1", timestep_id="t", event_type="agent_start", name="a", time_ns=START_NS,
        **ids, span_id="3" * 16, parent_span_id="2" * 16,
    )  # fmt: skip
    gone = {"host": socket.gethostname(), "pid": int(process.stdout)}
    started = {"part": "started", "outcome": "started", **ids, **gone}
    deliver(url).write(
        records.session("s1", start_ns=START_NS, **ids, span_id="1" * 16, **gone),
        step, agent, records.call(session_id="s1", at_s=9, **ids, span_id="4" * 16, parent_span_id="3" * 16),
        records.call(session_id="s1", at_s=1, **started, span_id="5" * 16, parent_span_id="3" * 16),
        records.call(**started, span_id="6" * 16),
        records.call(**{**started, "pid": os.getpid()}, span_id="7" * 16),
    )  # fmt: skip
    assert send(url, receiver).exit_code == 0
    assert [(span.span_id[0], (span.parent_id or "-")[0]) for span in receiver.spans] == [
        ("5", "3"), ("4", "3"), ("3", "2"), ("2", "1"), ("1", "-"), ("6", "-"),
    ]  # fmt: skip
    assert [span.span_id[0] for span in receiver.spans if span.status != "ERROR"] == ["4"]
    assert {span.attributes["error.type"] for span in receiver.spans if span.status == "ERROR"} == {"interrupted"}
    assert len({span.end_ns for span in receiver.spans if span.span_id[0] in "123"}) == 1


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_what_is_refused_or_rejected_is_said_and_the_rest_arrives(
    url: str, record: Callable[..., Captured], receiver: OtlpReceiver
) -> None:
    seen = record(support_desk, loose)
    receiver.max_bytes = max(sent(span).ByteSize() for span in seen.spans)
    done = send(url, receiver)
    assert done.exit_code == 1
    assert "refused: 413 Request Entity Too Large" in done.stdout
    lacking = len(seen.spans) - len(receiver.spans)
    assert 0 < lacking < 4
    receiver.max_bytes, receiver.partial = None, (1, "too \x1b[31mold")
    done = send(url, receiver)
    assert done.exit_code == 1
    assert "1 span rejected by it: too" in done.stdout
    assert "\x1b" not in done.stdout
    assert len(receiver.spans) == len(seen.spans)
    receiver.partial = None
    assert send(url, receiver).exit_code == 0


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_receiver_that_is_away_is_waited_for_where_it_says_so(
    url: str, record: Callable[..., Captured], receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = record(loose)
    receiver.status = 503
    done = send(url, receiver)
    assert done.exit_code == 1
    assert "It is unavailable (503 Service Unavailable)" in done.stdout
    receiver.answer_headers = {"Retry-After": "3"}
    waits = list[float]()

    def wait(seconds: float) -> None:
        waits.append(seconds)
        receiver.status = 200

    monkeypatch.setattr("callspan.cli.send.sleep", wait)
    done = send(url, receiver, "--json")
    assert json.loads(done.stdout) == {
        "receiver": f"otlp+{receiver.url}", "sent": len(seen.spans), "rejected": 0, "refused": 0, "calls": 2,
        "message": None, "reasons": {}, "unavailable": None,
    }  # fmt: skip
    assert waits == [3.0]
    assert len(receiver.spans) == len(seen.spans)


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_wrong_use_is_an_error(url: str, receiver: OtlpReceiver, tmp_path: Path) -> None:
    for options in (["--otlp", "http://host"], ["--otlp", "otlp+http://u:sesame@host"], []):
        done = CliRunner().invoke(commands.callspan, ["--store", url, "send", *options])
        assert done.exit_code == 2
        assert "sesame" not in done.output
    assert "there is no such file" in send(url, receiver).stderr
    assert not [*tmp_path.iterdir()]
