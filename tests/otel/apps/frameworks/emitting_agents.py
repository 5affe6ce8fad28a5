"""Agents of frameworks that emit spans: two conversations of two turns at once, with four runs of tools each.

    emitting_agents.py NAME STORE    prints what was recorded as `RESULT {...}`
    emitting_agents.py NAME record   prints the spans of one conversation, as `tests/otel/agent_spans.json` has them

Each runs in an environment that has no other one, so each imports its packages by itself. The name of the model says
which conversation a call belongs to.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).parents[4]))

os.environ |= {
    "AGNO_TELEMETRY": "false", "CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false",
    "LANGSMITH_TRACING": "false", "OTEL_SDK_DISABLED": "false", "GOOGLE_API_KEY": "x", "OPENAI_API_KEY": "x",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
}  # fmt: skip

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

import callspan
from callspan.stores import CallFilter
from callspan.testing import ReceivedRequest, Reply, ScriptedProvider

MODELS: Final = ("gpt-5-conv-a", "gpt-5-conv-b")
ASKED: Final = ("Plan my day.", "And what is three and four?")
ANSWERS: Final[list[dict[str, Any]]] = [
    {"tool_calls": [{"name": "weather", "arguments": {"city": "Oslo"}}]},
    {"tool_calls": [{"name": "weather", "arguments": {"city": "Rome"}},
                    {"name": "add", "arguments": {"a": 1, "b": 2}}]},
    {"text": "Oslo is fine today, I think."},
    {"tool_calls": [{"name": "add", "arguments": {"a": 3, "b": 4}}]},
    {"text": "Seven it is."},
]  # fmt: skip


def weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: The city.
    """
    return f"sunny in {city}"


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: One.
        b: The other.
    """
    return a + b


def strands(model: str, provider: ScriptedProvider) -> None:
    import strands as package
    from strands.models.openai import OpenAIModel

    gpt = OpenAIModel(client_args={"base_url": provider.openai_url, "api_key": "x"}, model_id=model)
    tools = [package.tool(weather), package.tool(add)]
    agent = package.Agent(model=gpt, tools=tools, system_prompt="You plan.", callback_handler=None, name="planner")
    for ask in ASKED:
        agent(ask)


def google_adk(model: str, provider: ScriptedProvider) -> None:
    os.environ["GOOGLE_GEMINI_BASE_URL"] = provider.google_url
    from google.adk.agents import LlmAgent
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    async def converse() -> None:
        gemini = model.replace("gpt-5", "gemini-3")
        agent = LlmAgent(name="planner", model=gemini, instruction="You plan.", tools=[weather, add])
        runner = InMemoryRunner(agent, app_name="app")
        ids = {"user_id": "u", "session_id": f"thread of {model}"}
        await runner.session_service.create_session(app_name="app", **ids)
        for ask in ASKED:
            message = types.Content(role="user", parts=[types.Part(text=ask)])
            async for _ in runner.run_async(**ids, new_message=message):
                pass

    asyncio.run(converse())


def autogen(model: str, provider: ScriptedProvider) -> None:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    about = {"vision": False, "function_calling": True, "json_output": True, "family": "gpt-5",
             "structured_output": True}  # fmt: skip

    async def converse() -> None:
        gpt = OpenAIChatCompletionClient(model=model, base_url=provider.openai_url, api_key="x", model_info=about)
        agent = AssistantAgent("planner", gpt, tools=[weather, add], system_message="You plan.", max_tool_iterations=5)
        for ask in ASKED:
            await agent.run(task=ask)

    asyncio.run(converse())


def pydantic_ai(model: str, provider: ScriptedProvider) -> None:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    Agent.instrument_all()
    gpt = OpenAIChatModel(model, provider=OpenAIProvider(base_url=provider.openai_url, api_key="x"))
    agent, history = Agent(gpt, name="planner", system_prompt="You plan.", tools=[weather, add]), None
    for ask in ASKED:
        history = agent.run_sync(ask, message_history=history).all_messages()


def langgraph(model: str, provider: ScriptedProvider) -> None:
    from langchain.agents import create_agent
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI
    from langgraph.checkpoint.memory import InMemorySaver

    gpt = ChatOpenAI(model=model, base_url=provider.openai_url, api_key="x")
    agent = create_agent(
        gpt, [tool(weather), tool(add)], system_prompt="You plan.", checkpointer=InMemorySaver(), name="planner"
    )
    thread = {"configurable": {"thread_id": f"thread of {model}"}}
    for ask in ASKED:
        agent.invoke({"messages": [{"role": "user", "content": ask}]}, config=thread)


def agno(model: str, provider: ScriptedProvider) -> None:
    from agno.agent import Agent
    from agno.db.in_memory import InMemoryDb
    from agno.models.openai import OpenAIChat

    gpt = OpenAIChat(id=model, base_url=provider.openai_url, api_key="x")
    agent = Agent(
        name="planner", model=gpt, tools=[weather, add], instructions="You plan.", db=InMemoryDb(), telemetry=False,
        add_history_to_context=True, session_id=f"thread of {model}",
    )  # fmt: skip
    for ask in ASKED:
        agent.run(ask)


def smolagents(model: str, provider: ScriptedProvider) -> None:
    import smolagents as package

    gpt = package.OpenAIModel(model_id=model, api_base=provider.openai_url, api_key="x")
    agent = package.ToolCallingAgent(
        tools=[package.tool(weather), package.tool(add)], model=gpt, max_steps=6, verbosity_level=0
    )
    for number, ask in enumerate(ASKED):
        agent.run(ask, reset=number == 0)


def llama_index(model: str, provider: ScriptedProvider) -> None:
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.base.llms.types import LLMMetadata
    from llama_index.core.workflow import Context
    from llama_index.llms.openai import OpenAI

    class Model(OpenAI):  # type: ignore[misc] # it is in another environment
        """A model of whatever name."""

        @property
        def metadata(self) -> Any:
            return LLMMetadata(is_chat_model=True, is_function_calling_model=True, model_name=self.model)

    async def converse() -> None:
        gpt = Model(model=model, api_base=provider.openai_url, api_key="x")
        agent = FunctionAgent(tools=[weather, add], llm=gpt, system_prompt="You plan.")
        context = Context(agent)
        for ask in ASKED:
            await agent.run(ask, ctx=context)

    asyncio.run(converse())


def crewai(model: str, provider: ScriptedProvider) -> None:
    from crewai import LLM, Agent, Crew, Task
    from crewai.tools import tool

    gpt = LLM(model=f"openai/{model}", base_url=provider.openai_url, api_key="x")
    agent = Agent(
        role="planner", goal="Plan", backstory="You plan.", llm=gpt, tools=[tool("weather")(weather), tool("add")(add)]
    )
    tasks = [Task(description=ask, expected_output="A plan.", agent=agent) for ask in ASKED]
    Crew(agents=[agent], tasks=tasks).kickoff()


AGENTS: Final[Mapping[str, Callable[[str, ScriptedProvider], None]]] = {
    "strands": strands, "google-adk": google_adk, "autogen": autogen, "pydantic-ai": pydantic_ai,
    "langgraph": langgraph, "agno": agno, "smolagents": smolagents, "llama-index": llama_index, "crewai": crewai,
}  # fmt: skip
INSTRUMENTORS: Final = {
    "langgraph": "opentelemetry.instrumentation.genai.langchain:LangChainInstrumentor",
    "agno": "opentelemetry.instrumentation.genai.agno:AgnoInstrumentor",
    "smolagents": "openinference.instrumentation.smolagents:SmolagentsInstrumentor",
    "llama-index": "openinference.instrumentation.llama_index:LlamaIndexInstrumentor",
    "crewai": "openinference.instrumentation.crewai:CrewAIInstrumentor",
}
"""What emits the spans of a framework that has none of its own."""


UNREAD: Final = ("llm.", "logfire.", "gen_ai.tool.description", "gen_ai.tool.json_schema", "gen_ai.tool.definitions")
"""Beginnings of the names of attributes that say nothing of an agent."""


def scripted(name: str) -> ScriptedProvider:
    """A provider that answers each model's requests in turn."""
    asked: Counter[str] = Counter()

    def answer(request: ReceivedRequest) -> Reply:
        model = str(request.body.get("model") or request.path)
        number = asked[model]
        asked[model] += 1
        reply = dict(ANSWERS[min(number, len(ANSWERS) - 1)])
        if name == "smolagents" and "text" in reply:
            reply = {"tool_calls": [{"name": "final_answer", "arguments": {"answer": reply["text"]}}]}
        return Reply(**reply, input_tokens=100, output_tokens=10)

    provider = ScriptedProvider()
    provider.reply(responder=answer, repeat=True)
    return provider


