"""Streams by API: the events of a server, and what its folded body says."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.providers.registry import by_api

TEXTS = {"id": "cmpl_1", "object": "text_completion", "model": "m"}


def called(call_id: str, name: str | None, arguments: str, **more: Any) -> dict[str, Any]:
    call = {"index": 0, "id": call_id, "function": {"name": name, "arguments": arguments}, **more}
    return {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}


def custom(text: str) -> dict[str, Any]:
    call = {"index": 0, "id": "a", "type": "custom", "custom": {"name": "sql", "input": text}}
    return {"id": "c", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}


def text(piece: str, reason: str | None = None, index: int = 0) -> dict[str, Any]:
    return {**TEXTS, "choices": [{"index": index, "text": piece, "finish_reason": reason, "logprobs": None}]}


def stopped(reason: str) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


@pytest.mark.parametrize(
    ("chunks", "incomplete"),
    [
        ([called("a", "f", "{}"), stopped("tool_calls")], None),
        ([called("a", "f", "{}")], None),
        ([called("a", "f", '{"x": ')], True),
        ([called("a", "f", '{"x": '), stopped("tool_calls")], None),
        ([called("a", None, "{}"), stopped("tool_calls")], True),
        ([custom("select"), stopped("tool_calls")], None),
        ([custom("1")], True),
    ],
)
def test_a_tool_call_that_was_cut_or_has_no_name_is_marked(chunks: list[Any], incomplete: bool | None) -> None:
    (choice,) = folded("chat_completions", chunks)["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert call.get("incomplete") is incomplete


@pytest.mark.parametrize(
    ("chunks", "choices"),
    [
        ([text("Hel"), text("lo", "stop")], [("Hello", "stop")]),
        ([text("x", "stop"), text("", "")], [("x", "stop")]),
        ([text("b", None, 1), text("a", "length", 0)], [("a", "length"), ("b", None)]),
        ([TEXTS], []),
    ],
)
def test_texts_of_completions_are_joined_by_choice(chunks: list[Any], choices: list[Any]) -> None:
    body = folded("completions", chunks)
    assert [(one["text"], one["finish_reason"]) for one in body["choices"]] == choices
    assert body["model"] == "m"


def folded(api: str, chunks: list[Any]) -> dict[str, Any]:
    endpoint = by_api(api)
    assert endpoint is not None
    accumulator = endpoint.accumulator()
    for chunk in chunks:
        accumulator.add(chunk)
    body = accumulator.body()
    assert isinstance(body, dict)
    return body
