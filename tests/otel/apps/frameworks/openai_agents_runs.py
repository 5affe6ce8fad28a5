"""openai-agents: runs of every kind; prints its own tree of spans and callspan's for each as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai
from agents import (
    Agent,
    GuardrailFunctionOutput,
    MaxTurnsExceeded,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    function_tool,
    input_guardrail,
    output_guardrail,
    set_trace_processors,
)
from agents.exceptions import InputGuardrailTripwireTriggered, UserError
from agents.mcp import MCPServerStdio
from agents.tracing import TracingProcessor, custom_span, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

import callspan
from callspan.testing import Reply, ScriptedProvider, capture

NAMES = {"agent": "invoke_agent", "function": "execute_tool", "handoff": "handoff", "guardrail": "guardrail"}
MODELS = ("response", "generation")
STARTS = tuple(NAMES.values())


MCP_SERVER = """
try:
    from mcp.server.mcpserver import MCPServer
except ImportError:  # mcp 1
    from mcp.server.fastmcp import FastMCP as MCPServer
server = MCPServer("sums")
@server.tool()
def add(a: int, b: int) -> int:
    return a + b
server.run()
"""


class Own(TracingProcessor):
    """Keeps the package's own spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def on_trace_start(self, trace: Any) -> None: ...

    def on_trace_end(self, trace: Any) -> None: ...

    def on_span_start(self, span: Any) -> None: ...

    def on_span_end(self, span: Any) -> None:
        self.spans.append(span)

    def shutdown(self) -> None: ...

    def force_flush(self) -> None: ...


def paths(spans: dict[Any, tuple[Any, str | None]]) -> list[str]:
    """The path of names to each span that has a name; of each span its parent's id and its name are given."""

    def names(ident: Any) -> list[str]:
        parent, name = spans[ident]
        return [*(names(parent) if parent is not None else ()), *([name] if name else ())]

    return sorted(" > ".join(names(ident)) for ident, (_, name) in spans.items() if name)


def of_package(span: Any) -> str | None:
    """The name that callspan has for an agent, tool, handoff, guardrail or model call of the package."""
    data = span.span_data
    if data.type in MODELS:
        return "chat"
    name = getattr(data, "to_agent", None) or getattr(data, "name", None)
    return f"{NAMES[data.type]} {name}" if data.type in NAMES else None


def of_callspan(span: ReadableSpan) -> str | None:
    if span.name.startswith("chat "):
        return "chat"
    return span.name if span.name.startswith(STARTS) else None


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


@function_tool
async def slow(n: int) -> str:
    """Wait a little."""
    await asyncio.sleep(0.01 * n)
    return f"waited {n}"


@function_tool(failure_error_function=None)
def broken() -> str:
    """Fail."""
    raise ValueError("no such city")


@function_tool
def forgiven() -> str:
    """Fail, and have the model told of it."""
    raise ValueError("not this one")


@input_guardrail
async def polite(context: Any, agent: Any, given: Any) -> GuardrailFunctionOutput:
    """Look for rude words."""
    await asyncio.sleep(0.005)
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered="idiot" in str(given))


@output_guardrail
async def brief(context: Any, agent: Any, output: Any) -> GuardrailFunctionOutput:
    """Look for long answers."""
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered=False)


class Cast:
    """Agents of one provider."""

    def __init__(self, provider: ScriptedProvider, kind: Any) -> None:
        self.client = openai.AsyncOpenAI(
            api_key="sk-test", base_url=provider.openai_url, max_retries=0, timeout=60
        )  # 200 at once need more than the five seconds that it allows to connect
        self._kind = kind

    def agent(self, name: str, **options: Any) -> Agent[Any]:
        return Agent(name=name, model=self._kind(model="gpt-5", openai_client=self.client), **options)


@contextmanager
def failing(*kinds: type[BaseException]) -> Iterator[None]:
    """Expect one of these exceptions."""
    try:
        yield
    except kinds:
        return
    raise AssertionError(f"none of {kinds} was raised")


