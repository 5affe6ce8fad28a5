"""Transports: every HTTP client the SDKs accept, and their requests that are not attempts of a call."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import anthropic
import openai
import pytest

from callspan.testing import Captured
from tests.intercept import sdks
from tests.intercept.calls import QUESTION, Run, text_of, the_call
from tests.intercept.mode import Mode

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}
MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}


def aio_client(module: Any) -> Any:
    if not hasattr(module, "DefaultAioHttpClient"):
        pytest.skip(f"{module.__name__} {module.__version__} has no aiohttp transport")
    try:
        return module.DefaultAioHttpClient()
    except (ImportError, RuntimeError) as missing:
        pytest.skip(f"the aiohttp transport of this version needs another package: {missing}")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
def test_the_aiohttp_transport_is_captured(sdk: str, stream: bool, mode: Mode, run: Run, seen: Captured) -> None:
    if not mode.is_async:
        mode.name = "async"
    mode.provider.reply(text="I am well.")

    async def body() -> None:
        if sdk == "openai":
            create = mode.openai(http_client=aio_client(openai)).chat.completions.create
            result = await create(**CHAT, stream=stream)
        else:
            result = await mode.anthropic(http_client=aio_client(anthropic)).messages.create(**MESSAGE, stream=stream)
        if stream:
            await mode.all(result)

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")
    assert [attempt.status for attempt in record.attempts] == [200]


def legacy_client(mode: Mode) -> Any:
    sdks.needs("openai", "3.0", "a newer HTTP library beside which the older one is accepted")
    httpx = pytest.importorskip("httpx", reason="the older HTTP library is not installed")
    return mode.openai(http_client=httpx.AsyncClient() if mode.is_async else httpx.Client())


def test_a_client_of_the_older_http_library_is_captured(mode: Mode, run: Run) -> None:
    """`httpx` was imported before instrumenting, or at least before this test."""
    from callspan.testing import capture

    mode.provider.reply(status=429, retry_after_s=0.001)
    mode.provider.reply(text="I am well.")
    client = legacy_client(mode).with_options(max_retries=1)
    with capture() as seen:
        run(lambda: mode.wait(client.chat.completions.create(**CHAT)))
    record = the_call(seen)
    assert text_of(record) == "I am well."
    assert [attempt.status for attempt in record.attempts] == [429, 200]


LATE = """
import callspan, openai, sys
assert "httpx" not in sys.modules
from callspan.testing import ScriptedProvider, capture
with ScriptedProvider() as provider, capture() as seen:
    import httpx
    provider.reply(status=429, retry_after_s=0.001)
    with openai.OpenAI(api_key="k", base_url=provider.openai_url, max_retries=1, http_client=httpx.Client()) as client:
        client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "hi"}])
        stream = client.chat.completions.create(
            model="gpt-5", messages=[{"role": "user", "content": "hi"}], stream=True)
        next(stream)
        stream.close()
    plain, stream = seen.records
    print([attempt.status for attempt in plain.attempts], stream.stream.end)
"""


def test_the_older_http_library_may_be_imported_after_instrumenting() -> None:
    sdks.needs("openai", "3.0", "a newer HTTP library beside which the older one is accepted")
    pytest.importorskip("httpx", reason="the older HTTP library is not installed")
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[429, 200] closed", done.stderr


def test_a_client_that_overrides_send_and_calls_super_shows_its_attempts(mode: Mode, run: Run, seen: Captured) -> None:
    library = sdks.http_of("openai")

    class Own(library.Client):  # type: ignore[name-defined,misc]
        def send(self, request: Any, **kwargs: Any) -> Any:
            return super().send(request, **kwargs)

    class OwnAsync(library.AsyncClient):  # type: ignore[name-defined,misc]
        async def send(self, request: Any, **kwargs: Any) -> Any:
            return await super().send(request, **kwargs)

    client = mode.openai(http_client=OwnAsync() if mode.is_async else Own())
    run(lambda: mode.wait(client.chat.completions.create(**CHAT)))
    assert [attempt.status for attempt in the_call(seen).attempts] == [200]


def test_a_request_of_the_transport_within_a_call_is_not_an_attempt(mode: Mode, run: Run, seen: Captured) -> None:
    """As an exchange of tokens does it: another request over the same library, while the call is running."""
    library = sdks.http_of("openai")
    url = f"{mode.provider.openai_url}/models"

    class Exchange(library.Auth):  # type: ignore[name-defined,misc]
        def sync_auth_flow(self, request: Any) -> Any:
            with library.Client() as other:
                other.get(url)
            yield request

        async def async_auth_flow(self, request: Any) -> Any:
            async with library.AsyncClient() as other:
                await other.get(url)
            yield request

    kind = library.AsyncClient if mode.is_async else library.Client
    run(lambda: mode.wait(mode.openai(http_client=kind(auth=Exchange())).chat.completions.create(**CHAT)))
    record = the_call(seen)
    assert len(mode.provider.requests) == 2
    assert len(record.attempts) == 1


def test_the_exchange_of_a_workload_identity_is_not_an_attempt(
    mode: Mode, run: Run, seen: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdks.needs("openai", "3.0", "workload identities")
    from openai.auth import _workload

    exchange = f"{mode.provider.openai_url}/oauth/token"
    monkeypatch.setitem(_workload.WorkloadIdentityAuth.__init__.__kwdefaults__, "token_exchange_url", exchange)
    token = {"access_token": "t", "token_type": "Bearer", "expires_in": 3600, "issued_token_type": "x"}
    mode.provider.reply(raw=token, on="/oauth/token")
    identity = {
        "identity_provider_id": "idp",
        "service_account_id": "sa",
        "provider": {"token_type": "jwt", "get_token": lambda: "subject"},
    }
    kind = openai.AsyncOpenAI if mode.is_async else openai.OpenAI
    client = mode.keep(kind(workload_identity=identity, base_url=mode.provider.openai_url, max_retries=0))
    run(lambda: mode.wait(client.chat.completions.create(**CHAT)))
    record = the_call(seen)
    assert [request.path for request in mode.provider.requests] == ["/v1/oauth/token", "/v1/chat/completions"]
    assert len(record.attempts) == 1
    assert record.retries == 0


@pytest.mark.parametrize("how", ["plain", "stream", "streaming_json", "streaming_lines"])
def test_compressed_answers_are_read(how: str, mode: Mode, run: Run, seen: Captured) -> None:
    mode.provider.reply(text="I am well.", gzip=True)

    async def body() -> None:
        chat = mode.openai().chat.completions
        if how == "plain":
            await mode.wait(chat.create(**CHAT))
        elif how == "stream":
            await mode.all(await mode.wait(chat.create(**CHAT, stream=True)))
        else:
            stream = {"stream": True} if how == "streaming_lines" else {}
            async with mode.entered(chat.with_streaming_response.create(**CHAT, **stream)) as response:
                await (mode.wait(response.json()) if how == "streaming_json" else mode.all(response.iter_lines()))

    run(body)
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")
