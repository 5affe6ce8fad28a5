"""Which reply answers which request, what is known of requests, and how a provider begins and ends."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import http.client
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_type_hints

import anthropic
import openai
import pytest
from tests.provider import FullProvider

from callspan.testing.provider import Choice, ReceivedRequest, Reply, ScriptedProvider
from callspan.testing.provider.script import ReplyFields


def texts(sdk: Any, count: int) -> list[str]:
    return [sdk.chat().choices[0].message.content for _ in range(count)]


class TestOrder:
    def test_replies_are_used_in_order_and_then_the_default(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply("first")
        provider.reply(Reply(text="second"))
        assert provider.pending == 2
        assert texts(sync_sdk, 3) == ["first", "second", "Hello from the scripted provider."]
        assert provider.pending == 0

    def test_equal_replies_are_used_one_by_one(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply("same")
        provider.reply("same")
        texts(sync_sdk, 1)
        assert provider.pending == 1

    def test_a_repeating_reply_answers_when_no_single_one_does(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply("always", repeat=True)
        provider.reply("once")
        assert texts(sync_sdk, 3) == ["once", "always", "always"]
        provider.reply("from now on", repeat=True)
        assert texts(sync_sdk, 1) == ["from now on"]
        assert provider.pending == 0

    def test_a_path_limits_a_reply_to_an_endpoint(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply("for messages", on="/v1/messages")
        assert sync_sdk.chat().choices[0].message.content != "for messages"
        assert sync_sdk.messages().content[0].text == "for messages"

    def test_a_predicate_limits_a_reply_to_what_it_accepts(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply("for b", on=lambda request: request.body.get("model") == "b")
        provider.reply("for anyone")
        assert sync_sdk.chat(model="a").choices[0].message.content == "for anyone"
        assert sync_sdk.chat(model="b").choices[0].message.content == "for b"

    def test_a_path_reaches_what_is_not_inference(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        provider.reply(status=500, on="/models")
        with pytest.raises(openai.InternalServerError):
            sync_sdk.openai(lambda c: c.models.list())

    def test_concurrent_clients_each_get_one_reply(self, provider: ScriptedProvider) -> None:
        for number in range(40):
            provider.reply(str(number))

        def ask(_: int) -> str | None:
            with openai.OpenAI(base_url=provider.openai_url, api_key="key") as client:
                return client.chat.completions.create(model="m", messages=[]).choices[0].message.content

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(40)))
        assert sorted(map(int, filter(None, answers))) == list(range(40))
        assert len(provider.requests) == 40

    def test_concurrent_async_calls_share_one_client(self, provider: ScriptedProvider) -> None:
        async def main() -> list[str | None]:
            async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="key") as client:
                create = client.chat.completions.create
                answers = await asyncio.gather(*(create(model="m", messages=[]) for _ in range(25)))
                return [answer.choices[0].message.content for answer in answers]

        provider.reply("together", repeat=True)
        assert asyncio.run(main()) == ["together"] * 25


class TestResponders:
    def test_a_responder_answers_out_of_the_request(self, provider: ScriptedProvider, sdk: Any) -> None:
        def echo(request: ReceivedRequest) -> Reply:
            return Reply(text=f"asked of {request.body['model']}", input_tokens=len(request.content))

        provider.reply(responder=echo, repeat=True)
        answer = sdk.chat(model="m-7")
        assert answer.choices[0].message.content == "asked of m-7"
        assert answer.usage.prompt_tokens == len(provider.requests[0].content)

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
    def test_a_request_is_kept_as_it_arrived(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        sync_sdk.chat(extra_headers={"X-Mine": "Yes"}, extra_query={"a": "1", "b": "x y"})
        (request,) = provider.requests
        assert (request.method, request.path) == ("POST", "/v1/chat/completions")
        assert request.query == {"a": "1", "b": "x y"}
        assert request.headers["x-mine"] == "Yes"
        assert request.headers["authorization"] == "Bearer key"
        assert request.body["model"] == "gpt-5"
        assert request.content.startswith(b"{")
        assert not request.stream
        assert request.retry_count == 0

    def test_requests_are_a_copy_in_order_of_arrival(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        sync_sdk.chat(model="a")
        before = provider.requests
        sync_sdk.chat(model="b")
        assert len(before) == 1
        first, second = provider.requests
        assert (first.body["model"], second.body["model"]) == ("a", "b")
        assert first.time_ns < second.time_ns

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

    def test_one_connection_serves_many_requests(self, provider: ScriptedProvider) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", int(provider.url.rsplit(":", 1)[1]))
        connection.connect()
        port = connection.sock.getsockname()
        for _ in range(3):
            connection.request("POST", "/v1/chat/completions", body=b'{"stream": true}')
            assert connection.getresponse().read().endswith(b"data: [DONE]\n\n")
            assert connection.sock.getsockname() == port
        connection.close()


class TestLife:
    def test_addresses_are_on_loopback(self, provider: ScriptedProvider) -> None:
        assert provider.url.startswith("http://127.0.0.1:")
        assert provider.openai_url == provider.url + "/v1"
        assert provider.anthropic_url == provider.url

    def test_providers_do_not_share_anything(self, provider: ScriptedProvider, sync_sdk: Any) -> None:
        with FullProvider() as other:
            other.reply("of the other")
            assert other.url != provider.url
            assert texts(sync_sdk, 1) != ["of the other"]
            assert other.requests == []

    def test_close_ends_all_threads_and_connections(self) -> None:
        """Idle kept-alive connections, and one that never sent a thing, are hung up on."""
        before = set(threading.enumerate())
        with FullProvider() as provider:
            address = ("127.0.0.1", int(provider.url.rsplit(":", 1)[1]))
            silent = socket.create_connection(address)
            client = openai.OpenAI(base_url=provider.openai_url, api_key="key")
            client.chat.completions.create(model="m", messages=[])
            client.chat.completions.create(model="m", messages=[], stream=True).close()
        assert set(threading.enumerate()) <= before
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        silent.close()
        client.close()
        del provider
        gc.collect()

    def test_closing_twice_has_no_further_effect(self) -> None:
        provider = FullProvider()
        provider.close()
        provider.close()

    def test_a_client_that_leaves_in_the_middle_disturbs_no_other(
        self, provider: ScriptedProvider, sync_sdk: Any
    ) -> None:
        provider.reply(text="word " * 50_000)
        with openai.OpenAI(base_url=provider.openai_url, api_key="key") as client:
            stream = client.chat.completions.create(model="m", messages=[], stream=True)
            next(stream)
            stream.close()
        assert texts(sync_sdk, 1) == ["Hello from the scripted provider."]


class TestReply:
    def test_keywords_and_fields_of_a_reply_are_the_same(self) -> None:
        assert get_type_hints(ReplyFields) == get_type_hints(Reply)
        assert set(ReplyFields.__annotations__) == {field.name for field in dataclasses.fields(Reply)}

    def test_a_reply_and_fields_together_are_refused(self, provider: ScriptedProvider) -> None:
        with pytest.raises(TypeError, match="not both"):
            provider.reply("text", model="m")

    def test_an_unknown_field_is_refused(self, provider: ScriptedProvider) -> None:
        with pytest.raises(TypeError, match="txt"):
            provider.reply(txt="typo")  # type: ignore[call-arg]

    def test_a_reply_does_not_change(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            Reply().text = "x"  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("choice", "reason"),
        [
            (Choice(), "stop"),
            (Choice(tool_calls=[{"name": "f"}]), "tool_calls"),
            (Choice(tool_calls=[{"name": "f"}], finish_reason="length"), "length"),
        ],
    )
    def test_the_finish_reason_fits_the_content_unless_given(self, choice: Choice, reason: str) -> None:
        assert choice.reason == reason


def test_importing_the_provider_imports_no_sdk() -> None:
    code = (
        "import sys, callspan.testing, callspan.testing.provider;"
        "print([m for m in ('openai', 'anthropic', 'httpx', 'httpx2', 'opentelemetry') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


class TestPages:
    def test_a_list_goes_on_behind_the_last_entry_of_the_page_before(self, provider: ScriptedProvider) -> None:
        """The first openai with batches asks for a page more until one is empty."""
        line = {"custom_id": "a", "params": {"model": "m", "max_tokens": 9, "messages": []}}
        with (
            openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client,
            anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k", max_retries=0) as other,
        ):
            made = [other.messages.batches.create(requests=[line]).id for _ in range(3)]  # type: ignore[list-item]
            for size in (1, 2, 3):
                assert [one.id for one in other.messages.batches.list(limit=size)] == made
                assert [one.id for one in client.batches.list(limit=size)] == made
            assert not client.batches.list(after=made[-1]).data
