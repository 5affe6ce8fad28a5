"""openai-agents by voice: a realtime session with a tool, and its voice pipeline; prints what came of each.

The pipeline gets a recording, over HTTP, and a stream, over a websocket. The package opens both websockets by itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy
import openai
from agents import Agent, OpenAIResponsesModel, function_tool, set_trace_processors
from agents.realtime import RealtimeAgent, RealtimeRunner
from agents.voice import (
    AudioInput,
    OpenAIVoiceModelProvider,
    SingleAgentVoiceWorkflow,
    StreamedAudioInput,
    TTSModelSettings,
    VoicePipeline,
    VoicePipelineConfig,
)
from stage import weather
from tests.support.provider import FullProvider
from tests.support.realtime_server import USAGE, answer, created, event, response, session, speech, transcribed
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

import callspan
from callspan.records import CallRecord
from callspan.testing import capture

set_trace_processors([])
SOUND = numpy.zeros(24_000, dtype=numpy.int16)
TOKENS = {
    "type": "tokens", "input_tokens": 20, "output_tokens": 5, "total_tokens": 25,
    "input_token_details": {"audio_tokens": 18, "text_tokens": 2},
}  # fmt: skip
CALL = {
    "id": "item_c", "object": "realtime.item", "type": "function_call", "name": "weather", "call_id": "call_1",
    "arguments": '{"city":"Oslo"}', "status": "completed",
}  # fmt: skip
ABOUT = {"response_id": "resp_1", "output_index": 0}
ARGUMENTS = {**ABOUT, "item_id": "item_c", "call_id": "call_1", "delta": CALL["arguments"]}
Events = list[dict[str, Any]]
ASKED: Events = [
    session(),
    *speech("item_1"),
    created("resp_1"),
    *transcribed("item_1", "How is the weather?"),
    event("response.output_item.added", **ABOUT, item={**CALL, "arguments": "", "status": "in_progress"}),
    event("response.function_call_arguments.delta", **ARGUMENTS),
    event("response.output_item.done", **ABOUT, item=CALL),
    event("response.done", response=response("resp_1", status="completed", usage=USAGE)),
]


@contextmanager
def websocket_server(greeting: Events, answers: Callable[[Any, int], Events]) -> Iterator[tuple[str, list[str]]]:
    """A server that greets, and answers each event and its number of that type; its address, and what it received."""
    received: list[str] = []

    def play(connection: Any) -> None:
        try:
            for each in greeting:
                connection.send(json.dumps(each))
            for message in connection:
                frame = json.loads(message)
                received.append(frame["type"])
                for each in answers(frame, received.count(frame["type"])):
                    connection.send(json.dumps(each))
        except ConnectionClosed:
            return

    with serve(play, "127.0.0.1", 0, max_size=None) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/v1", received
        server.shutdown()


def in_session(frame: Any, number: int) -> Events:
    """Acknowledge each item, and answer each create."""
    item = frame.get("item")
    added = [] if item is None else [event("conversation.item.added", item={"id": "item_r", **item})]
    return added + (answer("resp_2", "It rains.") if frame["type"] == "response.create" else [])


def in_transcription(frame: Any, number: int) -> Events:
    """Transcribe each piece of audio, and acknowledge the end of the input."""
    if frame["type"] == "session.update":
        return [event("session.updated", session=session(type="transcription", model=None)["session"])]
    if frame["type"] == "input_audio_buffer.append":
        return [*speech(f"item_{number}"), *transcribed(f"item_{number}", f"Question {number}?", usage=TOKENS)]
    return [event("input_audio_buffer.cleared")] if frame["type"] == "input_audio_buffer.clear" else []


async def talk(url: str) -> list[str]:
    agent: Any = RealtimeAgent(name="guide", instructions="Be brief.", tools=[function_tool(weather)])
    kinds: list[str] = []
    with callspan.session("voice"):
        running = await RealtimeRunner(agent).run(model_config={"api_key": "k", "url": url})
        async with running:
            async for each in running:
                kinds.append(each.type)
                if kinds.count("agent_end") == 2:
                    break
    # Sorted: the tool runs in a task of its own, whose events come before or after the end of the answer.
    return sorted(kind for kind in kinds if not kind.startswith(("raw", "history")))


async def listen(http: str, socket: str, *, is_streamed: bool) -> AsyncIterator[str]:
    """What the pipeline emits: audio, and lifecycle events."""
    async with openai.AsyncOpenAI(api_key="k", base_url=http, websocket_base_url=socket) as client:
        config = VoicePipelineConfig(
            model_provider=OpenAIVoiceModelProvider(openai_client=client), tts_settings=TTSModelSettings(buffer_size=1)
        )
        agent: Any = Agent(name="guide", model=OpenAIResponsesModel(model="gpt-5", openai_client=client))
        workflow = SingleAgentVoiceWorkflow(agent)
        voice = VoicePipeline(workflow=workflow, config=config, stt_model="gpt-4o-transcribe")
        streamed = StreamedAudioInput()
        result = await voice.run(streamed if is_streamed else AudioInput(buffer=SOUND))
        for sound in (SOUND, SOUND, None) if is_streamed else ():
            await streamed.add_audio(sound)
        async for each in result.stream():
            yield getattr(each, "event", each.type)


def realtime() -> dict[str, Any]:
    with websocket_server(ASKED, in_session) as (url, received):
        kinds = asyncio.run(talk(f"{url}/realtime?model=gpt-realtime"))
    return {"kinds": kinds, "received": received, "wire": []}


def pipeline(*, is_streamed: bool) -> dict[str, Any]:
    async def runs(http: str, socket: str) -> list[str]:
        """The kinds of what the pipeline emits, each run of audio once."""
        kinds: list[str] = []
        async for kind in listen(http, socket, is_streamed=is_streamed):
            kinds += [kind] if kinds[-1:] != [kind] else []
        return kinds

    greeting = [session(type="transcription", model=None)]
    with FullProvider() as http, websocket_server(greeting, in_transcription) as (socket, received):
        http.reply(text="It rains.", repeat=True)
        kinds = asyncio.run(runs(http.openai_url, socket))
    return {"kinds": kinds, "received": received, "wire": sorted(request.path for request in http.requests)}


def told(one: CallRecord) -> tuple[object, ...]:
    usage = one.usage and (one.usage.input_tokens, one.usage.input_audio_tokens, one.usage.output_tokens)
    return one.api, one.outcome, one.model, one.text, usage, [call.name for call in one.tool_calls]


def main() -> None:
    found: dict[str, Any] = {}
    programs = {
        "realtime": realtime,
        "file": partial(pipeline, is_streamed=False),
        "stream": partial(pipeline, is_streamed=True),
    }
    for name, program in programs.items():
        with capture() if sys.argv[1] == "on" else nullcontext() as seen:
            found[name] = program()
        if seen is not None:
            found[name]["calls"] = sorted(map(told, seen.records), key=str)
            found[name]["sessions"] = sorted({str(one.place.session_name) for one in seen.records})
            found[name]["spans"] = sorted(span.name for span in seen.spans)
    print("RESULT", json.dumps(found))


main()
