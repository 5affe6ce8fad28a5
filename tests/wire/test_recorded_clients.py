"""Recorded exchanges through the real google-genai, boto3 and httpx are recorded as an oracle reads their bytes.

They are the sample beside this file; at full scale all of those beside the project, of which they are no part.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.scale import FULL
from tests.wire import wires_oracle as oracle
from tests.wire.corpus import MORE, OTHERS
from tests.wire.recorded_clients import player

from callspan.records import CallRecord, Reasoning, UnknownPart
from callspan.testing import capture

Json = dict[str, Any]
GOOGLE = ("google-genai", "google-genai async")
BOTO = ("boto3", "httpx")
WIRES: dict[str, tuple[tuple[str, ...], Callable[[Json], oracle.Truth]]] = {
    "generate_content": (GOOGLE, oracle.gemini),
    "generate_content_stream": (GOOGLE, oracle.gemini),
    "embed_content": (GOOGLE, oracle.of_input),
    "converse": (BOTO, oracle.converse),
    "converse_stream": (BOTO, oracle.converse),
    "invoke_model": (BOTO, oracle.invoked),
    "invoke_model_stream": (BOTO, oracle.invoked),
}
CASES = [(kind, sdk) for kind, (sdks, _) in WIRES.items() for sdk in sdks]

pytestmark = pytest.mark.usefixtures("no_settings")


def recorded(kind: str) -> list[Json]:
    with gzip.open(MORE if FULL and MORE.is_file() else OTHERS, "rt", encoding="utf-8") as lines:
        return [row for row in map(json.loads, lines) if row["endpoint"] == kind]


def stated(record: CallRecord) -> oracle.Truth:
    """What a record says of its answer."""
    conversation, response, usage = record.conversation, record.response, record.usage
    assert conversation is not None
    assert response is not None
    parts = [part for message in conversation.output for part in message.parts]
    assert not any(isinstance(part, UnknownPart) for part in parts)
    calls = [call for message in conversation.output for call in message.tool_calls if call.tool_type == "function"]
    is_counted = usage is not None and (usage.input_tokens, usage.output_tokens) != (None, None)
    return oracle.Truth(
        "".join(message.text or "" for message in conversation.output),
        "".join(part.text or "" for part in parts if isinstance(part, Reasoning)),
        [call.name or "" for call in calls],
        [json.loads(call.arguments or "null") for call in calls],
        (usage.input_tokens, usage.output_tokens) if usage is not None and is_counted else None,
        [*response.finish_reasons],
    )


def comparable(truth: oracle.Truth, row: Json) -> oracle.Truth:
    """Without what an answer has in another form: the numbers of Google's protobuf clients."""
    chunks = oracle.events(row) if row["endpoint"].startswith("generate") else []
    numbered = any(
        isinstance(candidate.get("finishReason"), int)
        for chunk in chunks
        for candidate in chunk.get("candidates") or []
    )
    return truth._replace(finish=[]) if numbered else truth


def differences(row: Json, record: CallRecord, truth: Callable[[Json], oracle.Truth]) -> list[str]:
    if row["status"] != 200:
        error = record.error
        is_right = record.outcome == "error" and error is not None and error.status == row["status"] and error.message
        return [] if is_right else [f"{row['id']}: {record.outcome} {error}"]
    found, expected = comparable(stated(record), row), comparable(truth(row), row)
    return [
        f"{row['id']} {name}: {got!r}, not {want!r}"
        for name, got, want in zip(oracle.Truth._fields, found, expected, strict=True)
        if got != want
    ]


@pytest.mark.parametrize(("kind", "sdk"), CASES)
def test_exchange_is_recorded_as_its_bytes_say(kind: str, sdk: str) -> None:
    rows, client = recorded(kind), player(sdk)
    assert rows
    bare = [client.play(row) for row in rows]
    wrong = list[str]()
    for row, plain in zip(rows, bare, strict=True):
        with capture(http=True) as seen:
            assert client.play(row) == plain
        is_refused = row["status"] == 200 and plain[1] is not None  # by the SDK, as it reads the bytes or above them
        if len(seen.records) == 1 and not (is_refused and seen.records[0].outcome == "error"):
            wrong += differences(row, seen.records[0], WIRES[kind][1])
        elif len(seen.records) != 1:
            wrong.append(f"{row['id']}: {len(seen.records)} records; {plain[1]}")
    assert not wrong, "\n".join([f"{len(wrong)} differences in {len(rows)} exchanges", *wrong[:40]])


@pytest.mark.parametrize("kind", WIRES)
def test_sdk_reads_most_of_them(kind: str) -> None:
    """Most requests reach the SDK's own parser: what it refuses, it refuses with callspan too."""
    client, rows = player(WIRES[kind][0][0]), recorded(kind)
    refused = [row["id"] for row in rows if row["status"] == 200 and client.play(row)[1] is not None]
    assert len(refused) <= len(rows) / 10, refused