def calls(*tools: tuple[str, dict[str, Any]]) -> Reply:
    made = [{"name": name, "arguments": given, "id": f"call_{at}_{name}"} for at, (name, given) in enumerate(tools)]
    return Reply(tool_calls=made)


async def plain(cast: Cast, provider: ScriptedProvider) -> None:
    await Runner.run(cast.agent("guide"), "Hi")


async def parallel_tools(cast: Cast, provider: ScriptedProvider) -> None:
    provider.reply(calls(("weather", {"city": "Oslo"}), ("slow", {"n": 3}), ("slow", {"n": 1}), ("forgiven", {})))
    await Runner.run(cast.agent("guide", tools=[weather, slow, forgiven]), "Hi")


async def handoffs(cast: Cast, provider: ScriptedProvider) -> None:
    provider.reply(calls(("transfer_to_billing", {})))
    provider.reply(calls(("weather", {"city": "Bonn"})))
    billing = cast.agent("billing", tools=[weather], output_guardrails=[brief])
    await Runner.run(cast.agent("triage", handoffs=[billing], input_guardrails=[polite]), "Hi")


async def agents_as_tools(cast: Cast, provider: ScriptedProvider) -> None:
    provider.reply(calls(("ask_expert", {"input": "What?"})))
    provider.reply(calls(("weather", {"city": "Rome"})))
    expert = cast.agent("expert", tools=[weather])
    guide = cast.agent("guide", tools=[expert.as_tool("ask_expert", "Ask the expert.")])
    await Runner.run(guide, "Hi")


async def streamed(cast: Cast, provider: ScriptedProvider) -> None:
    provider.reply(calls(("weather", {"city": "Oslo"})))
    result = Runner.run_streamed(cast.agent("guide", tools=[weather]), "Hi")
    async for _ in result.stream_events():
        pass


async def tripwire(cast: Cast, provider: ScriptedProvider) -> None:
    with failing(InputGuardrailTripwireTriggered):
        await Runner.run(cast.agent("guide", input_guardrails=[polite]), "You idiot")


async def max_turns(cast: Cast, provider: ScriptedProvider) -> None:
    provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}], repeat=True)
    with failing(MaxTurnsExceeded):
        await Runner.run(cast.agent("guide", tools=[weather]), "Hi", max_turns=2)


async def tool_error(cast: Cast, provider: ScriptedProvider) -> None:
    provider.reply(calls(("broken", {})))
    with failing(ValueError, UserError):
        await Runner.run(cast.agent("guide", tools=[broken]), "Hi")


async def cancelled(cast: Cast, provider: ScriptedProvider) -> None:
    provider.reply(calls(("slow", {"n": 500})))
    task = asyncio.create_task(Runner.run(cast.agent("guide", tools=[slow]), "Hi"))
    while not provider.requests:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    task.cancel()
    with failing(asyncio.CancelledError):
        await task


async def in_a_session(cast: Cast, provider: ScriptedProvider) -> None:
    with callspan.session("support", session_id="mine") as session, session.timestep():
        await Runner.run(cast.agent("guide"), "Hi")


async def in_a_group(cast: Cast, provider: ScriptedProvider) -> None:
    for _ in range(2):
        await Runner.run(cast.agent("guide"), "Hi", run_config=RunConfig(workflow_name="chat", group_id="group-7"))


async def under_one_trace(cast: Cast, provider: ScriptedProvider) -> None:
    with trace("two runs"), custom_span("outer", {}):
        await Runner.run(cast.agent("one"), "Hi")
        await Runner.run(cast.agent("two"), "Hi")


