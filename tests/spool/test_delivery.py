"""Delivery: every record to every store, in time, also if one of them fails or is of another format."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import openai
import pytest

import callspan
from callspan.records import FORMAT
from callspan.spool.losses import Loss, Losses, add_losses
from callspan.spool.segment import OWN_SUFFIX, SUFFIX
from callspan.stores import find_store
from callspan.testing import ScriptedProvider
from tests.conftest import Instrument
from tests.support.calls import QUESTION
from tests.support.commands import ask as in_process
from tests.support.left_behind import directory_of
from tests.support.scale import scaled

from .recorders import killed

pytestmark = pytest.mark.usefixtures("no_settings")


def test_a_flush_of_a_store_that_hangs_returns_in_time_and_a_second_end_is_harmless(
    provider: ScriptedProvider, tmp_path: Path
) -> None:
    """Nobody answers: the flush says so, at once where the store failed before; ending twice does nothing more."""
    handle = callspan.instrument(stores=f"unix://{tmp_path}/nobody.sock", spool_dir=tmp_path / "spool")
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
    begun = time.monotonic()
    assert not handle.force_flush(1_000)
    assert time.monotonic() - begun < 10
    handle.uninstrument()
    begun = time.monotonic()
    handle.uninstrument()
    callspan.uninstrument()
    assert time.monotonic() - begun < 5
    assert list((tmp_path / "spool").iterdir()), "the record waits for the next process"


@pytest.mark.parametrize("content", ["full", "off"])
def test_the_console_gets_one_line_per_call_and_no_content_that_is_off(
    content: str, provider: ScriptedProvider, instrumented: Instrument, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """For debugging: who, what, how it went, how long; the words only where content is on; no control characters."""
    handle = instrumented(stores="console://", content=content, spool_dir=tmp_path / "spool")
    provider.reply(text="I am\x1b[31m well.\nIndeed.", input_tokens=11, output_tokens=4)
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=0) as client:
        client.chat.completions.create(model="gpt-5", messages=QUESTION)
        list(client.chat.completions.create(model="gpt-5", messages=QUESTION, stream=True))
        provider.reply(status=400)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="gpt-5", messages=QUESTION)
    assert handle.force_flush(60_000)
    stderr = capsys.readouterr().err.splitlines()
    assert len(stderr) == 3
    assert "openai chat gpt-5  success  11+4 tokens" in stderr[0]
    assert stderr[0].isprintable()
    assert ("'How are you?' -> 'I am" in stderr[0]) is (content == "full")
    assert "error bad_input" in stderr[-1]


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def record(stores: str) -> bool:
    """Record one call in this process; return whether every store has it."""
    handle = callspan.instrument(stores=stores)
    try:
        with callspan.record_call(provider="mine", model="m") as call:
            call.response({"choices": [{"message": {"role": "assistant", "content": "Hello"}}]})
        return handle.force_flush(3_000)
    finally:
        handle.uninstrument()


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/calls.db"


@pytest.fixture
def theirs(tmp_path: Path, store: str) -> Path:
    """The segment that a process of another version has left."""
    killed(store)
    (tmp_path / "calls.db").unlink(missing_ok=True)
    (segment,) = directory_of(store).glob(f"*{SUFFIX}")
    return segment.rename(segment.with_name(segment.name.replace(OWN_SUFFIX, f".v9{SUFFIX}")))


def test_segments_of_another_version_are_said_and_left_and_hide_nothing_else(store: str, theirs: Path) -> None:
    add_losses(theirs.parent, Losses(dropped={"cap": Loss(2, 1, 2)}, unrecorded={"POST /v1/unknown": Loss(3, 1, 2)}))
    before = content(theirs.parent)
    shipped = in_process("--store", store, "ship", "--json")
    assert (shipped.code, shipped.json["other_versions"], shipped.json["waiting"]) == (1, [str(theirs)], {})
    doctor = in_process("--store", store, "doctor", "--json")
    said = {check["name"]: check["detail"] for check in doctor.json["checks"]}
    assert (doctor.code, said["another version"]) == (0, f"{theirs} is left alone")
    assert said.keys() >= {"dropped: cap", "POST /v1/unknown"}
    assert content(theirs.parent) == before
    theirs.unlink()
    assert not in_process("--store", store, "ship", "--json").json["other_versions"]


@pytest.mark.parametrize("by", ["ship", "calls", "process"])
def test_what_a_process_of_today_leaves_beside_them_is_delivered(store: str, theirs: Path, by: str) -> None:
    before = theirs.read_bytes()
    killed(store)
    if by == "process":
        assert record(store)
    else:
        assert in_process("--store", store, by).code == (by == "ship")
    with closing(callspan.open_store(store)) as reader:
        assert reader.count_calls() == 3 + (by == "process")
    assert list(theirs.parent.glob(f"*{SUFFIX}")) == [theirs]
    assert theirs.read_bytes() == before


@pytest.mark.parametrize("other", scaled([FORMAT + 1], [1, FORMAT + 1]))
def test_a_store_of_another_format_harms_no_other_and_gets_its_records_once_it_was_moved_away(
    tmp_path: Path, other: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, healthy = tmp_path / "a.db", f"sqlite:///{tmp_path}/b.db"
    refused = f"sqlite:///{path}"
    sqlite_of(path, other)
    before = path.read_bytes()
    assert not record(f"{refused},{healthy}")
    assert len(in_process("--store", healthy, "calls", "--json").json) == 1
    sentence = f"{path} has another layout; load it into a new file: callspan import {path} --into "
    assert len([line for line in caplog.messages if sentence in line]) == 1
    assert in_process("--store", refused, "ship").code == 1
    answer = in_process("--store", refused, "calls")
    assert answer.code == 2
    assert sentence in answer.err
    found = in_process("--store", refused, "doctor", "--json").json["checks"]
    assert [check["detail"].startswith(sentence) for check in found if check["state"] == "failed"] == [True]
    assert path.read_bytes() == before
    path.rename(tmp_path / "away")
    assert len(in_process("--store", refused, "calls", "--json").json) == 1


def sqlite_of(path: Path, other: int) -> None:
    sink = find_store(f"sqlite:///{path}").sink()
    sink.open()
    sink.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version={other}")
