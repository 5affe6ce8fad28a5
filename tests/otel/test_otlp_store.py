"""OTLP as a store: the spans of what is recorded are those that an exporter of the application would send."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, TraceIdRatioBased

import callspan
from callspan import SettingError
from callspan.agent.episode import forgotten
from callspan.safe_urls import safe_name
from callspan.semconv.call import SHORTEST_NS
from callspan.spool.losses import read_losses
from callspan.stores import CallFilter
from callspan.stores.urls import open_store
from callspan.testing import ScriptedProvider, capture
from tests.agent.test_spans_of_records import demo, everything, support_desk
from tests.otel.receiver import OtlpReceiver, ReceivedSpan
from tests.scale import scaled

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
VARYING = (
    "latency", "_s", "per_second", "id", ".reset", "messages", "completions", "fingerprint", "port", "_chunk", ".bytes",
    "full", "options",
)  # fmt: skip


@contextmanager
def instrumented(**settings: Any) -> Iterator[callspan.Handle]:
    handle = callspan.instrument(**settings)
    try:
        with forgotten():
            yield handle
    finally:
        handle.uninstrument()


@pytest.fixture
def store(receiver: OtlpReceiver) -> str:
    return receiver.url.replace("http://", "otlp+http://")


def shape(spans: list[ReceivedSpan]) -> Counter[Any]:
    """Return what spans show, without times and ids, each with the name of its parent."""
    names = {span.span_id: span.name for span in spans}
    return Counter(
        (
            span.name, span.kind, names.get(span.parent_id or ""), span.status, span.status_text, len(span.links),
            tuple(span.attributes),
            tuple(str(value) for name, value in span.attributes.items() if not name.endswith(VARYING)),
            tuple((name, tuple(attributes)) for name, attributes in span.events),
        )
        for span in spans
    )  # fmt: skip


@pytest.mark.parametrize("program", scaled([support_desk, everything], [support_desk, everything, demo]))
@pytest.mark.parametrize("settings", [{}, {"content": "metadata"}, {"attempt_spans": True}], ids=str)
def test_the_spans_are_those_that_the_exporter_of_an_application_sends(
    receiver: OtlpReceiver, store: str, tmp_path: Path, program: Any, settings: Any
) -> None:
    application = TracerProvider()
    with OtlpReceiver() as usual, ScriptedProvider() as provider:
        application.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{usual.url}/v1/traces")))
        with instrumented(tracer_provider=application, stores=(), **settings):
            program(provider)
        application.shutdown()
        expected = shape(usual.spans)
    application = TracerProvider()
    application.add_span_processor(SimpleSpanProcessor(unused := InMemorySpanExporter()))
    given = {"tracer_provider": application, "stores": store, "spool_dir": tmp_path, **settings}
    with ScriptedProvider() as provider, instrumented(**given) as handle:
        program(provider)
        assert handle.force_flush()
    assert unused.get_finished_spans() == ()
    found = shape(receiver.spans)
    assert difference(found, expected) == []
    assert found == expected


def difference(found: Counter[Any], expected: Counter[Any]) -> list[str]:
    """Return what spans of the same name and parent differ in."""
    lines = []
    for one in found - expected:
        other = next((each for each in expected - found if each[:3] == one[:3]), None)
        lines.append(f"{one[:3]}: {[(a, b) for a, b in zip(one, other or one[:1], strict=False) if a != b][:3]}")
    return lines


KILLED = """
import os, signal, sys
import openai
import callspan

provider, store, spool = sys.argv[1:]
handle = callspan.instrument(stores=[store, f"sqlite:///{spool}/calls.db"], spool_dir=spool)
client = openai.OpenAI(api_key="k", base_url=provider)
chat = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
with callspan.session("whole"):
    client.chat.completions.create(**chat)
