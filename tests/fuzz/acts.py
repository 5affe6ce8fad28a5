"""Acts: what a caller does with a call's result, in sync and async code, with everything it observes in one log."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tests.fuzz import describe
from tests.fuzz.case import Act, Case
from tests.fuzz.transport import Log, Script
from tests.fuzz.ways import WAYS, Caller

_FINAL = ("until_done", "get_final_message", "get_final_completion", "get_final_response", "get_final_text")
_PIECES = ("bytes", "texts", "raw_bytes")
_ATTRIBUTES = (
    "status_code",
    "headers",
    "request_id",
    "_request_id",
    "retries_taken",
    "is_closed",
    "http_response",
    "response",
)


def drive(body: Coroutine[Any, Any, Any]) -> Any:
    """Run what awaits nothing to its end."""
    try:
        body.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a sync call waited")


class Consumer:
    """One caller of one case."""

    def __init__(self, case: Case, caller: Caller, script: Script, log: Log) -> None:
        self.case, self.caller, self.script, self.log = case, caller, script, log
        self.result: Any = None

    async def run(self) -> None:
        """Make the call and do what the case says; cancelled by the case's own canceller at most."""
        if not self.case.cancel:
            await self._whole()
            return
        self.script.stalled = asyncio.Event()
        task = asyncio.ensure_future(self._whole())
        stalled = asyncio.ensure_future(self.script.stalled.wait())
        await asyncio.wait([task, stalled], return_when=asyncio.FIRST_COMPLETED)
        self.log("cancelled", task.cancel())
        stalled.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
        if not task.cancelled() and task.exception() is not None:
            self.log("raised", "task", describe.error(task.exception()))
        self.log("was cancelled", task.cancelled())

    async def _whole(self) -> None:
        case = self.case

        async def call() -> None:
            made = WAYS[case.sdk][case.way](self.caller, case.wrap, case.request)
            self.log("made", describe.name_of(type(made)))
            self.result = await self._wait(made)
            if not self._is_manager(self.result):
                self.log("returned", describe.value(self.result))

        await self._attempt("call", call)
        if self.result is None:
            return
        if case.where == "elsewhere" and self.caller.is_async:
            await asyncio.ensure_future(self._consume())
        elif case.where == "elsewhere":
            thread = threading.Thread(target=lambda: drive(self._consume()))
            thread.start()
            thread.join()
        else:
            await self._consume()

    async def _consume(self) -> None:
        found, self.result = self.result, None
        entered = self._is_manager(found) or self.case.leave == "raise"

        async def within() -> None:
            if self.caller.is_async:
                async with found as inner:
                    await self._inside(inner)
            else:
                with found as inner:
                    await self._inside(inner)

        if entered and hasattr(found, "__aenter__" if self.caller.is_async else "__enter__"):
            await self._attempt("with", within)
        else:
            await self._acts(found)

    async def _inside(self, found: Any) -> None:
        self.log("entered", describe.value(found))
        await self._acts(found)
        if self.case.leave == "raise":
            raise ValueError("the caller's own")

    async def _acts(self, found: Any) -> None:
        current = found
        for act in self.case.acts:
            if act.name == "drop":
                del current, found
                current = found = None
                gc.collect()
                self.log("dropped")
                continue
            box: list[Any] = [current]
            await self._attempt(act.name, lambda act=act, box=box: self._one(act, box))  # type: ignore[misc]
            current = box.pop()

    async def _one(self, act: Act, box: list[Any]) -> None:
        """Do one thing; what the caller has afterwards is put in the box."""
        found, name = box[0], act.name.replace(" ", "_")
        if name in ("all", "take", "raise"):
            await self._loop(found, act)
        elif name == "next":
            for _ in range(act.count + 1):
                item = await self._wait(anext(found) if self.caller.is_async else next(found))
                self.log("item", describe.value(item))
                del item
        elif name == "parse":
            parsed = await self._wait(found.parse())
            self.log("parsed", describe.value(parsed))
            if hasattr(parsed, "__next__") or hasattr(parsed, "__anext__"):
                box[0] = parsed
        elif name in _PIECES and self.case.wire == "socket":
            await self._joined(self._reader(found, name))
        elif name in (*_PIECES, "lines", "text_stream"):
            await self._loop(found.text_stream if name == "text_stream" else self._reader(found, name), act)
        else:
            await self._look(found, name)

    async def _look(self, found: Any, name: str) -> None:
        if name == "final":
            method = next((m for m in _FINAL if hasattr(found, m)), _FINAL[0])
            self.log(method, describe.value(await self._wait(getattr(found, method)())))
        elif name == "attributes":
            for one in _ATTRIBUTES:
                self.log(one, describe.value(getattr(found, one, "no such attribute")))
        elif name == "close":
            aclose = getattr(found, "aclose", None) if self.caller.is_async else None
            self.log("closes", describe.value(await self._wait((aclose or found.close)())))
        else:
            seen = getattr(found, name)
            self.log(name, describe.value(await self._wait(seen() if callable(seen) else seen)))

    def _reader(self, found: Any, name: str) -> Any:
        """The response itself can be read in four ways; a stream shows it as `response`."""
        of = {"bytes": "iter_bytes", "lines": "iter_lines", "texts": "iter_text", "raw_bytes": "iter_raw"}[name]
        owner = found if hasattr(found, of) or not hasattr(found, "response") else found.response
        return getattr(owner, f"a{of}" if self.caller.is_async and hasattr(owner, f"a{of}") else of)()

    async def _loop(self, items: Any, act: Act) -> None:
        number = 0
        if self.caller.is_async:
            async for item in items:
                number += 1
                self._see(item, act, number)
                if act.name == "take" and number > act.count:
                    break
        else:
            for item in items:
                number += 1
                self._see(item, act, number)
                if act.name == "take" and number > act.count:
                    break
        self.log("left the loop", number)

    async def _joined(self, pieces: Any) -> None:
        """Read all pieces; where a socket cuts them is chance."""
        seen: list[Any] = []
        try:
            if self.caller.is_async:
                async for piece in pieces:
                    seen.append(piece)
            else:
                seen.extend(pieces)
        finally:
            self.log("read", describe.value(seen[0][:0].join(seen) if seen else None))

    def _see(self, item: Any, act: Act, number: int) -> None:
        self.log("item", describe.value(item))
        if act.name == "raise" and number > act.count:
            raise ValueError("the caller's own")

    async def _attempt(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        try:
            await body()
        except asyncio.CancelledError as error:
            self.log("raised", name, describe.error(error))
            raise
        except (StopIteration, StopAsyncIteration, Exception) as error:  # noqa: BLE001 - whatever it is, it is compared
            self.log("raised", name, describe.error(error))

    async def _wait(self, value: Any) -> Any:
        return await value if self.caller.is_async and inspect.isawaitable(value) else value

    @staticmethod
    def _is_manager(value: Any) -> bool:
        return type(value).__name__.endswith(("Manager", "ContextManager"))
