"""Chunk log: time and kind of the first chunks of a stream, if enabled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from callspan import Handle, SettingError
from callspan.observe.chunk_log import chunk_note
from callspan.records import ChunkNote
from callspan.settings_loader import load
from callspan.stores import Reader
from callspan.testing import ScriptedProvider

REQUEST: dict[str, Any] = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


@pytest.mark.parametrize("limit", [0, 2, 1000])
def test_chunks_are_noted_up_to_the_limit_and_not_at_all_by_default(
    limit: int,
    provider: ScriptedProvider,
    instrumented: Callable[..., Handle],
    reading: Callable[[object], Reader],
    tmp_path: Path,
) -> None:
    settings = {"chunk_log": limit} if limit else {}
    handle = instrumented(stores=f"sqlite:///{tmp_path}/calls.db", **settings)
    provider.reply(text="one two three four five")
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        read = len(list(client.chat.completions.create(**REQUEST)))
    assert handle.force_flush(30_000)
    (record,) = reading(f"{tmp_path}/calls.db").calls()
    assert record.stream is not None
    notes = record.stream.log
    assert record.stream.chunks == read
    assert len(notes) == min(limit, read)
    assert [note.offset_ns for note in notes] == sorted(note.offset_ns for note in notes)
    if limit > read:
        assert notes[0].offset_ns == record.timing.first_chunk_ns
        assert notes[-1].offset_ns == record.timing.last_chunk_ns
        assert next(note.offset_ns for note in notes if note.content) == record.timing.first_token_ns
        assert {note.choice for note in notes} <= {0, None}


@pytest.mark.parametrize(
    ("chunk", "event", "choice"),
    [
        ({"choices": [{"index": 3, "delta": {"content": "x"}}]}, None, 3),
        ({"choices": []}, None, None),
        (
            {"type": "response.output_text.delta", "output_index": 1, "content_index": 0},
            "response.output_text.delta",
            1,
        ),
        ({"type": "content_block_delta", "index": 2, "delta": {}}, "content_block_delta", 2),
        ({"type": "ping"}, "ping", None),
        (None, None, None),
        ({"choices": 5, "type": 7, "index": "x"}, None, None),
    ],
)
def test_a_note_says_event_and_choice_in_the_words_of_the_provider(
    chunk: object, event: str | None, choice: int | None
) -> None:
    expected = ChunkNote(offset_ns=50, event=event, choice=choice, content=True)
    assert chunk_note(chunk, 50, content=True) == expected


@pytest.mark.parametrize("content", ["full", "metadata", "off"])
def test_notes_hold_no_content_and_stay_whatever_the_content_setting(
    content: str, provider: ScriptedProvider, instrumented: Callable[..., Handle], tmp_path: Path
) -> None:
    handle = instrumented(stores=f"jsonl:///{tmp_path}/calls.jsonl", chunk_log=100, content=content)
    provider.reply(text="sesame sesame")
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        list(client.chat.completions.create(**REQUEST))
    assert handle.force_flush(30_000)
    written = (tmp_path / "calls.jsonl").read_text()
    assert ("sesame" in written) == (content == "full")
    assert '"log":[{"offset_ns":' in written


def test_the_setting_is_a_number_of_chunks() -> None:
    assert load({}, {"CALLSPAN_CHUNK_LOG": "50"}).chunk_log == 50
    assert load({}, {}).chunk_log == 0
    with pytest.raises(SettingError, match="chunk_log='many': use a number, 0 for none"):
        load({"chunk_log": "many"}, {})
