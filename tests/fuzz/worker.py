"""A worker: one process that runs cases, with or without callspan, and reports what the caller observed.

A bare one never imports callspan.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import importlib
import ssl
import sys
import time
import warnings
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import pytest
from tests.fuzz.acts import Consumer, as_text, drive, name_of
from tests.fuzz.case import Case
from tests.fuzz.transport import Script, Server, connections_of
from tests.fuzz.ways import WAYS, Caller, reaches_a_model
from tests.support.sdks import http_of
from tests.support.waiting import HANG_S

CLIENTS = {"openai": "OpenAI", "anthropic": "Anthropic"}


class Worker:
    """Makes the clients of its cases, with scripted transports."""

    def __init__(self) -> None:
        self._log: list[Any] = []
        self._requests: list[bool] = []
        self._scripts = {sdk: Script(http_of(sdk)) for sdk in CLIENTS}
        self._servers = {sdk: Server(script) for sdk, script in self._scripts.items()}
        self._tls = ssl.create_default_context()
        for sdk in CLIENTS:
            _make_waits_visible(importlib.import_module(f"{sdk}._base_client"), self._note)

    def ways(self) -> dict[str, list[str]]:
        callers = {sdk: self._caller(Case(sdk, "")) for sdk in CLIENTS}
        return {sdk: [way for way in WAYS[sdk] if _has(caller, way)] for sdk, caller in callers.items()}

    def run(self, case: Case) -> dict[str, Any]:
        """Run a case; what its caller saw, in order, and how many calls have reached the SDK's `request`."""
        self._log, self._requests = [], []
        script = self._scripts[case.sdk]
        script.begin(case, self._note)
        noise: list[str] = []
        hook, sys.unraisablehook = sys.unraisablehook, lambda seen: noise.append(_unraised(seen))
        # What was there before is looked through by no collection of this case.
        gc.freeze()
        gc.disable()
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                self._consume(case, script, noise)
        finally:
            sys.unraisablehook = hook
        return {
            "log": self._log, "requests": len(self._requests), "calls": sum(self._requests), "noise": sorted(noise),
            "warned": [f"{one.category.__name__}: {as_text(str(one.message))}" for one in warned],
        }  # fmt: skip

    def _consume(self, case: Case, script: Script, noise: list[str]) -> None:
        caller = self._caller(case)
        if not caller.is_async:
            drive(Consumer(case, caller, script, self._note).run())
            gc.collect()
            self._note("connections", connections_of(caller.client))
            caller.client.close()
            return

        async def whole() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, seen: noise.append(as_text(seen.get("message"))))
            await Consumer(case, caller, script, self._note).run()
            await caller.collect()
            for _ in range(20):
                # A generator that was left may close its connection a moment later.
                if connections_of(caller.client):
                    await asyncio.sleep(0.01)
            self._note("connections", connections_of(caller.client))
            await caller.client.close()

        asyncio.run(whole())
        gc.collect()

    def _note(self, *event: object) -> None:
        self._log.append(list(event))

    def _caller(self, case: Case) -> Caller:
        module, script = importlib.import_module(case.sdk), self._scripts[case.sdk]
        is_async, library, requests = case.colour == "async", script.library, self._requests
        base: Any = getattr(module, f"Async{CLIENTS[case.sdk]}" if is_async else CLIENTS[case.sdk])

        class Counting(base):  # type: ignore[misc]
            """Counts what reaches `request`, from outside whatever is patched below."""

            def request(self, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
                requests.append(reaches_a_model(options.method, options.url))
                return super().request(cast_to, options, *args, **kwargs)

        http: Any = library.AsyncClient if is_async else library.Client
        given: dict[str, Any] = {"transport": library.MockTransport(script.answer)}
        address = {}
        if case.wire == "socket":
            given = {"verify": self._tls, "timeout": HANG_S}
            address["base_url"] = self._servers[case.sdk].url + ("/v1" if case.sdk == "openai" else "")
        http_client = http(follow_redirects=True, **given)
        client = Counting(api_key="sk-test", max_retries=case.retries, http_client=http_client, **address)
        return Caller(case.sdk, case.colour, client, library)


def _has(caller: Caller, way: str) -> bool:
    """Whether the SDK has this way: only then asking for it with a wrong argument gets past finding it."""
    try:
        made = WAYS[caller.sdk][way](caller, "none", "wrong argument")
    except (AttributeError, ImportError, pytest.skip.Exception):
        return False
    except Exception:  # noqa: BLE001 - it is there, and refuses
        return True
    getattr(made, "close", lambda: None)()
    return True


def _make_waits_visible(base: Any, note: Any) -> None:
    """Waits between attempts are noted, not waited for, and have no chance in them."""

    def sleep(seconds: float) -> None:
        note("waits", round(seconds, 6))

    async def sleep_later(seconds: float) -> None:
        sleep(seconds)

    anyio = importlib.import_module("anyio")
    base.time, base.random = SimpleNamespace(**vars(time) | {"sleep": sleep}), lambda: 0.5
    base.anyio = SimpleNamespace(**vars(anyio) | {"sleep": sleep_later})


def _unraised(seen: Any) -> str:
    return f"{name_of(seen.exc_type)}: {as_text(str(seen.exc_value))}"


def _tracing() -> Any:
    """A tracer provider of the application, without callspan as with it; the anthropic SDK traces into it by itself."""
    from opentelemetry import trace
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.sdk._logs import LoggerProvider
    from tests.support.telemetry import kept_spans

    provider, exporter = kept_spans()
    trace.set_tracer_provider(provider)
    set_logger_provider(LoggerProvider())
    return exporter


def work(name: str, link: Connection) -> None:
    """Run the cases that come, bare or instrumented; None asks for the ways."""
    faulthandler.enable()
    exporter = _tracing()
    worker = Worker()
    observed = None
    if name == "instrumented":
        from tests.fuzz.observed import Observed

        observed = Observed(exporter)
    gc.collect()
    gc.freeze()
    while True:
        case: Case | None = link.recv()
        if case is None:
            link.send(worker.ways())
            continue
        exporter.clear()
        result = worker.run(case) if observed is None else observed.run(worker, case)
        result["callspan"] = "callspan" in sys.modules
        link.send(result)
