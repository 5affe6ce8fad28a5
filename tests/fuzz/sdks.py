"""SDKs: the ways of each, how its client is made with the transports of a case, and what of its requests is a call.

Calls are counted above whatever callspan patches, by lists of the fuzzer's own.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import ssl
import time
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

from tests.fuzz.case import Case
from tests.fuzz.transport import Log, Script, Server, connections_of
from tests.fuzz.ways import ANTHROPIC, OPENAI, Call, Caller, reaches_a_model
from tests.fuzz.ways_bedrock import BEDROCK, CALLS
from tests.fuzz.ways_google import GOOGLE, reaches_gemini
from tests.fuzz.ways_http import HTTP, reaches_by_http
from tests.support.sdks import http_of
from tests.support.waiting import HANG_S


class Wires(NamedTuple):
    """What a client is made with."""

    script: Script
    server: Server
    requests: list[bool]
    """Takes each request that reaches the SDK: whether it is a call."""
    note: Log


Make = Callable[[Case, Wires], Caller]


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _http_class(case: Case, wires: Wires) -> Any:
    library: Any = wires.script.library
    return library.AsyncClient if case.colour == "async" else library.Client


def _http_client(case: Case, wires: Wires, kind: Any = None, **options: Any) -> Any:
    """A client of the HTTP library over the wire of the case."""
    library: Any = wires.script.library
    given: dict[str, Any] = {"transport": library.MockTransport(wires.script.answer)}
    if case.wire == "socket":
        given = {"verify": _tls(), "timeout": HANG_S}
    return (kind or _http_class(case, wires))(follow_redirects=True, **given, **options)


def _generated(name: str) -> Make:
    """The maker of clients of an SDK whose class has this name."""

    def make(case: Case, wires: Wires) -> Caller:
        base: Any = getattr(importlib.import_module(case.sdk), f"Async{name}" if case.colour == "async" else name)

        class Counting(base):  # type: ignore[misc]
            """Counts what reaches `request`, from outside whatever is patched below."""

            def request(self, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
                wires.requests.append(reaches_a_model(options.method, options.url))
                return super().request(cast_to, options, *args, **kwargs)

        address = {}
        if case.wire == "socket":
            address["base_url"] = wires.server.url + ("/v1" if case.sdk == "openai" else "")
        http_client = _http_client(case, wires)
        client = Counting(api_key="sk-test", max_retries=case.retries, http_client=http_client, **address)
        return Caller(case.sdk, case.colour, client, wires.script.library)

    return make


class _GoogleCaller(Caller):
    """A client of google-genai: the part of it that has this colour."""

    def __init__(self, case: Case, whole: Any, library: ModuleType) -> None:
        super().__init__(case.sdk, case.colour, whole.aio if case.colour == "async" else whole, library)
        self._sender = whole._api_client

    def connections(self) -> list[str]:
        sender = self._sender
        sessions = getattr(sender, "_aiohttp_sessions", {}).values()
        held = ["ACTIVE" for session in sessions for _ in getattr(session.connector, "_acquired", ())]
        return held + connections_of(sender._async_httpx_client if self.is_async else sender._httpx_client)

    async def close(self) -> None:
        close = getattr(self.client, "aclose" if self.is_async else "close", None)
        if close is not None:  # older versions have none
            await self.wait(close())


def _google(case: Case, wires: Wires) -> Caller:
    """A client of google-genai; of async ones over a socket that of aiohttp, where it is installed."""
    genai: Any = importlib.import_module("google.genai")
    library: Any = wires.script.library
    options: dict[str, Any] = {"client_args": {"verify": _tls()}, "async_client_args": {"ssl": _tls()}}
    if case.wire == "socket":
        options["base_url"] = wires.server.url
    else:
        args = {"verify": _tls(), "transport": library.MockTransport(wires.script.answer)}
        options = {"client_args": args, "async_client_args": args}
    if case.retries:
        # Versions before 2 take zero for their own jitter of a second.
        options["retry_options"] = {"attempts": case.retries + 1, "initial_delay": 0.5, "jitter": 1e-9}
    whole = genai.Client(api_key="key-of-a-test", http_options=options)
    sender = whole._api_client
    sender._request = functools.partial(_counted_request, type(sender), "_request", sender, wires.requests)
    sender._async_request = functools.partial(_counted_request, type(sender), "_async_request", sender, wires.requests)
    sender._retry.sleep = functools.partial(_wait, wires.note)
    sender._async_retry.sleep = functools.partial(_wait_later, wires.note)
    return _GoogleCaller(case, whole, library)


def _counted_request(kind: type, name: str, api: Any, requests: list[bool], *args: Any, **kwargs: Any) -> Any:
    request = kwargs["http_request"] if "http_request" in kwargs else args[0]
    requests.append(reaches_gemini(request.method, request.url))
    return getattr(kind, name)(api, *args, **kwargs)


class _BedrockCaller(Caller):
    """A client of bedrock-runtime, whose answers have what the application reads in them."""

    def consumed(self, result: Any) -> Any:
        return next((result[name] for name in ("stream", "body") if name in result), result)

    def connections(self) -> list[str]:
        return []

    async def close(self) -> None:
        self.client.close()


@functools.cache
def _boto_session() -> Any:
    return importlib.import_module("boto3").Session(
        aws_access_key_id="AKIA0", aws_secret_access_key="secret", region_name="us-east-1"
    )


def _bedrock(case: Case, wires: Wires) -> Caller:
    config: Any = importlib.import_module("botocore.config")
    retries = {"mode": "legacy" if case.retries > 1 else "standard", "total_max_attempts": case.retries + 1}
    options = config.Config(retries=retries, read_timeout=HANG_S, connect_timeout=HANG_S)
    client = _boto_session().client("bedrock-runtime", endpoint_url=wires.server.url, config=options)

    def counted(operation: str, params: Any) -> Any:
        wires.requests.append(operation in CALLS)
        return type(client)._make_api_call(client, operation, params)

    client._make_api_call = counted
    return _BedrockCaller(case.sdk, case.colour, client, wires.script.library)


class _HttpCaller(Caller):
    """A client of an HTTP library."""

    def connections(self) -> list[str]:
        return connections_of(self.client)

    async def close(self) -> None:
        await self.wait(self.client.aclose() if self.is_async else self.client.close())


def _http(case: Case, wires: Wires) -> Caller:
    base = _http_class(case, wires)

    class Counting(base):  # type: ignore[misc]
        """Counts what is sent, from outside whatever is patched below."""

        def send(self, request: Any, **options: Any) -> Any:
            content = getattr(request, "_content", b"")  # a streamed upload has none
            wires.requests.append(reaches_by_http(request.method, request.url.path, content))
            return super().send(request, **options)

    address = wires.server.url if case.wire == "socket" else "http://models.test"
    client = _http_client(case, wires, Counting, base_url=address)
    return _HttpCaller(case.sdk, case.colour, client, wires.script.library)


def _wait(note: Log, seconds: float) -> None:
    """Note a wait between attempts, in place of waiting."""
    note("waits", round(seconds, 6))


async def _wait_later(note: Log, seconds: float) -> None:
    _wait(note, seconds)


def _show_waits_of_generated(sdk: str, note: Log) -> None:
    base: Any = importlib.import_module(f"{sdk}._base_client")
    anyio = importlib.import_module("anyio")
    base.time, base.random = _with(time, sleep=functools.partial(_wait, note)), lambda: 0.5
    base.anyio = _with(anyio, sleep=functools.partial(_wait_later, note))


def _show_waits_of_google(_: str, note: Log) -> None:
    """Of the repeat after a broken connection of aiohttp; those of its retries are each client's."""
    client: Any = importlib.import_module("google.genai._api_client")
    client.asyncio = _with(asyncio, sleep=functools.partial(_wait_later, note))
    client.random = SimpleNamespace(randint=lambda low, _high: low)


