"""openai-agents: runs of every kind; prints its own tree of spans and callspan's for each as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
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
from agents.tracing import custom_span, trace
from agents.tracing.processors import BatchTraceProcessor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

import callspan
from callspan.testing import Reply, ScriptedProvider, capture

NAMES = {"agent": "invoke_agent", "function": "execute_tool", "handoff": "handoff", "guardrail": "guardrail"}
MODELS = ("response", "generation")
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


class Own:
    """Keeps the package's own spans, as an exporter of theirs."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def export(self, items: list[Any]) -> None:
        self.spans += [one for one in items if hasattr(one, "span_data")]


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
    return span.name if span.name.startswith(tuple(NAMES.values())) else None


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"rain in {city}"


BEGUN = set[int]()
"""How long tools wait that have begun to."""


@function_tool
async def slow(n: int) -> str:
    """Wait a little."""
    BEGUN.add(n)
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


def calls(*tools: tuple[str, dict[str, Any]]) -> Reply:
    made = [{"name": name, "arguments": given, "id": f"call_{at}_{name}"} for at, (name, given) in enumerate(tools)]
    return Reply(tool_calls=made)


OSLO = calls(("weather", {"city": "Oslo"}))


class Cast:
    """Agents of one provider, and their runs."""

    def __init__(self, provider: ScriptedProvider, kind: Any) -> None:
        self.client = openai.AsyncOpenAI(
            api_key="sk-test", base_url=provider.openai_url, max_retries=0, timeout=300
        )  # 200 at once need more than the five seconds that it allows to connect
        self.provider, self._kind = provider, kind

    def agent(self, name: str = "guide", **options: Any) -> Agent[Any]:
        return Agent(name=name, model=self._kind(model="gpt-5", openai_client=self.client), **options)

    async def run(
        self, *replies: Reply, said: str = "Hi", fails: Any = (), options: dict[str, Any] | None = None, **agent: Any
    ) -> Any:
        """Script these replies and run an agent, which ends with one of the exceptions `fails`, if there is any."""
        for reply in replies:
            self.provider.reply(reply)
        try:
            result = await Runner.run(self.agent(**agent), said, **(options or {}))
        except fails:
            return None
        assert not fails, "nothing was raised"
        return result.final_output


async def handoffs(cast: Cast) -> None:
    billing = cast.agent("billing", tools=[weather], output_guardrails=[brief])
    replies = calls(("transfer_to_billing", {})), calls(("weather", {"city": "Bonn"}))
    await cast.run(*replies, name="triage", handoffs=[billing], input_guardrails=[polite])


async def agents_as_tools(cast: Cast) -> None:
    expert = cast.agent("expert", tools=[weather]).as_tool("ask_expert", "Ask the expert.")
    await cast.run(calls(("ask_expert", {"input": "What?"})), calls(("weather", {"city": "Rome"})), tools=[expert])


async def streamed(cast: Cast) -> None:
    cast.provider.reply(OSLO)
    async for _ in Runner.run_streamed(cast.agent(tools=[weather]), "Hi").stream_events():
        pass


async def cancelled(cast: Cast) -> None:
    BEGUN.clear()
    running = cast.run(calls(("slow", {"n": 30_000})), tools=[slow], fails=asyncio.CancelledError)
    task = asyncio.create_task(running)
    while 30_000 not in BEGUN:
        await asyncio.sleep(0.01)
    task.cancel()
    await task


async def in_a_session(cast: Cast) -> None:
    with callspan.session("support", session_id="mine") as session, session.timestep():
        await cast.run()


async def in_a_group(cast: Cast) -> None:
    for _ in range(2):
        await cast.run(options={"run_config": RunConfig(workflow_name="chat", group_id="group-7")})


async def under_one_trace(cast: Cast) -> None:
    with trace("two runs"), custom_span("outer", {}):
        await cast.run(name="one")
        await cast.run(name="two")


async def mcp_tools(cast: Cast) -> None:
    command: Any = {"command": sys.executable, "args": ["-c", MCP_SERVER]}
    async with MCPServerStdio(params=command, name="sums", client_session_timeout_seconds=300) as server:
        await cast.run(calls(("add", {"a": 1, "b": 2})), mcp_servers=[server])


async def content_off(cast: Cast) -> None:
    with callspan.content("off"):
        await cast.run(OSLO, tools=[weather])


async def many(cast: Cast) -> None:
    def model(request: Any) -> Reply:
        """Ask for the tool with the run's own city first."""
        given = request.body.get("input") or request.body.get("messages")
        city = next(one["content"] for one in given if one.get("role") == "user")
        done = any(one.get("type") == "function_call_output" or one.get("role") == "tool" for one in given)
        return Reply(text=f"rain in {city}") if done else calls(("weather", {"city": city}))

    async def one(number: int) -> None:
        answer = await cast.run(said=f"city {number}", name=f"guide {number}", tools=[weather])
        assert answer == f"rain in city {number}"

    cast.provider.reply(responder=model, repeat=True)
    await asyncio.gather(*map(one, range(200)))


PARALLEL = calls(("weather", {"city": "Oslo"}), ("slow", {"n": 3}), ("slow", {"n": 1}), ("forgiven", {}))
SCENES: dict[str, Callable[[Cast], Awaitable[Any]]] = {
    "plain": lambda cast: cast.run(),
    "parallel_tools": lambda cast: cast.run(PARALLEL, tools=[weather, slow, forgiven]),
    "tripwire": lambda cast: cast.run(
        said="You idiot", input_guardrails=[polite], fails=InputGuardrailTripwireTriggered
    ),
    "max_turns": lambda cast: cast.run(
        OSLO, OSLO, tools=[weather], options={"max_turns": 2}, fails=MaxTurnsExceeded
    ),
    "tool_error": lambda cast: cast.run(calls(("broken", {})), tools=[broken], fails=(ValueError, UserError)),
} | {
    scene.__name__: scene
    for scene in (
        handoffs, agents_as_tools, streamed, cancelled, in_a_session, in_a_group, under_one_trace, mcp_tools,
        content_off, many,
    )
}  # fmt: skip


async def play(scene: Callable[[Cast], Awaitable[Any]], kind: Any, provider: ScriptedProvider) -> None:
    cast = Cast(provider, kind)
    async with cast.client:
        await scene(cast)


def played(scene: str, kind: Any) -> dict[str, Any]:
    """Play one scene; return both trees, and what was recorded."""
    own = Own()
    processor = BatchTraceProcessor(own)
    set_trace_processors([processor])
    with capture() as seen, ScriptedProvider() as provider:
        asyncio.run(play(SCENES[scene], kind, provider))
    processor.shutdown()
    spans = seen.spans
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
            for one in seen.events
            if one.event_type == "tool"
        ),
    }


def left(store: str) -> None:
    """Play a run in which a tool switches callspan off."""
    set_trace_processors([])
    handle = callspan.instrument(stores=store)

    @function_tool
    def leave() -> str:
        """Switch callspan off."""
        handle.uninstrument()
        return "left"

    with ScriptedProvider() as provider:
        scene = play(lambda cast: cast.run(calls(("leave", {})), tools=[leave]), OpenAIResponsesModel, provider)
        asyncio.run(scene)


if __name__ == "__main__":
    if sys.argv[1:2] == ["left"]:
        sys.exit(left(sys.argv[2]))
    kinds = {"responses": OpenAIResponsesModel, "chat": OpenAIChatCompletionsModel}
    found = {f"{api}:{scene}": played(scene, kind) for api, kind in kinds.items() for scene in SCENES}
    print("RESULT " + json.dumps(found))
