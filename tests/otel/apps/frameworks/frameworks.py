"""Frameworks on top of the SDKs: what makes a model or an agent of each, and what is asked of it.

    frameworks.py NAME on|off

Each runs in an environment that has no other one, so each imports its packages by itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, TypeAlias

from stage import City, Scene, play, scenes, weather

import callspan
from callspan.testing import ScriptedProvider

Framework: TypeAlias = tuple[Mapping[str, Callable[..., Any]], Mapping[str, Scene]]
"""Functions that make a model, a client or an agent; scenes that are played with what each makes."""
GPT, CLAUDE = "gpt-4o", "claude-sonnet-4-5"


def at_openai(provider: ScriptedProvider, url: str = "base_url") -> dict[str, Any]:
    return {"api_key": "sk-test", url: provider.openai_url}


def at_anthropic(provider: ScriptedProvider) -> dict[str, Any]:
    return {"api_key": "sk-ant-test", "base_url": provider.anthropic_url}


def langchain_models() -> dict[str, Callable[..., Any]]:
    from langchain_anthropic import ChatAnthropic
    from langchain_openai import ChatOpenAI

    return {
        "openai": lambda provider: ChatOpenAI(model=GPT, **at_openai(provider), max_retries=0),
        "anthropic": lambda provider: ChatAnthropic(model=CLAUDE, **at_anthropic(provider), max_retries=0),
    }


def langchain() -> Framework:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool

    def tools(model: Any) -> Any:
        able, question = model().bind_tools([tool(weather)]), HumanMessage("The weather in Paris?")
        first = able.invoke([question])
        call = first.tool_calls[0]
        result = ToolMessage(weather(**call["args"]), tool_call_id=call["id"])
        return [call["name"], call["args"], able.invoke([question, first, result]).text]

    async def ask(model: Any) -> Any:
        return (await model().ainvoke("Hi")).text

    return langchain_models(), {
        **scenes(
            lambda model: model().invoke("Hi").text, lambda model: (one.text for one in model().stream("Hi")), ask
        ),
        "tools": tools,
        "structured": lambda model: model().with_structured_output(City).invoke("Which?").model_dump(),
    }


def langgraph() -> Framework:
    """A graph whose nodes ask the model, and run a tool."""
    from langchain_core.runnables import RunnableLambda
    from langchain_core.tools import tool
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition

    question = {"messages": [("user", "Hi")]}

    def graph(model: Any) -> Any:
        able = model().bind_tools([tool(weather)])

        def ask(state: Any) -> Any:
            return {"messages": [able.invoke(state["messages"])]}

        async def ask_async(state: Any) -> Any:
            return {"messages": [await able.ainvoke(state["messages"])]}

        made = StateGraph(MessagesState)
        made.add_node("ask", RunnableLambda(ask, afunc=ask_async))
        made.add_node("tools", ToolNode([tool(weather)]))
        made.add_edge(START, "ask")
        made.add_conditional_edges("ask", tools_condition)
        made.add_edge("tools", "ask")
        return made.compile()

    def answered(model: Any) -> Any:
        return [message.text for message in graph(model).invoke(question)["messages"]]

    async def ask(model: Any) -> Any:
        return (await graph(model).ainvoke(question))["messages"][-1].text

    def stream(model: Any) -> Any:
        return (chunk.text for chunk, _ in graph(model).stream(question, stream_mode="messages"))

    return langchain_models(), {**scenes(answered, stream, ask), "tools": answered}


def litellm() -> Framework:
    """Its OpenAI provider, which calls the openai SDK."""
    import litellm as package

    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    hi = [{"role": "user", "content": "Hi"}]

    def model(provider: ScriptedProvider, complete: Any = package.completion) -> Any:
        return partial(complete, model=f"openai/{GPT}", **at_openai(provider, "api_base"), num_retries=0)

    def ask(model: Any, **options: Any) -> Any:
        return model()(messages=hi, **options).choices[0].message.content

    async def ask_async(model: Any) -> Any:
        return (await model(package.acompletion)(messages=hi)).choices[0].message.content

    def stream(model: Any) -> Any:
        return (chunk.choices[0].delta.content for chunk in model()(messages=hi, stream=True))

    def tools(model: Any) -> Any:
        first = model()(messages=hi, tools=[tool]).choices[0].message
        call = first.tool_calls[0]
        result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
        second = model()(messages=[*hi, first.model_dump(), result], tools=[tool])
        return [call.function.name, call.function.arguments, second.choices[0].message.content]

    return {"openai": model}, {
        **scenes(ask, stream, ask_async),
        "tools": tools,
        "structured": lambda model: ask(model, response_format=City),
        "async:plain": ask_async,
    }


def instructor() -> Framework:
    """Structured output of both SDKs."""
    import anthropic
    import instructor as package
    import openai

    city: Any = {"messages": [{"role": "user", "content": "Which city?"}], "response_model": City, "model": GPT}

    def of_openai(provider: ScriptedProvider, **options: Any) -> Any:
        client = openai.OpenAI(**at_openai(provider), max_retries=0)
        return package.from_openai(client, **options).chat.completions

    def of_anthropic(provider: ScriptedProvider) -> Any:
        client = anthropic.Anthropic(**at_anthropic(provider), max_retries=0)
        return package.from_anthropic(client, max_tokens=64).messages

    def ask(messages: Any, **options: Any) -> Any:
        return messages().create(**city, **options).model_dump()

    def stream(messages: Any) -> Any:
        return (part.name and part.model_dump() for part in messages().create_partial(**city))

    makers = {"openai": of_openai, "json": partial(of_openai, mode=package.Mode.JSON), "anthropic": of_anthropic}
    # An answer that is no city is asked for again: two calls, two spans.
    return makers, {**scenes(ask, stream, kind="structured"), "retried": partial(ask, max_retries=2)}


def llama_index() -> Framework:
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.anthropic import Anthropic
    from llama_index.llms.openai import OpenAI

    hi = [ChatMessage("Hi")]

    async def ask(model: Any) -> Any:
        return (await model().achat(hi)).message.content

    async def tools(model: Any) -> Any:
        return str(await FunctionAgent(tools=[weather], llm=model(), streaming=False).run("The weather?"))

    makers = {
        "openai": lambda provider: OpenAI(model=GPT, **at_openai(provider, "api_base"), max_retries=0),
        "anthropic": lambda provider: Anthropic(model=CLAUDE, **at_anthropic(provider), max_retries=0),
    }
    return makers, {
        **scenes(
            lambda model: model().chat(hi).message.content,
            lambda model: (chunk.delta for chunk in model().stream_chat(hi)),
            ask,
        ),
        "tools": tools,
    }


def dspy() -> Framework:
    """With `engine="litellm"`, which calls the openai SDK."""
    import dspy as package

    def model(provider: ScriptedProvider) -> Any:
        place = at_openai(provider, "api_base")
        return package.LM(f"openai/{GPT}", **place, cache=False, num_retries=0, engine="litellm")

    async def ask(model: Any) -> Any:
        return await model().acall("Hi")

    def structured(model: Any) -> Any:
        with package.context(lm=model(), adapter=package.JSONAdapter()):
            found = package.Predict("question -> name: str, people: int")(question="Which?")
            return json.loads(json.dumps(found.toDict()))

    def parallel(model: Any) -> Any:
        """Its threads are made without the caller's context."""
        ask = callspan.copy_context(model())
        pool = package.Parallel(num_threads=2, disable_progress_bar=True)
        return pool([(ask, {"prompt": text}) for text in ("Hi", "Ho")])

    asked = scenes(lambda model: model()("Hi"), ask_async=ask)
    return {"openai": model}, {**asked, "structured": structured, "two:parallel:plain": parallel}


