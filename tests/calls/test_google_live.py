"""Live sessions of google-genai: each turn is one span and one record, by every way to begin and to end it."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import pytest
from tests.conftest import Instrument
from tests.support.calls import body_sent, the_call, usage_of
from tests.support.socket_script import Part, exceptions, serving
from tests.support.waiting import HANG_MS

import callspan
from callspan.records import CallRecord
from callspan.testing import Capture, ScriptedProvider, capture

genai: Any = pytest.importorskip("google.genai", reason="google-genai is not installed")
live: Any = pytest.importorskip("google.genai.live")

pytestmark = pytest.mark.usefixtures("no_settings", "no_tls")
MODEL: Final = "gemini-live-2.5-flash"
KEY: Final = "key-of-a-test"
SECOND: Final = base64.b64encode(bytes(48_000)).decode()
"""A second of silence."""
READY: Final = {"setupComplete": {}}
USAGE: Final = {
    "promptTokenCount": 57, "responseTokenCount": 30, "thoughtsTokenCount": 4, "totalTokenCount": 91,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}, {"modality": "AUDIO", "tokenCount": 50}],
    "responseTokensDetails": [{"modality": "TEXT", "tokenCount": 5}, {"modality": "AUDIO", "tokenCount": 25}],
}  # fmt: skip
CALL: Final = {"id": "call_1", "name": "get_weather", "args": {"city": "Paris"}}
TOOLS: Final = [{"function_declarations": [{"name": "get_weather"}]}]
TOO_MANY: Final = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Too many."}
HELLO: Final = {"role": "user", "parts": [{"text": "Hello."}]}


@pytest.fixture
def no_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK connects by TLS, which a server on loopback has not."""
    connect = live.ws_connect

    def plainly(uri: str, additional_headers: Any = None, **_: Any) -> Any:
        return connect(uri.replace("wss:", "ws:"), additional_headers=additional_headers)

    monkeypatch.setattr(live, "ws_connect", plainly)


def content(**fields: Any) -> dict[str, Any]:
    return {"serverContent": fields}


def written(*words: str, **part: Any) -> list[dict[str, Any]]:
    return [content(modelTurn={"parts": [{"text": word, **part}]}) for word in words]


def spoken(*words: str, seconds: int = 1) -> list[dict[str, Any]]:
    sound = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": SECOND}}
    return [
        *(content(modelTurn={"parts": [sound]}) for _ in range(seconds)),
        *(content(outputTranscription={"text": word}) for word in words),
    ]


def heard(*words: str) -> list[dict[str, Any]]:
    return [content(inputTranscription={"text": word}) for word in words]


def done(usage: dict[str, Any] | None = USAGE, **fields: Any) -> dict[str, Any]:
    return {**content(turnComplete=True, **fields), **({} if usage is None else {"usageMetadata": usage})}


@asynccontextmanager
async def session(script: list[Any], config: Any = None, **options: Any) -> AsyncIterator[tuple[Any, Part]]:
    with serving(["recv", READY, *script]) as part:
        url = part.url.removesuffix("/v1")
        client = genai.Client(**{"api_key": KEY, **options}, http_options={"base_url": url})
        async with client.aio.live.connect(model=MODEL, config=config or {"response_modalities": ["AUDIO"]}) as opened:
            yield opened, part


async def ask(opened: Any, text: str = "Hello.", *, complete: bool = True) -> None:
    await opened.send_client_content(turns={"role": "user", "parts": [{"text": text}]}, turn_complete=complete)


async def turn_of(opened: Any) -> list[Any]:
    return [message async for message in opened.receive()]


async def interrupt(opened: Any, text: str) -> None:
    """Ask, ask something else as the answer begins, and read what is left of both turns."""
    await ask(opened)
    await anext(opened.receive())
    await ask(opened, text)
    await turn_of(opened)
    await turn_of(opened)


def in_order(seen: Capture) -> list[CallRecord]:
    return sorted(seen.records, key=lambda record: record.timing.start_ns)


