"""Size and media: what an OTLP receiver gets of calls that are too large for a span.

Caps hold in bytes, the largest part is cut and tells its size, JSON stays JSON, media goes by reference.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

import callspan
from callspan import open_store
from callspan.otlp.providers import OtlpProviders
from callspan.testing import ScriptedProvider
from tests.otel.receiver import OtlpReceiver, ReceivedSpan

ATTRIBUTE, SPAN = 32 << 10, 128 << 10
PIXELS = bytes(range(256)) * 200
ENCODED = base64.b64encode(PIXELS).decode()
REFERENCE = {"sha256": hashlib.sha256(PIXELS).hexdigest(), "bytes": len(PIXELS)}
JSON_TEXT = ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.definitions", "gen_ai.system_instructions",
             "llm.prompts.raw", "llm.completions.raw", "llm.options")  # fmt: skip
Sent = Callable[..., ReceivedSpan]


@pytest.fixture
def sent(provider: ScriptedProvider, receiver: OtlpReceiver, tmp_path: Path) -> Iterator[Sent]:
    """Make one call of either SDK and return its span as it arrived, spans' content checked against the caps."""

    def call(request: dict[str, Any], reply: str = "Well.", sdk: str = "openai", **settings: Any) -> ReceivedSpan:
        tracer_provider = OtlpProviders(receiver.url).provider("traces")
        provider.reply(text=reply)
        handle = callspan.instrument(
            stores=f"sqlite:///{tmp_path / 'a.db'}", tracer_provider=tracer_provider, **settings
        )
        try:
            _ask(provider, sdk, request)
            assert handle.force_flush(20_000)
        finally:
            handle.uninstrument()
            tracer_provider.shutdown()
        span = receiver.spans[-1]
        within(span, settings.get("max_attribute_bytes", ATTRIBUTE), settings.get("max_span_bytes", SPAN))
        return span

    yield call
    assert not receiver.refused


def _ask(provider: ScriptedProvider, sdk: str, request: dict[str, Any]) -> None:
    if sdk == "anthropic":
        with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url) as claude:
            claude.messages.create(**{"model": "claude-test", "max_tokens": 9, **request})
        return
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        if sdk == "responses":
            client.responses.create(**{"model": "gpt-5", **request})
        else:
            client.chat.completions.create(**{"model": "gpt-5", **request})


def within(span: ReceivedSpan, attribute: int, whole: int) -> None:
    """No attribute and no span above its cap; whatever is JSON can be read."""
    content = {name: value for name, value in span.attributes.items() if name.startswith(("gen_ai.", "llm."))}
    sizes = {name: len(value.encode()) for name, value in content.items() if isinstance(value, str)}
    assert max(sizes.values()) <= attribute, sizes
    shown = sum(size for name, size in sizes.items() if name in (*JSON_TEXT, "llm.prompts", "llm.completions"))
    assert shown <= whole, sizes
    for name in JSON_TEXT:
        if name in content:
            json.loads(content[name])


MEDIA: list[tuple[str, str, dict[str, Any]]] = [
    ("openai", "image/png", {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}}),
    ("openai", "audio/wav", {"type": "input_audio", "input_audio": {"data": ENCODED, "format": "wav"}}),
    ("openai", "application/pdf",
     {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{ENCODED}"}}),
    ("responses", "image/png", {"type": "input_image", "image_url": f"data:image/png;base64,{ENCODED}"}),
    ("responses", "application/pdf",
     {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{ENCODED}"}),
    ("anthropic", "image/png",
     {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ENCODED}}),
    ("anthropic", "application/pdf",
     {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ENCODED}}),
]  # fmt: skip


@pytest.mark.parametrize(("sdk", "mime", "part"), MEDIA)
def test_media_goes_by_reference_to_receiver_and_store(
    sent: Sent, receiver: OtlpReceiver, provider: ScriptedProvider, tmp_path: Path, sdk: str, mime: str, part: Any
) -> None:
    kind = {"openai": "text", "responses": "input_text", "anthropic": "text"}[sdk]
    content = [{"type": kind, "text": "What is this?"}, part]
    name = "input" if sdk == "responses" else "messages"
    span = sent({name: [{"role": "user", "content": content}]}, sdk=sdk)
    assert ENCODED.encode() in provider.requests[0].content, "the provider got it whole"
    parts = json.loads(span.attributes["gen_ai.input.messages"])[0]["parts"]
    assert parts[0] == {"type": "text", "content": "What is this?"}
    assert parts[1]["uri"] == f"urn:sha256:{REFERENCE['sha256']}"
    assert (parts[1]["mime_type"], parts[1]["size"]) == (mime, len(PIXELS))
    assert "callspan.truncated_bytes" not in span.attributes, "nothing was cut: what it stands for is elsewhere"
    piece = ENCODED[1000:1200].encode()
    assert not any(piece in body for body in receiver.raw)
    with closing(open_store(f"sqlite:///{tmp_path / 'a.db'}")) as store:
        (call,) = store.calls()
        body = bytes(call.request.body)
    assert piece not in body
    assert REFERENCE["sha256"].encode() in body


def test_media_inline_is_whole_in_the_store_and_within_the_caps_on_the_span(sent: Sent, tmp_path: Path) -> None:
    content = [{"type": "text", "text": "What is this?"}, MEDIA[0][2]]
    sent({"messages": [{"role": "user", "content": content}]}, media="inline")
    with closing(open_store(f"sqlite:///{tmp_path / 'a.db'}")) as store:
        (call,) = store.calls()
        assert ENCODED.encode() in bytes(call.request.body)
