"""An agent of pydantic-ai: `instrument_all()` makes it emit spans, of which callspan makes a session with tools.

pip install "callspan[cli,otlp]" "pydantic-ai-slim[openai]"
python examples/with_pydantic_ai.py && callspan show last
"""

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from pydantic_ai import Agent

import callspan
from offline import answers

trace.set_tracer_provider(TracerProvider())  # with your exporter, if you have one
handle = callspan.instrument(stores="sqlite:///callspan.db")
Agent.instrument_all()

with answers() as provider:
    provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}])
    provider.reply(text="Take the bicycle.")
    planner = Agent("openai-chat:gpt-4.1-mini", name="planner", instructions="Plan a day.")

    @planner.tool_plain
    def weather(city: str) -> str:
        """Return the weather of a city."""
        return f"sunny in {city}"

    print(planner.run_sync("What should I do in Oslo?").output)

handle.force_flush()
