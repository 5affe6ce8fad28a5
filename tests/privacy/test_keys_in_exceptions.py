"""A key that an exception names, in any form and at any depth of its causes, is nowhere outside the process."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import anthropic
import httpx
import openai
import pytest
from tests.support.scale import scaled

import callspan
from callspan.records import encode
from callspan.testing import Capture, ScriptedProvider, capture

CHAT: Final[dict[str, Any]] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
DEAD: Final = "http://127.0.0.1:9"
Failure = Callable[[str, str], object]
"""Sends a request that fails to a server at this URL, with this key."""


def key_of(*case: str) -> str:
    """A key of its own for each case, since a key is known once it was sent.

    It has no provider's format, and signs that each way of writing a text escapes.
    """
    digits = sha256(repr(case).encode()).hexdigest()
    return f"{digits[:8]}/q0+7e1r'{digits[8:16]}"


def _headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", "x-tenant": key}


def _of(sdk: str, method: Callable[[Any], object]) -> Failure:
    def failed(url: str, key: str) -> object:
        kind: Any = openai.OpenAI if sdk == "openai" else anthropic.Anthropic
        base = f"{url}/v1" if sdk == "openai" else url
        with kind(api_key=key, base_url=base, max_retries=0, default_query={"via": key}) as client:
            return method(client)

    return failed


def _gemini(method: Callable[[Any], object]) -> Failure:
    def failed(url: str, key: str) -> object:
        client = import_module("google.genai").Client(api_key=key, http_options={"base_url": url})
        try:
            return method(client)
        finally:
            client.close()

    return failed


def _bedrock(service: str, method: Callable[[Any], object]) -> Failure:
    def failed(url: str, key: str) -> object:
        config = import_module("botocore.config").Config(retries={"max_attempts": 0})
        session = import_module("boto3").Session("ID" + "A1b2" * 5, "s" * 20, key, region_name="us-east-1")
        return method(session.client(service, endpoint_url=url, config=config))

    return failed


def _httpx(path: str, method: str = "POST") -> Failure:
    def failed(url: str, key: str) -> object:
        response = httpx.request(method, f"{url}{path}", params={"via": key}, headers=_headers(key))
        return response.raise_for_status()

    return failed


def _requests(path: str, method: str = "POST") -> Failure:
    def failed(url: str, key: str) -> object:
        response = import_module("requests").request(
            method, f"{url}{path}", json=CHAT, params={"via": key}, headers=_headers(key)
        )
        return response.raise_for_status()

    return failed


def _aiohttp(path: str, method: str = "POST") -> Failure:
    async def sent(url: str, key: str) -> object:
        aiohttp = import_module("aiohttp")
        async with (
            aiohttp.ClientSession(raise_for_status=True, headers=_headers(key)) as session,
            session.request(method, f"{url}{path}", json=CHAT, params={"via": key}) as response,
        ):
            return await response.read()

    return lambda url, key: asyncio.run(sent(url, key))


def _urllib3(url: str, key: str) -> object:
    urllib3: Any = import_module("urllib3")
    retries = urllib3.Retry(0, status_forcelist=[401, 503], allowed_methods=None)
    pool = urllib3.PoolManager(headers=_headers(key), retries=retries)
    return pool.request("POST", f"{url}/v1/chat/completions?{urlencode({'api_key': key})}", json=CHAT)


def _urllib(url: str, key: str) -> object:
    query = urlencode({"api_key": key})
    return urlopen(Request(f"{url}/v1/chat/completions?{query}", json.dumps(CHAT).encode(), _headers(key)))


FAILURES: Final[dict[str, tuple[str, Failure]]] = {
    "openai": ("openai", _of("openai", lambda client: client.chat.completions.create(**CHAT))),
    "openai, no call": ("openai", _of("openai", lambda client: client.models.retrieve("m"))),
    "anthropic": ("anthropic", _of("anthropic", lambda client: client.messages.create(**CHAT, max_tokens=5))),
    "anthropic, no call": ("anthropic", _of("anthropic", lambda client: client.models.retrieve("m"))),
    "google-genai": ("google.genai", _gemini(lambda client: client.models.generate_content(model="m", contents="Hi"))),
    "google-genai, no call": ("google.genai", _gemini(lambda client: client.models.get(model="m"))),
    "boto3": (
        "boto3",
        _bedrock("bedrock-runtime", lambda client: client.converse(
            modelId="m", messages=[{"role": "user", "content": [{"text": "Hi"}]}])),
    ),
    "boto3, no call": ("boto3", _bedrock("bedrock", lambda client: client.list_foundation_models())),
    "httpx": ("httpx", _httpx("/v1/chat/completions")),
    "httpx, no call": ("httpx", _httpx("/other", "GET")),
    "requests": ("requests", _requests("/v1/chat/completions")),
    "requests, no call": ("requests", _requests("/other", "GET")),
    "aiohttp": ("aiohttp", _aiohttp("/v1/chat/completions")),
    "aiohttp, no call": ("aiohttp", _aiohttp("/other", "GET")),
    "urllib3": ("urllib3", _urllib3),
    "urllib": ("urllib", _urllib),
}  # fmt: skip
NAMELESS: Final = {"boto3, no call", "urllib", "urllib3"}
"""Whose exceptions name no request: a key is masked where a name says what it is."""


def _request(error: BaseException) -> Any:
    for holder in (error, getattr(error, "response", None)):
        for name in ("request", "request_info"):
            with suppress(Exception):
                if (request := getattr(holder, name)) is not None:
                    return request
    return None


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _with_note(error: BaseException, note: str) -> str:
    vars(error)["__notes__"] = [note]  # as `add_note` does, from Python 3.11 on
    return f"{_traceback(error)}\n{note}"


def _dump(error: BaseException) -> str:
    """The headers of its request as a debugger prints them."""
    request = _request(error)
    return "" if request is None else "\n".join(f"{name}={value!r}" for name, value in dict(request.headers).items())


def _url(error: BaseException) -> str:
    request = _request(error)
    return "" if request is None else f"could not open {request.url}"


SAID: Final[dict[str, Callable[[BaseException, str], str]]] = {
    "str": lambda error, _: str(error),
    "repr": lambda error, _: repr(error),
    "args": lambda error, _: f"{error.args}",
    "attributes": lambda error, _: f"{vars(error)}",
    "headers": lambda error, _: _dump(error),
    "URL": lambda error, _: _url(error),
    "traceback": lambda error, _: _traceback(error),
    "context": lambda error, _: repr(error.__context__ or error.__cause__),
    "notes": lambda error, key: _with_note(error, f"sent {key}"),
    "hexadecimal": lambda _, key: f"({key.encode().hex()})",
    "base64": lambda _, key: f"({base64.b64encode(f'Bearer {key}'.encode()).decode()})",
    "percent": lambda _, key: f"GET /v1?x={quote(key, safe='')}",
    "bytes": lambda _, key: f"(b'x-tenant', {key.encode()!r})",
}  # fmt: skip
LABELLED: Final = {"str", "repr", "args", "attributes", "headers", "URL", "traceback", "context"}
ENDS: Final = {"refused": 401, "failed": 503, "unreachable": 0}


def forms(key: str) -> set[str]:
    """What no channel may have: the key in any form, and halves of it."""
    coded = base64.b64encode(key.encode()).decode()
    return {
        key[:12],
        key[-12:],
        coded[:12],
        coded[-12:],
        key.encode().hex()[:16],
        quote(key, safe="")[:14],
        repr(key)[1:13],
    }


def everything(seen: Capture, log: pytest.LogCaptureFixture) -> str:
    spans, records = (span.to_json() for span in seen.spans), (encode(record).decode() for record in seen.everything)
    return "\n".join([*spans, *records, log.text]).replace("\\\\", "\\").replace('\\"', '"')


def _fail(failure: Callable[[], object], text_of: Callable[[BaseException], str]) -> None:
    """Let it fail in a tool, and say what is told of it wherever an error can be stated."""
    with suppress(Exception), callspan.session("s") as session, session.timestep():
        try:
            with callspan.tool("fails"):
                failure()
        except Exception as error:
            told = f"Failed: {text_of(error)}"
            with suppress(RuntimeError), callspan.tool("says it"):
                raise RuntimeError(told) from error
            with suppress(RuntimeError), callspan.record_call(provider="p", model="m"):
                raise RuntimeError(told) from None
            session.event("failed", error=error)
            session.event("failed", error=told)
            raise


@pytest.mark.parametrize("level", scaled(["off", "full"], ["off", "metadata", "full"]))
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", FAILURES)
def test_key_in_an_exception_is_nowhere(
    name: str, end: str, level: Any, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    module, failure = FAILURES[name]
    if not find_spec(module.partition(".")[0]):
        pytest.skip(f"{module} is not installed")
    caplog.set_level(logging.DEBUG, logger="callspan")
    leaks: dict[str, list[str]] = {}
    is_nameless = name in NAMELESS or (name == "aiohttp, no call" and end == "unreachable")
    for said, text_of in SAID.items():
        if is_nameless and said not in LABELLED:
            continue
        key = key_of(name, end, level, said)
        url = provider.url if ENDS[end] else DEAD
        if ENDS[end]:
            told = f"Authorization: Bearer {key}"
            if not is_nameless:
                told = f"no such key {key} of {quote(key, safe='')}, {base64.b64encode(key.encode()).decode()}"
            provider.reply(status=ENDS[end], message=told, raw={"error": {"message": told, "code": key, "type": key}})
        with capture(content=level) as seen:
            _fail(partial(failure, url, key), lambda error, text_of=text_of, key=key: text_of(error, key))
        text = everything(seen, caplog)
        assert "Failed" in text or level != "full"
        if left := [form for form in forms(key) if form.lower() in text.lower()]:
            leaks[said] = left
    assert leaks == {}


KEYS: Final = {
    "a line end": "mB4q0w7e1r5t9zz7Q\n",
    "no ASCII": "mB4q0w7e1r5t9zz7Q\u00e9\u4e00",
    "NUL": "mB4q0w7e1r5\x00t9zz7Q8",
}


def _posted(url: str, headers: dict[str, str]) -> object:
    async def sent() -> object:
        aiohttp: Any = import_module("aiohttp")
        async with aiohttp.ClientSession() as session, session.post(url, headers=headers, json=CHAT) as response:
            return await response.read()

    return asyncio.run(sent())


UNSENT: Final[dict[str, tuple[str, Callable[[str, dict[str, str]], object]]]] = {
    "openai": ("openai", lambda url, headers: _openai(f"{url}/v1", headers).chat.completions.create(**CHAT)),
    "anthropic": ("anthropic", lambda url, headers: _anthropic(url, headers).messages.create(**CHAT, max_tokens=5)),
    "httpx": ("httpx", lambda url, headers: httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers=headers)),
    "requests": (
        "requests", lambda url, headers: import_module("requests").post(f"{url}/v1/chat", json=CHAT, headers=headers),
    ),
    "urllib3": ("urllib3", lambda url, headers: import_module("urllib3").request("POST", url, headers=headers)),
    "urllib": ("urllib", lambda url, headers: urlopen(Request(url, b"{}", headers))),
    "aiohttp": ("aiohttp", _posted),
}  # fmt: skip
"""Clients that are given a header that no library can send; its exception may quote it."""


def _openai(url: str, headers: dict[str, str]) -> openai.OpenAI:
    return openai.OpenAI(api_key="not-needed", base_url=url, max_retries=0, default_headers=headers)


def _anthropic(url: str, headers: dict[str, str]) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="not-needed", base_url=url, max_retries=0, default_headers=headers)


@pytest.mark.parametrize("level", scaled(["full"], ["off", "metadata", "full"]))
@pytest.mark.parametrize("header", ["x-tenant", "x-api-key", "authorization"])
@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("client", UNSENT)
def test_key_that_cannot_be_sent_is_nowhere(
    client: str, kind: str, header: str, level: Any, provider: ScriptedProvider, caplog: pytest.LogCaptureFixture
) -> None:
    module, send = UNSENT[client]
    if not find_spec(module):
        pytest.skip(f"{module} is not installed")
    caplog.set_level(logging.DEBUG, logger="callspan")
    value = f"Bearer {KEYS[kind]}" if header == "authorization" else KEYS[kind]
    provider.reply(text="Hi")
    with capture(content=level) as seen, suppress(Exception), callspan.session("s") as session:
        try:
            with callspan.tool("sends"):
                send(provider.url, {header: value})
        except Exception as error:
            session.event("failed", error=error)
            for said in (str, repr, _traceback):
                session.event("failed", error=f"Failed: {said(error)}")
                with suppress(RuntimeError), callspan.tool("says it"):
                    raise RuntimeError(f"Failed: {said(error)}") from error
            raise
    text = everything(seen, caplog)
    assert "mB4q0w" not in text
    assert "t9zz7Q" not in text
