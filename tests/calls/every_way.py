"""A program that calls the scripted provider in every way, a part of them in each process, and is then killed.

New endpoints are rows of `ENDPOINTS`. Background responses are read in every process, by
`poll`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import anthropic
import openai

import callspan
from tests.support.mode import Mode

CLIENTS: dict[str, Any] = {"openai": openai.OpenAI, "anthropic": anthropic.Anthropic}
HI: list[Any] = [{"role": "user", "content": "Hi"}]
FALLBACK = "fallback"
"""The model that answers after a refused hop."""
WAV = (
    b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data"
)


class Endpoint(NamedTuple):
    """One endpoint of an SDK."""

    sdk: str
    method: str
    sent: dict[str, Any]
    streams: bool = True
    tokens: str = "in out"
    """Which counters its answers state."""
    hops: bool = False


ENDPOINTS = {
    "chat": Endpoint("openai", "chat.completions.create", {"messages": HI, "stream_options": {"include_usage": True}}),
    "completions": Endpoint(
        "openai", "completions.create", {"prompt": "Hi", "stream_options": {"include_usage": True}}
    ),
    "responses": Endpoint("openai", "responses.create", {"input": "Hi"}),
    "background": Endpoint("openai", "responses.create", {"input": "Hi", "background": True}, streams=False),
    "embeddings": Endpoint("openai", "embeddings.create", {"input": "Hi"}, streams=False, tokens="in"),
    "moderations": Endpoint("openai", "moderations.create", {"input": "Hi"}, streams=False, tokens=""),
    "images": Endpoint("openai", "images.generate", {"prompt": "Hi"}),
    "transcriptions": Endpoint("openai", "audio.transcriptions.create", {"file": ("a.wav", WAV)}),
    "speech": Endpoint("openai", "audio.speech.create", {"input": "Hi", "voice": "nova"}, streams=False, tokens=""),
    "messages": Endpoint("anthropic", "messages.create", {"messages": HI, "max_tokens": 9}),
    "hops": Endpoint("anthropic", "beta.messages.create", {"messages": HI, "max_tokens": 9}, hops=True),
}  # fmt: skip
FORMS = ("plain", "stream", "raw", "retried", "failed")


def every_way() -> Iterator[str]:
    """Yield the names of all ways: endpoint, form, and sync or async."""
    for name, endpoint in ENDPOINTS.items():
        for form in FORMS if is_there(endpoint) else ():
            if form == "stream" and not endpoint.streams:
                continue
            yield from (f"{name} {form} {mode}" for mode in ("sync", "async"))


def is_there(endpoint: Endpoint) -> bool:
    """Return whether the installed SDK has the method."""
    try:
        attrgetter(endpoint.method)(CLIENTS[endpoint.sdk](api_key="k"))
    except AttributeError:
        return False
    return True


async def call(way: str, urls: Any) -> Any:
    """Make one call; a failed one raises what its SDK raises."""
    name, form, kind = way.split()
    endpoint, mode = ENDPOINTS[name], Mode(kind, urls)
    sent = {**endpoint.sent, "model": way}
    if form != "stream":
        sent.pop("stream_options", None)
    resource: Any = getattr(mode, endpoint.sdk)(max_retries=1, **_middleware(endpoint))
    *path, method = endpoint.method.split(".")
    for part in path:
        resource = getattr(resource, part)
    if form == "raw":
        raw = await mode.wait(getattr(resource.with_raw_response, method)(**sent))
        answer = await mode.wait(raw.parse())
    elif form == "stream":
        answer = await mode.wait(getattr(resource, method)(**sent, stream=True))
        await mode.all(answer)
    else:
        answer = await mode.wait(getattr(resource, method)(**sent))
    await mode.close()
    return answer


def _middleware(endpoint: Endpoint) -> dict[str, Any]:
    if not endpoint.hops:
        return {}
    from anthropic.lib.middleware import BetaRefusalFallbackMiddleware

    return {"middleware": [BetaRefusalFallbackMiddleware([{"model": FALLBACK}])]}


def main(given: dict[str, Any]) -> None:
    """Record the ways and polls of this process, and die."""
    callspan.instrument(stores=given["store"], prices=Path(given["prices"]), spool_dir=Path(given["spool"]))
    urls = SimpleNamespace(openai_url=given["openai_url"], anthropic_url=given["anthropic_url"])
    jobs = Path(given["jobs"])
    for way in given["ways"]:
        with suppress(openai.BadRequestError, anthropic.BadRequestError):
            answer = asyncio.run(call(way, urls))
            if way.startswith("background"):
                with jobs.open("a") as file:
                    file.write(f"{answer.id}\n")
    poll(given)
    os.kill(os.getpid(), signal.SIGKILL)


def poll(given: dict[str, Any]) -> None:
    """Read again the background responses of all processes."""
    jobs = Path(given["jobs"])
    with openai.OpenAI(base_url=given["openai_url"], api_key="k") as client:
        for job in jobs.read_text().splitlines() if jobs.exists() else ():
            client.responses.retrieve(job)
            if given["last"]:
                list(client.responses.retrieve(job, stream=True))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
