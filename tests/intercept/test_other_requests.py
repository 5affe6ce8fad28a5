"""Paths without an adapter: a POST whose answer states usage is a call; another that may cost money is counted."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import openai
import pytest

import callspan
from callspan import Settings, open_store
from callspan.delivery.recorder import Recorder, forget_warnings
from callspan.intercept.other_requests import path_template
from callspan.record.ids import response_call_id
from callspan.spool import losses
from callspan.spool.losses import LOSSES_FILE, Loss, LossCounter, Losses, add_losses, read_losses
from callspan.stores.spools import spool_directory
from callspan.testing import Captured, ScriptedProvider, capture
from tests.intercept.calls import Run
from tests.intercept.mode import Mode
from tests.scale import scaled

ANSWER = {"id": "x1", "model": "m-1", "usage": {"input_tokens": 3, "output_tokens": 4}}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Path]:
    forget_warnings()
    store = f"sqlite:///{tmp_path}/calls.db"
    handle = callspan.instrument(stores=store)
    yield spool_directory(Settings(), (store,))
    handle.uninstrument()


def counted(spool: Path) -> dict[str, int]:
    """What is in the file, after everything was written."""
    callspan.uninstrument()
    return {path: count.count for path, count in read_losses(spool).unrecorded.items()}


def client(provider: ScriptedProvider, path: str = "/v1") -> openai.OpenAI:
    return openai.OpenAI(api_key="k", base_url=f"{provider.url}{path}", max_retries=0)


def raw_options() -> dict[str, Any]:
    return {"headers": {"X-Stainless-Raw-Response": "true"}}


@pytest.mark.parametrize("form", ["plain", "raw", "text"])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_a_post_whose_answer_states_usage_is_a_call(mode: Mode, run: Run, seen: Captured, sdk: str, form: str) -> None:
    """With path, model, usage, both bodies, its session and a span; its id is made of the answer's."""

    async def body() -> None:
        path = "/new_thing/thing_0123" if sdk == "openai" else "/v1/new_thing/thing_0123"
        mode.provider.reply(raw=ANSWER, on=path)
        sent = {"model": "m", "question": "Hi"}
        kind = str if form == "text" else object
        options = raw_options() if form == "raw" else {}
        with callspan.session("s", session_id="s-1"):
            await mode.wait(getattr(mode, sdk)().post(path, body=sent, cast_to=kind, options=options))

    run(body)
    (call,) = seen.records
    assert (call.api, call.operation, call.outcome) == ("/v1/new_thing/{id}", "generate_content", "success")
    assert (call.request.model, call.response and call.response.model) == ("m", "m-1")
    assert (call.usage and call.usage.total_tokens, call.place.session_id) == (7, "s-1")
    assert json.loads(bytes(call.request.body)) == {"model": "m", "question": "Hi"}
    assert json.loads(bytes(call.response.body if call.response else b"")) == ANSWER
    assert call.call_id == response_call_id(call.provider, "x1")
    span, outer = seen.spans
    assert (span.name, call.span_id) == ("generate_content m", f"{span.context.span_id:016x}" if span.context else "")
    assert span.parent is not None
    assert outer.context is not None
    assert span.parent.span_id == outer.context.span_id
    assert dict(span.attributes or {})["gen_ai.usage.output_tokens"] == 4
    assert dict(outer.attributes or {})["callspan.totals.input_tokens"] == 3


def test_of_a_stream_the_last_event_with_usage_counts(mode: Mode, run: Run, seen: Captured) -> None:
    events = [{"text": "a"}, {"response": {**ANSWER, "usage": {"input_tokens": 3}}}, {"response": ANSWER}, {"end": 1}]

    async def body() -> None:
        mode.provider.reply(raw=events, on="/new_thing")
        kind = openai.AsyncStream if mode.is_async else openai.Stream
        stream = await mode.wait(
            mode.openai().post(
                "/new_thing", body={"stream": True}, cast_to=object, stream=True, stream_cls=kind[object]
            )
        )
        assert len(await mode.all(stream)) == 4

    run(body)
    (call,) = seen.records
    assert (call.usage and call.usage.total_tokens, call.stream and call.stream.chunks) == (7, 4)
    assert len(seen.everything) == len(seen.spans) == 1


def test_the_same_object_answered_twice_is_one_record_and_the_last_usage_wins(
    mode: Mode, run: Run, tmp_path: Path
) -> None:
    """One row, one span, and the totals of the session have it once."""
    store = f"sqlite:///{tmp_path}/calls.db"

    async def body() -> None:
        client = mode.openai()
        with callspan.session("s", session_id="s-1"):
            for tokens in (4, 9):
                answer = {**ANSWER, "usage": {"input_tokens": 3, "output_tokens": tokens}}
                mode.provider.reply(raw=answer, on="/new_thing")
                await mode.wait(client.post("/new_thing", body={}, cast_to=object))

    with capture(stores=store) as seen:
        run(body)
        assert [span.name for span in seen.spans] == ["generate_content", "invoke_workflow s"]
    with closing(open_store(store)) as reader:
        (call,) = reader.calls()
    assert (call.usage and call.usage.output_tokens, call.trace_id is None) == (9, False)