def instrumented(name: str, tracers: TracerProvider) -> None:
    """Let the framework's spans be emitted."""
    if (instrumentor := INSTRUMENTORS.get(name)) is not None:
        module, _, kind = instrumentor.partition(":")
        getattr(__import__(module, fromlist=[kind]), kind)().instrument(tracer_provider=tracers)


class Recording(SpanProcessor):
    """What happens to the spans of one conversation, in order; the calls that are made in them, too."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self._numbers: dict[int, int] = {}
        self._open: dict[int, tuple[Span, dict[str, Any]]] = {}

    def on_start(self, span: Span, parent_context: object = None) -> None:
        self._note_changes()
        number = self._numbers[span.context.span_id] = len(self._numbers)
        attributes = dict(span.attributes or {})
        self._open[number] = span, attributes
        parent = None if span.parent is None else self._numbers.get(span.parent.span_id)
        scope = span.instrumentation_scope
        self.steps.append({"start": number, "parent": parent, "name": span.name, "scope": scope and scope.name,
                           "attributes": dict(attributes)})  # fmt: skip

    def on_end(self, span: ReadableSpan) -> None:
        self._note_changes()
        number = self._numbers[span.context.span_id]
        del self._open[number]
        events = [[event.name, dict(event.attributes or {})] for event in span.events]
        step = {"end": number, "events": events, "status": span.status.status_code.name}
        self.steps.append({name: value for name, value in step.items() if value not in ([], "UNSET")})

    def call(self) -> None:
        self._note_changes()
        current = trace.get_current_span().get_span_context().span_id
        self.steps.append({"call": self._numbers.get(current)})

    def _note_changes(self) -> None:
        for number, (span, known) in self._open.items():
            changed = {name: value for name, value in (span.attributes or {}).items() if known.get(name) != value}
            if changed:
                known.update(changed)
                self.steps.append({"set": number, "attributes": changed})


def shortened(value: Any) -> Any:
    """A step with short texts, without what says nothing of an agent."""
    if isinstance(value, str):
        return value if len(value) < 200 else f"{value[:40]}…"
    if isinstance(value, dict):
        return {name: shortened(item) for name, item in value.items() if not name.startswith(UNREAD)}
    return [shortened(item) for item in value] if isinstance(value, list | tuple) else value


def record(name: str, tracers: TracerProvider) -> list[Any]:
    recording = Recording()
    tracers.add_span_processor(recording)
    libraries = [importlib.import_module(name) for name in ("httpx", "httpx2") if importlib.util.find_spec(name)]
    clients = [
        (getattr(library, name), name != "Client") for library in libraries for name in ("Client", "AsyncClient")
    ]
    for client, is_async in clients:
        send: Any = client.send

        def sent(*args: Any, send: Any = send, **kwargs: Any) -> Any:
            recording.call()
            return send(*args, **kwargs)

        async def sent_async(*args: Any, send: Any = send, **kwargs: Any) -> Any:
            recording.call()
            return await send(*args, **kwargs)

        client.send = sent_async if is_async else sent
    with scripted(name) as provider:
        AGENTS[name](MODELS[0], provider)
    return [shortened(step) for step in recording.steps]


def play(name: str, store: str) -> dict[str, Any]:
    errors: list[str] = []
    handle = callspan.instrument(stores=store)

    def converse(model: str) -> None:
        try:
            AGENTS[name](model, provider)
        except BaseException as error:  # noqa: BLE001 - for the test, which prints it
            errors.append(f"{type(error).__name__}: {error}")

    with scripted(name) as provider:
        threads = [threading.Thread(target=converse, args=(model,)) for model in MODELS]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert handle.force_flush()
    with callspan.open_store(store) as reader:
        calls = [*reader.calls(CallFilter(content="none"))]
        sessions = [summary.session for summary in reader.sessions()]
        events = [event for session in sessions for event in reader.events(session.session_id)]
    tools = [event for event in events if getattr(event, "event_type", None) == "tool"]
    models = {session.session_id: set[object]() for session in sessions}
    for call in calls:
        models.get(call.place.session_id or "", set()).add(call.request.model)
    return {
        "errors": errors,
        "calls": len(calls),
        "loose": sum(call.place.session_id is None for call in calls),
        "sessions": sorted(str(session.metadata.get("conversation_id")) for session in sessions),
        "mixed": sum(len(of_session) != 1 for of_session in models.values()),
        "outcomes": sorted({str(session.outcome) for session in sessions}),
        "tools": sorted(tool.name for tool in tools),
        "with id": sum(tool.tool_call_id is not None for tool in tools),
        "with arguments": sum("arguments" in (tool.data or {}) for tool in tools),
        "with result": sum("result" in (tool.data or {}) for tool in tools),
        "joined": sum(tool.call_id is not None for tool in tools),
        "timed": sum(bool(tool.duration_ns) for tool in tools),
    }


def main() -> Iterator[str]:
    name, store = sys.argv[1:]
    tracers = TracerProvider()
    trace.set_tracer_provider(tracers)
    instrumented(name, tracers)
    if store == "record":
        yield json.dumps(record(name, tracers), default=str)
    else:
        yield f"RESULT {json.dumps(play(name, store))}"


if __name__ == "__main__":
    for line in main():
        print(line, flush=True)
    os._exit(0)  # some leave threads behind
