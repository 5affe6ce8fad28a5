"""A key in no provider's format is nowhere, though the provider repeats it in its error."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import anthropic
import httpx
import openai
import pytest
from tests.support.calls import ask, client_of, everywhere, the_call
from tests.support.mode import Mode

from callspan.process.sent_keys import sent_keys
from callspan.testing import Capture, capture

KEY: Final = "mB4-q0w7e1r5t9"
CHAT: Final = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hi"}]}
REFUSED: Final[dict[str, Any]] = {"error": {"message": f"key {KEY} unknown", "code": KEY, "type": KEY, "param": [KEY]}}


async def refused(mode: Mode, client: Any, **options: Any) -> str:
    """What the application is told."""
    with pytest.raises((openai.APIError, anthropic.APIError)) as raised:
        await mode.whole(ask(client, **options))
    return str(raised.value)


@pytest.mark.parametrize("level", ["off", "metadata", "full"])
@pytest.mark.parametrize("sdk", ["openai", "anthropic"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_refused_key_is_nowhere(sdk: str, streamed: bool, level: Any, mode: Mode) -> None:
    mode.provider.reply(status=401, raw=REFUSED)
    with capture(content=level) as seen:
        client = client_of(mode, sdk, default_headers={"authorization": f"Bearer {KEY}"})
        assert KEY in await refused(mode, client, stream=streamed)
    assert the_call(seen).error is not None
    assert KEY not in everywhere(seen)


async def test_key_in_an_error_within_a_stream_is_nowhere(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(raw=[{"id": "c", "choices": [{"index": 0, "delta": {"content": "A"}}]}, REFUSED])
    client = client_of(mode, "openai", default_headers={"x-api-key": KEY})
    assert KEY in await refused(mode, client, stream=True)
    assert (the_call(seen).text, KEY in everywhere(seen)) == ("A", False)


async def test_key_in_the_error_of_a_retried_attempt_is_nowhere(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=500, raw=REFUSED, retry_after_s=0.001)
    client = client_of(mode, "openai", default_headers={"api-key": KEY}, max_retries=1)
    await mode.wait(ask(client))
    assert (the_call(seen).retries, KEY in everywhere(seen)) == (1, False)


SENT: Final[dict[str, dict[str, Any]]] = {
    "header": {"headers": {"x-goog-api-key": KEY}},
    "parameter": {"params": {"alt": "sse", "key": KEY}},
    "user": {"auth": ("user", KEY)},
    "cookie": {"headers": {"cookie": f"a=b; session={KEY}"}},
}


@pytest.mark.parametrize("where", SENT)
async def test_key_of_another_client_is_nowhere(where: str, mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=401, raw={"detail": f"no such key: ({KEY})"})
    url, kind = f"{mode.provider.openai_url}/chat/completions", httpx.AsyncClient if mode.is_async else httpx.Client
    async with mode.entered(kind()) as client:
        response = await mode.wait(client.post(url, json=CHAT, **SENT[where]))
        assert KEY in response.text
    assert the_call(seen).outcome == "error"
    assert KEY not in everywhere(seen)


async def test_words_of_headers_stay_in_errors(mode: Mode, seen: Capture) -> None:
    mode.provider.reply(status=401, raw={"error": {"message": "not-needed is no model of application/json"}})
    await refused(mode, client_of(mode, "openai", default_headers={"authorization": "Bearer not-needed"}))
    error = the_call(seen).error
    assert error is not None
    assert error.message == "not-needed is no model of application/json"


BASIC: Final = base64.b64encode(f"user:{KEY}".encode()).decode()
REQUESTS: Final[list[tuple[dict[str, str], str, list[str]]]] = [
    ({"authorization": f"Bearer {KEY}", "accept": "1234567890"}, "", [KEY]),
    ({"Proxy-Authorization": f"Basic {BASIC}"}, "", [BASIC, KEY]),
    ({"authorization": "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1, SignedHeaders=host;x-amz-date"}, "", []),
    ({"x-api-key": "short-1"}, f"http://h/v1?a=b&key={KEY}#part", [KEY]),
    ({"authorization": f"key={KEY}"}, "http://h/v1?page=1234567890", [KEY]),
]


@pytest.mark.parametrize(("headers", "url", "keys"), REQUESTS)
def test_keys_of_a_request(headers: dict[str, str], url: str, keys: list[str]) -> None:
    as_raw = SimpleNamespace(raw=[(name.encode(), value.encode()) for name, value in headers.items()])
    ways: list[Callable[[], object]] = [lambda: headers, lambda: as_raw]
    assert [sent_keys(SimpleNamespace(headers=way(), url=url)) for way in ways] == [keys, keys]


@pytest.mark.parametrize("request_", [None, object(), SimpleNamespace(headers=None), SimpleNamespace(headers={1: 2})])
def test_no_request_has_no_keys(request_: object) -> None:
    assert json.dumps(sent_keys(request_)) == "[]"
