"""Which reply answers which request, what is known of requests, and how a provider begins and ends."""

from __future__ import annotations

import dataclasses
import http.client
import subprocess
import sys
from typing import Any, get_type_hints

import openai
import pytest
from tests.provider import FullProvider

from callspan.testing.provider import ReceivedRequest, Reply, ScriptedProvider
from callspan.testing.provider.script import ReplyFields


class TestResponders:
    def test_a_failing_responder_fails_the_call_and_the_test(self, sync_sdk: Any) -> None:
        def broken(_: ReceivedRequest) -> Reply:
            raise AssertionError("the agent asked for nonsense")

        provider = FullProvider()
        provider.reply(responder=broken)
        client = openai.OpenAI(base_url=provider.openai_url, api_key="key", max_retries=3)
        with client, pytest.raises(openai.InternalServerError, match="responder"):
            client.chat.completions.create(model="m", messages=[])
        assert len(provider.requests) == 1
        with pytest.raises(AssertionError, match="nonsense"):
            provider.close()
        provider.close()

    def test_a_failing_responder_does_not_hide_the_error_of_the_block(self) -> None:
        def broken(_: ReceivedRequest) -> Reply:
            raise AssertionError("hidden")

        def run() -> None:
            with FullProvider() as provider:
                provider.reply(responder=broken)
                with openai.OpenAI(base_url=provider.openai_url, api_key="key", max_retries=0) as client:
                    client.chat.completions.create(model="m", messages=[])

        with pytest.raises(openai.InternalServerError):
            run()


class TestRequests:
    def test_a_body_that_is_not_json_is_kept_as_bytes(self, provider: ScriptedProvider) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", int(provider.url.rsplit(":", 1)[1]))
        connection.request("POST", "/v1/chat/completions", body=b"{not json")
        assert connection.getresponse().status == 200
        connection.close()
        (request,) = provider.requests
        assert (request.json, request.content, request.retry_count) == (None, b"{not json", None)
        assert request.body == {}

    def test_a_body_in_chunks_is_put_together(self, provider: ScriptedProvider) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", int(provider.url.rsplit(":", 1)[1]))
        connection.request("POST", "/v1/chat/completions", body=iter([b'{"mod', b'el": "m"}']), encode_chunked=True)
        assert connection.getresponse().status == 200
        connection.close()
        assert provider.requests[0].json == {"model": "m"}


class TestLife:
    def test_closing_twice_has_no_further_effect(self) -> None:
        provider = FullProvider()
        provider.close()
        provider.close()


class TestReply:
    def test_keywords_and_fields_of_a_reply_are_the_same(self) -> None:
        assert get_type_hints(ReplyFields) == get_type_hints(Reply)
        assert set(ReplyFields.__annotations__) == {field.name for field in dataclasses.fields(Reply)}

    def test_a_reply_and_fields_together_are_refused(self, provider: ScriptedProvider) -> None:
        with pytest.raises(TypeError, match="not both"):
            provider.reply("text", model="m")

    def test_a_reply_does_not_change(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            Reply().text = "x"  # type: ignore[misc]


def test_importing_the_provider_imports_no_sdk() -> None:
    code = (
        "import sys, callspan.testing, callspan.testing.provider;"
        "print([m for m in ('openai', 'anthropic', 'httpx', 'httpx2', 'opentelemetry') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