def _show_waits_of_bedrock(_: str, note: Log) -> None:
    """Without their lengths, which are chance."""
    endpoint: Any = importlib.import_module("botocore.endpoint")
    endpoint.time = _with(time, sleep=lambda _: note("waits"))


def _with(module: ModuleType, **replaced: Any) -> Any:
    return SimpleNamespace(**vars(module) | replaced)


def _no_waits(_: str, note: Log) -> None:
    del note


def _items(_: Case) -> str:
    return "items"


def _wrapped(case: Case) -> str:
    return "stream" if case.wrap == "none" else "response"


def _response(_: Case) -> str:
    return "response"


def _of_bedrock(case: Case) -> str:
    return "body" if case.way.endswith(".invoke") else "items"


class Sdk(NamedTuple):
    """How to use an SDK in cases."""

    module: str
    """Without which there is none."""
    ways: dict[str, Call]
    library: Callable[[], ModuleType]
    """The HTTP library of its clients, which has the exceptions that a transport in memory raises."""
    make: Make
    show_waits: Callable[[str, Log], None] = _no_waits
    """Makes the waits between attempts visible, and leaves no chance in them."""
    colours: tuple[str, ...] = ("sync", "async")
    wires: tuple[str, ...] = ("memory", "socket")
    wraps: tuple[str, ...] = ("none",)
    """How calls may be wrapped; `none` more often."""
    returns: Callable[[Case], str] = _items
    """What the caller has after a call, by which it is used: a `stream`, `items`, a `response`, or a `body`."""


def _library_of_google() -> ModuleType:
    client: Any = importlib.import_module("google.genai._api_client")
    return getattr(client, "httpx2", None) or client.httpx


def _of_generated(name: str, client: str, ways: dict[str, Call]) -> Sdk:
    return Sdk(
        name, ways, functools.partial(http_of, name), _generated(client), _show_waits_of_generated,
        wraps=("none", "none", "raw", "streaming"), returns=_wrapped,
    )  # fmt: skip


def _of_library(name: str) -> Sdk:
    return Sdk(
        name, HTTP, functools.partial(importlib.import_module, name), _http, wraps=("none", "streaming"),
        returns=_response,
    )  # fmt: skip


SDKS = {
    "openai": _of_generated("openai", "OpenAI", OPENAI),
    "anthropic": _of_generated("anthropic", "Anthropic", ANTHROPIC),
    "google": Sdk("google.genai", GOOGLE, _library_of_google, _google, _show_waits_of_google),
    "bedrock": Sdk(
        "boto3", BEDROCK, functools.partial(importlib.import_module, "httpx"), _bedrock, _show_waits_of_bedrock,
        colours=("sync",), wires=("socket",), returns=_of_bedrock,
    ),
    "httpx": _of_library("httpx"),
    "httpx2": _of_library("httpx2"),
}  # fmt: skip


def installed() -> list[str]:
    """The names of the SDKs that are installed."""
    return [name for name, sdk in SDKS.items() if _is_installed(sdk.module)]


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of what it is in
        return False
