"""Batches of openai: requests are read from the uploaded file, answers from the output and error files."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from callspan import add_callback, metadata, open_store, redact_texts, session
from callspan.process.redaction import Redactor
from callspan.providers.batches import BatchInfo
from callspan.record.ids import batch_call_id, batch_line_id
from callspan.records import CallRecord, Record
from callspan.reported import batch_files, batch_work
from callspan.spool import unrecorded, uploads
from callspan.spool.losses import read_losses
from callspan.testing import Captured, capture
from tests.intercept import sdks
from tests.intercept.mode import Mode
from tests.scale import scaled

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
CHAT = "/v1/chat/completions"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"model": "gpt-x", "temperature": 0.5, "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/responses": {"model": "gpt-x", "instructions": "Be kind.", "input": "Hi"},
    "/v1/embeddings": {"model": "embed-x", "input": ["Hi", "there"], "encoding_format": "float"},
    "/v1/completions": {"model": "old-x", "prompt": "Hi"},
    "/v1/moderations": {"model": "omni", "input": "Hi"},
}


def file_of(count: int, url: str = CHAT) -> bytes:
    lines = [{"custom_id": f"line-{at}", "method": "POST", "url": url, "body": BODIES[url]} for at in range(count)]
    return "\n".join(map(json.dumps, lines)).encode()


async def upload(mode: Mode, client: Any, file: Any, url: str = CHAT) -> Any:
    """A batch of the file that has ended."""
    uploaded = await mode.wait(client.files.create(file=file, purpose="batch"))
    batch = await mode.wait(client.batches.create(input_file_id=uploaded.id, endpoint=url, completion_window="24h"))
    for _ in range(2):
        batch = await mode.wait(client.batches.retrieve(batch.id))
    assert batch.status == "completed"
    return batch


def by_line(seen: Captured) -> dict[str | None, CallRecord]:
    calls = seen.records
    found = {call.custom_id: call for call in calls}
    assert len(found) == len(calls)
    return found


def test_each_line_is_a_call(mode: Mode, run: Run, seen: Captured) -> None:
    """Answers and errors, those that expired or were cancelled among them."""
    mode.provider.reply(text="One.", input_tokens=30, output_tokens=5)
    mode.provider.reply(status=429, message="Slow down.")
    mode.provider.reply(in_batch="expired")
    mode.provider.reply(in_batch="canceled")

    async def body() -> str:
        client = mode.openai()
        with session("nightly", session_id="s-1"):
            batch = await upload(mode, client, ("in.jsonl", file_of(4)))
        for file_id in (batch.output_file_id, batch.error_file_id):
            await mode.wait(client.files.content(file_id))
        return str(batch.id)

    batch_id = run(body)
    calls = by_line(seen)
    assert {name: call.outcome for name, call in calls.items()} == {
        "line-0": "success", "line-1": "error", "line-2": "timeout", "line-3": "cancelled"
    }  # fmt: skip
    for number, call in enumerate(calls.values()):
        assert call.call_id == batch_call_id("openai", batch_id, batch_line_id(f"line-{number}"))
        assert (call.batch_id, call.api, call.request.model) == (batch_id, "chat_completions", "gpt-x")
        assert (call.place.session_id, call.request.params["temperature"]) == ("s-1", 0.5)
        assert [message.text for message in (call.conversation.input if call.conversation else [])] == ["Hi"]
    first, second = calls["line-0"], calls["line-1"]
    assert (first.text, first.usage and first.usage.total_tokens) == ("One.", 35)
    assert second.error is not None
    assert (second.error.kind, second.error.status, second.error.message) == ("rate_limit", 429, "Slow down.")
    spans = {span.name: span for span in seen.spans}
    assert list(spans) == ["create_batch", "invoke_workflow nightly", "batch_results"]
    shown = dict(spans["batch_results"].attributes or {})
    counts = {name.removeprefix("callspan.batch."): number for name, number in shown.items() if type(number) is int}
    expected = {"requests.total": 4, "requests.completed": 1, "requests.failed": 3, "read.success": 1}
    assert counts.items() >= {**expected, "usage.total_tokens": 35}.items()


def _failing(record: Record) -> Record:
    raise KeyError("mine")


@pytest.mark.parametrize("redact", [redact_texts(lambda _: "[gone]"), _failing])
def test_a_redactor_gets_all_of_a_line_and_cannot_merge_two(
    mode: Mode, run: Run, redact: Redactor, tmp_path: Path
) -> None:
    """Metadata and session of the creation reach the line through it; the ids of calls are made of lines as sent."""

    async def body() -> None:
        client = mode.openai()
        with metadata(api_key="canary-1", owner="canary-2"), session("canary-3"):
            batch = await upload(mode, client, ("in.jsonl", file_of(5)))
        await mode.wait(client.files.content(batch.output_file_id))

    with capture(redact=redact, stores=f"sqlite:///{tmp_path / 'calls.db'}") as seen:
        run(body)
        kept = [seen.records, seen.sessions, [span.to_json() for span in seen.spans]]
    assert len(seen.records) == 5
    assert all(call.response is not None and call.request.body_bytes for call in seen.records)
    assert not [found for found in ("canary", "line-") if found in repr(kept)]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [data for data in files if b"canary" in data or b"line-" in data]


@pytest.mark.parametrize("url", BODIES)
def test_a_line_is_read_as_a_plain_call_to_its_endpoint_is(mode: Mode, run: Run, seen: Captured, url: str) -> None:
    """Same messages, usage, finish reasons, parameters; other ids and times."""
    methods = {
        CHAT: "chat.completions", "/v1/responses": "responses", "/v1/embeddings": "embeddings",
        "/v1/completions": "completions", "/v1/moderations": "moderations",
    }  # fmt: skip

    async def body() -> None:
        client = mode.openai()
        sdks.needs_name(client, methods[url])
        resource = client
        for name in methods[url].split("."):
            resource = getattr(resource, name)
        await mode.wait(resource.create(**BODIES[url]))
        batch = await upload(mode, client, ("in.jsonl", file_of(1, url)), url)
        await mode.wait(client.files.content(batch.output_file_id))

    run(body)
    plain, line = seen.records
    assert (line.api, line.operation, line.outcome) == (plain.api, plain.operation, plain.outcome)
    assert line.request.params == plain.request.params
    assert (line.request.model, line.request.message_count) == (plain.request.model, plain.request.message_count)
    assert line.usage == plain.usage
    assert plain.response is not None
    assert line.response is not None
    assert line.response.finish_reasons == plain.response.finish_reasons
    assert line.response.model == plain.response.model
    assert line.conversation == plain.conversation


@pytest.mark.parametrize("kind", ["bytes", "path", "open", "memory"])
def test_requests_are_read_from_every_kind_of_file(
    mode: Mode, run: Run, seen: Captured, tmp_path: Path, kind: str
) -> None:
    """An open file is where it would be without callspan, and is not closed."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(file_of(3))

    async def body() -> None:
        client = mode.openai()
        if kind == "open":
            with path.open("rb") as file:
                batch = await upload(mode, client, file)
                assert file.tell() == path.stat().st_size
        else:
            given: Any = {"bytes": path.read_bytes(), "path": path, "memory": io.BytesIO(path.read_bytes())}[kind]
            batch = await upload(mode, client, given)
        await mode.wait(client.files.content(batch.output_file_id))

    run(body)
    assert [call.request.model for call in by_line(seen).values()] == ["gpt-x"] * 3


