"""What callspan may cost, as ratios to a raw span or to the bare SDK measured in the same moments; its memory.

Two kinds of bounds. Counted calls of functions, Python's and C's, are the same on every machine under any load: their
bounds are a little above what is counted today, so that work that is added shows. Times are blurred by whatever else
runs: their bounds are wide, and catch a step that got several times slower without calling more.

Memory of a very long stream is bounded by its text, with the same work per chunk; that of a session does not grow.
"""

from __future__ import annotations

import gc
import json
import platform
import resource
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from tests.conftest import Instrument
from tests.support.waiting import HANG_MS

import callspan
from callspan import Session

pytestmark = pytest.mark.usefixtures("no_settings")

_BENCH = Path(__file__).resolve().parents[2] / "bench"
_PROGRAM = """
import gc, json, sys
sys.path.insert(0, sys.argv[1])
from columns import columns
from rows import BARE, DEFAULT, FLOOR, SQLITE, provider, rows
from timing import measure

column = next(column for column in columns() if column.name == sys.argv[2])
names = {BARE: "bare", FLOOR: "floor", DEFAULT: "default", SQLITE: "sqlite"}
wanted = [row for row in rows(column, provider()) if row.name in names]

def counted(row):
    calls = 0
    def note(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")
    with row.around() as wrap:
        column.run(3, wrap, lambda: 0)
        gc.disable()
        sys.setprofile(note)
        column.run(1, wrap, lambda: 0)
        sys.setprofile(None)
        gc.enable()
    return calls / column.per

if sys.argv[3] == "times":
    found = {name: min(values) for name, values in measure(column, wanted, seconds=6, least=7).rounds.items()}
else:
    found = {row.name: counted(row) for row in wanted}
print(json.dumps({names[name]: value for name, value in found.items()}))
"""


def measured(column: str, what: str) -> dict[str, Any]:
    """By row: the `calls` of functions per unit, or its `times`, CPU nanoseconds.

    Those are the least of several rounds, since load only ever adds.
    """
    return printed(_PROGRAM, str(_BENCH), column, what)


