"""What each call of a session adds to its conversation, over agent loops with the real SDKs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import msgspec
import openai
import pytest
from tests.provider import FullProvider

from callspan.records import Message
from callspan.stores import History
from callspan.stores.history import whole_conversation
from callspan.stores.new_messages import ConversationReader
from callspan.testing import ScriptedProvider, capture

LOOK = [{"name": "look", "arguments": {"at": "east"}}]


def by_chat(provider: ScriptedProvider) -> None:
    client = openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0)
    messages: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where?"}]
    for _ in range(2):
        answer = client.chat.completions.create(model="gpt-5", messages=messages).choices[0].message
        messages.append(answer.model_dump(exclude_none=True))
        messages += [{"role": "tool", "tool_call_id": one.id, "content": "a door"} for one in answer.tool_calls or ()]


def by_messages(provider: ScriptedProvider) -> None:
    client = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k", max_retries=0)
    messages: list[Any] = [{"role": "user", "content": "Where?"}]
    for _ in range(2):
        answer = client.messages.create(model="claude-opus-5", max_tokens=9, system="Be brief.", messages=messages)
        asked = [block.id for block in answer.content if block.type == "tool_use"]
        results = [{"type": "tool_result", "tool_use_id": one, "content": "a door"} for one in asked]
        sent_again = [block for block in answer.content if block.type != "thinking"]
        messages += [
            {"role": "assistant", "content": sent_again},
            *([{"role": "user", "content": results}] if results else []),
        ]


def by_responses(provider: ScriptedProvider) -> None:
    client = openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0)
    items: list[Any] = [{"role": "user", "content": "Where?"}]
    for _ in range(2):
        answer = client.responses.create(model="gpt-5", instructions="Be brief.", input=items)
        items += answer.output
        asked = [item.call_id for item in answer.output if item.type == "function_call"]
        items += [{"type": "function_call_output", "call_id": one, "output": "a door"} for one in asked]


def by_continued_responses(provider: ScriptedProvider) -> None:
    client = openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0)
    first = client.responses.create(model="gpt-5", instructions="Be brief.", input="Where?")
    (asked,) = [item.call_id for item in first.output if item.type == "function_call"]
    result: Any = [{"type": "function_call_output", "call_id": asked, "output": "a door"}]
    client.responses.create(model="gpt-5", instructions="Be brief.", input=result, previous_response_id=first.id)


def shown(message: Message) -> str:
    return f"{message.role}: {message.text or ' '.join(type(part).__name__ for part in message.parts)}"


@pytest.mark.parametrize("loop", [by_chat, by_messages, by_responses, by_continued_responses])
def test_a_loop_is_one_conversation_without_repetition(loop: Callable[[ScriptedProvider], None]) -> None:
    with FullProvider() as provider, capture() as seen:
        provider.reply(text="Let me look.", tool_calls=LOOK, reasoning="A door may be there.")
        provider.reply("A door.")
        loop(provider)
        first, second = map(ConversationReader().add, seen.records)
    assert [shown(one)[-6:] for one in first.messages][-1] == "Where?"
    assert (first.sent_before, second.instructions) == (0, [])
    assert second.before is first.call or loop is by_continued_responses
    (result,) = second.messages
    assert [type(part).__name__ for part in result.parts] == ["ToolResult"]
    assert [one.text for one in second.answers] == ["A door."]


def test_what_is_said_twice_in_a_continued_conversation_is_new_twice() -> None:
    with FullProvider() as provider, capture() as seen:
        client = openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0)
        provider.reply("And?", repeat=True)
        last = client.responses.create(model="gpt-5", input="yes")
        for _ in range(2):
            last = client.responses.create(model="gpt-5", input="yes", previous_response_id=last.id)
        found = [*map(ConversationReader().add, seen.records)]
    assert [[shown(message) for message in one.messages] for one in found] == [["user: yes"]] * 3


def test_a_window_of_the_last_messages_and_a_whole_conversation() -> None:
    with FullProvider() as provider, capture() as seen:
        client = openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0)
        for texts in (["a", "b"], ["b", "c"]):
            sent: Any = [
                {"role": "system", "content": "Be brief."},
                *({"role": "user", "content": text} for text in texts),
            ]
            client.chat.completions.create(model="gpt-5", messages=sent)
        first = client.responses.create(model="gpt-5", input="yes")
        client.responses.create(model="gpt-5", input="yes", previous_response_id=first.id)
    *windows, begun, continued = seen.records
    assert [ConversationReader().add(one).sent_before for one in windows] == [0, 0]
    reader = ConversationReader()
    assert [[one.text for one in reader.add(call).messages] for call in windows] == [["a", "b"], ["c"]]
    reader = ConversationReader()
    reader.add(begun, is_whole=True)
    whole = whole_conversation(continued, History([begun]))
    new = reader.add(msgspec.structs.replace(continued, conversation=whole), is_whole=True)
    assert (new.sent_before, [one.text for one in new.messages], new.before) == (2, ["yes"], begun)
