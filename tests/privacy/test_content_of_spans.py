"""Spans have no content where only records may have it, nor where `send` may not show what a store has."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from tests.support.calls import CHAT
from tests.support.commands import ask
from tests.support.receiver import OtlpReceiver

import callspan
from callspan.records import encode
from callspan.testing import ScriptedProvider, capture

CANARY: Final = "canary of a user"
ASKED: Final[dict[str, Any]] = {**CHAT, "messages": [{"role": "user", "content": CANARY}]}


def run(provider: ScriptedProvider) -> None:
    """Calls, scopes and an event whose content, parameters and errors have the canary."""
    provider.reply(text=CANARY, tool_calls=[{"name": "f", "arguments": {"a": CANARY}}])
    provider.reply(status=500, message=CANARY, retry_after_s=0.001)
    provider.reply(status=400, raw={"error": {"message": CANARY, "param": CANARY, "code": CANARY}})
    with openai.OpenAI(api_key="sk-1", base_url=provider.openai_url, max_retries=1) as client:
        client.chat.completions.create(**ASKED, user=CANARY, stop=[CANARY], extra_body={"note": CANARY})
        with suppress(openai.APIError), callspan.session("s") as session, session.timestep(), callspan.tool("t"):
            session.event("e", {"a": CANARY}, error=CANARY)
            client.chat.completions.create(**ASKED)


@pytest.mark.parametrize("vocabulary", ["llm", "llm,gen_ai,openinference"])
def test_records_alone_have_content(vocabulary: str, provider: ScriptedProvider) -> None:
    with capture(content_on_spans=False, attempt_spans=True, vocabularies=vocabulary) as seen:
        run(provider)
    assert [span.name for span in seen.spans if CANARY in span.to_json()] == []
    assert "".join(encode(record).decode() for record in seen.everything).count(CANARY) > 10


@pytest.mark.parametrize("content", ["off", "metadata", "full"])
def test_sent_spans_have_the_content_of_the_setting(
    content: Any, tmp_path: Path, provider: ScriptedProvider, receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    handle = callspan.instrument(stores=url)
    try:
        run(provider)
        assert handle.force_flush()
    finally:
        handle.uninstrument()
    monkeypatch.setenv("CALLSPAN_CONTENT", content)
    monkeypatch.setenv("CALLSPAN_ATTEMPT_SPANS", "on")
    assert ask("--store", url, "send", "--otlp", receiver.url).code == 0
    assert receiver.spans
    assert (CANARY in str(receiver.requests)) == (content == "full")
