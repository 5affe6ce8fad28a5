"""What a service pays for callspan: CPU of its worker processes for each request, and their memory.

    python tools/environments.py service
    .venv-service/bin/python bench/service.py [--requests 2000] [--rounds 5] [URL ...]

FastAPI under two workers of uvicorn, once with OpenTelemetry's FastAPI spans alone, once with callspan too: each
request is a session with a timestep, two calls and a tool. URLs are of more stores than SQLite and JSON Lines.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import msgspec

WORKERS, CLIENTS, WARM = 2, 4, 200
TEXT = "All is well, and this is the answer to what was asked. " * 10
ANSWER = msgspec.json.encode({
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1_760_000_000, "model": "gpt-5-mini-2025-08-07",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
    "usage": {"prompt_tokens": 200, "completion_tokens": 120, "total_tokens": 320},
})  # fmt: skip


class Spent(NamedTuple):
    """What the workers of one service have spent."""

    ms: float
    """CPU of a request, milliseconds."""
    mib: float
    """Memory of a worker, MiB."""


class _Model(BaseHTTPRequestHandler):
    """Answers each call at once, in the process of the benchmark, which is not measured."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def model() -> Iterator[str]:
    """Serve the provider; yield its base URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()


@contextmanager
def serving(place: Path, provider: str, stores: Sequence[str] | None) -> Iterator[str]:
    """Run the service; yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OPENAI_BASE_URL": provider, "CALLSPAN_SPOOL_DIR": str(place / "spool")}
    if stores is not None:
        environment["BENCH_STORES"] = " ".join(stores)
    command = [sys.executable, "-m", "uvicorn", "service_app:app", "--port", str(port), "--workers", str(WORKERS)]
    process = subprocess.Popen([*command, "--log-level", "error"], env=environment, cwd=Path(__file__).resolve().parent)
    try:
        url = f"http://127.0.0.1:{port}"
        _until_up(url)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def _until_up(url: str) -> None:
    for _ in range(300):
        with suppress(OSError):
            if len(_workers(url)) == WORKERS:
                return
        time.sleep(0.1)
    raise TimeoutError("the service does not come up")


def _get(url: str, body: object = None) -> Any:
    data = None if body is None else msgspec.json.encode(body)
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=90) as response:
        return msgspec.json.decode(response.read())


def _workers(url: str) -> dict[int, dict[str, int]]:
    """Return what each worker has spent; which one answers is chance."""
    found: dict[int, dict[str, int]] = {}
    for _ in range(200):
        if len(found) == WORKERS:
            break
        with ThreadPoolExecutor(8) as many:
            found |= {one["process"]: one for one in many.map(_get, [f"{url}/spent"] * 8)}
    return found


def measure(stores: Sequence[str] | None, requests: int, place: Path) -> Spent:
    """Return what one service spends."""
    bodies = [{"user": f"u{number % 50}", "question": f"question {number} " + "x" * 400} for number in range(requests)]
    with model() as provider, serving(place, provider, stores) as url, ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(lambda body: _get(f"{url}/ask", body), bodies[:WARM]))
        before = _workers(url)
        list(clients.map(lambda body: _get(f"{url}/ask", body), bodies))
        after = _workers(url)
    ns = sum(after[process]["cpu_ns"] - before[process]["cpu_ns"] for process in before)
    return Spent(ns / 1e6 / requests, max(one["kib"] for one in after.values()) / 1024)


def main() -> None:
    """Measure both in turn, and print what callspan adds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="*")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    added: list[Spent] = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            stores = [f"sqlite:///{place}/calls.db", f"jsonl:///{place}/calls.jsonl", *options.urls]
            alone, both = (measure(one, options.requests, place) for one in (None, stores))
        added.append(Spent(both.ms - alone.ms, both.mib - alone.mib))
        print(f"round {number + 1}: {alone.ms:.2f} ms, {alone.mib:.0f} MiB alone; with callspan {both.ms:.2f} ms, "
              f"{both.mib:.0f} MiB", flush=True)  # fmt: skip
    ms, mib = (sorted(values) for values in zip(*added, strict=True))
    print(f"callspan adds {statistics.median(ms):.2f} ms of CPU to a request ({ms[0]:.2f} to {ms[-1]:.2f}), "
          f"{statistics.median(mib):.0f} MiB to a worker")  # fmt: skip


if __name__ == "__main__":
    main()