async def test_turn_is_one_span_and_one_record(seen: Capture) -> None:
    config = {"response_modalities": ["AUDIO"], "temperature": 0.5, "system_instruction": "Be brief.", "tools": TOOLS}
    answer = [*written("Hm. ", thought=True), *spoken("I am ", "well.", seconds=2), content(generationComplete=True)]
    async with session(["recv", *answer, done()], config) as (opened, part):
        await ask(opened)
        messages = await turn_of(opened)
    assert (len(messages), part.path.rpartition(".")[2]) == (len(answer) + 1, "BidiGenerateContent")
    record, usage = the_call(seen), usage_of(the_call(seen))
    assert (record.api, record.operation, record.provider) == (
        "bidi_generate_content", "generate_content", "gcp.gemini",
    )  # fmt: skip
    assert (record.sdk or "").startswith("google-genai/")
    assert (record.outcome, record.request.model, record.text) == ("success", MODEL, "I am well.")
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete, record.stream.chunks) == ("complete", True, len(messages))
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.reasoning_tokens) == (57, 34, 91, 4)
    assert (usage.input_text_tokens, usage.input_audio_tokens) == (7, 50)
    assert (usage.output_text_tokens, usage.output_audio_tokens, usage.estimated) == (5, 25, False)
    assert record.response is not None
    assert (record.response.finish_reasons, record.response.unknown_finish) == (["STOP"], False)
    assert (record.request.params["temperature"], record.request.tool_names) == (0.5, ["get_weather"])
    conversation = record.conversation or pytest.fail()
    assert [message.text for message in conversation.input] == ["Hello."]
    assert [part.text for part in conversation.system] == ["Be brief."]  # type: ignore[union-attr]
    thought, words, sound = conversation.output[0].parts
    assert (thought.text, words.text) == ("Hm. ", "I am well.")  # type: ignore[union-attr]
    assert (sound.modality, sound.mime, sound.size, sound.seconds) == ("audio", "audio/pcm", 96_000, 2)  # type: ignore[union-attr]
    assert record.timing.first_token_ns is not None
    assert seen.spans[0].name == f"generate_content {MODEL}"
    assert SECOND[:64] not in bytes(record.response.body).decode()


async def test_application_gets_the_same_messages() -> None:
    script = ["recv", *spoken("Well."), {"toolCall": {"functionCalls": [CALL]}}, "recv", *written("So."), done()]

    async def run() -> tuple[list[Any], list[Any], type]:
        async with session([*script]) as (opened, part):
            await ask(opened)
            messages = await turn_of_tools(opened)
        frames = [frame for frame in part.received if frame.startswith("{")]
        return [message.model_dump() for message in messages], frames, type(opened)

    plain = await run()
    with capture():
        assert await run() == plain


async def turn_of_tools(opened: Any) -> list[Any]:
    """Answer the calls of functions of a turn."""
    messages = []
    async for message in opened.receive():
        messages.append(message)
        if message.tool_call:
            answers = [
                {"id": call.id, "name": call.name, "response": {"weather": "sunny"}}
                for call in message.tool_call.function_calls
            ]
            await opened.send_tool_response(function_responses=answers)
    return messages


@pytest.mark.parametrize("usage_at", ["call", "end"])
async def test_function_calls_end_a_call_and_results_begin_the_next(usage_at: str, seen: Capture) -> None:
    called: dict[str, Any] = {"toolCall": {"functionCalls": [CALL]}}
    if usage_at == "call":
        called["usageMetadata"] = {"promptTokenCount": 10, "responseTokenCount": 3, "totalTokenCount": 13}
    async with session(["recv", called, "recv", *written("It is sunny."), done()], {"tools": TOOLS}) as (opened, _):
        with callspan.session("trip"):
            await ask(opened, "How is the weather?")
            await turn_of_tools(opened)
    first, second = in_order(seen)
    assert [call.outcome for call in (first, second)] == ["success", "success"]
    assert {call.place.session_name for call in (first, second)} == {"trip"}
    (call,) = first.tool_calls
    assert (call.id, call.name, json.loads(call.arguments or "")) == ("call_1", "get_weather", {"city": "Paris"})
    assert first.finish_reason == "TOOL_CALL"
    (result,) = (second.conversation or pytest.fail()).input
    assert (result.role, result.parts[0].content) == ("tool", {"weather": "sunny"})  # type: ignore[union-attr]
    assert (second.text, usage_of(second).input_tokens) == ("It is sunny.", 57)
    if usage_at == "call":
        assert (usage_of(first).input_tokens, usage_of(first).output_tokens) == (10, 3)
    else:
        assert first.usage is None


