"""Requests of a small web service: a session per conversation, two agents with a handoff, feedback after the answer.

Each request is a separate trace; the session id joins them. Without OPENAI_API_KEY a scripted provider on loopback
answers, so it runs offline:

    python examples/support_desk.py && callspan show last
"""

from __future__ import annotations

import asyncio
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import callspan

if TYPE_CHECKING:
    import openai

handle = callspan.instrument(stores="sqlite:///callspan.db")
CONVERSATION = ["Hello!", "My parcel 4711 never came, I want my money back.", "Thank you."]


@callspan.guardrail("personal data")
def has_personal_data(text: str) -> bool:
    """Return whether a text contains an email address."""
    return "@" in text


@callspan.tool
def refund(parcel: int) -> str:
    """Refund a parcel."""
    return f"parcel {parcel} is refunded"


async def answer(client: openai.AsyncOpenAI, question: str, agent: str) -> str:
    """Return the answer of one of the agents."""
    async with callspan.invoke_agent(agent, input=question) as run:
        reply = await client.chat.completions.create(
            model="gpt-4.1-mini",
            messages=[{"role": "system", "content": f"You are {agent}."}, {"role": "user", "content": question}],
        )
        run.output = reply.choices[0].message.content
        return run.output


async def request(
    client: openai.AsyncOpenAI, conversation: str, turn: int, question: str
) -> tuple[str, dict[str, str]]:
    """Handle POST /chat; return the answer and the data that the page sends back with its feedback."""
    async with callspan.session("support", session_id=conversation, user_id="u1") as session:
        async with session.timestep(turn=turn) as step:
            step.message(question, "question", "user", "desk")
            if has_personal_data(question):
                text = "Please leave out personal data."
            elif "money" in question:
                step.handoff("billing", "reception", reason="refund")
                text = f"{await answer(client, question, 'billing')} ({refund(4711)})"
            else:
                text = await answer(client, question, "reception")
            step.message(text, "answer", "desk", "user")
        return text, session.carrier()


async def main() -> None:
    """Make three requests of one conversation, then give feedback."""
    with ExitStack() as stack:
        if not os.environ.get("OPENAI_API_KEY"):
            from callspan.testing import ScriptedProvider

            provider = stack.enter_context(ScriptedProvider())
            for text in ("How can I help?", "I am sorry.", "You are welcome."):
                provider.reply(text=text)
            os.environ |= {"OPENAI_API_KEY": "scripted", "OPENAI_BASE_URL": provider.openai_url}

        import openai

        async with openai.AsyncOpenAI() as client:
            for turn, question in enumerate(CONVERSATION):
                text, carrier = await request(client, "conversation-1", turn, question)
                print(f"{question}\n    {text}")

    # Later, in a handler of POST /feedback, which may run in another process.
    callspan.reward(1, carrier=carrier, objective="helpful", source="human", label="thumbs_up")


asyncio.run(main())
handle.force_flush()
print("Now: callspan show last")
