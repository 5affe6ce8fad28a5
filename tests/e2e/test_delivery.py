"""Delivery: every record to every store, in time, also if one of them fails."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import callspan
from callspan import Handle
from callspan.records import FORMAT
from callspan.stores import Reader
from callspan.stores.unix_socket import PROTOCOL_VERSION
from callspan.testing import ScriptedProvider
from tests.e2e.ask import QUESTION

DOCS = Path(__file__).resolve().parents[2] / "docs"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def test_ten_megabytes_of_prompt_are_on_the_record_and_not_on_the_span(
    provider: ScriptedProvider, instrumented: Callable[..., Handle], reading: Callable[[object], Reader], tmp_path: Path
) -> None:
    """The span is exported within its limits; the record holds all of the body."""
    exporter = InMemorySpanExporter()
    own = TracerProvider()
    own.add_span_processor(SimpleSpanProcessor(exporter))
    handle = instrumented(tracer_provider=own, stores=f"sqlite:///{tmp_path}/calls.db")
    long = "x" * 10_000_000
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": long}])
    assert handle.force_flush(30_000)
    (span,) = exporter.get_finished_spans()
    assert len(span.to_json()) < 400_000
    (record,) = reading(f"sqlite:///{tmp_path}/calls.db").calls()
    assert bytes(record.request.body) == provider.requests[0].content


def test_no_write_is_left_to_a_task_that_could_be_lost(
    provider: ScriptedProvider, instrumented: Callable[..., Handle], tmp_path: Path
) -> None:
    """The loop is closed and garbage collected right after the call: its record is written all the same."""
    handle = instrumented(stores=f"jsonl:///{tmp_path}/calls.jsonl")

    async def body() -> int:
        async with openai.AsyncOpenAI(api_key="k", base_url=provider.openai_url) as client:
            before = len(asyncio.all_tasks())
            await client.chat.completions.create(model="gpt-5", messages=QUESTION)
            return len(asyncio.all_tasks()) - before

    assert asyncio.run(body()) == 0, "no task of ours"
    gc.collect()
    assert handle.force_flush(60_000)
    assert len(lines(tmp_path / "calls.jsonl")) == 1


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
    content: str, provider: ScriptedProvider, instrumented: Callable[..., Handle], tmp_path: Path,
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


def test_the_version_of_the_lines_is_written_down() -> None:
    """A socket's lines match their documentation, and the schema has the version of the records."""
    assert f'{{"protocol_version": {PROTOCOL_VERSION},' in (DOCS / "production.md").read_text()
    assert json.loads((DOCS / "call_record.schema.json").read_text())["title"].endswith(f"schema {FORMAT}")