def printed(program: str, *arguments: str) -> Any:
    """What a fresh interpreter prints, as JSON."""
    command = [sys.executable, "-c", program, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.parametrize(
    ("column", "spans"),
    [
        ("openai plain sync", 1.85),
        ("anthropic plain async", 1.02),
        ("session, timesteps with an event", 2.51),
        ("session, tools", 2.79),
        ("anthropic tool loop", 3.22),
    ],
)
def test_function_calls_per_call_step_and_tool(column: str, spans: float) -> None:
    """Against raw spans with the same attributes; a plain call's record to SQLite's spool beside that."""
    counted = measured(column, "calls")
    bare = 0 if column.startswith("session") else counted["bare"]
    floor = counted["floor"] - bare
    assert counted["default"] - bare <= spans * floor
    if "plain" in column:
        assert counted["sqlite"] - counted["default"] <= 0.09 * floor


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(("column", "most"), [("openai 500-chunk stream", 31.5), ("anthropic 500-event stream", 28.5)])
def test_function_calls_per_chunk(column: str, most: float, mode: str) -> None:
    """The call's own calls included, spread over its chunks."""
    counted = measured(f"{column} {mode}", "calls")
    assert counted["default"] - counted["bare"] <= most


_POSTS = """
import asyncio, gc, json, os, socket, sys, threading
import aiohttp, callspan, httpx, requests

listener = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/orders"
answer = b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: 2\\r\\n\\r\\n{}"
own = os.path.dirname(callspan.__file__)

def serve(connection):
    while piece := connection.recv(65536):
        if piece.endswith(b"]"):
            connection.sendall(answer)

def accept():
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

async def by_httpx():
    async with httpx.AsyncClient() as client:
        return [await counted(lambda: client.post(url, json=[{}])) for _ in range(9)]

async def by_aiohttp():
    async def post():
        async with session.post(url, json=[{}]) as response:
            await response.read()
    async with aiohttp.ClientSession() as session:
        return [await counted(post) for _ in range(9)]

async def counted(post):
    number = 0
    def note(frame, event, argument):
        nonlocal number
        number += event in ("call", "c_call") and frame.f_code.co_filename.startswith(own)
    sys.setprofile(note)
    posted = post()
    if not isinstance(posted, httpx.Response | requests.Response):
        await posted
    sys.setprofile(None)
    return number

async def main():
    threading.Thread(target=accept, daemon=True).start()
    callspan.instrument()
    with httpx.Client() as client, requests.Session() as session:
        found = {
            "httpx": [await counted(lambda: client.post(url, json=[{}])) for _ in range(9)],
            "requests": [await counted(lambda: session.post(url, json=[{}])) for _ in range(9)],
        }
    print(json.dumps({
        name: min(calls) for name, calls in (found | {"aiohttp": await by_aiohttp(), "async": await by_httpx()}).items()
    }))

asyncio.run(main())
"""


def test_function_calls_per_request_that_is_no_call() -> None:
    """Of callspan's functions. No other library costs more than httpx of the same colour."""
    added = printed(_POSTS)
    assert added["requests"] <= added["httpx"] <= 23
    assert added["aiohttp"] <= 26 <= added["async"] <= 36


def test_function_calls_per_message_of_a_long_history() -> None:
    """99 messages of 2 KB: most of them are not shown, and none is worth more than reading it once."""
    short, long = (measured(column, "calls") for column in ("openai plain sync", "openai 200 KB request"))
    assert long["default"] - long["bare"] <= short["default"] - short["bare"] + 99 * 12


@pytest.mark.parametrize("column", ["openai plain sync", "anthropic plain async"])
def test_plain_call_cost_in_raw_spans(column: str) -> None:
    """Spans only, both vocabularies, content on; then with every record handed to SQLite's spool."""
    cost = measured(column, "times")
    floor = cost["floor"] - cost["bare"]
    assert cost["default"] - cost["bare"] <= 8 * floor
    assert cost["sqlite"] - cost["bare"] <= 12 * floor


# 28 blocks of 33 streams, each of them a tenth of a second on a slow machine.
@pytest.mark.parametrize(
    ("column", "part"), [("openai 500-chunk stream sync", 0.15), ("anthropic 500-event stream sync", 0.4)]
)
def test_chunk_cost_relative_to_the_sdk(column: str, part: float) -> None:
    """The call's own cost included, spread over its chunks."""
    cost = measured(column, "times")
    assert cost["default"] - cost["bare"] <= part * cost["bare"]


def test_timestep_cost_in_raw_spans() -> None:
    cost = measured("session, timesteps with an event", "times")
    assert cost["default"] <= 8 * cost["floor"]


def test_import_is_cheap_and_instrument_starts_no_thread() -> None:
    timed = "import time; a = time.process_time_ns(); import {}; print(time.process_time_ns() - a)"
    theirs, ours = zip(
        *((printed(timed.format("opentelemetry.trace")), printed(timed.format("callspan"))) for _ in range(3)),
        strict=True,
    )
    assert median(ours) <= 2.5 * median(theirs)
    assert printed("import threading, callspan; callspan.instrument(); print(threading.active_count() - 1)") == 0


@pytest.mark.skipif(shutil.which("valgrind") is None or platform.machine() != "x86_64", reason="needs valgrind")
def test_instructions_per_delivered_record() -> None:
    """From the spool into SQLite and JSON Lines, priced; see `bench/delivery.py`."""
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import delivery\n"
        "with delivery.files() as urls: found = delivery.counted(urls, 100)\n"
        "print(json.dumps({url.partition(':')[0]: instructions for url, instructions in found.items()}))"
    )
    found = printed(program, str(_BENCH))
    assert found["sqlite"] <= 0.405 * 2_900_785
    assert found["jsonl"] <= 0.36 * 1_530_461


# Memory. Chunks are as long as a provider's: five letters, one token with the preceding space. They are passed to
# `record_call`, so that only callspan's memory is measured, not an SDK's.

STATM = Path("/proc/self/statm")
CHUNKS = 100_000
LETTERS = 5


Shape = tuple[Any, list[dict[str, Any]], Callable[[str], dict[str, Any]]]
"""A stream: its API, what comes before the pieces, and a piece."""


def chat(**delta: Any) -> dict[str, Any]:
    head = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


MESSAGE = {"type": "message_start", "message": {"id": "m", "role": "assistant", "content": [], "model": "c"}}
ITEM = {"type": "message", "id": "msg", "role": "assistant", "content": []}
PLACE = {"output_index": 0, "content_index": 0}

