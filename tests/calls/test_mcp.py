"""Tools of MCP servers in a tool runner: one row each, and the span of the package `mcp` below ours."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import anthropic
import anyio.to_thread
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from callspan.testing import ScriptedProvider, capture
from tests.calls.loops import MESSAGE, request, rows
from tests.support.scale import scaled

mcp: Any = pytest.importorskip("mcp", reason="mcp is not installed")
if not hasattr(mcp, "Client"):
    pytest.skip("mcp has its own spans since 2.0", allow_module_level=True)
# Only now: it imports what older environments lack.
from tests.support.launching import free_port  # noqa: E402

SERVER = Path(__file__).with_name("mcp_server.py")


@pytest.fixture(scope="module")
def exported() -> Iterator[InMemorySpanExporter]:
    """What goes to the global provider, where the package's tracer stays."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "_TRACER_PROVIDER", provider)
        yield exporter
    provider.shutdown()


@asynccontextmanager
async def streams(transport: str) -> AsyncIterator[Any]:
    """The streams of a connection with a server in a process of its own."""
    if transport == "stdio":
        parameters = mcp.StdioServerParameters(command=sys.executable, args=[str(SERVER)], env=dict(os.environ))
        async with mcp.stdio_client(parameters) as opened:
            yield opened
        return
    port = free_port()
    with subprocess.Popen([sys.executable, str(SERVER), str(port)], stderr=subprocess.DEVNULL) as server:  # noqa: ASYNC220 - waited for at its end
        try:
            await _listening(port)
            client = import_module("mcp.client.streamable_http").streamable_http_client
            async with client(f"http://127.0.0.1:{port}/mcp") as opened:
                yield opened
        finally:
            server.terminate()


async def _listening(port: int) -> None:
    for _ in range(1200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise TimeoutError("the server does not listen")


WAYS = [("stdio", False), ("streamable HTTP", True), ("stdio", True), ("streamable HTTP", False)]
"""Transports, and whether the runner is asynchronous."""


@pytest.mark.parametrize(("transport", "is_async"), scaled(WAYS[:2], WAYS))
def test_a_tool_of_a_server_is_one_row_and_the_packages_span_is_below_it(
    transport: str, is_async: bool, provider: ScriptedProvider, exported: InMemorySpanExporter
) -> None:
    made = import_module("anthropic.lib.tools.mcp")
    tool_of = made.async_mcp_tool if is_async else made.mcp_tool
    provider.reply(tool_calls=[request()])
    provider.reply(text="It is sunny.")

    async def body() -> None:
        async with streams(transport) as opened, mcp.ClientSession(opened[0], opened[1]) as session:
            await session.initialize()
            tools = [tool_of(tool, session) for tool in (await session.list_tools()).tools]
            given: dict[str, Any] = {"api_key": "sk-ant-test", "base_url": provider.anthropic_url}
            if is_async:
                async with anthropic.AsyncAnthropic(**given) as client:
                    await client.beta.messages.tool_runner(**{**MESSAGE, "tools": tools}).until_done()
                return
            with anthropic.Anthropic(**given) as one:
                runner = one.beta.messages.tool_runner(**{**MESSAGE, "tools": tools})
                await anyio.to_thread.run_sync(runner.until_done)

    exported.clear()
    with capture() as seen:
        asyncio.run(body())
        (row,) = rows(seen, "tool")
    assert "Sunny in Paris" in str(row.data["result"])
    (called,) = [span for span in exported.get_finished_spans() if "tools/call" in span.name]
    assert called.parent is not None
    assert f"{called.parent.span_id:016x}" == row.span_id
