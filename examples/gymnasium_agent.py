"""A model crosses Gymnasium's frozen lake: one session per episode, one timestep per turn, recorded by the environment.

pip install "callspan[openai,gymnasium,otlp]"
python examples/gymnasium_agent.py                      # offline, against a scripted provider
python examples/gymnasium_agent.py --live               # the real API, with $OPENAI_API_KEY
python examples/gymnasium_agent.py --otlp http://localhost:4318 --episodes 3
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gymnasium
from openai import OpenAI

import callspan
from callspan.environments.gymnasium import Traced
from callspan.testing import Reply, ScriptedProvider

if TYPE_CHECKING:
    from callspan.testing import ReceivedRequest

MODEL = "gpt-4.1-mini"
TASK = """You cross a frozen lake on a 4x4 grid of fields numbered row by row from 0, your start, to 15, your goal.
The fields 5, 7, 11 and 12 are holes. Move one field at a time."""
DIRECTIONS = ["left", "down", "right", "up"]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "move",
            "description": "Move one field.",
            "parameters": {
                "type": "object",
                "properties": {"direction": {"type": "string", "enum": DIRECTIONS}},
                "required": ["direction"],
            },
        },
    }
]


def play(client: OpenAI, env: Traced, seed: int) -> float:
    """Play one episode; return its reward. The tool's span is the only use of callspan here."""
    field, _ = env.reset(seed=seed)
    messages: list[Any] = [{"role": "system", "content": TASK}, {"role": "user", "content": f"You are on {field}."}]
    total, over = 0.0, False
    while not over:
        reply = client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS, tool_choice="required")
        message = reply.choices[0].message
        calls = message.tool_calls or []
        with callspan.tool(call=calls[0]) as tool:
            tool.result = action = DIRECTIONS.index(json.loads(calls[0].function.arguments)["direction"])
        field, reward, terminated, truncated, _ = env.step(action)
        messages.append(message.model_dump(exclude_none=True))
        messages.append({"role": "tool", "tool_call_id": calls[0].id, "content": f"You are on {field}."})
        total += float(reward)
        over = terminated or truncated
    if env.session is not None:
        env.session.outcome(success=total > 0)
    return total


@contextmanager
def model(live: bool) -> Iterator[OpenAI]:
    """Yield a client of the real API, or of a scripted one that knows the way."""
    if live:
        yield OpenAI()
        return
    with ScriptedProvider() as provider:
        provider.reply(responder=_guide, repeat=True)
        yield OpenAI(base_url=provider.openai_url, api_key="sk-offline")


def _guide(request: ReceivedRequest) -> Reply:
    spoken: Any = request.body["messages"]
    field = int(spoken[-1]["content"].removeprefix("You are on ").rstrip("."))
    way = {0: "down", 4: "down", 8: "right", 9: "down", 13: "right"}
    direction = way.get(field, "right")
    return Reply(tool_calls=[{"name": "move", "arguments": {"direction": direction}}], input_tokens=80 + len(spoken))


def main() -> None:
    """Play the requested number of episodes and print how to view them."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--episodes", type=int, default=1)
    options.add_argument("--live", action="store_true", help="use the real API")
    options.add_argument("--otlp", help="send spans to this OTLP/HTTP receiver")
    options.add_argument("--stores", default="sqlite:///callspan.db", help="where records go")
    given = options.parse_args()
    handle = callspan.instrument(stores=given.stores, otlp=given.otlp)
    env = Traced(gymnasium.make("FrozenLake-v1", is_slippery=False), metadata={"agent": MODEL})
    with model(given.live) as client:
        for seed in range(given.episodes):
            print(f"episode {seed}: reward {play(client, env, seed)}")
    env.close()
    handle.force_flush()
    handle.uninstrument()
    print(f"callspan sessions --store {given.stores}")


if __name__ == "__main__":
    main()
