"""Paths without an adapter: a POST whose answer states usage is a call; another that may cost money is counted."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import openai
import pytest
from openai._legacy_response import HttpxBinaryResponseContent
from tests.conftest import Instrument
from tests.support.calls import body_returned, body_sent, the_call
from tests.support.left_behind import directory_of, unrecorded
from tests.support.mode import Mode
from tests.support.waiting import HANG_S

import callspan
from callspan import open_store
from callspan.testing import Capture, ScriptedProvider, capture

ANSWER = {"id": "x1", "model": "m-1", "usage": {"input_tokens": 3, "output_tokens": 4}}
Counted = Callable[[], dict[str, int]]


@pytest.fixture
def counted(store: str, unwarned: None, instrumented: Instrument) -> Counted:
    """Instrumented with a store; what was counted as not recorded, after everything was written."""
    instrumented(stores=store)

    def found() -> dict[str, int]:
        callspan.uninstrument()
        return unrecorded(store)

    return found


def post(client: openai.OpenAI, path: str, **options: Any) -> None:
    client.post(path, body={}, cast_to=object, **options)


def raw_options() -> dict[str, Any]:
    return {"headers": {"X-Stainless-Raw-Response": "true"}}


@pytest.mark.parametrize("form", ["plain", "raw", "text"])
async def test_post_with_usage_is_a_call(sdk: str, form: str, mode: Mode, seen: Capture) -> None:
    """With path, model, usage, both bodies, its session and a span."""
    sent = {"model": "m", "question": "Hi"}
    path = "/new_thing/thing_0123" if sdk == "openai" else "/v1/new_thing/thing_0123"
    mode.provider.reply(raw=ANSWER, on=path)
    kind = str if form == "text" else object
    options = raw_options() if form == "raw" else {}
    with callspan.session("s", session_id="s-1"):
        await mode.wait(getattr(mode, sdk)().post(path, body=sent, cast_to=kind, options=options))
    (call,) = seen.records
    assert (call.api, call.operation, call.outcome) == ("/v1/new_thing/{id}", "generate_content", "success")
    assert (call.request.model, call.response and call.response.model) == ("m", "m-1")
    assert (call.usage and call.usage.total_tokens, call.place.session_id) == (7, "s-1")
    assert (body_sent(call), body_returned(call)) == (sent, ANSWER)
    span, outer = seen.spans
    assert (span.name, call.span_id) == ("generate_content m", f"{span.context.span_id:016x}" if span.context else "")
    assert span.parent.span_id == outer.context.span_id
    assert dict(span.attributes or {})["gen_ai.usage.output_tokens"] == 4
    assert dict(outer.attributes or {})["callspan.totals.input_tokens"] == 3


@pytest.mark.parametrize(
    "path", ["/videos", "/videos/video_1/remix", "/agents/completions", "/models/m-1/predict", "/evals", "/containers"]
)
def test_free_path_with_usage_is_a_call(
    path: str, provider: ScriptedProvider, client: openai.OpenAI, seen: Capture
) -> None:
    provider.reply(raw={**ANSWER, "object": "video", "status": "queued"}, on=path)
    post(client, path)
    call = the_call(seen)
    assert (call.usage and call.usage.total_tokens, len(seen.spans)) == (7, 1)


def test_conversation_answer_is_a_call(provider: ScriptedProvider, client: openai.OpenAI, seen: Capture) -> None:
    """As of Mistral's agents, which have a running total only in the conversation itself."""
    provider.reply(raw={**ANSWER, "object": "conversation.response"}, on="/conversations/conv_1")
    post(client, "/conversations/conv_1")
    call = the_call(seen)
    assert call.usage and call.usage.total_tokens == 7


async def test_last_usage_event_of_a_stream_counts(mode: Mode, seen: Capture) -> None:
    events = [{"text": "a"}, {"response": {**ANSWER, "usage": {"input_tokens": 3}}}, {"response": ANSWER}, {"end": 1}]
    mode.provider.reply(raw=events, on="/new_thing")
    kind: Any = openai.AsyncStream if mode.is_async else openai.Stream
    options: dict[str, Any] = {"cast_to": object, "stream": True, "stream_cls": kind[object]}
    stream = await mode.wait(mode.openai().post("/new_thing", body={"stream": True}, **options))
    assert len(await mode.all(stream)) == 4
    call = the_call(seen)
    assert (call.usage and call.usage.total_tokens, call.stream and call.stream.chunks) == (7, 4)
    assert len(seen.everything) == 1


