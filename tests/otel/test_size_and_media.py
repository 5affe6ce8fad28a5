"""Size and media: what an OTLP receiver gets of large calls, in batches that it accepts."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import callspan
from callspan import ByteBoundedExporter, open_store
from callspan.testing import ScriptedProvider
from tests.support.receiver import OtlpReceiver

PIXELS = bytes(range(256)) * 200
ENCODED = base64.b64encode(PIXELS).decode()
DIGEST = hashlib.sha256(PIXELS).hexdigest()


def ask(provider: ScriptedProvider, sdk: str, content: list[Any]) -> None:
    """Make one call of either SDK with this content."""
    messages: Any = [{"role": "user", "content": content}]
    if sdk == "anthropic":
        with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url) as claude:
            claude.messages.create(model="claude-test", max_tokens=9, messages=messages)
        return
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        if sdk == "responses":
            client.responses.create(model="gpt-5", input=messages)
        else:
            client.chat.completions.create(model="gpt-5", messages=messages)


MEDIA: list[tuple[str, str, dict[str, Any]]] = [
    ("openai", "image/png", {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}}),
    ("openai", "audio/wav", {"type": "input_audio", "input_audio": {"data": ENCODED, "format": "wav"}}),
    ("responses", "application/pdf",
     {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{ENCODED}"}),
    ("anthropic", "image/png",
     {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ENCODED}}),
]  # fmt: skip


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(("sdk", "mime", "part"), MEDIA)
def test_media_goes_by_reference_to_receiver_and_store(
    receiver: OtlpReceiver,
    provider: ScriptedProvider,
    tmp_path: Path,
    sdk: str,
    mime: str,
    part: Any,
    inline: bool,
) -> None:
    """Or whole to the store alone, where that is set."""
    kind = {"openai": "text", "responses": "input_text", "anthropic": "text"}[sdk]
    store, tracing = f"sqlite:///{tmp_path / 'a.db'}", receiver.tracer_provider()
    handle = callspan.instrument(stores=store, tracer_provider=tracing, media="inline" if inline else "reference")
    ask(provider, sdk, [{"type": kind, "text": "What is this?"}, part])
    handle.uninstrument()
    tracing.shutdown()
    piece, whole = ENCODED[1000:1200].encode(), ENCODED.encode()
    assert whole in provider.requests[0].content, "the provider got it whole"
    with closing(open_store(store)) as reader:
        (call,) = reader.calls()
        body = bytes(call.request.body)
    assert (whole in body, piece in body, DIGEST.encode() in body) == (inline, inline, not inline)
    attributes = receiver.spans[-1].attributes
    parts = json.loads(attributes["gen_ai.input.messages"])[0]["parts"]
    assert parts[0] == {"type": "text", "content": "What is this?"}
    assert parts[1]["uri"] == f"urn:sha256:{DIGEST}"
    assert (parts[1]["mime_type"], parts[1]["size"]) == (mime, len(PIXELS))
    assert "callspan.truncated_bytes" not in attributes, "nothing was cut: what it stands for is elsewhere"
    assert not any(piece in each for each in receiver.raw)


class Sizes(SpanExporter):
    """An exporter that keeps the number of items of each batch, and refuses the first `refused`."""

    def __init__(self, refused: int = 0) -> None:
        self.seen: list[int] = []
        self.ended: list[str] = []
        self._refused = refused

    def export(self, spans: Any) -> SpanExportResult:
        self.seen.append(len(spans))
        return SpanExportResult.FAILURE if len(self.seen) <= self._refused else SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.ended.append(f"flush {timeout_millis}")
        return False

    def shutdown(self) -> None:
        self.ended.append("shutdown")


def item(size: int, **other: Any) -> Any:
    return SimpleNamespace(attributes={"text": "x" * size}, **other)


@pytest.mark.parametrize(
    ("batch", "sizes"),
    [
        ([item(900)] * 3, [2, 1]),
        ([item(10), item(9000), item(10)], [1, 1, 1]),
        ([item(1, events=[item(900)])] * 3, [1, 1, 1]),
        ([SimpleNamespace(log_record=item(1, body={"said": ["\ud83d" * 900, b"y" * 900]}))] * 2, [1, 1]),
    ],
)
def test_batches_are_cut_by_the_bytes_of_what_they_hold(batch: list[Any], sizes: list[int]) -> None:
    behind = Sizes()
    assert ByteBoundedExporter(behind, 3000).export(batch) is SpanExportResult.SUCCESS
    assert behind.seen == sizes


def test_a_batch_fails_if_a_part_does_and_its_other_parts_are_sent() -> None:
    behind = Sizes(refused=1)
    bounded = ByteBoundedExporter(behind, 3000)
    assert bounded.export([item(2000), item(2000)]) is SpanExportResult.FAILURE
    assert behind.seen == [1, 1]
    assert bounded.force_flush(7) is False
    bounded.shutdown()
    assert behind.ended == ["flush 7", "shutdown"]
