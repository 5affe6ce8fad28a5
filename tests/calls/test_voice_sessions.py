"""Live sessions and translations: each session is one call; what it delegates and decides are calls of their own."""

from __future__ import annotations

from typing import Any

from tests.support import sdks
from tests.support.calls import body_returned, conversation_of, usage_of
from tests.support.mode import Mode
from tests.support.realtime_server import (
    SECOND,
    TRANSLATION,
    closed,
    decided,
    delegated,
    event,
    heard,
    sounded,
    started,
    translated,
    used,
)
from tests.support.socket_script import serving
from tests.support.socket_server import by_api, connected, listened

import callspan
from callspan.testing import Capture

sdks.needs("openai", "3.50", "live.connect")
sdks.needs("websockets", "14", "what was received before a drop")
START = {"type": "session.start", "session": {"model": "gpt-live-1", "instructions": "Be kind."}}
CLOSED = "session.closed"
SIDEBAND = "live.sideband.connect"
WHOLE = [
    started(),
    heard("input", "What is", 0, 500),
    heard("input", " the time?", 500, 900),
    sounded(),
    heard("output", "One", 1000, 1200),
    heard("output", " moment.", 1200, 1500),
    *delegated("resp_1", "It is", " nine."),
    used(seconds=7),
    decided("yes"),
    heard("output", " It is nine.", 3000, 3500),
    used(seconds=12, active_seconds=10, paused_seconds=2),
    heard("input", "Thanks.", 4000, 4400),
    closed(seconds=15, active_seconds=12, paused_seconds=3),
]


async def heard_out(mode: Mode, script: list[Any], *sends: dict[str, Any], last: str = CLOSED) -> None:
    """Send these frames to a server of a live session, and listen to its last event."""
    await listened(mode, "live.connect", script, last, sends=sends)


async def test_live_session_is_one_call_with_its_last_total(mode: Mode, seen: Capture) -> None:
    with callspan.session("support"):
        await heard_out(mode, ["recv", *WHOLE], START)
    (session,) = by_api(seen, "live")
    assert (session.outcome, session.finish_reason) == ("success", "close_requested")
    assert not session.response.refused
    assert session.request.model == "gpt-live-1"
    assert "delegation" not in session.request.params
    usage = session.usage
    assert usage.raw == {"seconds": 15, "active_seconds": 12, "paused_seconds": 3}
    assert usage.input_audio_seconds == 15.0
    assert (usage.input_tokens, usage.output_tokens, session.cost) == (None, None, None)
    made = body_returned(session)
    assert [(turn["role"], turn["text"], turn["start_ms"], turn["end_ms"]) for turn in made["turns"]] == [
        ("user", "What is the time?", 0, 900),
        ("assistant", "One moment. It is nine.", 1000, 3500),
        ("user", "Thanks.", 4000, 4400),
    ]
    assert made["audio"] == {"callspan_media": {"bytes": 48_000, "mime": "audio/pcm", "seconds": 1.5}}
    assert session.text == "One moment. It is nine."
    assert [message.text for message in conversation_of(session).input] == ["What is the time?", "Thanks."]
    assert [part.text for part in conversation_of(session).system] == ["Be kind."]  # type: ignore[union-attr]
    (response,), (decision,) = by_api(seen, "responses"), by_api(seen, "decisions")
    assert (response.text, response.request.model) == ("It is nine.", "gpt-5")
    assert (response.usage and response.usage.total_tokens, decision.usage and decision.usage.total_tokens) == (12, 6)
    assert decision.request.model == "gpt-5-nano"
    assert len(seen.records) == 3
    assert len([span for span in seen.spans if "callspan.call_id" in (span.attributes or {})]) == 3
    assert {record.place.session_name for record in seen.records} == {"support"}


async def test_session_seen_by_two_connections_is_recorded_once(mode: Mode, seen: Capture) -> None:
    with serving(WHOLE) as part:
        async with connected(mode, "live.connect", url=part.url) as connection:
            async with connected(mode, SIDEBAND, url=part.url, session_id="live_1") as sideband:
                await sideband.until(CLOSED)
            await connection.until(CLOSED)
    assert sorted(record.api for record in seen.records) == ["decisions", "live", "responses"]
    assert len(seen.spans) == 3


