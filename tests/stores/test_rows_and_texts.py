"""Rows of calls, which hold a record without loss, and the texts by which a call is found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.support.records import keep, made, raw

from callspan import open_store
from callspan.records import CallRecord, Cost, ErrorInfo, Place, Request, Response, Stream, Usage
from callspan.stores import CallFilter, Reader
from callspan.stores.columns import CALLS
from callspan.stores.rows import to_row


@pytest.mark.parametrize(
    ("fields", "cells", "extra"),
    [
        ({}, {"retries": None, "in_tok": None, "cost_usd": None, "params": None, "sampled": None}, None),
        ({"retries": 0}, {"retries": 0}, None),
        ({"retries": 2**63 - 1}, {"retries": 2**63 - 1}, None),
        ({"retries": 2**63}, {"retries": None}, {"retries": 2**63}),
        ({"retries": -(2**63) - 1}, {"retries": None}, {"retries": -(2**63) - 1}),
        ({"sampled": False}, {"sampled": 0}, None),
        ({"sampled": True}, {"sampled": 1}, None),
        ({"usage": Usage(input_tokens=0)}, {"in_tok": 0, "out_tok": None}, None),
        ({"usage": Usage(output_tokens=1, input_audio_tokens=4)}, {"out_tok": 1}, {"usage": {"input_audio_tokens": 4}}),
        ({"cost": Cost(usd=Decimal("1E-7"), source="t")},
         {"cost_usd": "0.0000001", "price_v": "t"}, None),
        ({"request": Request(params={"a": [1]})}, {"params": '{"a":[1]}'}, None),
        ({"request": Request(params={})}, {"params": None}, None),
        ({"request": Request(model="", stream=True)}, {"model_req": "", "stream": 1}, None),
        ({"response": Response(finish_reasons=["stop", None])}, {"model_resp": None},
         {"response": {"finish_reasons": ["stop", None]}}),
        ({"stream": Stream(end="closed", chunks=2)}, {"stream_end": "closed"}, {"stream": {"chunks": 2}}),
        ({"error": ErrorInfo(kind="k", type="t", message="m", body=[1])},
         {"error_kind": "k", "error_type": "t", "error_message": "m"}, {"error": {"body": [1]}}),
        ({"place": Place(session_id="s", timestep=0)}, {"session_id": "s", "timestep": 0, "timestep_id": None}, None),
        ({"metadata": {"k": None}}, {"metadata": '{"k":null}'}, None),
    ],
)  # fmt: skip
def test_a_field_is_in_its_column_or_in_extra_and_never_in_both(
    fields: dict[str, Any], cells: dict[str, Any], extra: dict[str, Any] | None
) -> None:
    row = to_row(CALLS, msgspec.structs.replace(made("c"), **fields))
    assert {name: row.get(name) for name in cells} == cells
    left = msgspec.json.decode(row["extra"]) if "extra" in row else {}
    # A place or request of which nothing is known is there, and empty.
    assert {name: value for name, value in left.items() if value != {}} == (extra or {})


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
