"""Rows of calls, which hold a record without loss, and the texts by which a call is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.support.records import keep, made, raw

from callspan import open_store
from callspan.records import CallRecord, Request, Response
from callspan.stores import CallFilter, Reader


def chat(call_id: str, messages: list[Any], answer: Any = "ok", **also: Any) -> CallRecord:
    """A chat completion with its bodies; `answer` is its message or only the text of it."""
    message = answer if isinstance(answer, dict) else {"role": "assistant", "content": answer}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return made(
        call_id,
        provider="openai",
        api="chat_completions",
        request=Request(body=raw({"model": "m", "messages": messages, **also})),
        response=Response(body=raw(body)),
    )


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    ask = {"role": "user", "content": "Where is the RED key?"}
    call = {"id": "k", "type": "function", "function": {"name": "open_door", "arguments": '{"door":"north"}'}}
    long = "x " * 3_000 + "needle at the end"
    url = keep(
        f"sqlite:///{tmp_path_factory.mktemp('texts')}/calls.db",
        chat("system", [{"role": "system", "content": "Speak like a pirate"}, ask], "Arr"),
        chat("first", [ask], "Under the mat"),
        chat("second", [ask, {"role": "assistant", "content": "Under the mat"}, {"role": "user", "content": "100%"}]),
        chat("tool", [{"role": "user", "content": "go"}], {"role": "assistant", "content": None, "tool_calls": [call]}),
        chat("wide", [{"role": "user", "content": "STRASSE\u00a0\u0130 Ünder_score"}]),
        chat("long", [{"role": "user", "content": long}]),
        chat("settings", [{"role": "user", "content": "q"}], user="hidden-field", tools=[{"name": "shovel"}]),
        made("empty"),
    )
    with closing(open_store(url)) as reader:
        yield reader


FOUND: dict[str, set[str]] = {
    "red key": {"system", "first", "second"}, "RED KEY?": {"system", "first", "second"}, "pirate": {"system"},
    "under the mat": {"first", "second"}, "arr": {"system"}, "100%": {"second"}, "_": {"tool", "wide"},
    "ünder_s": {"wide"}, "ÜNDER_S": {"wide"}, "straße": {"wide"}, "open_door(": {"tool"}, "north": {"tool"},
    "needle at the END": {"long"},
}  # fmt: skip
NOT_FOUND = ("1%0", "under_s", "hidden-field", "shovel", "assistant", "no such words", "'; DROP TABLE calls; --")


@pytest.mark.parametrize("text", [*FOUND, *NOT_FOUND])
def test_text_is_looked_for_in_messages_only(talking: Reader, text: str) -> None:
    assert {call.call_id for call in talking.calls(CallFilter(text=text))} == FOUND.get(text, set())
