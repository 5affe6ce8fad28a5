"""A worker: one process that runs cases, with or without callspan, and reports what the caller observed.

A bare one never imports callspan.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import sys
import warnings
from multiprocessing.connection import Connection
from typing import Any

import pytest
from tests.fuzz.acts import Consumer, as_text, drive, name_of
from tests.fuzz.case import Case
from tests.fuzz.sdks import SDKS, Wires, installed
from tests.fuzz.transport import Script, Server
from tests.fuzz.ways import Caller


class Worker:
    """Makes the clients of its cases, with scripted transports."""

    def __init__(self) -> None:
        self._log: list[Any] = []
        self._requests: list[bool] = []
        self._scripts = {sdk: Script(SDKS[sdk].library()) for sdk in installed()}
        self._servers = {sdk: Server(script) for sdk, script in self._scripts.items()}
        for sdk in self._scripts:
            SDKS[sdk].show_waits(sdk, self._note)

    def ways(self) -> dict[str, list[str]]:
        """Return the ways that the installed SDKs have."""
        callers = {sdk: self._caller(Case(sdk, "")) for sdk in self._scripts}
        return {sdk: [way for way in SDKS[sdk].ways if _has(caller, way)] for sdk, caller in callers.items()}

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
            self._note("connections", caller.connections())
            drive(caller.close())
            return

        async def whole() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _loop, seen: noise.append(as_text(seen.get("message"))))
            await Consumer(case, caller, script, self._note).run()
            await caller.collect()
            for _ in range(20):
                # A generator that was left may close its connection a moment later.
                if caller.connections():
                    await asyncio.sleep(0.01)
            self._note("connections", caller.connections())
            await caller.close()

        asyncio.run(whole())
        gc.collect()

    def _note(self, *event: object) -> None:
        self._log.append(list(event))

    def _caller(self, case: Case) -> Caller:
        wires = Wires(self._scripts[case.sdk], self._servers[case.sdk], self._requests, self._note)
        return SDKS[case.sdk].make(case, wires)


def _has(caller: Caller, way: str) -> bool:
    """Whether the SDK has this way: only then asking for it with a wrong argument gets past finding it."""
    try:
        made = SDKS[caller.sdk].ways[way](caller, "none", "wrong argument")
    except (AttributeError, ImportError, pytest.skip.Exception):
        return False
    except Exception:  # noqa: BLE001 - it is there, and refuses
        return True
    getattr(made, "close", lambda: None)()
    return True


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
