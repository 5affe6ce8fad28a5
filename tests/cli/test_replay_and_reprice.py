"""`callspan replay` and `callspan reprice`."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from callspan.records import Cost, Redaction, Request, Usage
from tests.support.commands import ask
from tests.support.records import keep, made

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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "1 of 3 calls got a new cost"),
        (["--dry-run"], "1 of 3 calls would get a new cost"),
        (["--all"], "2 of 3 calls got a new cost"),
        (["--no-failed"], "1 of 2 calls got a new cost"),
        (["--failed"], "0 of 1 calls got a new cost"),
    ],
)
def test_the_output_of_reprice(store: str, tmp_path: Path, arguments: list[str], expected: str) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"version": "v9", "models": {"m": {"input": "3"}}}))
    keep(
        store,
        made("a", request=Request(model="m"), usage=Usage(input_tokens=100)),
        made("b", request=Request(model="m"), usage=Usage(input_tokens=100), cost=Cost(usd=Decimal(9), source="v1")),
        made("c", request=Request(model="nobody\x1b"), outcome="error"),
    )
    assert ask("--store", store, "reprice", "--prices", str(prices), *arguments).out == f"{expected}\n"
