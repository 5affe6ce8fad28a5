"""Strands: an agent whose stream is read to its end, left early, or cancelled. Its own LLM span is around each call."""

import asyncio
import contextlib
import gc
import json
import time

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from strands import Agent
from strands.models.openai import OpenAIModel

import callspan
from callspan.testing import ScriptedProvider

STORE = "sqlite:///calls.db"
OPERATION = "gen_ai.operation.name"


def agent(provider: ScriptedProvider) -> Agent:
    model = OpenAIModel(client_args={"api_key": "k", "base_url": provider.openai_url}, model_id="gpt-5")
    return Agent(model=model, callback_handler=None)


async def read(provider: ScriptedProvider, most: int) -> None:
    texts = 0
    async for event in agent(provider).stream_async("Hi"):
        texts += "data" in event
        if texts == most:
            break


async def cancelled(provider: ScriptedProvider) -> None:
    task = asyncio.ensure_future(read(provider, -1))
    deadline = time.monotonic() + 10
    while not provider.requests and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> None:
    exporter, tracing = InMemorySpanExporter(), TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(tracing)
    handle = callspan.instrument(stores=STORE)
    for delay_s, scene in ((0, lambda p: read(p, -1)), (0, lambda p: read(p, 2)), (20, cancelled)):
        with ScriptedProvider() as provider:
            provider.reply(text="one two three four", delay_s=delay_s, repeat=True)
            asyncio.run(scene(provider))
    gc.collect()
    handle.force_flush()
    reader = callspan.open_store(STORE)
    records = {call.span_id: call.outcome for call in reader.calls()}
    reader.close()
    print("RESULT " + json.dumps({"spans": of_calls(exporter), "records": records}))


def of_calls(exporter: InMemorySpanExporter) -> list[tuple[str, str]]:
    """The LLM spans that were exported: their ids and whose they are."""
    chats = [span for span in exporter.get_finished_spans() if (span.attributes or {}).get(OPERATION) == "chat"]
    return [(f"{span.context.span_id:016x}", span.instrumentation_scope.name) for span in chats]


if __name__ == "__main__":
    main()