def crewai() -> Framework:
    """Its LLM, and a crew of one agent."""
    from crewai import LLM, Agent, Crew, Task
    from crewai.tools import tool

    def of_openai(provider: ScriptedProvider, **options: Any) -> Any:
        return LLM(model=f"openai/{GPT}", **at_openai(provider), max_retries=0, **options)

    def of_anthropic(provider: ScriptedProvider, **options: Any) -> Any:
        return LLM(model=f"anthropic/{CLAUDE}", **at_anthropic(provider), max_retries=0, **options)

    def tools(model: Any) -> Any:
        able = {"llm": model(), "tools": [tool("weather")(weather)]}
        agent = Agent(role="guide", goal="Tell the weather", backstory="Knows it.", **able)
        task = Task(description="The weather in Paris?", expected_output="A sentence.", agent=agent)
        return Crew(agents=[agent], tasks=[task], verbose=False).kickoff().raw

    return {"openai": of_openai, "anthropic": of_anthropic}, {
        **scenes(lambda model: model().call("Hi")),
        "streamed:plain": lambda model: model(stream=True).call("Hi"),
        "tools": tools,
    }


def smolagents() -> Framework:
    from smolagents import OpenAIServerModel, ToolCallingAgent, tool
    from smolagents.models import ChatMessage, MessageRole

    hi = [ChatMessage(role=MessageRole.USER, content="Hi")]

    def tools(model: Any) -> Any:
        agent = ToolCallingAgent(tools=[tool(weather)], model=model(), verbosity_level=0, max_steps=2)
        return str(agent.run("The weather in Paris?"))

    makers = {"openai": lambda provider: OpenAIServerModel(model_id=GPT, **at_openai(provider, "api_base"))}
    return makers, {
        **scenes(
            lambda model: model().generate(hi).content,
            lambda model: (delta.content for delta in model().generate_stream(hi)),
        ),
        "tools": tools,
    }