@pytest.mark.parametrize("back_s", [0, 3600], ids=["", "after the clock was set back"])
def test_same_object_twice_is_one_record(
    back_s: int, provider: ScriptedProvider, client: openai.OpenAI, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row, one span, once in the totals of the session. The last answer counts, whatever the clock says."""
    real = time.time_ns
    with capture(stores=store) as seen, callspan.session("s", session_id="s-1"):
        for number, tokens in enumerate((4, 9)):
            monkeypatch.setattr(time, "time_ns", lambda number=number: real() - number * back_s * 10**9)
            answer = {**ANSWER, "usage": {"input_tokens": 3, "output_tokens": tokens}}
            provider.reply(raw=answer, on="/new_thing")
            post(client, "/new_thing")
    assert [span.name for span in seen.spans] == ["generate_content", "invoke_workflow s"]
    with closing(open_store(store, deliver=True)) as reader:
        (call,) = reader.calls()
    assert (call.usage and call.usage.output_tokens, call.trace_id is None) == (9, False)


@pytest.mark.parametrize("other", [{"created": 8}, {"created": None, "model": "m-2"}])
def test_different_object_with_same_id_is_another_record(
    other: dict[str, Any], provider: ScriptedProvider, client: openai.OpenAI, seen: Capture
) -> None:
    for fields in ({"created": 7}, other):
        provider.reply(raw={**ANSWER, **fields}, on="/new_thing")
        post(client, "/new_thing")
    assert (len(seen.records), len(seen.spans)) == (2, 2)


@pytest.mark.parametrize(
    "kind",
    [
        {"object": "agent.session"}, {"type": "session"}, {"object": "thread"}, {"object": "thread.run"},
        {"object": "batch"}, {"type": "message_batch"}, {"object": "conversation"},
    ],
)  # fmt: skip
def test_running_total_is_counted_without_tokens(
    kind: dict[str, str], provider: ScriptedProvider, client: openai.OpenAI, store: str, unwarned: None
) -> None:
    """Created once and updated three times, it has stated the same tokens again and again."""
    with capture(stores=store) as seen:
        for number, path in enumerate(("/new_objects", *["/new_objects/o_123"] * 3)):
            usage = {"input_tokens": 100 * (number + 1), "output_tokens": 10}
            provider.reply(raw={"id": "o_123", **kind, "usage": usage}, on=path)
            post(client, path)
        assert (seen.records, seen.spans) == ([], [])
    assert unrecorded(store) == {"POST /v1/new_objects": 1, "POST /v1/new_objects/{id}": 3}


@pytest.mark.parametrize("path", ["/sessions", "/threads/thread_1/runs", "/batches/batch_1", "/conversations/conv_1"])
def test_objects_known_by_path(path: str, provider: ScriptedProvider, client: openai.OpenAI, seen: Capture) -> None:
    provider.reply(raw=ANSWER, on=path)
    post(client, path)
    assert (seen.records, seen.spans) == ([], [])


def test_answer_without_usage_is_counted_by_path(
    provider: ScriptedProvider, client: openai.OpenAI, counted: Counted, caplog: pytest.LogCaptureFixture
) -> None:
    """Work that is begun at the provider too; failed requests cost nothing."""
    provider.reply(raw={"id": "x"}, on=lambda request: request.method == "POST", repeat=True)
    once = ("/batches", "/threads/thread_1/runs", "/vector_stores/vs_1/search", "/complete", "/new_thing")
    for path in (*["/videos"] * 3, *once):
        post(client, path)
    post(client, "/realtime/client_secrets", options=raw_options())
    provider.reply(raw=b"\xff\xfb sound", on="/new_sounds")
    client.post("/new_sounds", body={}, cast_to=HttpxBinaryResponseContent)
    provider.reply(status=500, on="/failing", repeat=True)
    with pytest.raises(openai.InternalServerError):
        post(client, "/failing")
    assert counted() == {
        "POST /v1/videos": 3, "POST /v1/batches": 1, "POST /v1/realtime/client_secrets": 1,
        "POST /v1/threads/{id}/runs": 1, "POST /v1/new_thing": 1, "POST /v1/complete": 1, "POST /v1/new_sounds": 1,
        "POST /v1/vector_stores/{id}/search": 1,
    }  # fmt: skip
    assert len([message for message in caplog.messages if "not recorded: POST /v1/videos" in message]) == 1


def test_free_requests_are_not_counted(provider: ScriptedProvider, client: openai.OpenAI, counted: Counted) -> None:
    provider.reply(raw=ANSWER, on=lambda request: True, repeat=True)
    client.chat.completions.create(model="m", messages=[])
    client.get("/new_thing", cast_to=object)
    for path in ("/batches/batch_1/cancel", "/chat/completions/c1"):
        post(client, path)
    client.post("/files", body={}, files={"file": b"x"}, cast_to=object)
    provider.reply(raw={"id": "x"}, on=lambda request: request.method == "POST", repeat=True)
    for path in ("/files", "/vector_stores", "/evals", "/fine_tuning/checkpoints/c_1/permissions"):
        post(client, path)
    disabled = callspan.instrument(enabled=False)
    post(client, "/new_thing")
    assert counted() == {}
    disabled.uninstrument()


def test_unknown_websocket_is_counted(counted: Counted, caplog: pytest.LogCaptureFixture) -> None:
    """It is not recorded, and not changed."""
    connect = pytest.importorskip("websockets.sync.client").connect
    agent = {"user_agent_header": "OpenAI/Python 3.57.0"}
    with pytest.importorskip("websockets.sync.server").serve(lambda _: None, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever).start()
        host, port = server.socket.getsockname()
        with connect(f"ws://{host}:{port}/v1/new/kind", **agent) as connection:
            assert "recv" not in vars(connection)
    assert counted() == {"WEBSOCKET /v1/new/kind": 1}
    assert "not recorded: WEBSOCKET /v1/new/kind" in caplog.text


@pytest.mark.parametrize(
    ("url", "base", "shown"),
    [
        ("/new_thing?key=secret", "/v1/", "/v1/new_thing"),
        ("/v1/new_thing/resp_0123456789/run", "/", "/v1/new_thing/{id}/run"),
        ("/new_thing", "/secret/gateway/v1/", "/v1/new_thing"),
        ("/new_thing", "/secret/", "/new_thing"),
        ("{}/deployments/ours/new_thing?x=1", "/v1", "/deployments/{id}/new_thing"),
        ("/Some%20One@example.com", "/v1/", "/v1/{id}"),
        ("/" + "a" * 25, "", "/{id}"),
        ("/a/b/c/d/e/f/g/h/i/j", "", "/a/b/c/d/e/f/g/h/..."),
        ("/v1beta/x1/y", "", "/v1beta/{id}/y"),
    ],
)
def test_paths_without_ids(url: str, base: str, shown: str, provider: ScriptedProvider, counted: Counted) -> None:
    provider.reply(raw={"id": "x"}, on=lambda request: True, repeat=True)
    with openai.OpenAI(api_key="k", base_url=f"{provider.url}{base}", max_retries=0) as client:
        post(client, url.format(provider.url))
    assert counted() == {f"POST {shown}": 1}


def test_named_paths_are_limited(provider: ScriptedProvider, client: openai.OpenAI, counted: Counted) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    provider.reply(raw={"id": "x"}, on=lambda request: True, repeat=True)
    for letter in letters:
        post(client, f"/new_{letter}")
    found = counted()
    assert (len(found), found["others"], sum(found.values())) == (25, 2, 26)


PROGRAM = """
import sys, openai, callspan
callspan.instrument(stores=sys.argv[2])
client = openai.OpenAI(api_key="k", base_url=sys.argv[1])
for _ in range(3):
    client.post("/new_thing", body={}, cast_to=object)
"""


def test_doctor_sums_counts_of_several_processes(provider: ScriptedProvider, store: str) -> None:
    """A damaged file is begun anew."""
    pytest.importorskip("rich", reason="the command needs rich")
    pytest.importorskip("click", reason="the command needs click")
    from tests.support.commands import ask

    provider.reply(raw={"id": "x"}, on="/new_thing", repeat=True)
    command = [sys.executable, "-c", PROGRAM, f"{provider.url}/v1", store]
    subprocess.run(command, capture_output=True, check=True)
    (file,) = [path for path in directory_of(store).iterdir() if b"new_thing" in path.read_bytes()]
    file.write_text("{")
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=HANG_S)[1].count("/v1/new_thing") for process in running] == [1] * 2
    checks = ask("--store", store, "doctor", "--json").json["checks"]
    (check,) = [check for check in checks if check["area"] == "not recorded"]
    assert check["state"] == "warning"
    assert (check["name"], check["detail"].partition(",")[0]) == ("POST /v1/new_thing", "6 times")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