async def test_answer_after_the_last_of_several_results(seen: Capture) -> None:
    calls = [{**CALL, "id": identity} for identity in ("a", "b")]
    script = ["recv", {"toolCall": {"functionCalls": calls}}, "recv", "recv", *written("Both."), done()]
    async with session(script, {"tools": TOOLS}) as (opened, _):
        await ask(opened)
        await anext(opened.receive())
        for call in calls:
            await opened.send_tool_response(function_responses={"id": call["id"], "name": "f", "response": {}})
        await turn_of(opened)
    _, second = in_order(seen)
    results = [part for message in (second.conversation or pytest.fail()).input for part in message.parts]
    assert [part.id for part in results] == ["a", "b"]  # type: ignore[union-attr]


async def test_speech_begins_a_turn_with_its_transcript(seen: Capture) -> None:
    script = ["recv", *heard("How are ", "you?"), *spoken("Well."), done(), "recv", *written("Bye."), done(usage=None)]
    async with session(script) as (opened, _):
        await opened.send_realtime_input(audio={"data": b"\0" * 3200, "mime_type": "audio/pcm;rate=16000"})
        await turn_of(opened)
        await opened.send_realtime_input(text="I leave.")
        await turn_of(opened)
    first, second = in_order(seen)
    texts = [[message.text for message in (call.conversation or pytest.fail()).input] for call in (first, second)]
    assert texts == [["How are you?"], ["I leave."]]
    assert [call.text for call in (first, second)] == ["Well.", "Bye."]
    assert (usage_of(first).total_tokens, second.usage) == (91, None)


async def test_contents_that_are_not_complete_belong_to_the_next_turn(seen: Capture) -> None:
    async with session(["recv", "recv", *written("Yes."), done()]) as (opened, _):
        await ask(opened, "One.", complete=False)
        await ask(opened, "Two.")
        await turn_of(opened)
    assert [content["parts"][0]["text"] for content in body_sent(the_call(seen))["contents"]] == ["One.", "Two."]


async def test_interrupted_answer_is_cancelled(seen: Capture) -> None:
    script = [
        "recv", *spoken("I am"), "recv", content(interrupted=True), done(), *written("Bye."), done(),
    ]  # fmt: skip
    async with session(script) as (opened, _):
        await interrupt(opened, "Stop.")
    first, second = in_order(seen)
    assert (first.outcome, first.finish_reason, first.text) == ("cancelled", "INTERRUPTED", "I am")
    assert first.stream is not None
    assert (first.stream.end, first.error, usage_of(first).output_audio_tokens) == ("complete", None, 25)
    assert (second.outcome, second.text) == ("success", "Bye.")
    assert [message.text for message in (second.conversation or pytest.fail()).input] == ["Stop."]


async def test_cancelled_function_calls_end_no_later_turn(seen: Capture) -> None:
    script = [
        "recv", {"toolCall": {"functionCalls": [CALL]}}, "recv",
        {"toolCallCancellation": {"ids": ["call_1"]}}, content(interrupted=True), done(usage=None),
        *written("Never mind."), done(),
    ]  # fmt: skip
    async with session(script, {"tools": TOOLS}) as (opened, _):
        await interrupt(opened, "Forget it.")
    first, second = in_order(seen)
    assert (first.finish_reason, second.finish_reason) == ("TOOL_CALL", "STOP")
    assert (second.text, second.outcome) == ("Never mind.", "success")


async def test_several_usages_of_a_turn_add_up_to_an_estimate(seen: Capture) -> None:
    early = {**written("Let me see. ")[0], "usageMetadata": USAGE}
    async with session(["recv", early, *written("Yes."), done()]) as (opened, _):
        await ask(opened)
        await turn_of(opened)
    usage = usage_of(the_call(seen))
    assert (usage.input_tokens, usage.output_tokens, usage.output_audio_tokens) == (114, 68, 50)
    assert usage.estimated


LATE: Final = {"usageMetadata": USAGE}
SECOND_USAGE: Final = {"promptTokenCount": 70, "responseTokenCount": 10, "totalTokenCount": 80}
AFTER_THE_END: Final = {
    # What the server sends after the end of a turn that stated no usage, and the totals of both turns.
    "alone": ([LATE], done(SECOND_USAGE), [91, 80]),
    "beside the handle that resumes the session": (
        [{"sessionResumptionUpdate": {"newHandle": "handle-of-a-test"}, **LATE}], done(SECOND_USAGE), [91, 80],
    ),
    "as it waits": ([{**content(waitingForInput=True), **LATE}], done(SECOND_USAGE), [91, 80]),
    "after the end of both": ([LATE], done(None), [91, None]),
    "beside the first words of the next turn": (
        [{**written("Wait. ")[0], "usageMetadata": SECOND_USAGE}], done(None), [None, 80],
    ),
    "with the end of an empty turn": ([done(SECOND_USAGE)], None, [None, 80]),
    "never": ([], done(SECOND_USAGE), [None, 80]),
}  # fmt: skip


