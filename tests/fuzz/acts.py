"""Acts: what a caller does with a call's result, in sync and async code.

Everything that can be observed of a value or an exception is in one log that two processes can compare.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from tests.fuzz.case import Act, Case
from tests.fuzz.sdks import SDKS
from tests.fuzz.transport import PORT, RANDOM_ID, Log, Script
from tests.fuzz.ways import Caller

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
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}|fd=\d+")
_DEEPEST = 8
_PART = 9
"""Bytes that are read of a body at once."""
_OF_ERRORS = ("status_code", "body", "code", "param", "type", "request_id", "message")
_SCALARS = (str, int, float, bool, bytes, type(None))


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
        self.has: Any = None
        """The only reference to what the caller has."""

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
            self.log("raised", "task", as_error(task.exception()))
        self.log("was cancelled", task.cancelled())

    async def _whole(self) -> None:
        case = self.case
        with self._attempt("call"):
            made = SDKS[case.sdk].ways[case.way](self.caller, case.wrap, case.request)
            self.log("made", name_of(type(made)))
            self.has = await self.caller.wait(made)
            del made
            if not self._is_manager():
                self.log("returned", as_value(self.has))
                self.has = self.caller.consumed(self.has)
        if self.has is None:
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
        entered = self._is_manager() or self.case.leave == "raise"
        if not entered or not hasattr(self.has, "__aenter__" if self.caller.is_async else "__enter__"):
            await self._acts()
            return
        with self._attempt("with"):
            if self.caller.is_async:
                async with self.has as self.has:
                    await self._inside()
            else:
                with self.has as self.has:
                    await self._inside()

    async def _inside(self) -> None:
        self.log("entered", as_value(self.has))
        await self._acts()
        if self.case.leave == "raise":
            raise ValueError("the caller's own")

    async def _acts(self) -> None:
        for act in self.case.acts:
            if act.name == "drop":
                self.has = None
                gc.collect()
                self.log("dropped")
            else:
                with self._attempt(act.name):
                    await self._one(act, self.has)

    async def _one(self, act: Act, found: Any) -> None:
        name = act.name.replace(" ", "_")
        if name in ("pieces", "into"):
            self._read_parts(found, name, act.count + 1)
        elif name in ("all", "take", "raise"):
            await self._loop(found, act)
        elif name == "next":
            for _ in range(act.count + 1):
                self.log("item", as_value(await self.caller.next(_iterator(found))))
        elif name == "parse":
            parsed = await self.caller.wait(found.parse())
            self.log("parsed", as_value(parsed))
            if isinstance(parsed, Iterator | AsyncIterator):
                self.has = parsed
        elif name in _PIECES and self.case.wire == "socket":
            await self._joined(self._reader(found, name))
        elif name in (*_PIECES, "lines", "text_stream"):
            await self._loop(found.text_stream if name == "text_stream" else self._reader(found, name), act)
        else:
            await self._look(found, name)

    async def _look(self, found: Any, name: str) -> None:
        if name == "final":
            method = next((m for m in _FINAL if hasattr(found, m)), _FINAL[0])
            self.log(method, as_value(await self.caller.wait(getattr(found, method)())))
        elif name == "attributes":
            for one in _ATTRIBUTES:
                self.log(one, as_value(getattr(found, one, "no such attribute")))
        elif name == "close":
            aclose = getattr(found, "aclose", None) if self.caller.is_async else None
            self.log("closes", as_value(await self.caller.wait((aclose or found.close)())))
        else:
            seen = getattr(found, "aread" if name == "read" and hasattr(found, "aiter_raw") else name)
            self.log(name, as_value(await self.caller.wait(seen() if callable(seen) else seen)))

    def _read_parts(self, found: Any, name: str, count: int) -> None:
        """Read a body as a file."""
        for _ in range(count):
            buffer = bytearray(_PART)
            self.log("part", as_value(found.read(_PART) if name == "pieces" else found.readinto(buffer)))
            self.log("buffer", buffer.hex())

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
            async for piece in self.caller.items(pieces):
                seen.append(piece)
        finally:
            self.log("read", as_value(seen[0][:0].join(seen) if seen else None))

    def _see(self, item: Any, act: Act, number: int) -> None:
        self.log("item", as_value(item))
        if act.name == "raise" and number > act.count:
            raise ValueError("the caller's own")

    @contextlib.contextmanager
    def _attempt(self, name: str) -> Iterator[None]:
        try:
            yield
        except asyncio.CancelledError as error:
            self.log("raised", name, as_error(error))
            raise
        except (StopIteration, StopAsyncIteration, Exception) as error:  # noqa: BLE001 - whatever it is, it is compared
            self.log("raised", name, as_error(error))

    def _is_manager(self) -> bool:
        return type(self.has).__name__.endswith("Manager")


def _iterator(found: Any) -> Any:
    return found if hasattr(found, "__next__") or not hasattr(found, "__iter__") else iter(found)


def as_text(value: object) -> str:
    """Return a representation without addresses and random ids."""
    return _said(repr, value)


def _said(say: Callable[[Any], str], value: object) -> str:
    """Return what is said of a value, without addresses and random ids; what is raised instead is compared too."""
    try:
        text = say(value)
    except Exception as error:  # noqa: BLE001 - a model may refuse to be dumped, an exception to say what it is
        text = f"<{type(error).__name__}: {error}>"
    return PORT.sub("127.0.0.1:0", RANDOM_ID.sub("<id>", _ADDRESS.sub("0x", text)))


def name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def as_value(found: object) -> object:
    """Return what can be seen of a result, a chunk or an item."""
    if isinstance(found, _SCALARS):
        return [type(found).__name__, as_text(found)]
    seen: list[object] = [name_of(type(found)), as_text(found)]
    for method in ("model_dump", "to_dict"):
        dump = getattr(found, method, None)
        if callable(dump):
            seen.append([method, _said(lambda made: as_text(made()), dump)])
            break
    if hasattr(found, "_request_id"):
        seen.append(["request id", as_text(getattr(found, "_request_id", None))])
    if hasattr(found, "model_fields_set"):
        seen.append(["set", as_text(sorted(found.model_fields_set))])
    if hasattr(found, "status_code") and hasattr(found, "headers"):
        headers = getattr(found.headers, "multi_items", found.headers.items)()
        seen.append(["http", as_text(found.status_code), as_text(list(headers))])
    return seen


def as_error(raised: BaseException | None, depth: int = 0) -> object:
    """Return what can be seen of an exception with its causes and contexts, and where each came from outside us."""
    if raised is None:
        return None
    if depth > _DEEPEST:
        return "deeper"
    return {
        "type": name_of(type(raised)),
        "said": _said(str, raised),
        "args": [as_text(one) for one in raised.args],
        "has": {name: as_text(getattr(raised, name)) for name in _OF_ERRORS if hasattr(raised, name)},
        "notes": [as_text(note) for note in getattr(raised, "__notes__", ())],
        "hides context": raised.__suppress_context__,
        "cause": as_error(raised.__cause__, depth + 1),
        "context": as_error(raised.__context__, depth + 1),
    }
