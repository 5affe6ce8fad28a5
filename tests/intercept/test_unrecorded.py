"""Unrecorded calls that may be inference are counted and named; other calls never."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from openai import _legacy_response
from opentelemetry.instrumentation.utils import suppress_instrumentation

import callspan
from callspan.intercept import other_requests
from callspan.spool.losses import LOSSES_FILE, MOST_PATHS, OTHER_PATHS, Loss, Losses, add_losses, read_losses
from callspan.spool.unrecorded import UnrecordedCalls, forget_warnings
from callspan.testing import ScriptedProvider

ANSWER = {"id": "x", "usage": {"input_tokens": 3, "output_tokens": 4}}


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Path]:
    forget_warnings()
    handle = callspan.instrument(stores=f"sqlite:///{tmp_path}/calls.db")
    yield tmp_path / "calls.db.spool"
    handle.uninstrument()


def counted(spool: Path) -> dict[str, int]:
    """What is in the file, after everything was written."""
    callspan.instrument().force_flush()
    return {path: count.calls for path, count in read_losses(spool).unrecorded.items()}


def client(provider: ScriptedProvider, path: str = "/v1") -> openai.OpenAI:
    return openai.OpenAI(api_key="k", base_url=f"{provider.url}{path}", max_retries=0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "not recorded" in message]


def test_an_unknown_post_whose_answer_has_usage_is_counted_and_warned_of_once(
    provider: ScriptedProvider, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    provider.reply(raw=ANSWER, on="/new_thing", repeat=True)
    provider.reply(raw={"id": "x"}, on="/other_thing", repeat=True)
    with client(provider) as sync:
        for _ in range(3):
            sync.post("/new_thing", body={}, cast_to=object)
        sync.post("/other_thing", body={}, cast_to=object)
    assert counted(spool) == {"/v1/new_thing": 3}
    assert len(warnings(caplog)) == 1
    assert "/v1/new_thing" in warnings(caplog)[0]


def test_async_and_raw_ones_are_counted_when_the_sdk_parses_them(provider: ScriptedProvider, spool: Path) -> None:
    provider.reply(raw=ANSWER, on="/v1/new_thing", repeat=True)

    async def body() -> None:
        async with anthropic.AsyncAnthropic(api_key="k", base_url=provider.url) as client:
            await client.post("/v1/new_thing", body={}, cast_to=object)
            options: Any = {"headers": {"X-Stainless-Raw-Response": "true"}}
            raw: Any = await client.post("/v1/new_thing", body={}, cast_to=anthropic.types.Message, options=options)
            assert counted(spool) == {"/v1/new_thing": 1}
            parsed = raw.parse()
            _ = await parsed if hasattr(parsed, "__await__") else parsed

    asyncio.run(body())
    assert counted(spool) == {"/v1/new_thing": 2}


def test_bytes_streams_errors_and_requests_that_are_not_post_are_not_read(
    provider: ScriptedProvider, spool: Path
) -> None:
    provider.reply(raw=[ANSWER, ANSWER], on="/stream", repeat=True)
    provider.reply(raw=ANSWER, on="/bytes", repeat=True)
    provider.reply(raw=ANSWER, on=lambda request: request.method == "GET", repeat=True)
    provider.reply(status=500, on="/failing", repeat=True)
    with client(provider) as sync:
        events = sync.post(
            "/stream", body={"stream": True}, cast_to=object, stream=True, stream_cls=openai.Stream[object]
        )
        assert len(list(events)) == 2
        sync.post("/bytes", body={}, cast_to=_legacy_response.HttpxBinaryResponseContent)
        sync.get("/polled", cast_to=object)
        with pytest.raises(openai.InternalServerError):
            sync.post("/failing", body={}, cast_to=object)
    assert counted(spool) == {}


def test_known_calls_are_never_counted(provider: ScriptedProvider, spool: Path) -> None:
    provider.reply(raw=ANSWER, on="/input_tokens", repeat=True)
    with client(provider) as sync:
        sync.chat.completions.create(model="m", messages=[])
        list(sync.chat.completions.create(model="m", messages=[], stream=True, stream_options={"include_usage": True}))
        raw = sync.embeddings.with_raw_response.create(model="m", input="x")
        raw.parse()
        with suppress_instrumentation():
            suppressed = sync.embeddings.with_raw_response.create(model="m", input="x")
        suppressed.parse()
        sync.post("/responses/input_tokens", body={}, cast_to=object)
    with anthropic.Anthropic(api_key="k", base_url=provider.url) as other:
        other.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
        if hasattr(other.messages, "count_tokens"):
            other.messages.count_tokens(model="m", messages=[{"role": "user", "content": "Hi"}])
    assert counted(spool) == {}


def test_known_inference_without_an_adapter_is_counted_whatever_its_answer(
    provider: ScriptedProvider, spool: Path
) -> None:
    provider.reply(raw={"id": "cs_1"}, on="/client_secrets", repeat=True)
    provider.reply(raw={"id": "run_1"}, on="/threads/thread_1/runs", repeat=True)
    provider.reply(raw=ANSWER, on="/batches/batch_1/cancel", repeat=True)
    provider.reply(raw=ANSWER, on="/chat/completions/chatcmpl-1", repeat=True)
    with client(provider) as sync:
        sync.post("/realtime/client_secrets", body={}, cast_to=object)
        sync.batches.cancel("batch_1")
        sync.post("/chat/completions/chatcmpl-1", body={}, cast_to=object)
        sync.post("/threads/thread_1/runs", body={}, cast_to=object)
        sync.post(
            "/realtime/client_secrets",
            body={},
            cast_to=object,
            options={"headers": {"X-Stainless-Raw-Response": "true"}},
        )
    assert counted(spool) == {"/v1/realtime/client_secrets": 2, "/v1/threads/{id}/runs": 1}


def test_suppressed_and_disabled_calls_are_not_counted(provider: ScriptedProvider, spool: Path) -> None:
    provider.reply(raw=ANSWER, on="/new_thing", repeat=True)
    with client(provider) as sync:
        with suppress_instrumentation():
            sync.post("/new_thing", body={}, cast_to=object)
        disabled = callspan.instrument(enabled=False)
        sync.post("/new_thing", body={}, cast_to=object)
    assert counted(spool) == {}
    disabled.uninstrument()


@pytest.mark.parametrize(
    ("path", "base", "shown"),
    [
        ("/v1/new_thing?key=secret", "/v1/", "/v1/new_thing"),
        ("/v1/new_thing/resp_0123456789/run", "/v1/", "/v1/new_thing/{id}/run"),
        ("/secret/gateway/v1/new_thing", "/secret/gateway/v1/", "/v1/new_thing"),
        ("/secret/new_thing", "/secret/", "/new_thing"),
        ("/openai/deployments/ours/new_thing", "/openai/", "/deployments/{id}/new_thing"),
        ("/v1/Some%20One@example.com", "", "/v1/{id}"),
        ("/" + "a" * 25, "", "/{id}"),
        ("/a/b/c/d/e/f/g/h/i/j", "", "/a/b/c/d/e/f/g/h/..."),
        ("/v1beta/x1/y", "", "/v1beta/{id}/y"),
    ],
)
def test_what_is_kept_of_a_path_has_no_id_no_query_and_nothing_of_a_gateway(path: str, base: str, shown: str) -> None:
    assert other_requests.public_path(path, base) == shown


def test_no_more_than_so_many_paths_are_named(
    provider: ScriptedProvider, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    provider.reply(raw=ANSWER, on=lambda request: True, repeat=True)
    with client(provider) as sync:
        for number in range(MOST_PATHS + 3):
            sync.post(f"/new_{letters[number // 26]}{letters[number % 26]}", body={}, cast_to=object)
    found = counted(spool)
    assert len(found) == MOST_PATHS + 1
    assert found[OTHER_PATHS] == 3
    assert len(warnings(caplog)) == MOST_PATHS + 1


def _add(directory: Path) -> None:
    for _ in range(20):
        now = time.time_ns()
        count = Loss("/v1/new_thing", 1, calls=1, first_ns=now, last_ns=now)
        add_losses(directory, Losses(unrecorded={count.name: count}))


def test_several_processes_count_together_and_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / LOSSES_FILE).write_text("{")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_add, args=(tmp_path,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    (count,) = read_losses(tmp_path).unrecorded.values()
    assert count.calls == 60
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
    provider.reply(raw=ANSWER, on="/new_thing", repeat=True)
    store = f"sqlite:///{tmp_path}/calls.db"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, f"{provider.url}/v1", store], capture_output=True, text=True, check=True
    )
    assert done.stderr.count("/v1/new_thing") == 1
    from callspan.cli.commands import callspan as cli

    shown = testing.CliRunner().invoke(cli, ["--store", store, "doctor", "--json"])
    (check,) = [check for check in json.loads(shown.stdout)["checks"] if check["area"] == "not recorded"]
    assert check["state"] == "warning"
    assert check["detail"].startswith("3 calls to /v1/new_thing are not recorded")
    assert (tmp_path / "calls.db.spool" / LOSSES_FILE).stat().st_mode & 0o777 == 0o600


def test_nothing_is_lost_or_counted_twice_where_two_threads_write(tmp_path: Path) -> None:
    """The one that writes soon, and those that flush."""
    forget_warnings()
    calls, noted = UnrecordedCalls(lambda: tmp_path), threading.Event()

    def flush() -> None:
        while not noted.is_set():
            calls.flush(5.0)

    flushing = [threading.Thread(target=flush) for _ in range(2)]
    for thread in flushing:
        thread.start()
    for _ in range(1000):
        calls.note("/v1/new_thing", warn=False)
        time.sleep(0)
    noted.set()
    for thread in flushing:
        thread.join()
    calls.flush(5.0)
    assert read_losses(tmp_path).unrecorded["/v1/new_thing"].calls == 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_what_was_noted_before_a_fork_is_counted_once(tmp_path: Path) -> None:
    forget_warnings()
    calls = UnrecordedCalls(lambda: tmp_path)
    calls.note("/before", warn=False)
    child = os.fork()
    if child == 0:
        calls.note("/in the child", warn=False)
        calls.flush(10.0)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    calls.note("/after", warn=False)
    calls.flush(10.0)
    found = {path: count.calls for path, count in read_losses(tmp_path).unrecorded.items()}
    assert found == {"/before": 1, "/in the child": 1, "/after": 1}