@pytest.mark.parametrize("how", AFTER_THE_END)
async def test_usage_before_any_content_of_the_next_turn_is_the_last_turns(how: str, seen: Capture) -> None:
    late, end, totals = AFTER_THE_END[how]
    rest = [] if end is None else [*written("No."), end]
    async with session(["recv", *written("Yes."), done(usage=None), "recv", *late, *rest]) as (opened, _):
        await ask(opened)
        await turn_of(opened)
        await ask(opened, "Again?")
        await turn_of(opened)
    records = in_order(seen)
    assert [record.usage and record.usage.total_tokens for record in records] == totals
    assert [(record.outcome, record.stream and record.stream.end) for record in records] == [
        ("success", "complete")
    ] * 2
    assert records[0].text == "Yes."
    assert not any(record.usage.estimated for record in records if record.usage)
    assert len(seen.spans) == len(records)


async def test_usage_after_a_call_of_a_function_is_that_calls(seen: Capture) -> None:
    script = [
        "recv",
        {"toolCall": {"functionCalls": [CALL]}},
        LATE,
        "recv",
        *written("It is sunny."),
        done(SECOND_USAGE),
    ]
    async with session(script, {"tools": TOOLS}) as (opened, _):
        await ask(opened)
        receiving = opened.receive()
        for _ in range(2):
            await anext(receiving)
        await opened.send_tool_response(function_responses={"id": "call_1", "name": "get_weather", "response": {}})
        await turn_of(opened)
    first, second = in_order(seen)
    assert (usage_of(first).total_tokens, usage_of(second).total_tokens) == (91, 80)
    assert [call.name for call in first.tool_calls or ()] == ["get_weather"]


async def test_late_usage_is_of_the_stored_record(instrumented: Instrument, tmp_path: Path) -> None:
    handle = instrumented(stores=(store := f"sqlite:///{tmp_path / 'calls.db'}"))
    script = ["recv", *written("Yes."), done(usage=None), LATE, content(waitingForInput=True)]
    async with session(script) as (opened, _):
        await ask(opened)
        await turn_of(opened)
        receiving = opened.receive()
        for _ in range(2):
            await anext(receiving)
    handle.force_flush()
    with closing(callspan.open_store(store)) as reader:
        (record,) = reader.calls()
    assert (usage_of(record).total_tokens, record.text, record.outcome) == (91, "Yes.", "success")
    assert (record.timing.duration_ns or 0) > 0
    assert body_sent(record)["contents"][0]["parts"] == [{"text": "Hello."}]


async def test_usage_before_any_turn_is_not_lost(seen: Capture) -> None:
    async with session([LATE, "recv", *written("Yes."), done()]) as (opened, _):
        await anext(opened.receive())
        await ask(opened)
        await turn_of(opened)
    assert sorted(record.usage.total_tokens for record in seen.records if record.usage) == [91, 91]


Act = Callable[[Any, Any], Awaitable[None]]


async def leave(opened: Any, first: Any) -> None:
    del opened, first


async def cancel(opened: Any, first: Any) -> None:
    del first
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(turn_of(opened), 0.2)


async def read_on(opened: Any, first: Any) -> None:
    del first
    await turn_of(opened)


