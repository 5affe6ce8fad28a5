"""A FastAPI application: one plain answer, one streamed to the browser as it comes."""

import os
from collections.abc import AsyncIterator

import openai
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry import trace

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
