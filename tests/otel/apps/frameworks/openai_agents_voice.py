"""openai-agents: its voice pipeline, with a recording over HTTP and a stream over a websocket; prints what came."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import numpy
import openai
from agents import Agent, OpenAIResponsesModel, set_trace_processors
from agents.voice import (
    AudioInput,
    OpenAIVoiceModelProvider,
    SingleAgentVoiceWorkflow,
    StreamedAudioInput,
    TTSModelSettings,
    VoicePipeline,
    VoicePipelineConfig,
)
from stage import websocket_server
from tests.support.provider import FullProvider
from tests.support.realtime_server import event, session, speech, transcribed

from callspan.records import CallRecord
from callspan.testing import capture

set_trace_processors([])
SOUND = numpy.zeros(24_000, dtype=numpy.int16)
TOKENS = {
    "type": "tokens", "input_tokens": 20, "output_tokens": 5, "total_tokens": 25,
    "input_token_details": {"audio_tokens": 18, "text_tokens": 2},
}  # fmt: skip


def play(connection: Any, received: list[str]) -> None:
    """Transcribe each piece of audio, and acknowledge the end of the input."""
    connection.send(json.dumps(session(type="transcription", model=None)))
    for message in connection:
        kind = json.loads(message)["type"]
        received.append(kind)
        for each in _answers(kind, received.count("input_audio_buffer.append")):
            connection.send(json.dumps(each))


def _answers(kind: str, number: int) -> list[dict[str, Any]]:
    if kind == "session.update":
        return [event("session.updated", session=session(type="transcription", model=None)["session"])]
    if kind == "input_audio_buffer.append":
        return [*speech(f"item_{number}"), *transcribed(f"item_{number}", f"Question {number}?", usage=TOKENS)]
    return [event("input_audio_buffer.cleared")] if kind == "input_audio_buffer.clear" else []


@asynccontextmanager
async def pipeline(http: FullProvider, socket: str) -> AsyncIterator[VoicePipeline]:
    async with openai.AsyncOpenAI(api_key="k", base_url=http.openai_url, websocket_base_url=socket) as client:
        model = OpenAIResponsesModel(model="gpt-5", openai_client=client)
        config = VoicePipelineConfig(
            model_provider=OpenAIVoiceModelProvider(openai_client=client), tts_settings=TTSModelSettings(buffer_size=1)
        )
        agent: Any = Agent(name="guide", model=model)
        yield VoicePipeline(workflow=SingleAgentVoiceWorkflow(agent), config=config, stt_model="gpt-4o-transcribe")


async def talk(http: FullProvider, socket: str, name: str) -> list[str]:
    """What the pipeline emits: runs of audio, and lifecycle events."""
    async with pipeline(http, socket) as voice:
        streamed = StreamedAudioInput()
        result = await voice.run(streamed if name == "stream" else AudioInput(buffer=SOUND))
        kinds: list[str] = []
        for sound in (SOUND, SOUND, None) if name == "stream" else ():
            await streamed.add_audio(sound)
        async for each in result.stream():
            kind = getattr(each, "event", each.type)
            kinds += [kind] if kinds[-1:] != [kind] else []
    return kinds


def run(name: str) -> dict[str, Any]:
    with FullProvider() as http, websocket_server(play) as (socket, received):
        http.reply(text="It rains.", repeat=True)
        kinds = asyncio.run(talk(http, socket, name))
    return {"kinds": kinds, "received": received, "wire": sorted(request.path for request in http.requests)}


def told(one: CallRecord) -> tuple[object, ...]:
    usage = one.usage and (one.usage.input_tokens, one.usage.input_audio_tokens, one.usage.output_tokens)
    return one.api, one.outcome, one.model, one.text, usage


def main() -> None:
    found: dict[str, Any] = {}
    for name in ("file", "stream"):
        with capture() if sys.argv[1] == "on" else nullcontext() as seen:
            found[name] = run(name)
        if seen is not None:
            found[name]["calls"] = sorted(map(told, seen.records), key=str)
            found[name]["sessions"] = len({one.place.session_id for one in seen.records})
            found[name]["spans"] = sorted(span.name for span in seen.spans)
    print("RESULT", json.dumps(found))


main()
