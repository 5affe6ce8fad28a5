"""A realtime session as turns, by the command and the page: recorded from the SDK over loopback, with other times."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.support import sdks
from tests.support.commands import ask
from tests.support.realtime_server import (
    USAGE,
    added,
    answer,
    created,
    done,
    event,
    response,
    session,
    speech,
    spoken,
    transcribed,
)
from tests.support.records import SECOND, START_NS, made
from tests.support.socket_script import serving
from tests.view.conftest import Delivery, Records, Show
from tests.view.conftest import event as happened

from callspan.records import CallRecord, Cost, Place, Timing
from callspan.testing import capture

sdks.needs("openai", "2.30", "realtime over a base URL of one's own")

CALLED = {"id": "item_c", "type": "function_call", "name": "look", "call_id": "call_1", "arguments": '{"at":"the sky"}'}
RESULT = {"id": "item_r", "type": "function_call_output", "call_id": "call_1", "output": "It rains."}
SCRIPT = [
    session(),
    *speech("item_1"),
    created("resp_1"),
    *transcribed("item_1", "Good morning."),
    *spoken("resp_1", "Good morning, I am", seconds=2),
    *done("resp_1", "Good morning, I am", status="cancelled", status_details={"reason": "turn_detected"}),
    event("conversation.item.truncated", item_id="item_resp_1", content_index=0, audio_end_ms=400),
    *speech("item_2", 2000, 3200),
    created("resp_2"),
    event("response.output_item.added", response_id="resp_2", output_index=0, item=CALLED),
    event("response.done", response=response("resp_2", status="completed", output=[CALLED], usage=USAGE)),
    *transcribed("item_2", "How is the weather?"),  # too late for the request of the answer
    event("conversation.item.added", item=RESULT),
    *answer("resp_3", "It rains."),
    event("conversation.item.truncated", item_id="item_resp_3", content_index=0, audio_end_ms=900),  # it was complete
    added("item_3", "user", [{"type": "input_text", "text": "Thanks."}]),
    *answer("resp_4", "Bye."),
]
TIMES = {
    "Good morning.": (2, 0.3, None),
    "resp_1": (2, 0.9, 0.45),
    "resp_2": (6, 0.5, 0.4),
    "How is the weather?": (6.1, 0.7, None),
    "resp_3": (8, 1, 0.6),
    "resp_4": (12, 1, 0.5),
}
"""Start, duration and time to the first token of each call, in seconds; one was transcribed after the answer began."""


def timed(call: CallRecord) -> CallRecord:
    name = (call.response and call.response.id) or call.text or ""
    start, lasted, first = TIMES[name]
    timing = Timing(
        start_ns=START_NS + int(start * SECOND),
        duration_ns=int(lasted * SECOND),
        first_token_ns=None if first is None else int(first * SECOND),
    )
    cost = Cost(usd=Decimal("0.01"), source="mine", estimated=name == "resp_1") if name.startswith("resp") else None
    return msgspec.structs.replace(call, call_id=name, timing=timing, cost=cost, place=Place(session_id="s1"))


@pytest.fixture
def voice(store: Delivery, records: Records) -> str:
    """The URL of a store with a session that lasted half a minute."""
    import openai

    with serving(SCRIPT) as part, capture() as seen:
        urls = {"base_url": part.url, "websocket_base_url": part.url.replace("http", "ws")}
        with openai.OpenAI(api_key="k", **urls).realtime.connect(model="gpt-realtime") as connection:  # type: ignore[arg-type]
            answered = 0
            while answered < 4:
                answered += connection.recv().type == "response.done"
    tool = happened(
        "s1", 7, "tool", name="look", duration_ns=20_000_000, tool_call_id="call_1",
        data={"arguments": {"at": "the sky"}, "result": "It rains."},
    )  # fmt: skip
    begun = records.session("s1", start_ns=START_NS, end_ns=START_NS + 30 * SECOND, name="voice", outcome="success")
    store.write(begun, tool, *map(timed, seen.records))
    return store.url


SHOWN = """
voice  success  \N{EN DASH}  0 steps, 6 calls, 1 cancelled  528→484 tokens  cost at least $0.04 (at least
$0.08 a minute, estimated)  30.00 s, active 3.72 s
Good morning.
s1
├──  ━━          user  1.50 s  Good morning.
├──  ━━          assistant  2.00 s  (first audio 450 ms)  $0.01  barge-in after 400 ms  Good mornin…
├──      ━━      user  1.20 s  How is the weather?
├──      ━━      assistant  (first token 400 ms)  $0.01  look({"at":"the sky"})
├──       ━      tool look {"at":"the sky"}  20 ms → It rains.
├──        ━━    assistant  1.00 s  (first audio 600 ms)  $0.01  barge-in after 900 ms  It rains.
└──              user  Thanks.
               ━ assistant  1.00 s  (first audio 500 ms)  $0.01  Bye.
"""


def test_show_prints_speakers_durations_and_interruptions(voice: str) -> None:
    shown = ask("--store", voice, "show", "s1").out
    assert [line.rstrip() for line in shown.splitlines()] == SHOWN.strip().splitlines()
    assert "(audio 1.5 s audio/pcm inline)" in ask("--store", voice, "show", "resp_1").out
    assert "(cut after 0.4 s of audio)" in ask("--store", voice, "show", "resp_2").out
    found = ask("--store", voice, "calls", "--json", "--text", "morning, I am").json
    assert [call["call_id"] for call in found] == ["resp_1"]


def test_live_session_shows_cost_per_minute(store: Delivery, records: Records, show: Show) -> None:
    begun = records.session("s1", start_ns=START_NS, end_ns=START_NS + 30 * SECOND)
    live = made(
        "live", at_ns=START_NS, api="live", place=Place(session_id="s1"), cost=Cost(usd=Decimal("0.02"), source="mine")
    )
    store.write(begun, live)
    assert "cost $0.02 ($0.04 a minute)" in " ".join(ask("--store", store.url, "show", "s1").out.split())
    assert show(store.url).get("/api/session?id=s1")["is_voice"]


def test_page_has_the_turns_in_order(voice: str, show: Show) -> None:
    page = show(voice)
    rows = [row for row in page.get("/api/session?id=s1")["rows"] if row["kind"] == "call"]
    rows.sort(key=lambda row: row["turn"]["voice"]["at_ns"])

    def said(row: Any) -> tuple[Any, ...]:
        voice = row["turn"]["voice"]
        new = [part.get("text") or part["type"] for one in row["turn"]["new"] for part in one["parts"]]
        return voice["speaker"], row["call"]["output"], voice["seconds"], voice["is_barge_in"], voice["heard_s"], new

    assert [said(row) for row in rows] == [
        ("user", "Good morning.", 1.5, False, None, []),
        ("assistant", "Good morning, I am", 2.0, True, 0.4, []),
        ("user", "How is the weather?", 1.2, False, None, []),
        ("assistant", 'look({"at":"the sky"})', None, False, None, []),
        ("assistant", "It rains.", 1.0, True, 0.9, ["tool_result"]),
        ("assistant", "Bye.", 1.0, False, None, ["Thanks."]),
    ]
    assert [row["id"] for row in rows if row["call"]["cost_estimated"]] == ["resp_1"]
    assert page.get("/api/session?id=s1")["session"]["title"] == "Good morning."
    assert page.get("/api/call?id=resp_1")["turn"]["voice"]["is_barge_in"]
