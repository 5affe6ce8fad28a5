"""What a service pays for callspan: CPU of its worker processes for each request, and their memory.

    python tools/environments.py service
    .venv-service/bin/python bench/service.py [--pairs 20] [--requests 150] [--stores no] [URL ...]

FastAPI under two workers of uvicorn, once with OpenTelemetry's FastAPI spans alone, once with callspan too: each
request is a session with a timestep, two calls and a tool. Both services run all the time, and get blocks of requests
in turn, so that what else the machine does meets both alike. URLs are of more stores than SQLite and JSON Lines.
"""

from __future__ import annotations

import argparse
import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import msgspec

WORKERS, CLIENTS, WARM = 2, 4, 400
THINKING_S = 0.04
"""How long the model takes to answer."""
TEXT = "All is well, and this is the answer to what was asked. " * 10
_NUMBERS = itertools.count()


def answer() -> bytes:
    """Return an answer of the model; each has an id and words of its own."""
    number = next(_NUMBERS)
    return msgspec.json.encode({
        "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1_760_000_000 + number,
        "model": "gpt-5-mini-2025-08-07", "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"{TEXT}{number}"}}
        ],
        "usage": {"prompt_tokens": 200, "completion_tokens": 120, "total_tokens": 320},
    })  # fmt: skip


class Spent(NamedTuple):
    """What the workers of one service have spent on a request, CPU milliseconds."""

    all: float
    system: float
    """In the kernel."""
    threads: Counter[str]
    """By the name of the thread."""


class _Model(BaseHTTPRequestHandler):
    """Answers each call in the process of the benchmark, which is not measured."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(THINKING_S)
        self.send_response(200)
        self.send_header("content-type", "application/json")
        body = answer()
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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


def _workers(url: str) -> dict[int, dict[str, Any]]:
    """Return what each worker has spent; which one answers is chance."""
    found: dict[int, dict[str, Any]] = {}
    for _ in range(200):
        if len(found) == WORKERS:
            break
        with ThreadPoolExecutor(8) as many:
            found |= {one["process"]: one for one in many.map(_get, [f"{url}/spent"] * 8)}
    return found


class Service:
    """One of the two services, while it runs."""

    def __init__(self, url: str, clients: ThreadPoolExecutor) -> None:
        self._url = url
        self._clients = clients
        self._asked = 0

    def ask(self, requests: int) -> None:
        """Have it answer so many requests."""
        numbers = range(self._asked, self._asked + requests)
        self._asked += requests
        bodies = [{"user": f"u{number % 50}", "question": f"question {number} " + "x" * 400} for number in numbers]
        list(self._clients.map(lambda body: _get(f"{self._url}/ask", body), bodies))

    def measure(self, requests: int) -> Spent:
        """Return what so many requests cost, delivery to the stores included."""
        before = _workers(self._url)
        self.ask(requests)
        after = _workers(self._url)
        threads: Counter[str] = Counter()
        for process, then in before.items():
            threads.update(after[process]["threads"])
            threads.subtract(then["threads"])
        both = (sum(after[one][kind] - before[one][kind] for one in before) for kind in ("cpu_ms", "system_ms"))
        return Spent(*(ms / requests for ms in both), Counter({name: ms / requests for name, ms in threads.items()}))

    def mib(self) -> float:
        """Return the memory of its larger worker."""
        return max(one["kib"] for one in _workers(self._url).values()) / 1024


def pairs(stores: Sequence[str], place: Path, options: argparse.Namespace) -> Iterator[tuple[Spent, Spent]]:
    """Yield what a request costs alone and with callspan; print what memory they take."""
    with model() as provider, ThreadPoolExecutor(CLIENTS) as clients, \
         serving(place, provider, None) as one, serving(place, provider, stores) as other:  # fmt: skip
        alone, both = Service(one, clients), Service(other, clients)
        for service in (alone, both):
            service.ask(WARM)
        for number in range(options.pairs):
            order = (alone, both) if number % 2 else (both, alone)
            spent = {service: service.measure(options.requests) for service in order}
            yield spent[alone], spent[both]
        print(f"memory of a worker: {alone.mib():.0f} MiB alone, {both.mib():.0f} with callspan")


def _said(values: Sequence[float]) -> str:
    lower, middle, upper = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ms ({lower:.2f} to {upper:.2f})"


def main() -> None:
    """Measure both in turn, and print what callspan adds: medians and quartiles of the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("urls", nargs="*")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--requests", type=int, default=150)
    parser.add_argument("--stores", choices=("files", "no"), default="files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        files = [f"sqlite:///{directory}/calls.db", f"jsonl:///{directory}/calls.jsonl"]
        stores = [*(files if options.stores == "files" else []), *options.urls]
        found = list(pairs(stores, Path(directory), options))
    print(f"alone {_said([alone.all for alone, _ in found])}, of that in the kernel "
          f"{_said([alone.system for alone, _ in found])}; load {os.getloadavg()[1]:.1f}")  # fmt: skip
    added = [with_it.all - alone.all for alone, with_it in found]
    in_kernel = [with_it.system - alone.system for alone, with_it in found]
    print(f"callspan adds {_said(added)}, of that in the kernel {_said(in_kernel)}")
    for name in sorted({name for _, with_it in found for name in with_it.threads}):
        print(f"  {name}: {_said([with_it.threads[name] - alone.threads[name] for alone, with_it in found])}")


if __name__ == "__main__":
    main()