async def test_sideband_session_is_identified_by_path(mode: Mode, seen: Capture) -> None:
    for session_id in ("live_7", "live_8"):
        await listened(mode, SIDEBAND, [used(seconds=3), closed(seconds=4)], CLOSED, session_id=session_id)
    fork = [started(id="live_2"), closed(seconds=4)]
    await listened(mode, "live.forks.connect", fork, CLOSED, session_id="live_1")
    assert len({record.call_id for record in seen.records}) == len(seen.records) == 3
    assert {record.usage and record.usage.input_audio_seconds for record in seen.records} == {4.0}
    assert {(record.api, record.outcome) for record in seen.records} == {("live", "success")}


async def test_sideband_error_does_not_end_the_session(mode: Mode, seen: Capture) -> None:
    sent = [event("session.input_audio.append", audio=SECOND) for _ in range(3)]
    script = [event("error", error={"code": "unknown_parameter", "message": "No."})]
    script += [*sent, *(sounded() for _ in range(2)), closed(seconds=4)]
    await listened(mode, SIDEBAND, script, CLOSED, session_id="live_1")
    (record,) = seen.records
    made = body_returned(record)
    assert (record.outcome, record.stream and record.stream.chunks) == ("success", 6)
    sizes = [made[side]["callspan_media"]["bytes"] for side in ("input_audio", "audio")]
    assert sizes == [3 * 48_000, 2 * 48_000]


async def test_refused_start_is_a_failed_call(mode: Mode, seen: Capture) -> None:
    error = {"type": "invalid_request_error", "code": "unknown_parameter", "message": "No."}
    await heard_out(mode, ["recv", event("error", error=error), "recv", *WHOLE], START, START)
    record, *others = seen.records
    assert sorted((one.api, one.outcome) for one in others) == [
        ("decisions", "success"), ("live", "success"), ("responses", "success"),
    ]  # fmt: skip
    assert (record.outcome, record.error and record.error.code) == ("error", "unknown_parameter")
    assert record.request.model == "gpt-live-1"


async def test_credentials_in_session_settings_are_masked(mode: Mode, seen: Capture) -> None:
    tools = [{"type": "mcp", "server_label": "m", "authorization": "hush-1"}]
    settings = {
        "delegation": {"type": "responses", "responses": {"model": "gpt-5", "tools": tools}},
        "client": {"authorization": "hush-2", "tools": tools},
        "triggers": [{"url": "https://example.com", "headers": {"X-Own": "hush-3"}}],
    }
    await heard_out(mode, [started(**settings), closed(seconds=4)])
    (record,) = seen.records
    assert record.request.tool_names == ["m"]
    assert b"triggers" in bytes(record.request.body)
    assert b"gpt-5" in bytes(record.request.body)
    assert b"hush" not in bytes(record.request.body)
    assert "hush" not in repr([span.to_json() for span in seen.spans])


async def test_session_closed_for_content_is_refused(mode: Mode, seen: Capture) -> None:
    """`test_socket_scripts` has what else cuts a session off."""
    running = [*delegated("resp_1", "It")[:2], used(seconds=3)]
    await heard_out(mode, [started(), heard("output", "Hi."), *running, closed("content", seconds=4)])
    (record,), (response,) = by_api(seen, "live"), by_api(seen, "responses")
    assert len(seen.spans) == 2
    assert (record.outcome, record.stream and record.stream.end) == ("success", "complete")
    assert (usage_of(record).input_audio_seconds, record.text) == (4.0, "Hi.")
    assert record.response.refused
    assert (response.text, response.stream and response.stream.complete) == ("It", False)


async def test_translation_is_one_call_without_usage(mode: Mode, seen: Capture) -> None:
    script = [
        event("session.created", session=TRANSLATION),
        translated("input", "Good", 200),
        translated("output", "Guten", 400),
        translated("input", " day.", 600),
        sounded(),
        translated("output", " Tag.", 800),
        event("session.closed"),
    ]
    await listened(mode, "realtime.translations.connect", script, CLOSED, model="gpt-realtime-translate")
    (record,) = seen.records
    assert (record.api, record.outcome, record.usage) == ("realtime_translations", "success", None)
    assert (record.request.model, record.text) == ("gpt-realtime-translate", "Guten Tag.")
    assert [message.text for message in conversation_of(record).input] == ["Good day."]
    made = body_returned(record)
    assert made["turns"][1] == {"role": "assistant", "elapsed_ms": 800, "text": "Guten Tag."}
    assert made["audio"] == {"callspan_media": {"bytes": 48_000, "mime": "audio/pcm", "seconds": 1.0}}
