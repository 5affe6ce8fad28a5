"""Live sessions and translations: each session is one call; what it delegates and decides are calls of their own."""

from __future__ import annotations

import contextlib
import random
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

import callspan
from callspan.testing import Captured, capture
from tests.calls.sockets import ConnectionClosed, Socket, by_api, connected, listened
from tests.support import sdks
from tests.support.calls import Run, body_returned
from tests.support.mode import Mode
from tests.support.realtime_server import SECOND, event
from tests.support.scale import scaled
from tests.support.socket_server import Part, next_of, serving

sdks.needs_module("openai", "2.30", "realtime over a base URL of one's own")
sdks.needs_module("openai", "3.50", "live.connect")
if sdks.version("websockets") < (14,):
    pytest.skip("websockets 13 loses what was received before a drop", allow_module_level=True)
SESSION: dict[str, Any] = {
    "id": "live_1",
    "object": "live.session",
    "model": "gpt-live-1",
    "status": "active",
    "expires_at": 1,
    "instructions": "Be kind.",
    "audio": {"format": {"type": "audio/pcm", "rate": 16000}},
    "delegation": {"type": "responses", "responses": {"model": "gpt-5", "instructions": "Know all."}},
}
START = {"type": "session.start", "session": {"model": "gpt-live-1", "instructions": "Be kind."}}
CLOSED = "session.closed"
TRANSLATION: dict[str, Any] = {
    "id": "sess_9", "type": "translation", "model": "gpt-realtime-translate", "expires_at": 1,
    "audio": {"output": {"language": "de"}},
}  # fmt: skip


def heard(side: str, text: str, start_ms: int = 0, end_ms: int = 10) -> dict[str, Any]:
    return event(f"session.{side}_transcript.delta", delta=text, start_ms=start_ms, end_ms=end_ms)


def used(**usage: Any) -> dict[str, Any]:
    return event("session.usage.updated", usage=usage)


def started(**fields: Any) -> dict[str, Any]:
    return event("session.started", session={**SESSION, **fields})


def closed(reason: str = "close_requested", **usage: Any) -> dict[str, Any]:
    return event("session.closed", reason=reason, session=SESSION, usage=usage)


def audio() -> dict[str, Any]:
    return event("session.output_audio.delta", delta=SECOND)


def delegated(name: str, *words: str) -> list[dict[str, Any]]:
    """A response that the session delegates: its snapshots have neither input nor output."""
    shown = {"id": name, "object": "response", "model": "gpt-5", "output": []}
    about = {"item_id": "m", "output_index": 0, "content_index": 0}
    usage = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}
    events = [
        {"type": "response.created", "response": {**shown, "status": "in_progress"}},
        *({"type": "response.output_text.delta", **about, "delta": word} for word in words),
        {"type": "response.completed", "response": {**shown, "status": "completed", "usage": usage}},
    ]
    return [event("response.event", delegation_id=f"of {name}", event=one) for one in events]


def decided(answer: str) -> dict[str, Any]:
    decision = {
        "id": "dec_1", "object": "decision", "model": "gpt-5-nano", "answers": [{"type": "choice", "choice": answer}],
        "usage": {"input_tokens": 5, "output_tokens": 1, "total_tokens": 6},
    }  # fmt: skip
    return event("decision.event", event={"type": "decision.completed", "decision": decision}, trigger_id="t")


