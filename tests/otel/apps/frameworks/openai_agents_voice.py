"""openai-agents by voice: a realtime session with a tool, and its voice pipeline; prints what came of each.

The pipeline gets a recording, over HTTP, and a stream, over a websocket. The package opens both websockets by itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from functools import partial
from itertools import groupby
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
    STTModelSettings,
    TTSModelSettings,
    VoicePipeline,
    VoicePipelineConfig,
)
from stage import weather
from tests.support.provider import FullProvider
from tests.support.realtime_server import USAGE

import callspan
from callspan.records import CallRecord
from callspan.testing import ReceivedRequest, capture

set_trace_processors([])
SOUND = numpy.zeros(24_000, dtype=numpy.int16)
SECONDS = {"type": "duration", "seconds": 1.5}
TOKENS = {
    "type": "tokens", "input_tokens": 20, "output_tokens": 5, "total_tokens": 25,
    "input_token_details": {"audio_tokens": 18, "text_tokens": 2},
}  # fmt: skip


async def talk(url: str) -> list[str]:
    agent: Any = RealtimeAgent(name="guide", instructions="Be brief.", tools=[function_tool(weather)])
    models: Any = {"model_name": "gpt-realtime", "input_audio_transcription": {"model": "gpt-4o-transcribe"}}
    kinds: list[str] = []
    with callspan.session("voice"):
        running = await RealtimeRunner(agent).run(
            model_config={"api_key": "k", "url": url, "initial_model_settings": models}
        )
        async with running:
            await running.send_audio(SOUND.tobytes())
            async for each in running:
                kinds.append(each.type)
                if kinds.count("agent_end") == 2:
                    break
    # Sorted: the tool runs in a task of its own, whose events come before or after the end of the answer.
    return sorted(kind for kind in kinds if not kind.startswith(("raw", "history")))


async def listen(url: str, *, is_streamed: bool) -> AsyncIterator[str]:
    """What the pipeline emits: audio, and lifecycle events."""
    async with openai.AsyncOpenAI(api_key="k", base_url=url, websocket_base_url=url.replace("http", "ws")) as client:
        config = VoicePipelineConfig(
            model_provider=OpenAIVoiceModelProvider(openai_client=client),
            stt_settings=STTModelSettings(turn_detection={"type": "server_vad", "create_response": False}),
            tts_settings=TTSModelSettings(buffer_size=1),
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


def frames(provider: FullProvider) -> list[object]:
    return [request.body.get("type") for request in provider.requests if is_frame(request)]


def is_frame(request: ReceivedRequest) -> bool:
    return request.method == "WEBSOCKET"


def realtime() -> dict[str, Any]:
    calls = [{"name": "weather", "arguments": {"city": "Oslo"}, "id": "call_1"}]
    with FullProvider() as provider:
        provider.reply(heard="How is the weather?", heard_usage=SECONDS, tool_calls=calls, usage=USAGE)
        provider.reply(text="It rains.", audio=1.0, usage=USAGE)
        kinds = asyncio.run(talk(f"{provider.openai_url.replace('http', 'ws')}/realtime?model=gpt-realtime"))
        return {"kinds": kinds, "received": frames(provider), "wire": []}


def pipeline(*, is_streamed: bool) -> dict[str, Any]:
    async def emitted(url: str) -> list[str]:
        return [kind async for kind in listen(url, is_streamed=is_streamed)]

    with FullProvider() as provider:
        for number in (1, 2):
            provider.reply(heard=f"Question {number}?", heard_usage=TOKENS, on=is_frame)
        provider.reply(text="It rains.", repeat=True)
        kinds = [kind for kind, _ in groupby(asyncio.run(emitted(provider.openai_url)))]
        paths = [request.path for request in provider.requests if not (request.is_upgrade or is_frame(request))]
        return {"kinds": kinds, "received": frames(provider), "wire": sorted(paths)}


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
