"""A chat behind FastAPI: one session for each conversation, its user, and ratings that come later.

uvicorn chat_service:app      serves it, with OPENAI_API_KEY set
python chat_service.py        sends it three requests, offline
"""

from __future__ import annotations

import openai
from fastapi import FastAPI
from pydantic import BaseModel

import callspan

handle = callspan.instrument(stores="sqlite:///callspan.db")
app = FastAPI()
conversations: dict[str, list[dict[str, str]]] = {}


class Question(BaseModel):
    """What the page of the chat sends."""

    conversation: str
    user: str
    text: str


class Rating(BaseModel):
    """A thumb for an answer."""

    call: str
    good: bool


@app.post("/chat")
async def chat(question: Question) -> dict[str, str | None]:
    """Answer within the conversation; return the id of the call, which the page sends back with a rating."""
    messages = conversations.setdefault(question.conversation, [])
    messages.append({"role": "user", "content": question.text})
    async with (
        callspan.session("chat", session_id=question.conversation, user_id=question.user),
        openai.AsyncOpenAI() as client,
    ):
        reply = await client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    answer = reply.choices[0].message.content or ""
    messages.append({"role": "assistant", "content": answer})
    return {"answer": answer, "call": callspan.call_id(reply)}


@app.post("/rate")
async def rate(rating: Rating) -> None:
    """Keep a rating, in whichever process and however late it comes."""
    callspan.feedback(rating.call, label="thumbs_up" if rating.good else "thumbs_down")


if __name__ == "__main__":
    from fastapi.testclient import TestClient

    from offline import answers

    with answers("The Loire.", "1,006 km."), TestClient(app) as browser:
        for text in ("Name a river in France.", "How long is it?"):
            said = browser.post("/chat", json={"conversation": "c1", "user": "mara", "text": text}).json()
            print(f"{text} {said['answer']}")
        browser.post("/rate", json={"call": said["call"], "good": True})
    handle.force_flush()
    print("Now: callspan sessions --label thumbs_up")
