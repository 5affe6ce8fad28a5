"""`callspan replay`: what cannot be sent again."""

from __future__ import annotations

from typing import Any

import pytest

from callspan.records import Redaction, Request
from tests.support.commands import ask
from tests.support.records import keep

from .conftest import chat_call


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"request": Request(model="m")}, "record with content='full'"),
        ({"redactions": [Redaction(what="request.body", why="size")]}, "was not kept in full (size)"),
        (
            {"redactions": [Redaction(what="request.a", why="secret"), Redaction(what="request.b", why="redactor")]},
            "was not kept in full (redactor, secret)",
        ),
        ({"api": "teapots\x1b"}, "teapots\ufffd is not an API that can be replayed"),
    ],
)
def test_what_cannot_be_sent_again_is_reported_before_anything_is_sent(
    store: str, fields: dict[str, Any], expected: str
) -> None:
    answer = ask("--store", keep(store, chat_call("a", **fields)), "replay", "a", "--base-url", "http://127.0.0.1:9")
    assert (answer.code, answer.out) == (1, "")
    assert expected in answer.err
