"""The service that `bench/service.py` measures: each request is a session with a timestep, two calls and a tool."""

from __future__ import annotations

import os
import resource
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import openai
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

STORES = os.environ.get("BENCH_STORES")
"""URLs of the stores; None: without callspan."""
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


class _Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        del spans
        return SpanExportResult.SUCCESS


provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(_Nowhere()))
trace.set_tracer_provider(provider)
app = FastAPI()
client = openai.AsyncOpenAI(api_key="sk-test", max_retries=0)

if STORES is None:

    @contextmanager
    def around(user: str) -> Iterator[None]:
        """Add nothing."""
        del user
        yield

    @contextmanager
    def look(question: str) -> Iterator[None]:
        """Add nothing."""
        del question
        yield

else:
    import callspan

    handle = callspan.instrument(stores=STORES.split())

    @contextmanager
    def around(user: str) -> Iterator[None]:
        """Open a session with a timestep."""
        with callspan.session("desk", user_id=user) as session, session.timestep():
            yield

    @contextmanager
    def look(question: str) -> Iterator[None]:
        """Run a tool."""
        with callspan.tool("look", arguments={"question": question}) as tool:
            yield
            tool.result = "found"


@app.get("/spent")
def spent() -> dict[str, Any]:
    """Return the id of this worker, its CPU time and that of its threads in milliseconds, and its memory in KiB."""
    if STORES is not None:
        handle.force_flush(60_000)
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS"))
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "process": os.getpid(), "kib": int(line.split()[1]), "threads": _threads(),
        "cpu_ms": (used.ru_utime + used.ru_stime) * 1e3, "system_ms": used.ru_stime * 1e3,
    }  # fmt: skip


def _threads() -> dict[str, float]:
    """Return the CPU milliseconds of each thread by its name; those that answer here are one."""
    found: Counter[str] = Counter()
    for thread in threading.enumerate():
        name = "answering" if "AnyIO" in thread.name else thread.name.partition(":")[0]
        with suppress(FileNotFoundError):
            # Of a thread that has ended since there is no file.
            found[name] += int(Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0])
    return {name: ns / 1e6 for name, ns in found.items()}


@app.post("/ask")
async def ask(body: dict[str, str]) -> dict[str, str | None]:
    """Answer a question."""
    messages: list[Any] = [{"role": "user", "content": body["question"]}]
    with around(body["user"]):
        await client.chat.completions.create(model="gpt-5-mini", messages=messages, tools=[TOOL])
        with look(body["question"]):
            messages += [{"role": "assistant", "content": "I look."}, {"role": "user", "content": "found"}]
        answer = await client.chat.completions.create(model="gpt-5-mini", messages=messages)
    return {"answer": answer.choices[0].message.content}


import_module("opentelemetry.instrumentation.fastapi").FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
