"""A graph of langgraph: OpenTelemetry's package emits its spans, of which callspan makes a session for each thread.

pip install "callspan[cli,otlp]" langgraph langchain langchain-openai opentelemetry-instrumentation-genai-langchain
python examples/with_langgraph.py && callspan show last
"""

import os

os.environ |= {  # so that its spans have arguments and results of tools
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
}

from langchain.agents import create_agent
from opentelemetry import trace
from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor
from opentelemetry.sdk.trace import TracerProvider

import callspan
from offline import answers

trace.set_tracer_provider(TracerProvider())
handle = callspan.instrument(stores="sqlite:///callspan.db")
LangChainInstrumentor().instrument()


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


with answers() as provider:
    provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}])
    provider.reply(text="Take the bicycle.")
    graph = create_agent("openai:gpt-4.1-mini", tools=[weather], name="planner")
    state = graph.invoke(
        {"messages": [{"role": "user", "content": "What should I do in Oslo?"}]}, {"configurable": {"thread_id": "t1"}}
    )
    print(state["messages"][-1].content)

handle.force_flush()