WHOLE = [
    started(),
    heard("input", "What is", 0, 500),
    heard("input", " the time?", 500, 900),
    audio(),
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


def live(mode: Mode, part: Part, path: str = "connect", **options: Any) -> AbstractAsyncContextManager[Socket]:
    return connected(mode, f"live.{path}", part.url, **options)


async def heard_out(mode: Mode, script: list[Any], *sends: dict[str, Any], last: str = CLOSED) -> None:
    """Send these frames to a server of a live session, and listen to its last event."""
    await listened(mode, "live.connect", script, last, sends=sends)


def test_a_live_session_is_one_call_with_the_last_total_of_its_seconds(mode: Mode, run: Run, seen: Captured) -> None:
    with callspan.session("support"):
        run(lambda: heard_out(mode, ["recv", *WHOLE], START))
    (session,) = by_api(seen, "live")
    assert (session.outcome, session.finish_reason, session.request.model) == (
        "success", "close_requested", "gpt-live-1",
    )  # fmt: skip
    assert session.usage is not None
    assert (session.usage.input_audio_seconds, session.usage.raw) == (
        15.0, {"seconds": 15, "active_seconds": 12, "paused_seconds": 3},
    )  # fmt: skip
    assert (session.usage.input_tokens, session.usage.output_tokens, session.cost) == (None, None, None)
    made = body_returned(session)
    assert [(turn["role"], turn["text"], turn["start_ms"], turn["end_ms"]) for turn in made["turns"]] == [
        ("user", "What is the time?", 0, 900),
        ("assistant", "One moment. It is nine.", 1000, 3500),
        ("user", "Thanks.", 4000, 4400),
    ]
    assert made["audio"] == {"callspan_media": {"bytes": 48_000, "mime": "audio/pcm", "seconds": 1.5}}
    assert session.text == "One moment. It is nine."
    assert session.conversation is not None
    assert [message.text for message in session.conversation.input] == ["What is the time?", "Thanks."]
    assert [part.text for part in session.conversation.system] == ["Be kind."]  # type: ignore[union-attr]
    assert "delegation" not in session.request.params
    (response,), (decision,) = by_api(seen, "responses"), by_api(seen, "decisions")
    assert (response.text, response.request.model, response.usage and response.usage.total_tokens) == (
        "It is nine.", "gpt-5", 12,
    )  # fmt: skip
    assert (decision.usage and decision.usage.total_tokens, decision.request.model) == (6, "gpt-5-nano")
    assert len(seen.records) == 3
    assert len([span for span in seen.spans if "callspan.call_id" in (span.attributes or {})]) == 3
    assert {record.place.session_name for record in seen.records} == {"support"}


def test_a_session_that_two_connections_see_is_recorded_once(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        with serving(WHOLE) as part:
            async with live(mode, part) as connection:
                async with live(mode, part, "sideband.connect", session_id="live_1") as sideband:
                    await sideband.until(CLOSED)
                await connection.until(CLOSED)

    run(body)
    assert sorted(record.api for record in seen.records) == ["decisions", "live", "responses"]
    assert len(seen.spans) == 3


def test_the_sideband_alone_knows_the_session_by_its_path(mode: Mode, run: Run, seen: Captured) -> None:
    async def body() -> None:
        with serving([used(seconds=3), closed(seconds=4)]) as part:
            async with live(mode, part, "sideband.connect", session_id="live_7") as sideband:
                await sideband.until(CLOSED)
            async with live(mode, part, "sideband.connect", session_id="live_8") as sideband:
                await sideband.until(CLOSED)

    run(body)
    assert len({record.call_id for record in seen.records}) == len(seen.records) == 2
    assert {record.usage and record.usage.input_audio_seconds for record in seen.records} == {4.0}


def test_a_fork_is_a_session_of_its_own(mode: Mode, run: Run, seen: Captured) -> None:
    script = [started(id="live_2"), closed(seconds=4)]
    run(lambda: listened(mode, "live.forks.connect", script, CLOSED, session_id="live_1"))
    (record,) = seen.records
    assert (record.api, record.outcome) == ("live", "success")


def test_a_start_that_the_server_refuses_is_a_failed_call(mode: Mode, run: Run, seen: Captured) -> None:
    error = {"type": "invalid_request_error", "code": "unknown_parameter", "message": "No."}

    run(lambda: heard_out(mode, ["recv", event("error", error=error)], START, last="error"))
    (record,) = seen.records
    assert (record.outcome, record.error and record.error.code) == ("error", "unknown_parameter")
    assert record.request.model == "gpt-live-1"


def test_credentials_anywhere_in_the_settings_of_a_session_are_masked(mode: Mode, run: Run, seen: Captured) -> None:
    tools = [{"type": "mcp", "server_label": "m", "authorization": "hush-1"}]
    settings = {
        "delegation": {"type": "responses", "responses": {"model": "gpt-5", "tools": tools}},
        "client": {"authorization": "hush-2", "tools": tools},
        "triggers": [{"url": "https://example.com", "headers": {"X-Own": "hush-3"}}],
    }
    run(lambda: heard_out(mode, [started(**settings), closed(seconds=4)]))
    (record,) = seen.records
    assert record.request.tool_names == ["m"]
    assert b"triggers" in bytes(record.request.body)
    assert b"gpt-5" in bytes(record.request.body)
    assert b"hush" not in bytes(record.request.body)
    assert "hush" not in repr([span.to_json() for span in seen.spans])


ENDS = {
    "close_requested": ("success", "complete", 4.0),
    "content": ("success", "complete", 4.0),
    "drop": ("error", "cut_off", 3.0),
    "close": ("success", "cut_off", 3.0),
    "early": ("cancelled", "closed", 3.0),
    "raises": ("cancelled", "closed", 3.0),
}


@pytest.mark.parametrize("name", ENDS)
def test_every_end_of_a_live_session_is_recorded_once(name: str, mode: Mode, run: Run, seen: Captured) -> None:
    begun = [started(), heard("output", "Hi."), *delegated("resp_1", "It")[:2], used(seconds=3)]
    script = [*begun, *([closed(name, seconds=4)] if name not in ("drop", "close", "early", "raises") else [])]

    async def body() -> None:
        with serving([*script, name] if name in ("drop", "close") else script) as part:
            async with live(mode, part) as connection:
                is_open = name in ("early", "raises")
                await connection.until("session.usage.updated" if is_open else CLOSED)
                if name == "raises":
                    raise ZeroDivisionError

    with contextlib.suppress(ConnectionClosed, ZeroDivisionError):
        run(body)
    (record,), (response,) = by_api(seen, "live"), by_api(seen, "responses")
    assert len(seen.spans) == 2
    assert record.usage is not None
    assert (record.outcome, record.stream and record.stream.end, record.usage.input_audio_seconds) == ENDS[name]
    assert (record.text, record.response and record.response.refused) == ("Hi.", name == "content")
    assert response.text == "It"
    assert response.stream is not None
    assert response.stream.complete is False


def test_a_translation_is_one_call_without_usage(mode: Mode, run: Run, seen: Captured) -> None:
    script = [
        event("session.created", session=TRANSLATION),
        event("session.input_transcript.delta", delta="Good", elapsed_ms=200),
        event("session.output_transcript.delta", delta="Guten", elapsed_ms=400),
        event("session.input_transcript.delta", delta=" day.", elapsed_ms=600),
        event("session.output_audio.delta", sample_rate=24000, channels=1, format="pcm16", delta=SECOND),
        event("session.output_transcript.delta", delta=" Tag.", elapsed_ms=800),
        event("session.closed"),
    ]

    surface = "realtime.translations.connect"
    run(lambda: listened(mode, surface, script, CLOSED, model="gpt-realtime-translate"))
    (record,) = seen.records
    assert (record.api, record.outcome, record.usage) == ("realtime_translations", "success", None)
    assert (record.request.model, record.text) == ("gpt-realtime-translate", "Guten Tag.")
    assert record.conversation is not None
    assert [message.text for message in record.conversation.input] == ["Good day."]
    made = body_returned(record)
    assert made["turns"][1] == {"role": "assistant", "elapsed_ms": 800, "text": "Guten Tag."}
    assert made["audio"] == {"callspan_media": {"bytes": 48_000, "mime": "audio/pcm", "seconds": 1.0}}


def generated(seed: int, length: int) -> tuple[list[Any], list[str], int]:
    """A session of so many events, the texts of its delegated responses, and how many decisions it makes."""
    pick, script, texts, decisions = random.Random(seed), [started()], [], 0
    while len(script) < length:
        roll = pick.random()
        if roll < 0.2:
            texts.append(f"Answer {len(texts)}.")
            script += delegated(f"resp_{len(texts)}", texts[-1])
        elif roll < 0.3:
            decisions += 1
            script.append(decided("no"))
        elif roll < 0.35:
            script.append(pick.choice(["", "no json", "[1]", '{"type":7}', event("session.of_tomorrow")]))
        else:
            script.append(
                pick.choice([audio(), heard("input", "naïve"), heard("output", "🎉"), used(seconds=len(script))])
            )
    return [*script, pick.choice([closed(seconds=length), "drop", "close"])], texts, decisions


async def talk(mode: Mode, part: Part, length: int) -> list[Any]:
    """What the application sees: every message and exception, in order."""
    async with live(mode, part) as connection:
        return [await next_of(mode, connection.connection) for _ in range(length)]


@pytest.mark.parametrize("seed", range(3))
def test_the_application_sees_what_it_would_without(seed: int, mode: Mode, run: Run) -> None:
    script, texts, decisions = generated(seed, scaled(200, 10_000))
    with serving(script) as part:
        bare = run(lambda: talk(mode, part, len(script)))
        with capture() as seen:
            assert run(lambda: talk(mode, part, len(script))) == bare
            assert [record.text for record in by_api(seen, "responses")] == texts
            assert len(by_api(seen, "decisions")) == decisions
            assert len(by_api(seen, "live")) == 1
            assert len(seen.records) == len(seen.spans) == len(texts) + decisions + 1
