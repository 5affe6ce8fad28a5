"""Load as an application has it: many calls at once, each waiting for its network; runs in processes of its own.

    python bench/scale_load.py KIND AT_ONCE EACH WAITS STORE

Does one round for each row named on its standard input, and answers with a line of JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import httpx2
import openai
from opentelemetry.sdk.trace import TracerProvider

import floor
import wire_bodies as wire
from rows import BARE, DEFAULT, FLOOR, SQLITE, Row, Wrap, bare, instrumented, provider, same

CHUNKS = 60
FIRST_S, CHUNK_S, ANSWER_S, STAGGER_S = (0.2, 0.6), 0.04, (0.1, 0.5), 1.0
"""Waits: until a stream's first byte and for a whole answer (uniform), between chunks (mean of an exponential), and of
each caller before its first stream (uniform, from nothing), as users do not all come at once."""
_TICK_S = 0.005
_WARM = 100
"""Calls before each round, which do not count: for some fifty calls after classes were patched CPython is slower."""
_CALL = "x-call"
"""A header that says which call it is, so that the mocked network waits the same in every round."""


class Load:
    """`at_once` callers, each making `each` calls one after the other; every round has the same waits."""

    def __init__(self, at_once: int, each: int, *, waits: bool) -> None:
        self._at_once, self._each, self._waits = at_once, each, waits
        lines = wire.openai_stream(CHUNKS).split(b"\n\n")
        self._events = [line + b"\n\n" for line in lines if line]
        self._request = {"model": "gpt-5", "messages": wire.messages(1000)}
        self.wrap: Wrap = same
        """Put around each call."""

    async def _pause(self, seconds: float) -> None:
        if self._waits:
            await asyncio.sleep(seconds)

    async def _body(self, chance: random.Random) -> AsyncIterator[bytes]:
        for event in self._events:
            yield event
            await self._pause(chance.expovariate(1 / CHUNK_S))

    async def _begin(self, request: httpx2.Request) -> httpx2.Response:
        chance = random.Random(request.headers[_CALL])
        await self._pause(chance.uniform(*FIRST_S))
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=self._body(chance))

    async def _stream(self, client: openai.AsyncOpenAI, caller: int) -> None:
        await self._pause(random.Random(caller).uniform(0, STAGGER_S))
        for number in range(self._each):
            await self.wrap(partial(self._read, client, f"{caller}-{number}"))()

    async def _read(self, client: openai.AsyncOpenAI, call: str) -> None:
        headers = {_CALL: call}
        async for _ in await client.chat.completions.create(**self._request, stream=True, extra_headers=headers):
            pass

    async def _all(self) -> list[float]:
        transport = httpx2.MockTransport(self._begin)
        client = openai.AsyncOpenAI(
            api_key="sk-test", http_client=httpx2.AsyncClient(transport=transport), max_retries=0
        )
        late: list[float] = []
        watching = asyncio.create_task(_watch(late))
        await asyncio.gather(*(self._stream(client, caller) for caller in range(self._at_once)))
        watching.cancel()
        return late

    def streams(self) -> list[float]:
        """Read streams on one event loop; return how late its ticks were, in seconds."""
        return asyncio.run(self._all())

    def threads(self) -> list[float]:
        """Make plain calls of one client in threads; there is no loop to be late."""
        client = openai.OpenAI(
            api_key="sk-test", http_client=httpx2.Client(transport=httpx2.MockTransport(self._answer)), max_retries=0
        )

        def calls(caller: int) -> None:
            for number in range(self._each):
                headers = {_CALL: f"{caller}-{number}"}
                self.wrap(partial(client.chat.completions.create, **self._request, extra_headers=headers))()

        workers = [threading.Thread(target=calls, args=(caller,)) for caller in range(self._at_once)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return []

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if self._waits:
            time.sleep(random.Random(request.headers[_CALL]).uniform(*ANSWER_S))
        return httpx2.Response(200, headers=wire.HEADERS["openai"], content=wire.openai_answer())


async def _watch(late: list[float]) -> None:
    while True:
        due = time.perf_counter() + _TICK_S
        await asyncio.sleep(_TICK_S)
        late.append(time.perf_counter() - due)


def _floored(tracing: TracerProvider, kind: str) -> Callable[[], AbstractContextManager[Wrap]]:
    notes, watched, load = floor.Notes(), TracerProvider(), Load(1, 1, waits=False)
    watched.add_span_processor(notes)
    with instrumented(watched)():
        getattr(load, kind)()
    wrap = floor.call_floor(notes.spans, tracing, is_async=kind == "streams")

    @contextmanager
    def around() -> Iterator[Wrap]:
        yield wrap

    return around


def _round(load: Load, kind: str, around: Callable[[], AbstractContextManager[Wrap]]) -> dict[str, Any]:
    with around() as load.wrap:
        warm = Load(_WARM, 1, waits=False)
        warm.wrap = load.wrap
        getattr(warm, kind)()
        gc.collect()
        began, spent = time.monotonic(), time.process_time()
        late = getattr(load, kind)()
        ended = time.monotonic()
        cpu = time.process_time() - spent
    p99 = statistics.quantiles(late, n=100)[98] if len(late) > 1 else None
    return {"began": began, "ended": ended, "cpu_s": cpu, "late_p99_s": p99}


def main() -> None:
    """Do one round for each line."""
    kind, at_once, each, waits, store = sys.argv[1:]
    tracing = provider()
    around = {
        row.name: row.around
        for row in (
            Row(BARE, bare),
            Row(FLOOR, _floored(tracing, kind)),
            Row(DEFAULT, instrumented(tracing)),
            Row(SQLITE, instrumented(tracing, stores=store)),
        )
    }
    # The first calls of a process import and make what later ones find there.
    for row in around.values():
        _round(Load(2, 2, waits=False), kind, row)
    load = Load(int(at_once), int(each), waits=waits == "waits")
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_round(load, kind, around[line.strip()])), flush=True)


if __name__ == "__main__":
    main()