def agno() -> Framework:
    from agno.agent import Agent
    from agno.models.anthropic import Claude
    from agno.models.openai import OpenAIChat, OpenAIResponses

    def of_openai(kind: Any, provider: ScriptedProvider, **options: Any) -> Any:
        return Agent(model=kind(id=GPT, **at_openai(provider), max_retries=0), telemetry=False, **options)

    def of_anthropic(provider: ScriptedProvider, **options: Any) -> Any:
        client = {"base_url": provider.anthropic_url, "max_retries": 0}
        model = Claude(id=CLAUDE, api_key="sk-ant-test", client_params=client)
        return Agent(model=model, telemetry=False, **options)

    async def ask(agent: Any) -> Any:
        return (await agent().arun("Hi")).content

    makers = {"chat": partial(of_openai, OpenAIChat), "responses": partial(of_openai, OpenAIResponses)}
    return makers | {"anthropic": of_anthropic}, {
        **scenes(
            lambda agent: agent().run("Hi").content,
            lambda agent: (event.content for event in agent().run("Hi", stream=True)),
            ask,
        ),
        "tools": lambda agent: agent(tools=[weather]).run("The weather?").content,
    }


def strands() -> Framework:
    """Its own spans are always on: one for each agent, turn, call and tool."""
    from strands import Agent, tool
    from strands.models.anthropic import AnthropicModel
    from strands.models.openai import OpenAIModel

    def of_openai(provider: ScriptedProvider, **options: Any) -> Any:
        model = OpenAIModel(client_args=at_openai(provider), model_id=GPT)
        return Agent(model=model, callback_handler=None, **options)

    def of_anthropic(provider: ScriptedProvider, **options: Any) -> Any:
        model = AnthropicModel(client_args=at_anthropic(provider), model_id=CLAUDE, max_tokens=64)
        return Agent(model=model, callback_handler=None, **options)

    async def ask(agent: Any) -> Any:
        return str(await agent().invoke_async("Hi"))

    async def stream(agent: Any) -> AsyncIterator[Any]:
        async for event in agent().stream_async("Hi"):
            if "data" in event:
                yield event["data"]

    async def cancelled(agent: Any) -> None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(anext(stream(agent)), 5)

    return {"openai:traced": of_openai, "anthropic:traced": of_anthropic}, {
        **scenes(lambda agent: str(agent()("Hi")), stream, ask),
        "tools": lambda agent: str(agent(tools=[tool(weather)])("The weather?")),
        "cancelled": cancelled,
    }


def pydantic_ai() -> Framework:
    from pydantic_ai import Agent
    from pydantic_ai.capabilities import Instrumentation
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.instrumented import InstrumentedModel
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.providers.openai import OpenAIProvider

    def of_openai(kind: Any, provider: ScriptedProvider, around: Any = lambda model: model, **options: Any) -> Any:
        return Agent(around(kind(GPT, provider=OpenAIProvider(**at_openai(provider)))), **options)

    def of_anthropic(provider: ScriptedProvider, **options: Any) -> Any:
        return Agent(AnthropicModel(CLAUDE, provider=AnthropicProvider(**at_anthropic(provider))), **options)

    async def ask(agent: Any) -> Any:
        return (await agent().run("Hi")).output

    async def stream(agent: Any) -> AsyncIterator[Any]:
        async with agent().run_stream("Hi") as result:
            async for text in result.stream_text(delta=True, debounce_by=None):
                yield text

    chat = partial(of_openai, OpenAIChatModel)
    makers = {
        "chat": chat,
        "responses": partial(of_openai, OpenAIResponsesModel),
        "anthropic": of_anthropic,
        # With its own tracing, its span of each call is the one there is.
        "traced": partial(chat, capabilities=[Instrumentation()]),
        "traced model": partial(chat, around=InstrumentedModel),
    }
    return makers, {
        **scenes(lambda agent: agent().run_sync("Hi").output, stream, ask),
        "tools": lambda agent: agent(tools=[weather]).run_sync("The weather?").output,
        "structured": lambda agent: agent(output_type=City).run_sync("Which?").output.model_dump(),
    }


def openai_agents() -> Framework:
    """Its Runner on the Responses API, over HTTP and websockets, and on chat completions."""
    import openai
    from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool
    from agents import set_tracing_disabled as disable_tracing
    from agents.models.openai_responses import OpenAIResponsesWSModel

    disable_tracing(disabled=True)

    def agent_of(kind: Any, provider: ScriptedProvider, **options: Any) -> Any:
        client = openai.AsyncOpenAI(**at_openai(provider), max_retries=0)
        return Agent(name="guide", model=kind(model=GPT, openai_client=client), **options)

    async def ask(agent: Any, **options: Any) -> Any:
        return (await Runner.run(agent(**options), "Hi")).final_output

    async def stream(agent: Any) -> AsyncIterator[Any]:
        async with aclosing(Runner.run_streamed(agent(), "Hi").stream_events()) as events:
            async for event in events:
                is_delta = event.type == "raw_response_event" and "delta" in event.data.type
                yield event.data.type if is_delta else ""

    async def structured(agent: Any) -> Any:
        return (await ask(agent, output_type=City)).model_dump()

    kinds = {
        "responses": OpenAIResponsesModel,
        "websocket": OpenAIResponsesWSModel,
        "chat": OpenAIChatCompletionsModel,
    }
    return {name: partial(agent_of, kind) for name, kind in kinds.items()}, {
        **scenes(ask, stream, ask),
        "tools": partial(ask, tools=[function_tool(weather)]),
        "structured": structured,
    }


if __name__ == "__main__":
    play(*globals()[sys.argv[1].replace("-", "_")]())
