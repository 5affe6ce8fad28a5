"""What a provider says beside the content of its answer is kept at each level if it is a word; a sentence is not."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import openai
import pytest
from tests.support.calls import CHAT, everywhere

import callspan
from callspan.records import CallRecord, EventRecord
from callspan.testing import Capture, ScriptedProvider, capture

SENTENCES: Final = ["A question of a user", "\u8ab0\u306b\u3082\u8a00\u308f\u306a\u3044\u3067", "b" * 513]
WORD: Final = "accounts/a/models/b-1.5:free"


def answered(provider: ScriptedProvider, text: str) -> None:
    """Let the provider say a text in all places of an answer, a stream and two refusals."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "note": text, text: 3, "list": [text, 4]}
    usage["completion_tokens_details"] = {"note": [{"x": text, "y": 5}], text: 6}
    choice = {"index": 0, "finish_reason": text, "message": {"role": "assistant", "content": "A"}}
    said = {"id": text, "model": text, "service_tier": text, "system_fingerprint": text}
    provider.reply(raw={**said, "choices": [choice], "usage": usage}, headers={"x-request-id": text.encode().hex()})
    delta = {"choices": [{"index": 0, "delta": {"content": "A"}, "finish_reason": text}]}
    provider.reply(raw=[{**said, **delta}, {"type": text, "x": 1}, {"error": {"message": text, "code": text}}])
    provider.reply(status=500, raw={"error": {"message": text, "type": text}}, retry_after_s=0.001)
    provider.reply(status=400, raw={"error": {"message": text, "code": text, "param": text}, "request_id": text})


def asked(provider: ScriptedProvider, text: str) -> None:
    answered(provider, text)
    with openai.OpenAI(api_key="sk-1", base_url=provider.openai_url, max_retries=1) as client:
        client.chat.completions.create(**CHAT)
        with suppress(openai.APIError):
            list(client.chat.completions.create(**CHAT, stream=True))
        with suppress(openai.APIError):
            client.chat.completions.create(**CHAT)


def calls(seen: Capture) -> list[CallRecord]:
    return [record for record in seen.everything if isinstance(record, CallRecord) and record.outcome]


@pytest.mark.parametrize("level", ["off", "metadata"])
@pytest.mark.parametrize("text", SENTENCES)
def test_sentences_are_removed(text: str, level: Any, provider: ScriptedProvider) -> None:
    with capture(content=level, chunk_log=9) as seen:
        asked(provider, text)
    everything = everywhere(seen)
    assert text not in everything
    assert text.encode("unicode-escape").decode() not in everything
    plain, _, refused = calls(seen)[0], *calls(seen)[-2:]
    assert plain.usage is not None
    details = {"note": [{"y": 5}]}
    assert plain.usage.raw is not None
    assert (plain.usage.raw["list"], plain.usage.raw["completion_tokens_details"]) == ([4], details)
    assert {note.what for note in plain.redactions} >= {"response", "usage.raw"}
    assert refused.error is not None
    assert (refused.error.type, refused.error.code, refused.error.status) == ("openai.BadRequestError", None, 400)


def test_words_are_kept(provider: ScriptedProvider) -> None:
    with capture(content="off", chunk_log=9) as seen:
        asked(provider, WORD)
    plain, refused = calls(seen)[0], calls(seen)[-1]
    assert plain.response is not None
    assert (plain.response.model, plain.response.id, plain.response.finish_reasons) == (WORD, WORD, [WORD])
    assert plain.usage is not None
    assert plain.usage.raw is not None
    assert plain.usage.raw["note"] == WORD
    assert refused.error is not None
    assert (refused.error.type, refused.error.code) == (WORD, WORD)
    assert not {"response", "usage.raw", "stream", "attempts"} & {note.what for note in plain.redactions}


def test_sentences_are_kept_with_all_content(provider: ScriptedProvider) -> None:
    """They arrive at all: what the levels take away would be found."""
    with capture(chunk_log=9) as seen:
        asked(provider, SENTENCES[0])
    assert everywhere(seen).count(SENTENCES[0]) > 20


def sent(provider: ScriptedProvider, text: str) -> None:
    """Let the application state a text where a model, a provider or an id is expected, and an answer in its tools."""
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    output = [
        {"type": "mcp_call", "id": text, "name": text, "server_label": text, "arguments": "{}", "output": "o"},
        {"type": "web_search_call", "id": text, "status": "completed", "action": {"type": text}},
        {"type": f"{text}_call", "id": f"{text} 2", "name": text, "status": "completed", "output": "o"},
    ]
    provider.reply(text="A")
    provider.reply(raw={"id": "r", "object": "response", "model": "m", "status": "completed", "output": output,
        "usage": usage})  # fmt: skip
    with openai.OpenAI(api_key="sk-1", base_url=provider.openai_url) as client, callspan.session("s"):
        client.chat.completions.create(**{**CHAT, "model": text, "messages": [{"role": text, "content": "A"}]})
        client.responses.create(model="m", input="A", previous_response_id=text, conversation=text)
        with callspan.record_call(provider=text, client=text, model=text) as call:
            own = {text: 1, f"{text}!": {text: text}, "reasoning": {text: 1}, "x_own": text}
            call.request({"model": text, "messages": [{"role": text, "content": "A"}], **own})
            call.response({"choices": [{"message": {"role": "assistant", "content": "A"}}]})
        asked = {"id": text, "type": "function", "function": {"name": "t", "arguments": "{}"}}
        # The session API takes no longer id.
        with callspan.tool("t", call=asked if len(text) <= 512 else None):
            pass


@pytest.mark.parametrize("text", SENTENCES)
def test_sentences_in_place_of_words_of_a_request_are_removed(text: str, provider: ScriptedProvider) -> None:
    with capture(content="off", attempt_spans=True) as seen:
        sent(provider, text)
    everything = everywhere(seen)
    assert text not in everything
    assert text.encode("unicode-escape").decode() not in everything
    own, plain = calls(seen)[-1], calls(seen)[0]
    assert (own.provider, own.sdk, own.request.model) == ("unknown", None, None)
    assert "request.model" in {note.what for note in plain.redactions}
    assert [note.what for note in own.redactions if note.what.startswith("request.params")] == [
        "request.params", "request.params.reasoning", "request.params.x_own"
    ]  # fmt: skip
    tools = [one.name for one in seen.everything if isinstance(one, EventRecord) and one.duration_ns is None]
    assert {*tools} >= {"mcp", "web_search", "other"}


@pytest.mark.parametrize("text", SENTENCES)
def test_ids_and_roles_that_are_sentences_are_removed_beside_names(text: str, provider: ScriptedProvider) -> None:
    with capture(content="metadata") as seen:
        sent(provider, text)
    records = [one for one in seen.everything if isinstance(one, CallRecord)]
    assert {one.request.model for one in records} <= {None, "m"}
    assert {role for one in records for role in one.request.roles or ()} <= {"unknown", "user"}
    events = [one for one in seen.everything if isinstance(one, EventRecord)]
    assert not [one for one in events if text in f"{one.event_id} {one.tool_call_id}"]


def test_words_of_a_request_are_kept(provider: ScriptedProvider) -> None:
    with capture(content="off") as seen:
        sent(provider, WORD)
    plain, own = calls(seen)[0], calls(seen)[-1]
    assert (plain.request.model, own.provider, own.request.model) == (WORD, WORD, WORD)
    assert "request.model" not in {note.what for note in plain.redactions}