async def many(cast: Cast, provider: ScriptedProvider) -> None:
    def model(request: Any) -> Reply:
        """Ask for the tool with the run's own city first."""
        given = request.body.get("input") or request.body.get("messages")
        city = next(one["content"] for one in given if one.get("role") == "user")
        done = any(one.get("type") == "function_call_output" or one.get("role") == "tool" for one in given)
        return Reply(text=f"rain in {city}") if done else calls(("weather", {"city": city}))

    provider.reply(responder=model, repeat=True)

    async def one(number: int) -> None:
        result = await Runner.run(cast.agent(f"guide {number}", tools=[weather]), f"city {number}")
        assert result.final_output == f"rain in city {number}"

    await asyncio.gather(*map(one, range(200)))


async def mcp_tools(cast: Cast, provider: ScriptedProvider) -> None:
    provider.reply(calls(("add", {"a": 1, "b": 2})))
    command: Any = {"command": sys.executable, "args": ["-c", MCP_SERVER]}
    async with MCPServerStdio(params=command, name="sums", client_session_timeout_seconds=60) as server:
        await Runner.run(cast.agent("guide", mcp_servers=[server]), "Hi")


async def content_off(cast: Cast, provider: ScriptedProvider) -> None:
    provider.reply(calls(("weather", {"city": "Oslo"})))
    with callspan.content("off"):
        await Runner.run(cast.agent("guide", tools=[weather]), "Hi")


SCENES: dict[str, Callable[[Cast, ScriptedProvider], Awaitable[None]]] = {
    scene.__name__: scene
    for scene in (
        plain, parallel_tools, handoffs, agents_as_tools, streamed, tripwire, max_turns, tool_error, cancelled,
        in_a_session, in_a_group, under_one_trace, mcp_tools, content_off, many,
    )
}  # fmt: skip


def played(scene: str, kind: Any) -> dict[str, Any]:
    """Play one scene; return both trees, and what was recorded."""
    own = Own()
    set_trace_processors([own])
    with capture() as seen, ScriptedProvider() as provider:
        asyncio.run(_one(SCENES[scene], kind, provider))
    spans = seen.spans
    tools = [event for event in seen.events if event.event_type == "tool"]
    return {
        "theirs": paths({one.span_id: (one.parent_id, of_package(one)) for one in own.spans}),
        "ours": paths({one.context.span_id: (one.parent and one.parent.span_id, of_callspan(one)) for one in spans}),
        "asked": len(provider.requests),
        "calls": sorted(span.name for span in spans if span.name.startswith("chat ")),
        "records": len(seen.records),
        "traces": len({span.context.trace_id for span in spans}),
        "roots": sorted(span.name for span in spans if span.parent is None),
        "failed": sorted({span.name for span in spans if span.status.status_code is StatusCode.ERROR}),
        "sessions": sorted({session.session_id for session in seen.sessions}),
        "tools": sorted(
            [one.name, one.tool_call_id, json.dumps(one.data, sort_keys=True), (one.metadata or {}).get("server")]
            for one in tools
        ),
    }


async def _one(scene: Callable[[Cast, ScriptedProvider], Awaitable[None]], kind: Any, provider: Any) -> None:
    cast = Cast(provider, kind)
    async with cast.client:
        await scene(cast, provider)


def left(store: str) -> None:
    """Play a run in which a tool switches callspan off."""
    set_trace_processors([])
    handle = callspan.instrument(stores=store)

    @function_tool
    def leave() -> str:
        """Switch callspan off."""
        handle.uninstrument()
        return "left"

    async def scene(cast: Cast, provider: ScriptedProvider) -> None:
        provider.reply(calls(("leave", {})))
        await Runner.run(cast.agent("guide", tools=[leave]), "Hi")

    with ScriptedProvider() as provider:
        asyncio.run(_one(scene, OpenAIResponsesModel, provider))


if __name__ == "__main__":
    if sys.argv[1:2] == ["left"]:
        sys.exit(left(sys.argv[2]))
    kinds = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}
    wanted = sys.argv[1:] or SCENES
    found = {f"{api}:{scene}": played(scene, kind) for api, kind in kinds.items() for scene in wanted}
    print("RESULT " + json.dumps(found))
