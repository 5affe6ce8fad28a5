"""An agent of openai-agents: its run is a session, with its agents, calls and tools.

pip install "callspan[cli]" openai-agents
python examples/with_openai_agents.py && callspan show last
"""

from agents import Agent, Runner, function_tool, set_trace_processors

import callspan
from offline import answers

set_trace_processors([])  # or the SDK sends its traces to OpenAI, too
handle = callspan.instrument(stores="sqlite:///callspan.db")


@function_tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


with answers() as provider:
    provider.reply(tool_calls=[{"name": "weather", "arguments": {"city": "Oslo"}}])
    provider.reply(text="Take the bicycle.")
    planner = Agent(name="planner", instructions="Plan a day.", tools=[weather], model="gpt-4.1-mini")
    print(Runner.run_sync(planner, "What should I do in Oslo?").final_output)

handle.force_flush()