ENDS: Final[dict[str, tuple[list[Any], Act, str, str, str | None]]] = {
    # What the server does after the first words, what the application does, and how the call ends.
    "closed by the application": ([], leave, "cancelled", "closed", None),
    "cancelled": ([], cancel, "cancelled", "closed", None),
    "closed by the server": (["close"], read_on, "success", "cut_off", None),
    "cut": (["drop"], read_on, "error", "cut_off", "connection"),
    "closed with an error": ([(1011, "Internal error.")], read_on, "error", "cut_off", "server"),
    "closed with a reason": (
        [(1011, "You exceeded your current quota, please check your plan.")], read_on, "error", "cut_off", "quota",
    ),
    "closed as going away": ([(1001, "Bye.")], read_on, "success", "cut_off", None),
    "closed with an unknown code": ([(4001, "Bye.")], read_on, "error", "cut_off", "connection"),
    # Versions that read no such error wait for the next message.
    "an error": ([TOO_MANY, "close"], read_on, "error", "error", "rate_limit"),
    "an error within a message": ([{"error": TOO_MANY}, "close"], read_on, "error", "error", "rate_limit"),
    "a malformed call": (
        [done(turnCompleteReason="MALFORMED_FUNCTION_CALL")], read_on, "error", "complete", "parsing",
    ),
    "a refusal": ([done(turnCompleteReason="RESPONSE_REJECTED")], read_on, "success", "complete", None),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
async def test_turn_endings(name: str, seen: Capture) -> None:
    script, act, outcome, end, kind = ENDS[name]
    # Older versions raise what the websocket raises; all fail to read the error within a message.
    with suppress(genai.errors.APIError, exceptions.ConnectionClosed, TypeError):
        async with session(["recv", *written("I am"), *script]) as (opened, _):
            await ask(opened)
            await act(opened, await anext(opened.receive()))
    record = the_call(seen)
    assert (record.outcome, record.stream and record.stream.end, record.text) == (outcome, end, "I am")
    assert (record.error and record.error.kind) == kind
    if name == "a refusal":
        assert record.response is not None
        assert record.response.refused


async def test_dropped_session_ends_its_turn(seen: Capture) -> None:
    async def dropped() -> None:
        manager = session(["recv", *written("I am")])
        opened, _ = await manager.__aenter__()
        await ask(opened)
        await anext(opened.receive())

    await dropped()
    gc.collect()
    for _ in range(10):
        await asyncio.sleep(0.01)
    assert (the_call(seen).outcome, the_call(seen).text) == ("cancelled", "I am")


async def test_turn_that_is_never_answered(seen: Capture) -> None:
    async with session(["recv"]) as (opened, _):
        await ask(opened)
    record = the_call(seen)
    assert (record.outcome, body_sent(record)["contents"]) == ("cancelled", [HELLO])


async def test_key_and_handle_are_nowhere(seen: Capture) -> None:
    config = {"session_resumption": {"handle": "handle-of-a-test"}}
    async with session(["recv", *written("Hi."), done()], config) as (opened, _):
        await ask(opened)
        await turn_of(opened)
    text = repr(seen.everything) + repr([span.attributes for span in seen.spans])
    assert the_call(seen).request.body
    assert [canary for canary in (KEY, "handle-of-a-test") if canary in text] == []


async def test_vertex_is_the_platform(seen: Capture) -> None:
    credentials = pytest.importorskip("google.oauth2.credentials").Credentials("token-of-a-test")
    options = {
        "api_key": None, "vertexai": True, "project": "p", "location": "europe-west1", "credentials": credentials,
    }  # fmt: skip
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8, "trafficType": "ON_DEMAND"}
    async with session(["recv", *written("Hi."), done(usage)], **options) as (opened, part):
        await ask(opened)
        await turn_of(opened)
    record = the_call(seen)
    assert "/google.cloud.aiplatform." in part.path
    assert (record.provider, record.request.model) == ("gcp.vertex_ai", MODEL)
    assert (usage_of(record).input_tokens, usage_of(record).output_tokens) == (5, 3)
    assert record.response is not None
    assert record.response.service_tier == "ON_DEMAND"


@pytest.mark.parametrize("sdks", ["google", "openai"])
async def test_only_named_sdks_are_recorded(sdks: str, instrumented: Instrument, tmp_path: Path) -> None:
    handle = instrumented(stores=f"jsonl:///{tmp_path}/calls.jsonl", sdks=sdks)
    async with session(["recv", *written("Hi."), done()]) as (opened, _):
        await ask(opened)
        await turn_of(opened)
    handle.force_flush(HANG_MS)
    calls = tmp_path / "calls.jsonl"
    assert (calls.exists() and "bidi_generate_content" in calls.read_text()) == (sdks == "google")


INTERACTION: Final = "v1_live"
STEPS: Final[list[Any]] = [
    {
        "event_type": "interaction.connected",
        "interaction": {"id": INTERACTION, "model": MODEL, "status": "in_progress"},
    },
    "recv",
    {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
    {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "I am "}},
    {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "well."}},
    *({"event_type": "step.delta", "index": 0, "delta": {"type": "audio", "mime_type": "audio/pcm", "data": SECOND}},)
    * 2,
]
COMPLETED: Final = {
    "event_type": "interaction.completed", "status": {"code": 0},
    "usage": {
        "total_input_tokens": 32, "total_output_tokens": 12, "total_tokens": 44,
        "output_tokens_by_modality": [{"modality": "audio", "tokens": 10}],
    },
}  # fmt: skip


