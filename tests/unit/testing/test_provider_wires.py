"""The real SDKs read the scripted provider's responses on every wire, plain and streamed."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.testing.provider import ScriptedProvider

TOOL = {"name": "move", "arguments": {"direction": "north", "steps": 3}}


class TestChatCompletions:
    def test_log_probabilities_are_reported_when_requested(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(text="Paris, no doubt", tool_calls=[TOOL], repeat=True)
        whole = sdk.chat(logprobs=True).choices[0].logprobs.content
        parts = [choice.logprobs for chunk in sdk.chat(logprobs=True, stream=True) for choice in chunk.choices]
        assert [token.token for token in whole] == ["Paris,", " no", " doubt"]
        assert bytes(whole[1].bytes) == b" no"
        assert [part.content[0] for part in parts if part] == whole
        assert sdk.chat().choices[0].logprobs is None


class TestResponses:
    @pytest.mark.parametrize(("polls", "status"), [(1, "cancelled"), (0, "completed")])
    def test_a_response_in_the_background_can_be_cancelled_until_its_end(
        self, provider: ScriptedProvider, sdk: Any, polls: int, status: str
    ) -> None:
        provider.reply(text="Paris.", polls=polls)
        job = sdk.responses(background=True)
        cancelled = sdk.openai(lambda c: c.responses.cancel(job.id))
        assert (cancelled.status, sdk.openai(lambda c: c.responses.retrieve(job.id)).status) == (status, status)


class TestMessages:
    def test_broken_tool_arguments_stay_broken_text(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(tool_calls=[{"name": "move", "arguments": '{"direction": "no'}])
        events = sync_sdk.messages(stream=True)
        deltas = [event.delta.partial_json for event in events if event.type == "content_block_delta"]
        assert "".join(deltas) == '{"direction": "no'

    def test_only_the_first_of_several_choices_is_shown(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(choices=["first", "second"])
        assert [block.text for block in sync_sdk.messages().content] == ["first"]