with callspan.session("left") as session, session.timestep("half"), callspan.tool("hangs", arguments={"x": 1}):
    client.chat.completions.create(**chat)
    stream = client.chat.completions.create(**chat, stream=True)
    next(stream)
    if "now" not in spool:
        handle.force_flush(5_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("spool", ["now", "delivered"])
def test_what_a_killed_process_had_begun_is_sent_as_interrupted(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path, spool: str
) -> None:
    """Once, whether or not the process could deliver before; what had ended is sent as ever."""
    directory = tmp_path / spool
    directory.mkdir()
    program = [sys.executable, "-c", KILLED, provider.openai_url, store, str(directory)]
    assert subprocess.run(program, check=False, timeout=60).returncode == -signal.SIGKILL
    for _ in range(2):
        stores = [store, f"sqlite:///{directory}/calls.db"]
        with instrumented(stores=stores, spool_dir=directory) as handle:
            assert handle.force_flush()
    names = {span.span_id: span.name for span in receiver.spans}
    parents = {span.span_id: names.get(span.parent_id or "") for span in receiver.spans}
    found = sorted((span.name, parents[span.span_id], span.status, span.status_text) for span in receiver.spans)
    ended = "Its process ended before it did."
    assert found == [
        ("chat m", "execute_tool hangs", "ERROR", ended),
        ("chat m", "execute_tool hangs", "UNSET", ""),
        ("chat m", "invoke_workflow whole", "UNSET", ""),
        ("execute_tool hangs", "timestep half", "ERROR", ended),
        ("invoke_workflow left", None, "ERROR", ended),
        ("invoke_workflow whole", None, "UNSET", ""),
        ("timestep half", "invoke_workflow left", "ERROR", ended),
    ]
    (stream,) = (span for span in receiver.spans if span.name == "chat m" and span.status == "ERROR")
    (left,) = (span for span in receiver.spans if span.name == "invoke_workflow left")
    assert abs(stream.end_ns - left.end_ns) <= SHORTEST_NS
    assert not list(directory.glob("*.segment"))


def chats(provider: ScriptedProvider, number: int, **more: Any) -> None:
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        for _ in range(number):
            client.chat.completions.create(**CHAT | more)


def test_a_request_that_is_refused_is_halved_down_to_the_span_that_is(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    """Which is counted and noted without its content; all others arrive, once."""
    receiver.max_bytes = 10_000
    with instrumented(stores=store, spool_dir=tmp_path, max_attribute_bytes=50_000) as handle:
        chats(provider, 2)
        chats(provider, 1, messages=[{"role": "user", "content": "u" * 12_000}])
        chats(provider, 2)
        assert handle.force_flush()
        counted = handle.counters()
    assert [span.name for span in receiver.spans] == ["chat m"] * 4
    assert len({span.span_id for span in receiver.spans}) == 4
    assert counted["dead_letters"] == 1
    (line,) = (tmp_path / "dead_letter.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "413 Request Entity Too Large"
    assert "uuu" not in line
    (loss,) = read_losses(tmp_path).all()
    assert (loss.name, loss.records) == (safe_name(store), 1)


@pytest.mark.parametrize(("sampler", "sent"), [(ALWAYS_OFF, 0), (TraceIdRatioBased(1.0), 3)])
def test_the_sampler_of_the_application_decides(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path, sampler: Any, sent: int
) -> None:
    """By the attributes it has always been given; and what is current below is not recording."""
    seen: list[Any] = []

    class Sampler(type(sampler)):  # type: ignore[misc] # either of two
        def should_sample(self, *given: Any, **named: Any) -> Any:
            seen.append(given)
            return super().should_sample(*given, **named)

    application = TracerProvider(sampler=Sampler(*([1.0] if sent else [sampler._decision])))
    with instrumented(tracer_provider=application, stores=store, spool_dir=tmp_path) as handle:
        with callspan.session("s") as session, session.timestep():
            chats(provider, 1)
        assert handle.force_flush()
    assert len(receiver.spans) == sent
    (call,) = (given for given in seen if given[2] == "chat m")
    assert call[4]["gen_ai.request.model"] == "m"


def test_what_an_application_sets_on_the_span_of_a_call_or_tool_is_said_once_not_to_be_sent(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path, logged: list[str]
) -> None:
    def hook(request: Any) -> None:
        span = trace.get_current_span()
        assert span.get_span_context().is_valid
        span.set_attribute("mine", 1)

    with instrumented(stores=store, spool_dir=tmp_path) as handle:
        http = httpx.Client(event_hooks={"request": [hook]})
        with openai.OpenAI(api_key="k", base_url=provider.openai_url, http_client=http) as client:
            client.chat.completions.create(**CHAT)
            client.chat.completions.create(**CHAT)
        with callspan.tool("look"):
            trace.get_current_span().set_attribute("mine", 1)
        assert handle.force_flush()
    assert ["mine" in span.attributes for span in receiver.spans] == [False, False, False]
    assert len([line for line in logged if "callspan.metadata()" in line]) == 1


def test_a_call_of_the_past_and_what_a_background_response_became_are_sent(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    """Each span once: of the request, of the fetch that found it ended, and of what was imported."""
    then = datetime(2025, 1, 1, tzinfo=timezone.utc)
    with instrumented(stores=[store, f"sqlite:///{tmp_path}/calls.db"], spool_dir=tmp_path) as handle:
        with callspan.record_call(provider="p", at=then) as call:
            call.request({"model": "old", "messages": CHAT["messages"]})
            call.end(at=then + timedelta(seconds=2))
        with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
            created = client.responses.create(model="b", input="Hi", background=True)
            while client.responses.retrieve(created.id).status != "completed":
                pass
            list(client.responses.create(model="c", input="Hi", background=True, stream=True))
        assert handle.force_flush()
        handle.uninstrument()
    names = sorted(span.name for span in receiver.spans)
    assert names == ["chat b", "chat c", "chat old", "fetch_response"]
    (old,) = (span for span in receiver.spans if span.name == "chat old")
    assert (old.start_ns, old.end_ns) == (int(then.timestamp() * 1e9), int(then.timestamp() * 1e9) + 2 * 10**9)


def test_spans_wait_for_a_receiver_that_is_away_and_sqlite_does_not(provider: ScriptedProvider, tmp_path: Path) -> None:
    with OtlpReceiver() as gone:
        url = gone.url.replace("http://", "otlp+http://")
    with instrumented(stores=[f"sqlite:///{tmp_path}/calls.db", url], spool_dir=tmp_path / "spool") as handle:
        chats(provider, 3)
        assert not handle.force_flush(2_000)
        with closing(open_store(f"sqlite:///{tmp_path}/calls.db")) as reader:
            assert len(list(reader.calls(CallFilter()))) == 3
    assert list((tmp_path / "spool").glob("*.segment"))


def test_several_receivers_by_both_protocols_get_the_same_spans(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    with OtlpReceiver() as other:
        stores = [store, f"otlp+grpc://{other.serve_grpc()}"]
        with instrumented(stores=stores, spool_dir=tmp_path) as handle:
            with callspan.session("s"):
                chats(provider, 2)
            assert handle.force_flush()
        assert len(receiver.spans) == 3
        one, two = (sorted((span.span_id, str(span.attributes)) for span in each.spans) for each in (receiver, other))
        assert one == two


def test_capture_has_the_spans_and_sends_none(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    with capture(stores=store, spool_dir=tmp_path) as seen, callspan.session("s"):
        chats(provider, 1)
    assert [span.name for span in seen.spans] == ["chat m", "invoke_workflow s"]
    assert receiver.spans == []


@pytest.mark.parametrize("rest", ["u:p@h:1", "h:1?timeout=3"])
def test_a_url_with_credentials_or_options_is_refused(rest: str) -> None:
    with pytest.raises(SettingError) as raised:
        callspan.instrument(stores=f"otlp+http://{rest}")
    assert "u:p" not in str(raised.value)


def test_a_resource_that_is_no_unicode_costs_no_record(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    application = TracerProvider(resource=Resource({"team": "caf\udce9", "service.name": "shop"}))
    stores = [store, f"sqlite:///{tmp_path}/calls.db"]
    with instrumented(tracer_provider=application, stores=stores, spool_dir=tmp_path) as handle:
        chats(provider, 1)
        assert handle.force_flush()
    assert [span.resource for span in receiver.spans] == [{"team": "caf\ufffd", "service.name": "shop"}]


def test_a_session_that_is_open_while_callspan_is_set_up_again_is_not_interrupted(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    receiver.status = 503
    with instrumented(stores=store, spool_dir=tmp_path):
        session = callspan.session("s").start()
        chats(provider, 1)
    receiver.status = 200
    with instrumented(stores=store, spool_dir=tmp_path) as handle:
        chats(provider, 1)
        assert handle.force_flush()
        time.sleep(0.2)
        session.end()
        receiver.wait_for(3)
    assert sorted((span.name, span.status) for span in receiver.spans) == [
        ("chat m", "UNSET"), ("chat m", "UNSET"), ("invoke_workflow s", "UNSET"),
    ]  # fmt: skip


def test_a_session_is_erased_from_what_waits_for_a_receiver(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    """Also where its process was killed, and the beginnings in the heads of segments."""
    program = [sys.executable, "-c", KILLED, provider.openai_url, store, str(tmp_path)]
    receiver.status = 503
    assert subprocess.run(program, check=False, timeout=60).returncode == -signal.SIGKILL
    stores = f"sqlite:///{tmp_path}/calls.db,{store}"
    with closing(open_store(f"sqlite:///{tmp_path}/calls.db")) as reader:
        ids = [one.session.session_id for one in reader.sessions()]
    environment = {**os.environ, "CALLSPAN_STORES": stores, "CALLSPAN_SPOOL_DIR": str(tmp_path)}
    delete = [str(Path(sys.executable).with_name("callspan")), "delete", "--yes", *ids]
    planned = subprocess.run([*delete, "--dry-run", "--json"], env=environment, capture_output=True, check=True)
    assert json.loads(planned.stdout)["cannot_erase"] == [safe_name(store)]
    erased = subprocess.run(delete, env=environment, capture_output=True, text=True, check=False)
    assert erased.returncode == 0, erased.stdout + erased.stderr
    assert f"{safe_name(store)}: cannot erase: what it was sent cannot be taken back." in erased.stdout
    assert len(ids) == 2
    assert not any(ident.encode() in path.read_bytes() for path in tmp_path.glob("*.segment") for ident in ids)


def test_what_was_erased_is_not_sent_once_the_receiver_is_back(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the process has read and decoded of it for SQLite a moment before."""
    monkeypatch.setenv("CALLSPAN_SPOOL_DIR", str(tmp_path))
    stores = [f"sqlite:///{tmp_path}/calls.db", store]
    receiver.status = 503
    with instrumented(stores=stores) as handle:
        with callspan.session("private") as session:
            chats(provider, 2)
        assert not handle.force_flush(300)
        refused = len(receiver.refused)
        assert callspan.erase(stores, sessions=session.id).is_complete
        receiver.status = 200
        chats(provider, 1)
        assert handle.force_flush()
    assert refused
    assert [span.name for span in receiver.spans] == ["chat m"]


def test_the_content_of_an_open_session_that_was_erased_does_not_return(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLSPAN_SPOOL_DIR", str(tmp_path))
    receiver.status = 503
    stores = [f"sqlite:///{tmp_path}/calls.db", store]
    said: Any = [{"role": "user", "content": "private"}]
    with (
        instrumented(stores=stores) as handle,
        callspan.session("s") as session,
        callspan.invoke_agent("a", input="private"),
        callspan.tool("t", arguments={"x": "private"}),
        openai.OpenAI(api_key="k", base_url=provider.openai_url) as client,
        client.chat.completions.create(model="m", messages=said, stream=True) as stream,
    ):
        next(iter(stream))
        handle.uninstrument()
        assert callspan.erase(stores, sessions=session.id).is_complete
        with instrumented(stores=stores):
            chats(provider, 1)
            found = [path.read_bytes() for path in tmp_path.glob("*.segment")]
        assert any(b"agent_start" in one for one in found)
        assert not any(b"private" in one for one in found)


LEFT_OPEN = """
import sys
import openai
import callspan

provider, store, spool = sys.argv[1:]
callspan.instrument(stores=[store, f"sqlite:///{spool}/calls.db"], spool_dir=spool)
session = callspan.session("open").start()
openai.OpenAI(api_key="k", base_url=provider).chat.completions.create(
    model="m", messages=[{"role": "user", "content": "Hi"}]
)
"""


def test_what_a_process_leaves_open_at_its_end_is_sent_by_the_next(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    program = [sys.executable, "-c", LEFT_OPEN, provider.openai_url, store, str(tmp_path)]
    assert subprocess.run(program, check=False, timeout=60).returncode == 0
    assert [span.name for span in receiver.spans] == ["chat m"]
    for _ in range(2):
        with instrumented(stores=[store, f"sqlite:///{tmp_path}/calls.db"], spool_dir=tmp_path) as handle:
            assert handle.force_flush()
    call, left = receiver.spans
    assert (left.name, left.status, left.attributes["error.type"]) == ("invoke_workflow open", "ERROR", "interrupted")
    assert abs(left.end_ns - call.end_ns) <= SHORTEST_NS
    assert not list(tmp_path.glob("*.segment"))


def test_a_session_that_ends_after_callspan_is_no_interrupted_one(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    """Though the file with its beginning was left when callspan ended."""
    with instrumented(stores=store, spool_dir=tmp_path):
        session = callspan.session("s").start()
        chats(provider, 1)
    session.end()
    receiver.wait_for(2)
    with instrumented(stores=store, spool_dir=tmp_path) as handle:
        chats(provider, 1)
        assert handle.force_flush()
    assert [span.status for span in receiver.spans] == ["UNSET"] * 3


def test_a_session_that_is_open_after_callspan_is_left_to_its_process_while_that_runs(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    """What another process takes over in between is not sent as interrupted, and then again as it ended."""
    with instrumented(stores=store, spool_dir=tmp_path):
        session = callspan.session("s").start()
        chats(provider, 1)
    environment = {**os.environ, "CALLSPAN_STORES": store, "CALLSPAN_SPOOL_DIR": str(tmp_path)}
    ship = [str(Path(sys.executable).with_name("callspan")), "ship", "--timeout", "1"]
    subprocess.run(ship, env=environment, capture_output=True, check=False)
    assert [span.name for span in receiver.spans] == ["chat m"]
    session.end()
    receiver.wait_for(2)
    subprocess.run(ship, env=environment, capture_output=True, check=False)
    assert [(span.name, span.status) for span in receiver.spans] == [
        ("chat m", "UNSET"), ("invoke_workflow s", "UNSET"),
    ]  # fmt: skip


MALFORMED = """
import sys
import openai
import callspan

provider, store, spool = sys.argv[1:]
callspan.instrument(stores=store, spool_dir=spool).uninstrument()
handle = callspan.instrument(otlp=store.removeprefix("otlp+"), stores=store, spool_dir=spool)
with callspan.session("s"):
    openai.OpenAI(api_key="k", base_url=provider).chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hi"}]
    )
"""


@pytest.mark.parametrize("variable", ["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"])
def test_a_limit_that_is_no_number_is_warned_of_and_not_in_force(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path, variable: str
) -> None:
    program = [sys.executable, "-c", MALFORMED, provider.openai_url, store, str(tmp_path)]
    environment = {**os.environ, variable: "-3x", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"{variable} is no number") == 1
    assert [span.name for span in receiver.spans] == ["chat m", "invoke_workflow s"]
    assert len(receiver.spans[0].attributes) > 30


def test_the_limits_of_the_provider_of_the_application_hold(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    application = TracerProvider(span_limits=SpanLimits(max_span_attributes=5, max_attribute_length=3))
    with instrumented(tracer_provider=application, stores=store, spool_dir=tmp_path) as handle:
        with callspan.session("s"):
            chats(provider, 1)
        assert handle.force_flush()
    assert [len(span.attributes) for span in receiver.spans] == [5, 5]
    texts = [value for span in receiver.spans for value in span.attributes.values() if isinstance(value, str)]
    assert max(map(len, texts)) == 3


def test_only_receivers_count_the_spans_of_sessions(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    file = f"sqlite:///{tmp_path}/calls.db"
    with instrumented(stores=[file, store], spool_dir=tmp_path) as handle:
        with callspan.session("s"):
            chats(provider, 1)
            # Its start and its end; the span is made of these.
            with callspan.tool("look", arguments={"x": 1}) as tool:
                tool.result = "found"
        assert handle.force_flush()
        counted = handle.counters()
    assert (counted["appended"], counted[f"shipped.{safe_name(file)}"], counted[f"shipped.{store}"]) == (6, 5, 6)


def test_ship_says_that_what_a_process_left_open_waits(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    program = [sys.executable, "-c", LEFT_OPEN, provider.openai_url, store, str(tmp_path)]
    assert subprocess.run(program, check=False, timeout=60).returncode == 0
    stores = f"sqlite:///{tmp_path}/calls.db,{store}"
    environment = {**os.environ, "CALLSPAN_STORES": stores, "CALLSPAN_SPOOL_DIR": str(tmp_path)}
    ship = [str(Path(sys.executable).with_name("callspan")), "ship", "--timeout", "2"]
    receiver.status = 503
    waits = subprocess.run(ship, env=environment, capture_output=True, text=True, check=False)
    assert (waits.returncode, f"1 record still waits for {store}" in " ".join(waits.stdout.split())) == (1, True), (
        waits.stdout
    )
    receiver.status = 200
    done = subprocess.run(ship, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Nothing waits." in done.stdout) == (0, True), done.stdout
    assert [span.name for span in receiver.spans] == ["chat m", "invoke_workflow open"]


def test_what_a_receiver_lacks_that_is_in_no_settings_any_more_goes_after_a_day(
    provider: ScriptedProvider, receiver: OtlpReceiver, store: str, tmp_path: Path
) -> None:
    """Unless it lacks what had ended: that waits, as for any store. What goes is counted."""
    program = [sys.executable, "-c", LEFT_OPEN, provider.openai_url, store, str(tmp_path)]
    assert subprocess.run(program, check=False, timeout=60).returncode == 0
    for age_s, there in ((3_600, 1), (90_000, 0)):
        for segment in tmp_path.glob("*.segment"):
            os.utime(segment, (time.time() - age_s,) * 2)
        with instrumented(stores=f"sqlite:///{tmp_path}/calls.db", spool_dir=tmp_path) as handle:
            chats(provider, 1)
            assert handle.force_flush()
        assert len(list(tmp_path.glob("*.segment"))) == there
    (loss,) = read_losses(tmp_path).all()
    assert (loss.records, "no settings" in loss.name) == (1, True)