async def streamed(mode: Mode, client: Any, file_id: str, way: str, place: Path) -> bytes:
    """The content of a file, read as it comes."""
    async with mode.entered(client.files.with_streaming_response.content(file_id)) as response:
        match way:
            case "iter_bytes":
                return b"".join(await mode.all(response.iter_bytes(10)))
            case "iter_lines":
                return "".join([f"{line}\n" for line in await mode.all(response.iter_lines())]).encode()
            case "stream_to_file":
                await mode.wait(response.stream_to_file(place))
                return content_of(place)
        found = await mode.wait(getattr(response, way)())
        return found if isinstance(found, bytes) else str(found).encode()


async def whole(mode: Mode, client: Any, file_id: str, way: str, place: Path) -> bytes:
    """The content of a file, read in one of the ways of the SDK."""
    if way == "raw":
        return bytes((await mode.wait(client.files.with_raw_response.content(file_id))).content)
    found = await mode.wait(client.files.content(file_id))
    match way:
        case "text":
            return str(found.text).encode()
        case "content":
            return bytes(found.content)
        case "iter_lines":
            return "".join(f"{line}\n" for line in found.iter_lines()).encode()
        case "write_to_file":
            found.write_to_file(place)
            return content_of(place)
    return bytes(found.read())


def content_of(place: Path) -> bytes:
    return place.read_bytes()


