"""Simulated faults of the scripted provider, as the real SDKs see them."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import anthropic
import openai
import pytest

from callspan.testing.provider import ScriptedProvider

TEXT = "one two three four five"


def take_until_failure(stream: Any) -> tuple[list[Any], Exception | None]:
    """What came through, and what ended it; None for a proper end."""
    items: list[Any] = []
    try:
        with stream:
            for item in stream:
                items.append(item)
    except Exception as failure:  # noqa: BLE001 (the failure is the result)
        return items, failure
    return items, None


def chat_stream(provider: ScriptedProvider, **fields: Any) -> tuple[list[Any], Exception | None]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="key", max_retries=0) as client:
        return take_until_failure(client.chat.completions.create(model="gpt-5", messages=[], stream=True, **fields))


def message_stream(provider: ScriptedProvider) -> tuple[list[Any], Exception | None]:
    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="key", max_retries=0) as client:
        return take_until_failure(client.messages.create(model="claude", max_tokens=9, messages=[], stream=True))


class TestErrorAnswers:
    @pytest.mark.parametrize(
        ("status", "error", "kind", "code"),
        [
            (400, openai.BadRequestError, "invalid_request_error", "invalid_value"),
            (401, openai.AuthenticationError, "invalid_request_error", "invalid_api_key"),
            (404, openai.NotFoundError, "invalid_request_error", "model_not_found"),
            (429, openai.RateLimitError, "requests", "rate_limit_exceeded"),
            (500, openai.InternalServerError, "server_error", None),
        ],
    )
    def test_openai_errors_have_their_usual_type(
        self, provider: ScriptedProvider, sdk: Any, status: int, error: type, kind: str, code: str | None
    ) -> None:
        provider.reply(status=status, message="as scripted")
        with pytest.raises(error, match="as scripted") as caught:
            sdk.chat()
        assert (caught.value.type, caught.value.code) == (kind, code)
        assert caught.value.request_id.startswith("req_")

    @pytest.mark.parametrize(
        ("status", "error", "kind"),
        [
            (400, anthropic.BadRequestError, "invalid_request_error"),
            (401, anthropic.AuthenticationError, "authentication_error"),
            (429, anthropic.RateLimitError, "rate_limit_error"),
            (500, anthropic.InternalServerError, "api_error"),
            (529, anthropic.InternalServerError, "overloaded_error"),
        ],
    )
    def test_anthropic_errors_have_their_usual_type(
        self, provider: ScriptedProvider, sdk: Any, status: int, error: type, kind: str
    ) -> None:
        provider.reply(status=status, message="as scripted")
        with pytest.raises(error, match="as scripted") as caught:
            sdk.messages()
        assert caught.value.body["error"]["type"] == kind
        assert caught.value.body["request_id"] == caught.value.request_id

    def test_type_and_code_can_be_given(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(status=429, error_type="insufficient_quota", error_code="insufficient_quota")
        with pytest.raises(openai.RateLimitError) as caught:
            sync_sdk.responses()
        assert (caught.value.type, caught.value.code) == ("insufficient_quota", "insufficient_quota")

    def test_an_error_body_can_be_given(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(status=400, raw={"detail": "not the usual shape"})
        with pytest.raises(openai.BadRequestError) as caught:
            sync_sdk.chat()
        assert caught.value.body == {"detail": "not the usual shape"}

    @pytest.mark.parametrize(("status", "remaining"), [(200, "9999"), (429, "0")])
    def test_openai_sends_its_limits_and_ids(
        self, provider: ScriptedProvider, sync_sdk: Any, status: int, remaining: str
    ) -> None:
        provider.reply(status=status)
        try:
            headers = sync_sdk.openai(
                lambda c: c.chat.completions.with_raw_response.create(model="m", messages=[]).headers
            )
        except openai.RateLimitError as error:
            headers = error.response.headers
        assert headers["x-ratelimit-remaining-requests"] == remaining
        assert headers["x-ratelimit-limit-tokens"] == "2000000"
        assert headers["x-request-id"].startswith("req_")

    def test_anthropic_sends_its_limits_and_ids(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        create = {"model": "claude", "max_tokens": 9, "messages": []}
        headers = sync_sdk.anthropic(lambda c: c.messages.with_raw_response.create(**create).headers)
        assert headers["anthropic-ratelimit-requests-remaining"] == "3999"
        assert headers["anthropic-ratelimit-input-tokens-limit"] == "400000"
        assert headers["request-id"].startswith("req_01")

    def test_headers_can_be_added_changed_and_taken_away(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(headers={"X-Request-ID": "req_mine", "x-ratelimit-limit-tokens": None, "x-extra": 1})
        headers = sync_sdk.openai(lambda c: c.chat.completions.with_raw_response.create(model="m", messages=[]).headers)
        assert (headers["x-request-id"], headers["x-extra"]) == ("req_mine", "1")
        assert "x-ratelimit-limit-tokens" not in headers

    def test_an_unknown_path_is_not_found(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(text="kept for a known path")
        with pytest.raises(openai.NotFoundError, match="POST /v1/elsewhere"):
            sync_sdk.openai(lambda c: c.post("/elsewhere", body={}, cast_to=object))
        with pytest.raises(anthropic.NotFoundError):
            sync_sdk.anthropic(lambda c: c.beta.skills.list())
        assert provider.pending == 1


class TestBrokenStreams:
    @pytest.mark.parametrize("after", [0, 1, 3])
    def test_a_cut_breaks_the_connection_after_so_many_events(self, provider: ScriptedProvider, after: int) -> None:
        provider.reply(text=TEXT, cut_after=after, repeat=True)
        for stream in (chat_stream, message_stream):
            items, failure = stream(provider)
            # The SDK of Anthropic hides the ping, which is the third event.
            assert len(items) == after - (stream is message_stream and after == 3)
            assert failure is not None

    def test_a_cut_can_come_after_the_finish_reason(self, provider: ScriptedProvider) -> None:
        """Counted from the end, where `[DONE]` is the last event."""
        provider.reply(text=TEXT, cut_after=-2)
        items, failure = chat_stream(provider, stream_options={"include_usage": True})
        assert items[-1].choices[0].finish_reason == "stop"
        assert failure is not None

    def test_an_early_end_is_a_proper_end_without_the_rest(self, provider: ScriptedProvider) -> None:
        provider.reply(text=TEXT, end_after=3)
        items, failure = chat_stream(provider)
        assert len(items) == 3
        assert failure is None

    def test_an_error_event_comes_in_the_middle_of_responses(self, provider: ScriptedProvider) -> None:
        provider.reply(text=TEXT, error_after=2, error_type="insufficient_quota")
        with openai.OpenAI(base_url=provider.openai_url, api_key="key", max_retries=0) as client:
            items, failure = take_until_failure(client.responses.create(model="m", input="x", stream=True))
        assert [item.type for item in items] == ["response.created", "response.in_progress"]
        assert isinstance(failure, openai.APIError)
        assert failure.type == "insufficient_quota"

    def test_a_malformed_event_is_not_json(self, provider: ScriptedProvider) -> None:
        provider.reply(text=TEXT, malformed=True, repeat=True)
        for stream in (chat_stream, message_stream):
            items, failure = stream(provider)
            assert len(items) == 1
            assert failure is not None

    def test_a_body_cut_stops_in_the_middle_of_an_event(self, provider: ScriptedProvider) -> None:
        provider.reply(text=TEXT, body_cut=True)
        items, failure = chat_stream(provider)
        assert len(items) == 1
        assert failure is not None


class TestRawAnswers:
    def test_a_raw_object_is_the_body(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(raw={"id": "mine", "choices": [], "odd": {"deep": [1]}})
        answer = sdk.chat()
        assert answer.model_dump(exclude_unset=True) == {"id": "mine", "choices": [], "odd": {"deep": [1]}}

    def test_a_raw_object_is_cut_into_events_for_a_stream(self, provider: ScriptedProvider, sdk: Any) -> None:
        message = {"role": "assistant", "content": "a b c"}
        provider.reply(raw={"id": "mine", "choices": [{"index": 4, "message": message, "finish_reason": "eos"}]})
        chunks = sdk.chat(stream=True)
        assert {chunk.id for chunk in chunks} == {"mine"}
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "a b c"
        assert chunks[-1].choices[0].finish_reason == "eos"
        assert {chunk.choices[0].index for chunk in chunks} == {4}

    def test_raw_events_are_sent_in_order(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(raw=[{"id": "a", "choices": None}, {"id": "b"}, "[DONE]", {"id": "never read"}])
        assert [chunk.id for chunk in sdk.chat(stream=True)] == ["a", "b"]

    def test_raw_events_take_their_name_from_their_type(self, provider: ScriptedProvider, sdk: Any) -> None:
        """The SDK of Anthropic goes by the `event:` line."""
        provider.reply(raw=[{"type": "message_stop"}])
        assert [event.type for event in sdk.messages(stream=True)] == ["message_stop"]

    def test_raw_bytes_are_sent_as_they_are(self, provider: ScriptedProvider, sdk: Any) -> None:
        provider.reply(raw=b'data: {"id": "a"}\r\n\r\n: a comment\r\n\r\ndata: [DONE]\r\n\r\n')
        assert [chunk.id for chunk in sdk.chat(stream=True)] == ["a"]

    def test_raw_answers_serve_paths_that_no_endpoint_has(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(raw={"id": "file-1", "object": "file"}, on="/files/file-1")
        assert sync_sdk.openai(lambda c: c.files.retrieve("file-1")).id == "file-1"


class TestTime:
    def test_a_delay_comes_before_the_headers(self, provider: ScriptedProvider) -> None:
        provider.reply(delay_s=0.05)
        start = time.monotonic()
        with openai.OpenAI(base_url=provider.openai_url, api_key="key") as client:
            stream = client.chat.completions.create(model="m", messages=[], stream=True)
            headers_s = time.monotonic() - start
            stream.close()
        assert headers_s >= 0.05

    def test_the_first_token_and_each_later_event_have_their_delays(self, provider: ScriptedProvider) -> None:
        provider.reply(text="a b c", first_token_delay_s=0.08, chunk_delay_s=0.02)
        start = time.monotonic()
        with openai.OpenAI(base_url=provider.openai_url, api_key="key") as client:
            stream = client.chat.completions.create(model="m", messages=[], stream=True)
            times = [time.monotonic() - start for _ in stream]
        # From the start, not between chunks: a busy reader gets the first one late.
        assert times[1] >= 0.08
        assert all(moment >= 0.08 + 0.02 * index for index, moment in enumerate(times[1:]))

    def test_the_delay_of_the_first_token_is_not_that_of_every_event(self, provider: ScriptedProvider) -> None:
        """Two hundred of them would run into the time limit of the test."""
        provider.reply(text="a " * 200, first_token_delay_s=1)
        items, _ = chat_stream(provider)
        assert len(items) > 200

    def test_a_delay_between_chunks_needs_no_first_token_delay(self, provider: ScriptedProvider) -> None:
        provider.reply(text="a b c", chunk_delay_s=0.02)
        start = time.monotonic()
        items, _ = chat_stream(provider)
        assert time.monotonic() - start >= 0.02 * (len(items) - 2)

    def test_closing_the_provider_frees_a_client_that_hangs(self) -> None:
        provider = ScriptedProvider()
        provider.reply(hang=True)
        closer = threading.Timer(0.1, provider.close)
        with openai.OpenAI(base_url=provider.openai_url, api_key="key", max_retries=0) as client:
            closer.start()
            with pytest.raises(openai.APIConnectionError):
                client.chat.completions.create(model="m", messages=[])
        closer.join()

    def test_closing_the_provider_ends_a_wait(self) -> None:
        provider = ScriptedProvider()
        provider.reply(delay_s=60)
        with socket.create_connection(("127.0.0.1", int(provider.url.rsplit(":", 1)[1]))) as raw:
            raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
            while not provider.requests:
                time.sleep(0.001)
            start = time.monotonic()
            provider.close()
            assert raw.recv(1) == b""
        assert time.monotonic() - start < 5