@pytest.mark.parametrize(
    "kind",
    [
        {"object": "agent.session"}, {"type": "session"}, {"object": "thread"}, {"object": "thread.run"},
        {"object": "batch"}, {"type": "message_batch"}, {"object": "conversation"},
    ],
)  # fmt: skip
def test_an_object_with_a_running_total_is_counted_and_its_tokens_never(
    mode: Mode, run: Run, tmp_path: Path, kind: dict[str, str]
) -> None:
    """Created once and updated three times, it has stated the same tokens again and again."""
    forget_warnings()

    async def body() -> None:
        client = mode.openai()
        for number, path in enumerate(("/new_objects", *["/new_objects/o_123"] * 3)):
            usage = {"input_tokens": 100 * (number + 1), "output_tokens": 10}
            mode.provider.reply(raw={"id": "o_123", **kind, "usage": usage}, on=path)
            await mode.wait(client.post(path, body={}, cast_to=object))

    with capture(stores=f"sqlite:///{tmp_path}/calls.db") as seen:
        run(body)
        assert (seen.records, seen.spans) == ([], [])
    found = counted(spool_directory(Settings(), (f"sqlite:///{tmp_path}/calls.db",)))
    assert found == {"POST /v1/new_objects": 1, "POST /v1/new_objects/{id}": 3}


@pytest.mark.parametrize("path", ["/sessions", "/threads/thread_1/runs", "/batches/batch_1", "/conversations/conv_1"])
def test_an_object_is_known_by_its_path_too(mode: Mode, run: Run, seen: Captured, path: str) -> None:
    async def body() -> None:
        mode.provider.reply(raw=ANSWER, on=path)
        await mode.wait(mode.openai().post(path, body={}, cast_to=object))

    run(body)
    assert (seen.records, seen.spans) == ([], [])


