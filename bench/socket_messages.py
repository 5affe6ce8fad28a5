"""What a message of a websocket costs the thread that reads it: instructions of the SDK's `recv`, bare and observed.

    python bench/socket_messages.py [--apart]

Text deltas of a response, all of which have arrived before the first is read. Needs valgrind.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import valgrind

MESSAGES = 300
WARM_UP = 100
PAUSE_S = 0.03 if "--apart" in sys.argv else 0.0
"""Between two messages, so that the thread of callspan sleeps and must be woken for each."""
OPTIONS: Any = {"max_queue": None, "max_size": None}
METHODS = ("recv", "recv_bytes")


def frames() -> Iterator[str]:
    """A response that has only begun."""
    about = {"item_id": "msg_0123456789abcdef0123456789abcdef", "output_index": 0, "content_index": 0}
    response = {"id": "resp_1", "object": "response", "model": "gpt-5", "status": "in_progress", "output": []}
    yield encoded({"type": "response.created", "sequence_number": 0, "response": response})
    for number in range(1, MESSAGES + WARM_UP):
        delta = {
            "type": "response.output_text.delta",
            "sequence_number": number,
            **about,
            "delta": " word",
            "logprobs": [],
        }
        yield encoded(delta)


def encoded(event: dict[str, Any]) -> str:
    """As providers send it."""
    return json.dumps(event, separators=(",", ":"))


@contextmanager
def server() -> Iterator[str]:
    """Sends all frames after a create."""
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.server import serve

    def play(connection: Any) -> None:
        connection.recv()
        for frame in frames():
            connection.send(frame)
        with suppress(ConnectionClosed):
            connection.recv()

    with serve(play, "127.0.0.1", 0, compression=None) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.socket.getsockname()[1]}/v1"
        running.shutdown()


CREATE: Any = {"type": "response.create", "model": "gpt-5", "input": "Hi"}


def measure(method: str, count: Callable[[Callable[[], object]], float]) -> float:
    """Per message, read by threads."""
    import openai

    with (
        server() as url,
        openai.OpenAI(base_url=url, api_key="k") as client,
        client.responses.connect(websocket_connection_options=OPTIONS) as connection,
    ):
        receive = getattr(connection, method)
        connection.send(CREATE)
        for _ in range(WARM_UP):
            receive()
        time.sleep(3)

        def read() -> None:
            for _ in range(MESSAGES):
                time.sleep(PAUSE_S)
                receive()

        spent = count(read) / MESSAGES
        connection._connection.socket.shutdown(2)
    return spent


def measure_async(method: str, count: Callable[[Callable[[], object]], float]) -> float:
    """Per message, read by asyncio."""
    import openai

    async def main(url: str) -> float:
        async with (
            openai.AsyncOpenAI(base_url=url, api_key="k") as client,
            client.responses.connect(websocket_connection_options=OPTIONS) as connection,
        ):
            receive = getattr(connection, method)
            await connection.send(CREATE)
            for _ in range(WARM_UP):
                await receive()
            await asyncio.sleep(3)

            def read() -> None:
                for _ in range(MESSAGES):
                    time.sleep(PAUSE_S)
                    coroutine = receive()
                    try:
                        coroutine.send(None)
                    except StopIteration:
                        continue
                    raise RuntimeError("a message has not arrived yet")

            spent = count(read) / MESSAGES
            connection._connection.transport.abort()
            return spent

    with server() as url:
        return asyncio.run(main(url))


def inside(directory: Path) -> None:
    """Count in a process that valgrind runs; print the figures as JSON."""
    import callspan

    counter = valgrind.Counter(directory)

    def count(work: Callable[[], object]) -> float:
        return counter.count(work).instructions

    found: dict[str, float] = {}
    for observed in (False, True):
        if observed:
            callspan.instrument()
        for method in METHODS:
            found[f"sync {method} {observed}"] = measure(method, count)
            found[f"async {method} {observed}"] = measure_async(method, count)
    print(json.dumps(found))


def main() -> None:
    """Print a line for each way of reading."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "CALLSPAN_BENCH_DIRECTORY": folder}
        out = Path(folder) / "printed"
        with out.open("w") as file:
            stdout = os.dup(1)
            os.dup2(file.fileno(), 1)
            try:
                valgrind.run(sys.executable, [__file__, "--inside", *sys.argv[1:]], Path(folder), environment)
            finally:
                os.dup2(stdout, 1)
        found = json.loads(out.read_text())
    for kind in ("sync", "async"):
        for method in METHODS:
            bare, observed = found[f"{kind} {method} False"], found[f"{kind} {method} True"]
            print(f"{kind} {method}: {bare:,.0f} instructions, +{observed - bare:,.0f} ({observed / bare - 1:+.1%})")


if __name__ == "__main__":
    if "--inside" in sys.argv:
        inside(Path(os.environ["CALLSPAN_BENCH_DIRECTORY"]))
    else:
        main()