@asynccontextmanager
async def interaction(*script: Any, identity: str = INTERACTION) -> AsyncIterator[Any]:
    if find_spec("google.genai._interactions_websocket") is None:
        pytest.skip("this version has no live interactions")
    with serving(["recv", *script]) as part:
        url = part.url.removesuffix("/v1")
        client = genai.Client(api_key=KEY, http_options={"base_url": url})
        async with client.aio.interactions.connect(identity) as connection:
            yield connection


@pytest.mark.filterwarnings("ignore:Live Interactions:UserWarning")
@pytest.mark.parametrize("batched", [False, True])
async def test_live_interaction_is_a_call(batched: bool, seen: Capture) -> None:
    events = [*STEPS[:2], {"events": STEPS[2:]}] if batched else STEPS
    async with interaction(*events, COMPLETED) as connection:
        await connection.send("How are you?")
        received = [event.event_type async for event in connection.receive()]
    assert (len(received), received[-1]) == (len(STEPS), "interaction.completed")
    record, usage = the_call(seen), usage_of(the_call(seen))
    assert (record.api, record.provider, record.outcome) == ("interactions", "gcp.gemini", "success")
    assert (record.request.model, record.text) == (MODEL, "I am well.")
    assert record.stream is not None
    assert (record.stream.end, record.stream.complete) == ("complete", True)
    assert (usage.input_tokens, usage.output_tokens, usage.output_audio_tokens) == (32, 12, 10)
    conversation = record.conversation or pytest.fail()
    assert [message.text for message in conversation.input] == ["How are you?"]
    sound: Any = conversation.output[0].parts[-1]
    assert (sound.modality, sound.size, sound.seconds) == ("audio", 96_000, 2)


@pytest.mark.filterwarnings("ignore:Live Interactions:UserWarning")
async def test_ends_of_live_interactions(seen: Capture) -> None:
    failure = {"code": 3, "message": "No such voice."}
    ends = [{**COMPLETED, "status": failure}, {"event_type": "interaction.cancelled"}, None]
    for end in ends:
        async with interaction(*STEPS, *filter(None, [end])) as connection:
            await connection.send("How are you?")
            async for event in connection.receive():
                if end is None and event.event_type == "step.delta":
                    break
    assert [(call.outcome, call.stream and call.stream.end) for call in in_order(seen)] == [
        ("error", "complete"), ("cancelled", "complete"), ("cancelled", "closed"),
    ]  # fmt: skip
    assert [(call.error and call.error.message) for call in in_order(seen)] == ["No such voice.", None, None]


@pytest.mark.filterwarnings("ignore:Live Interactions:UserWarning")
async def test_live_interaction_completes_the_call_that_created_it(
    provider: ScriptedProvider, store: str, instrumented: Instrument
) -> None:
    if find_spec("google.genai._interactions_websocket") is None:
        pytest.skip("this version has no live interactions")
    handle, identity = instrumented(stores=store), "v1_created"
    under_way = {"id": identity, "object": "interaction", "status": "in_progress", "model": MODEL}
    provider.reply(raw=under_way, on="/interactions")
    client = genai.Client(api_key=KEY, http_options={"base_url": provider.url})
    await client.aio.interactions.create(model=MODEL, input="Hello.", background=True)
    await client.aio.aclose()
    async with interaction(*STEPS[1:], COMPLETED, identity=identity) as connection:
        await connection.send("How are you?")
        assert [event async for event in connection.receive()]
    handle.force_flush(HANG_MS)
    with closing(callspan.open_store(store)) as reader:
        (record,) = reader.calls()
    assert (record.outcome, record.text, usage_of(record).output_tokens) == ("success", "I am well.", 12)


FACTS: Final = attrgetter("outcome", "text", "usage")


async def test_same_answer_twice_is_two_calls(seen: Capture) -> None:
    async with session(["recv", *written("Yes."), done(), "recv", *written("Yes."), done()]) as (opened, _):
        for _ in range(2):
            await ask(opened)
            await turn_of(opened)
    first, second = in_order(seen)
    assert FACTS(first) == FACTS(second)
