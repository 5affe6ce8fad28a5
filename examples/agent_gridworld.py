"""An agent and its environment: one episode on a line of five fields, with tools, rewards and an outcome.

Offline by default, with a scripted provider. With OPENAI_API_KEY set, the real one answers.

    python examples/agent_gridworld.py && callspan show last
"""

import os
from contextlib import ExitStack

import openai

import callspan
from callspan.testing import ScriptedProvider

GOAL = 3
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "move",
            "description": "Move one field.",
            "parameters": {
                "type": "object",
                "properties": {"direction": {"type": "string", "enum": ["left", "right"]}},
                "required": ["direction"],
            },
        },
    }
]


class Line:
    """The environment: five fields in a row, the goal on one of them."""

    def __init__(self) -> None:
        self.at = 1

    def observe(self) -> str:
        """Return what the agent sees."""
        return f"You are on field {self.at} of 0 to 4. The goal is on field {GOAL}."

    def step(self, direction: str) -> tuple[str, float, bool]:
        """Return observation, reward, and whether the episode is over."""
        self.at = min(4, max(0, self.at + (1 if direction == "right" else -1)))
        done = self.at == GOAL
        return self.observe(), 1.0 if done else -0.1, done


def play(client: openai.OpenAI, max_steps: int = 6) -> None:
    """Play one episode."""
    line = Line()
    messages: list = [{"role": "user", "content": line.observe()}]
    total, done = 0.0, False
    with callspan.session("line", user_id="you", metadata={"goal": GOAL}) as session:
        session.observation(line.observe())
        while not done and len(messages) < 2 * max_steps:
            with session.timestep() as step:
                reply = client.chat.completions.create(
                    model="gpt-4.1-mini", messages=messages, tools=TOOLS, tool_choice="required"
                )
                message = reply.choices[0].message
                messages.append(message.model_dump(exclude_none=True))
                for call in message.tool_calls or ():
                    with step.tool(call=call) as tool:
                        direction = tool.arguments["direction"]
                        observation, reward, done = line.step(direction)
                        tool.result = observation
                    step.action(direction)
                    step.environment(observation, reward=reward, terminated=done)
                    messages.append({"role": "tool", "tool_call_id": call.id, "content": observation})
                    total += reward
        session.outcome(reward=round(total, 2), success=done)
    print(f"{'Reached' if done else 'Missed'} the goal, reward {total:+.2f}")


def main() -> None:
    """Play with the real provider if there is a key, else with a scripted one."""
    handle = callspan.instrument(stores="sqlite:///callspan.db")
    with ExitStack() as stack:
        if os.environ.get("OPENAI_API_KEY"):
            client = openai.OpenAI()
        else:
            provider = stack.enter_context(ScriptedProvider())
            for _ in range(2):
                provider.reply(tool_calls=[{"name": "move", "arguments": {"direction": "right"}}])
            client = openai.OpenAI(base_url=provider.openai_url, api_key="scripted")
        play(stack.enter_context(client))
    handle.force_flush()
    print("Now: callspan show last")


if __name__ == "__main__":
    main()