WAYS = ["read", "text", "iter_lines", "write_to_file", "streamed.iter_lines", "streamed.stream_to_file"]
MORE_WAYS = ["content", "raw", "streamed.read", "streamed.text", "streamed.iter_bytes"]


@pytest.mark.parametrize("way", [*WAYS, *scaled([], MORE_WAYS)])
def test_results_are_recorded_however_they_are_read(
    mode: Mode, run: Run, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are those that the caller gets without callspan; reading them again adds nothing."""
    if mode.is_async and way in {"iter_lines", "write_to_file"}:
        pytest.skip("the SDK has these for sync clients")

    async def body() -> tuple[bytes, bytes]:
        client = mode.openai()
        batch = await upload(mode, client, ("in.jsonl", file_of(3)))
        kind, _, how = way.rpartition(".")
        read = streamed if kind else whole
        content = await read(mode, client, batch.output_file_id, how, tmp_path / "out.jsonl")
        again = await whole(mode, client, batch.output_file_id, "read", tmp_path / "out.jsonl")
        return content, again

    with capture() as seen:
        content, again = run(body)
        assert content == again
        assert [call.outcome for call in by_line(seen).values()] == ["success"] * 3
        versions = [record.part for record in seen.everything if isinstance(record, CallRecord)]
        assert versions == ["requested"] * 3 + ["answered"] * 3


def test_results_are_recorded_when_they_are_requested_by_hand(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        client = mode.openai()
        batch = await upload(mode, client, ("in.jsonl", file_of(3)))
        response = sdks.http_of("openai").Response
        assert (await mode.wait(client.get(f"/files/{batch.output_file_id}/content", cast_to=response))).content

    run(body)
    assert [call.outcome for call in by_line(seen).values()] == ["success"] * 3


def test_results_of_a_batch_that_is_not_known_are_not_guessed(
    mode: Mode, run: Run, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """They say nothing of their batch: there is one warning, and they are counted. Other files are no results."""
    batch_work._WARNED.forget()
    unrecorded.forget_warnings()
    caplog.set_level(logging.WARNING, "callspan")

    async def made() -> tuple[Any, Any]:
        client = mode.openai()
        batch = await upload(mode, client, ("in.jsonl", file_of(2)))
        return client, batch

    async def body() -> None:
        client, batch = await made()
        with capture(stores=f"sqlite:///{tmp_path}/calls.db") as seen:
            await mode.wait(client.files.content(batch.input_file_id))
            assert caplog.messages == []
            for _ in range(2):
                await mode.wait(client.files.content(batch.output_file_id))
            assert (seen.everything, seen.spans) == ([], [])
            (warning,) = caplog.messages
            assert "batches.retrieve" in warning
            await mode.all(await mode.wait(client.batches.list()))
            await mode.wait(client.files.content(batch.output_file_id))
            assert [call.outcome for call in seen.records] == ["success"] * 2
        (count,) = read_losses(tmp_path / "calls.db.spool").unrecorded.items()
        assert (count[0], count[1].calls) == ("/v1/files/{id}/content", 2)

    run(body)


def test_results_that_are_read_as_sent_are_counted(mode: Mode, run: Run, tmp_path: Path) -> None:
    """By `iter_raw`, whose bytes may be compressed: there are no records of them."""
    unrecorded.forget_warnings()

    async def body() -> None:
        client = mode.openai()
        batch = await upload(mode, client, ("in.jsonl", file_of(2)))
        with capture(stores=f"sqlite:///{tmp_path}/calls.db") as seen:
            await mode.all(await mode.wait(client.batches.list()))
            async with mode.entered(client.files.with_streaming_response.content(batch.output_file_id)) as answer:
                raw = answer.http_response
                pieces = [piece async for piece in raw.aiter_raw()] if mode.is_async else list(raw.iter_raw())
            assert b"".join(pieces).count(b"custom_id") == 2
            assert seen.records == []
            assert (await mode.wait(client.files.content(batch.output_file_id))).content
            assert len(seen.records) == 2
        (count,) = read_losses(tmp_path / "calls.db.spool").unrecorded.items()
        assert (count[0], count[1].calls) == ("/v1/files/{id}/content", 1)

    run(body)


@pytest.mark.parametrize("seen_by", ["create", "retrieve", "list"])
def test_another_process_finds_the_batch_of_results(
    mode: Mode, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, seen_by: str
) -> None:
    """Where it has the same spool, and another process has seen the batch with its files."""
    batch_work._WARNED.forget()
    caplog.set_level(logging.WARNING, "callspan")
    store = f"sqlite:///{tmp_path}/calls.db"
    mode.provider.reply(text="Well.", input_tokens=7, output_tokens=3)
    mode.provider.reply(status=400)

    async def body() -> None:
        client = mode.openai()
        if seen_by == "create":
            with capture(stores=store):
                batch = await upload(mode, client, ("in.jsonl", file_of(2)))
        else:
            batch = await upload(mode, client, ("in.jsonl", file_of(2)))
            with capture(stores=store):
                if seen_by == "retrieve":
                    await mode.wait(client.batches.retrieve(batch.id))
                else:
                    await mode.all(await mode.wait(client.batches.list()))
        with capture(stores=store) as seen:
            for file_id in (batch.output_file_id, batch.error_file_id):
                await mode.wait(client.files.content(file_id))
            calls = by_line(seen)
            first, second = calls["line-0"], calls["line-1"]
            assert len(calls) == 2
            assert (first.outcome, second.outcome, first.api) == ("success", "error", "chat_completions")
            assert {first.batch_id, second.batch_id} == {batch.id}
            assert first.usage is not None
            assert (first.usage.input_tokens, first.usage.output_tokens) == (7, 3)
            (span,) = seen.spans
            assert span.name == "batch_results"
        assert caplog.messages == []

    run(body)


def test_what_is_known_of_batches_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old files are deleted, and the oldest where there are many; one that another process takes is no error."""
    place = tmp_path / uploads.DIRECTORY
    place.mkdir()
    (place / "old.batch").write_bytes(b"{}")
    os.utime(place / "old.batch", (1, 1))
    (place / "taken.jsonl").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(uploads, "_MOST_FILES", 3)
    monkeypatch.setattr(batch_files, "_BATCHES_BETWEEN", 1)
    files = batch_files.BatchFiles(lambda: tmp_path)
    for number in range(6):
        files.keep_batch("openai", BatchInfo(id=f"batch_{number}", output_file_id=f"file-{number}"))
    assert not (place / "old.batch").exists()
    assert len(list(place.glob("*.batch"))) == 4
    newest = files.batch_of("openai", "file-5")
    assert newest is not None
    assert newest.id == "batch_5"
    assert files.batch_of("openai", "file-0") is None
    assert files.batch_of("azure", "file-5") is None


def test_results_that_a_store_has_at_once_have_their_span_and_are_measured(
    mode: Mode, run: Run, tmp_path: Path
) -> None:
    """What this process has written may be stored before the store is asked whether another one has read it."""
    store = f"sqlite:///{tmp_path}/calls.db"

    def wait_until_stored(record: Record) -> None:
        if not isinstance(record, CallRecord) or record.part != "answered" or record.stage == "completed":
            return
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with closing(open_store(store)) as reader:
                if any(call.call_id == record.call_id and call.outcome == "success" for call in reader.calls()):
                    return
            time.sleep(0.02)

    async def body() -> None:
        client = mode.openai()
        batch = await upload(mode, client, ("in.jsonl", file_of(1)))
        await mode.wait(client.files.content(batch.output_file_id))

    remove = add_callback("after_record", wait_until_stored, kinds=["call"])
    with capture(stores=store) as seen:
        try:
            run(body)
            assert [span.name for span in seen.spans] == ["create_batch", "batch_results"]
        finally:
            remove()


def _only_file(directory: Path) -> Path:
    (path,) = directory.rglob(f"{uploads.DIRECTORY}/*{uploads.REQUESTS}")
    return path


def test_requests_that_could_not_be_read_are_recorded_when_the_batch_is_seen_again(
    mode: Mode, run: Run, tmp_path: Path
) -> None:
    """What did not finish is not claimed: a damaged disk at the creation costs no request."""

    async def body() -> None:
        client = mode.openai()
        uploaded = await mode.wait(client.files.create(file=("in.jsonl", file_of(3)), purpose="batch"))
        kept = _only_file(tmp_path)
        kept.rename(tmp_path / "kept")
        kept.mkdir()  # cannot be read
        batch = await mode.wait(
            client.batches.create(input_file_id=uploaded.id, endpoint=CHAT, completion_window="24h")
        )
        kept.rmdir()
        (tmp_path / "kept").rename(kept)
        await mode.wait(client.batches.retrieve(batch.id))

    with capture(stores=f"sqlite:///{tmp_path}/calls.db") as seen:
        run(body)
        assert sorted(by_line(seen)) == ["line-0", "line-1", "line-2"]


def test_a_damaged_note_of_a_batch_costs_its_results_only(
    mode: Mode, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch_work._WARNED.forget()
    store = f"sqlite:///{tmp_path}/calls.db"

    async def body() -> None:
        client = mode.openai()
        with capture(stores=store):
            batch = await upload(mode, client, ("in.jsonl", file_of(1)))
        for file in (tmp_path / "calls.db.spool" / "batch_files").iterdir():
            file.write_bytes(b'{"id": 7')
        with capture(stores=store) as seen:
            assert await mode.wait(client.files.content(batch.output_file_id)) is not None
            assert seen.records == []

    run(body)
    assert "batches.retrieve" in caplog.text


def test_a_file_that_is_not_for_batches_is_not_read(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        client = mode.openai()
        uploaded = await mode.wait(client.files.create(file=("in.jsonl", file_of(2)), purpose="fine-tune"))
        await mode.wait(client.files.content(uploaded.id))

    run(body)
    assert (seen.everything, seen.spans) == ([], [])


def test_lines_that_are_no_requests_are_passed_over(mode: Mode, run: Run, seen: Captured) -> None:
    """The provider refuses such a file; nothing of it may break the upload."""
    content = b'\n{"custom_id": 7}\nnonsense\n[]\n\xff\xfe\n' + file_of(1) + b"\n"

    async def body() -> None:
        client = mode.openai()
        uploaded = await mode.wait(client.files.create(file=("in.jsonl", content), purpose="batch"))
        mode.provider.reply(
            raw={"id": "batch_1", "object": "batch", "input_file_id": uploaded.id, "status": "validating"},
            on="/batches",
        )
        await mode.wait(client.batches.create(input_file_id=uploaded.id, endpoint=CHAT, completion_window="24h"))

    run(body)
    assert list(by_line(seen)) == ["line-0"]


def test_another_process_finds_the_requests_of_a_file(mode: Mode, run: Run, tmp_path: Path) -> None:
    """Where it has the same spool; they are deleted once their batch is there."""
    store = f"sqlite:///{tmp_path}/calls.db"
    kept = tmp_path / "calls.db.spool" / "batch_files"

    async def sent() -> tuple[Any, str]:
        client = mode.openai()
        uploaded = await mode.wait(client.files.create(file=("in.jsonl", file_of(2)), purpose="batch"))
        return client, uploaded.id

    async def body() -> None:
        with capture(stores=store):
            client, file_id = await sent()
        (file,) = kept.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        with capture(stores=store) as seen:
            await mode.wait(client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h"))
            assert [call.request.model for call in by_line(seen).values()] == ["gpt-x"] * 2
        assert list(kept.glob("*.jsonl")) == []

    run(body)
