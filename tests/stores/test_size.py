"""The size of a long session: content is stored once."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path

from callspan.records import CallRecord, Place, Request, Response, encode
from callspan.stores import CallFilter

from .conftest import Delivery, Records, raw

TURNS = 50
_VOWELS, _CONSONANTS = "aeiou", "bcdfghklmnprstvw"


def prose(random_numbers: random.Random, size: int) -> str:
    words: list[str] = []
    while sum(map(len, words)) + len(words) < size:
        words.append(
            "".join(
                random_numbers.choice(_CONSONANTS) + random_numbers.choice(_VOWELS)
                for _ in range(random_numbers.randint(1, 4))
            )
        )
    return " ".join(words)[:size]


def tools(random_numbers: random.Random) -> list[object]:
    made: list[object] = []
    while len(json.dumps(made)) < 8_000:
        fields = {
            f"field_{number}": {"type": "string", "description": prose(random_numbers, 80)} for number in range(6)
        }
        parameters = {"type": "object", "properties": fields, "required": sorted(fields)}
        function = {
            "name": f"tool_{len(made)}",
            "description": prose(random_numbers, 120),
            "parameters": parameters,
        }
        made.append({"type": "function", "function": function})
    return made


def session(records: Records, turns: int = TURNS) -> list[CallRecord]:
    """An agent: 6 KB of system prompt, 8 KB of tools, about 2.1 KB more in each turn."""
    random_numbers = random.Random(1)
    offered = tools(random_numbers)
    history: list[object] = [
        {"role": "system", "content": prose(random_numbers, 6_000)},
        {"role": "user", "content": prose(random_numbers, 300)},
    ]
    made = []
    for turn in range(turns):
        request = {"model": "gpt-5", "messages": history, "tools": offered, "temperature": 0.2}
        tool_call = {
            "id": f"call_{random_numbers.getrandbits(96):024x}",
            "type": "function",
            "function": {"name": "tool_1", "arguments": json.dumps({"field_1": prose(random_numbers, 120)})},
        }
        reply = {"role": "assistant", "content": prose(random_numbers, 250), "tool_calls": [tool_call]}
        usage = {
            "prompt_tokens": 3_000 + turn * 500,
            "completion_tokens": 120,
            "total_tokens": 3_120 + turn * 500,
            "prompt_tokens_details": {"cached_tokens": 2_900, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        }
        message = reply | {"refusal": None, "annotations": []}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
        response = {
            "id": f"chatcmpl-{random_numbers.getrandbits(112):028x}",
            "object": "chat.completion",
            "created": 1_760_000_000 + turn,
            "model": "gpt-5-2025-08-07",
            "choices": [choice],
            "usage": usage,
            "service_tier": "default",
            "system_fingerprint": None,
        }
        made.append(
            records.call(
                session_id=records.new_id() if turn < 0 else "01990000-0000-7000-8000-aaaaaaaaaaaa",
                at_s=turn,
                request=Request(model="gpt-5", params={"temperature": 0.2}, body=raw(request)),
                response=Response(
                    id=str(response["id"]), model="gpt-5-2025-08-07", finish_reasons=["tool_calls"], body=raw(response)
                ),
                place=Place(
                    session_id="01990000-0000-7000-8000-aaaaaaaaaaaa", timestep=turn, timestep_id=records.new_id()
                ),
            )
        )
        result = {"role": "tool", "tool_call_id": tool_call["id"], "content": prose(random_numbers, 1_500)}
        history = [*history, reply, result]
    return made


def test_a_session_of_50_turns_takes_less_than_a_twelfth_of_its_plain_json(tmp_path: Path, records: Records) -> None:
    """The file without its empty tables, against the wire JSON as the spool held it."""
    made = session(records)
    plain_bytes = sum(len(encode(record)) for record in made)
    delivery = Delivery(f"sqlite:///{tmp_path}/calls.db")
    empty_bytes = settled(delivery)
    delivery.write(*made[:25])
    delivery.write(*made[25:])
    stored_bytes = settled(delivery)
    ratio = plain_bytes / stored_bytes
    print(f"| Session of 50 turns: wire JSON as spooled | {plain_bytes:,} bytes |")
    print(f"| the same in SQLite, {empty_bytes:,} bytes of it empty tables | {stored_bytes:,} bytes, 1/{ratio:.1f} |")
    assert stored_bytes - empty_bytes <= plain_bytes / 12
    found = list(delivery.read().calls(CallFilter(newest_first=False)))
    assert [bytes(one.request.body) for one in found] == [bytes(one.request.body) for one in made]
    assert [one.response and bytes(one.response.body) for one in found] == [
        one.response and bytes(one.response.body) for one in made
    ]
    delivery.close()


def test_a_long_session_is_read_back_completely(tmp_path: Path, records: Records) -> None:
    made = session(records, 20)
    delivery = Delivery(f"sqlite:///{tmp_path}/calls.db")
    delivery.write(*made)
    found = list(delivery.read().calls())
    assert [bytes(one.request.body) for one in reversed(found)] == [bytes(one.request.body) for one in made]
    assert found[0].conversation is not None
    assert len(found[0].conversation.input) == 2 + 2 * 19
    delivery.close()


def settled(delivery: Delivery) -> int:
    """Bytes of the file once its log is folded in."""
    delivery.close()
    path = Path(delivery.url.removeprefix("sqlite:///"))
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    delivery.sink.open()
    return path.stat().st_size