def test_what_states_no_usage_is_counted_by_method_and_path_and_warned_of_once(
    provider: ScriptedProvider, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Work that is begun at the provider too; failed requests cost nothing."""
    provider.reply(raw={"id": "x"}, on=lambda request: request.method == "POST", repeat=True)
    with client(provider) as sync:
        for _ in range(3):
            sync.post("/videos", body={}, cast_to=object)
        sync.post("/batches", body={}, cast_to=object)
        sync.post("/realtime/client_secrets", body={}, cast_to=object, options=raw_options())  # type: ignore[arg-type]
        sync.post("/threads/thread_1/runs", body={}, cast_to=object)
        sync.post("/new_thing", body={}, cast_to=object)
        provider.reply(status=500, on="/failing", repeat=True)
        with pytest.raises(openai.InternalServerError):
            sync.post("/failing", body={}, cast_to=object)
    assert counted(spool) == {
        "POST /v1/videos": 3, "POST /v1/batches": 1, "POST /v1/realtime/client_secrets": 1,
        "POST /v1/threads/{id}/runs": 1, "POST /v1/new_thing": 1,
    }  # fmt: skip
    assert len([message for message in caplog.messages if "not recorded: POST /v1/videos" in message]) == 1


def test_what_costs_nothing_is_not_counted(provider: ScriptedProvider, spool: Path) -> None:
    provider.reply(raw=ANSWER, on=lambda request: True, repeat=True)
    with client(provider) as sync:
        sync.chat.completions.create(model="m", messages=[])
        sync.get("/new_thing", cast_to=object)
        for path in ("/files", "/vector_stores", "/batches/batch_1/cancel", "/chat/completions/c1", "/evals"):
            sync.post(path, body={}, cast_to=object)
        disabled = callspan.instrument(enabled=False)
        sync.post("/new_thing", body={}, cast_to=object)
    assert counted(spool) == {}
    disabled.uninstrument()


def test_a_websocket_of_another_kind_is_counted(spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is not recorded, and not changed."""
    server = pytest.importorskip("websockets.sync.server").serve(lambda _: None, "127.0.0.1", 0)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    host, port = server.socket.getsockname()
    connect = pytest.importorskip("websockets.sync.client").connect
    agent = {"user_agent_header": "OpenAI/Python 3.57.0"}
    with connect(f"ws://{host}:{port}/v1/new/kind", **agent) as connection:
        assert "recv" not in vars(connection)
    server.shutdown()
    serving.join()
    assert counted(spool) == {"WEBSOCKET /v1/new/kind": 1}
    assert "not recorded: WEBSOCKET /v1/new/kind" in caplog.text


@pytest.mark.parametrize(
    ("url", "base", "shown"),
    [
        ("/new_thing?key=secret", "/v1/", "/v1/new_thing"),
        ("/v1/new_thing/resp_0123456789/run", "/", "/v1/new_thing/{id}/run"),
        ("/new_thing", "/secret/gateway/v1/", "/v1/new_thing"),
        ("/new_thing", "/secret/", "/new_thing"),
        ("https://host/deployments/ours/new_thing?x=1", "/v1", "/deployments/{id}/new_thing"),
        ("/Some%20One@example.com", "/v1/", "/v1/{id}"),
        ("/" + "a" * 25, "", "/{id}"),
        ("/a/b/c/d/e/f/g/h/i/j", "", "/a/b/c/d/e/f/g/h/..."),
        ("/v1beta/x1/y", "", "/v1beta/{id}/y"),
    ],
)
def test_what_is_kept_of_a_path_has_no_id_no_query_and_nothing_of_a_gateway(url: str, base: str, shown: str) -> None:
    assert path_template(url, base) == shown


def test_no_more_than_so_many_paths_are_named(provider: ScriptedProvider, spool: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    provider.reply(raw={"id": "x"}, on=lambda request: True, repeat=True)
    with client(provider) as sync:
        for number in range(losses._MAX_NAMES + 3):
            sync.post(f"/new_{letters[number // 26]}{letters[number % 26]}", body={}, cast_to=object)
    found = counted(spool)
    assert len(found) == losses._MAX_NAMES + 1
    assert found["others"] == 3


def _add(directory: Path) -> None:
    for _ in range(20):
        now = time.time_ns()
        add_losses(directory, Losses(unrecorded={"/v1/new_thing": Loss(1, now, now)}))


def test_several_processes_count_together_and_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / LOSSES_FILE).write_text("{")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    (count,) = read_losses(tmp_path).unrecorded.values()
    assert count.count == 60
    assert 0 < count.first_ns < count.last_ns <= time.time_ns()


PROGRAM = """
import sys, openai, callspan
callspan.instrument(stores=sys.argv[2])
client = openai.OpenAI(api_key="k", base_url=sys.argv[1])
for _ in range(3):
    client.post("/new_thing", body={}, cast_to=object)
"""


def test_doctor_names_what_an_ended_process_has_not_recorded(provider: ScriptedProvider, tmp_path: Path) -> None:
    pytest.importorskip("rich", reason="the command needs rich")
    testing = pytest.importorskip("click.testing", reason="the command needs click")
    provider.reply(raw={"id": "x"}, on="/new_thing", repeat=True)
    store = f"sqlite:///{tmp_path}/calls.db"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"{provider.url}/v1", store], capture_output=True, text=True, check=True
    )
    assert done.stderr.count("/v1/new_thing") == 1
    from tests.commands import callspan as cli

    shown = testing.CliRunner().invoke(cli, ["--store", store, "doctor", "--json"])
    (check,) = [check for check in json.loads(shown.stdout)["checks"] if check["area"] == "not recorded"]
    assert check["state"] == "warning"
    assert (check["name"], check["detail"].partition(",")[0]) == ("POST /v1/new_thing", "3 times")
    assert (spool_directory(Settings(), (store,)) / LOSSES_FILE).stat().st_mode & 0o777 == 0o600


NOTED = scaled(200, 1000)


def test_nothing_is_lost_or_counted_twice_where_two_threads_write(tmp_path: Path) -> None:
    """The one that writes soon, and those that end."""
    counter, noted = LossCounter(tmp_path), threading.Event()

    def write() -> None:
        while not noted.is_set():
            counter.write()

    writing = [threading.Thread(target=write) for _ in range(2)]
    for thread in writing:
        thread.start()
    for _ in range(NOTED):
        counter.add("unrecorded", "/v1/new_thing")
        time.sleep(0)
    noted.set()
    for thread in writing:
        thread.join()
    counter.write()
    assert read_losses(tmp_path).unrecorded["/v1/new_thing"].count == NOTED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_was_noted_before_a_fork_is_counted_once(tmp_path: Path) -> None:
    forget_warnings()
    store = f"sqlite:///{tmp_path}/calls.db"
    recorder = Recorder(Settings(stores=(store,)))
    recorder.note_unrecorded("/before")
    child = os.fork()
    if child == 0:
        recorder.note_unrecorded("/in the child")
        recorder.retire(10.0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    recorder.note_unrecorded("/after")
    recorder.retire(10.0)
    assert counted(spool_directory(Settings(), (store,))) == {"/before": 1, "/in the child": 1, "/after": 1}
