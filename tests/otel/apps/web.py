"""A FastAPI application, with a plain answer and one streamed to the browser, and a WSGI one whose requests are calls.

With `ASK_FIRST` it has asked before the server forks; with `INSTRUMENT` it turns callspan on itself.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import openai
from calling import ask
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry import trace

import callspan

if "INSTRUMENT" in os.environ:
    callspan.instrument(otlp=True)
app = FastAPI()
_tracer = trace.get_tracer("web")


@app.get("/process")
async def process() -> int:
    return os.getpid()


@app.get("/plain")
async def plain(question: str) -> dict[str, object]:
    with _tracer.start_as_current_span("GET /plain"):
        async with openai.AsyncOpenAI(max_retries=0) as client:
            reply = await client.chat.completions.create(
                model="gpt-5", messages=[{"role": "user", "content": question}]
            )
    return {"process": os.getpid(), "answer": reply.choices[0].message.content}


@app.get("/stream")
async def stream(question: str) -> StreamingResponse:
    with _tracer.start_as_current_span("GET /stream"):
        client = openai.AsyncOpenAI(max_retries=0)
        chunks = await client.chat.completions.create(
            model="gpt-5", stream=True, messages=[{"role": "user", "content": question}]
        )

    async def pieces() -> AsyncIterator[str]:
        async for chunk in chunks:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content
        await client.close()

    return StreamingResponse(pieces(), media_type="text/plain")


if "ASK_FIRST" in os.environ:
    ask("asked by the master")


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] != "/process":
        ask(environ["QUERY_STRING"])
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]
