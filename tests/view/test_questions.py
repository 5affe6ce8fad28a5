"""What somebody asks who sees the page for the first time, answered in at most three activations of what has a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from tests.support.waiting import HANG_MS
from tests.view.conftest import Open, Reader

import callspan
from callspan.testing import ScriptedProvider

TOOL = {"type": "function", "function": {"name": "open_page", "parameters": {"type": "object", "properties": {}}}}
STEPS, DEAREST = 80, 52


def chat(client: openai.OpenAI, text: str, **options: Any) -> Any:
    return client.chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": text}], **options)


def readme(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    provider.reply(text="Hello! How can I help?")
    chat(client, "Hi")


def versions(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    """Ten sessions of each of two versions of a prompt; the second solves nine, the first one."""
    for number in range(20):
        is_second, is_odd = number % 2 == 1, number < 2
        with callspan.session("ticket", user_id="u1", metadata={"prompt_version": 3 + is_second}) as session:
            provider.reply(text="Done.")
            chat(client, "Cancel my order.")
            session.outcome(reward=float(is_second != is_odd), success=is_second != is_odd)


def opinions(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    rated = {"How do I pay?": "thumbs_down", "When are you open?": "thumbs_up"}
    for question, label in rated.items():
        with callspan.session("support", user_id="u7"):
            provider.reply(text="Read the manual.")
            answer = chat(client, question)
        callspan.feedback(answer, label=label, annotation="It did not say how." if label == "thumbs_down" else None)


def refusals(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    with callspan.session("support", user_id="u3"):
        provider.reply(refusal="I can't help with that.")
        chat(client, "How do I pick this lock?")


def failures(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    with callspan.session("report", user_id="u2"), suppress(openai.APIError):
        provider.reply(status=429, message="Rate limit reached: 30000 tokens per minute.")
        chat(client, "Summarize the year.")
    other = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k", max_retries=0)
    with suppress(anthropic.APIError):
        provider.reply(status=529, message="Overloaded.")
        other.messages.create(model="claude-opus-5", max_tokens=9, messages=[{"role": "user", "content": "Translate."}])


def agent(provider: ScriptedProvider, client: openai.OpenAI) -> None:
    with callspan.session("research", user_id="u1") as session:
        for number in range(STEPS):
            with session.timestep():
                provider.reply(text=f"Page {number}.", input_tokens=90_000 if number == DEAREST else 1000 + number)
                chat(client, "Look at the next page.")


@pytest.fixture
def reader(tmp_path: Path, tab: Open) -> Iterator[Reader]:
    url = f"sqlite:///{tmp_path}/calls.db"
    with ScriptedProvider() as provider:
        handle = callspan.instrument(stores=url)
        client = openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0)
        for program in (readme, versions, opinions, refusals, failures, agent):
            program(provider, client)
        handle.force_flush(HANG_MS)
        handle.uninstrument()
    yield Reader(tab(url, "", "text=live").tab)


def test_six_questions(reader: Reader) -> None:
    def begin() -> None:
        reader.within("link", "callspan").first.click()
        reader.within("treegrid", "Sessions").wait_for()
        reader.activations = 0

    # What failed in the last hour, and why?
    reader.activate("link", "2 calls failed", among=reader.within("region", "Now"))
    reader.reads("grid", "Calls", "Rate limit reached: 30000 tokens per minute.")
    reader.reads("grid", "Calls", "Overloaded.")
    # Which version of the prompt is better, and is that certain?
    begin()
    reader.activate("link", "Compare")
    reader.activate("button", "compare the groups")
    reader.reads("row", "success", "+80 points")
    assert "certain" in reader.words("row", "success")
    assert "not certain" not in reader.words("row", "success")
    # Which of the 80 steps cost most?
    begin()
    reader.activate("link", "Look at the next page.")
    reader.reads("region", "Steps", f"dearest step {DEAREST}")
    # What did user u7 dislike?
    begin()
    reader.within("combobox", "user", exact=True).select_option(label="u7")
    reader.activations += 1
    reader.reads("row", "How do I pay?", "feedback 0 thumbs_down")
    reader.activate("link", "How do I pay?")
    reader.reads("region", "Conversation", "It did not say how.")
    # What did the model refuse?
    begin()
    reader.activate("button", "refused")
    reader.reads("row", "How do I pick this lock?", "refused")
    # What did README's program ask and get?
    begin()
    reader.reads("row", "Hi", "Hi → Hello! How can I help?")
