"""Simulated faults of the scripted provider, as the real SDKs see them."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from callspan.testing.provider import ScriptedProvider


class TestErrorAnswers:
    def test_an_unknown_path_is_not_found(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(text="kept for a known path")
        with pytest.raises(openai.NotFoundError, match="POST /v1/elsewhere"):
            sync_sdk.openai(lambda c: c.post("/elsewhere", body={}, cast_to=object))
        with pytest.raises(anthropic.NotFoundError):
            sync_sdk.anthropic(lambda c: c.beta.skills.list())
        assert provider.pending == 1


class TestRawAnswers:
    def test_raw_events_are_sent_in_order(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(raw=[{"id": "a", "choices": None}, {"id": "b"}, "[DONE]", {"id": "never read"}])
        assert [chunk.id for chunk in sdk.chat(stream=True)] == ["a", "b"]