SHAPES: dict[str, Shape] = {
    "chat text": ("chat_completions", [chat(role="assistant")], lambda word: chat(content=word)),
    "chat arguments": (
        "chat_completions",
        [chat(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}])],
        lambda word: chat(tool_calls=[{"index": 0, "function": {"arguments": word}}]),
    ),
    "messages text": (
        "messages",
        [MESSAGE, {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}],
        lambda word: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}},
    ),
    "responses text": (
        "responses",
        [{"type": "response.output_item.added", "output_index": 0, "item": ITEM}],
        lambda word: {"type": "response.output_text.delta", "item_id": "msg", **PLACE, "delta": word},
    ),
}


def words(count: int) -> Iterator[str]:
    """Strings of five letters, each an object of its own, as they are when parsed from the wire."""
    return (f" {number % 10_000:04}" for number in range(count))


def tell(shape: Shape, count: int, running: Callable[[], object] = lambda: None) -> None:
    """One stream of so many pieces; `running` is called before it ends."""
    api, before, piece = shape
    with callspan.record_call(provider="p", api=api, model="m", stream=True) as call:
        for event in before:
            call.chunk(event)
        for word in words(count):
            call.chunk(piece(word))
        running()


def ready(instrumented: Instrument, **settings: Any) -> None:
    """Instrument, and let the first stream make what is made once."""
    handle = instrumented(tracer_provider=TracerProvider(), meter_provider=MeterProvider(), **settings)
    tell(SHAPES["chat text"], 100)
    handle.force_flush(HANG_MS)


def memory_of(shape: Shape, count: int) -> tuple[float, float]:
    """Bytes per byte of text, while the stream runs and at its end."""
    found: list[int] = []
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tell(shape, count, lambda: found.append(tracemalloc.get_traced_memory()[1] - before))
        found.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    running, ending = (size / (count * LETTERS) for size in found)
    return running, ending


def calls_of(shape: Shape, count: int) -> int:
    """How many functions one stream calls, of Python's and of C's."""
    number = 0

    def called(frame: object, event: str, argument: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        tell(shape, count)
    finally:
        sys.setprofile(None)
    return number


@pytest.mark.parametrize("name", SHAPES)
def test_long_stream_memory_is_linear(name: str, instrumented: Instrument) -> None:
    """In memory while it runs, and in functions called."""
    ready(instrumented)
    assert calls_of(SHAPES[name], 20_000) < 10.5 * calls_of(SHAPES[name], 2_000)
    running, _ = memory_of(SHAPES[name], CHUNKS)
    assert running < 1.5
    assert running < 1.1 * memory_of(SHAPES[name], 10_000)[0]


@pytest.mark.parametrize("stores", [False, True], ids=["spans", "a store"])
def test_ending_a_long_stream_is_cheap(stores: bool, tmp_path: Path, instrumented: Instrument) -> None:
    """For a moment: put together, encoded, looked into for what goes on the span; and as a line of the spool."""
    ready(instrumented, **({"stores": f"jsonl:///{tmp_path}/c.jsonl"} if stores else {}))
    _, ending = memory_of(SHAPES["chat text"], CHUNKS)
    assert ending < 5


@pytest.mark.timeout(900)
@pytest.mark.skipif(not STATM.exists(), reason="reads the resident size from /proc")
@pytest.mark.parametrize("trace_per", ["session", "timestep"])
def test_session_memory_is_bounded(trace_per: str, instrumented: Instrument) -> None:
    instrumented(tracer_provider=TracerProvider(), trace_per=trace_per)
    with callspan.session("endless") as own:
        walk(own, 10_000)
        before = resident_mib()
        walk(own, 30_000)
        grown = resident_mib() - before
    assert grown < 1.5, "MiB: 50 bytes a step would be an object that is kept"


def walk(own: Session, steps: int) -> None:
    for index in range(steps):
        own.observation(index)
        with own.timestep() as step, callspan.tool("move") as run:
            run.result = index
            step.environment(index, reward=1.0)


def resident_mib() -> float:
    gc.collect()
    return int(STATM.read_text().split()[1]) * resource.getpagesize() / 2**20
