"""Every endpoint in every way, by processes that are killed: each call is one record with its tokens and cost.

New endpoints are rows of `ENDPOINTS`. This file is also the program of those processes, each of which makes a part of
the calls. Background responses are read in every process, by `poll`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from functools import cache
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import aiohttp
import anthropic
import openai
import pytest
import requests
from tests.conftest import Read
from tests.support import sdks
from tests.support.mode import Mode
from tests.support.processes import ROOT
from tests.support.provider.media import wav
from tests.support.scale import scaled
from tests.support.waiting import HANG_S

import callspan
from callspan import open_store
from callspan.records import CallRecord
from callspan.stores import CallFilter
from callspan.testing import ScriptedProvider

pytestmark = [
    pytest.mark.usefixtures("no_settings"),
    pytest.mark.skipif(not hasattr(openai.OpenAI, "responses"), reason="needs the Responses API"),
]
CLIENTS: dict[str, Any] = {"openai": openai.OpenAI, "anthropic": anthropic.Anthropic}
HI: list[Any] = [{"role": "user", "content": "Hi"}]
FALLBACK = "fallback"
"""The model that answers after a refused hop."""
REFUSED = {
    "id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "No"}],
    "stop_reason": "refusal", "usage": {"input_tokens": 7_000, "output_tokens": 700},
    "stop_details": {"type": "refusal", "fallback_credit_token": "t", "fallback_has_prefill_claim": False},
}  # fmt: skip
"""Without its credit for another model, which the beta gives, a stream would end with it."""


FORMS = ("plain", "stream", "raw", "retried", "failed")


class Endpoint(NamedTuple):
    """One endpoint of an SDK."""

    sdk: str
    method: str
    sent: dict[str, Any]
    streams: bool = True
    tokens: str = "in out"
    """Which counters its answers state."""
    hops: bool = False
    by_library: bool = False
    """Whether an HTTP library sends it, requests or aiohttp, which repeats nothing."""

    @property
    def forms(self) -> tuple[str, ...]:
        """How it is called."""
        return tuple(form for form in ("plain", "stream", "failed") if self.by_library) or FORMS


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
    "transcriptions": Endpoint("openai", "audio.transcriptions.create", {"file": ("a.wav", wav())}),
    "speech": Endpoint("openai", "audio.speech.create", {"input": "Hi", "voice": "nova"}, streams=False, tokens=""),
    "messages": Endpoint("anthropic", "messages.create", {"messages": HI, "max_tokens": 9}),
    "hops": Endpoint("anthropic", "beta.messages.create", {"messages": HI, "max_tokens": 9}, hops=True),
    "posted-chat": Endpoint("openai", "chat/completions", {"messages": HI}, by_library=True),
    "posted-responses": Endpoint("openai", "responses", {"input": HI}, by_library=True),
    "posted-messages": Endpoint("anthropic", "v1/messages", {"messages": HI, "max_tokens": 9}, by_library=True),
}  # fmt: skip
PROCESSES = scaled(2, 3)


@cache
def client_of(sdk: str) -> Any:
    return CLIENTS[sdk](api_key="k")


def is_there(endpoint: Endpoint) -> bool:
    """Return whether the installed SDK has the method."""
    if endpoint.by_library:
        return True
    with suppress(AttributeError):
        return bool(attrgetter(endpoint.method)(client_of(endpoint.sdk)))
    return False


async def call(way: str, urls: Any) -> Any:
    """Make one call; a failed one raises what its SDK raises."""
    name, form, kind = way.split()
    endpoint, mode = ENDPOINTS[name], Mode(kind, urls)
    sent = {**endpoint.sent, "model": way}
    if form != "stream":
        sent.pop("stream_options", None)
    if endpoint.by_library:
        await post(f"{getattr(urls, f'{endpoint.sdk}_url')}/{endpoint.method}", sent, form, kind)
        return None
    client = getattr(mode, endpoint.sdk)(max_retries=1, **_middleware(endpoint))
    *path, method = endpoint.method.split(".")
    resource: Any = attrgetter(".".join(path))(client)
    owner = resource.with_raw_response if form == "raw" else resource
    answer = await mode.wait(getattr(owner, method)(**sent, **({"stream": True} if form == "stream" else {})))
    if form == "raw":
        answer = await mode.wait(answer.parse())
    elif form == "stream":
        await mode.all(answer)
    await mode.close()
    return answer


async def post(url: str, sent: dict[str, Any], form: str, kind: str) -> None:
    """Send a request by requests, or by aiohttp, and read its answer."""
    body = {**sent, "stream": True, "stream_options": {"include_usage": True}} if form == "stream" else sent
    if kind == "sync":
        post_by_requests(url, body, is_stream=form == "stream")
        return
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
        assert [line async for line in answer.content]


def post_by_requests(url: str, body: dict[str, Any], *, is_stream: bool) -> None:
    with requests.post(url, json=body, stream=is_stream, timeout=HANG_S) as response:
        assert [*response.iter_lines()]


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


WAYS = [
    f"{name} {form} {mode}"
    for name, endpoint in ENDPOINTS.items()
    for form in (endpoint.forms if is_there(endpoint) else ())
    if form != "stream" or endpoint.streams
    for mode in ("sync", "async")
][:: scaled(5, 1)]
"""The names of the ways: endpoint, form, and sync or async."""
INPUT_USD, OUTPUT_USD = Decimal("0.000002"), Decimal("0.000008")


def tokens(way: str) -> tuple[int, int]:
    """What the answer to a call states; no two calls the same."""
    number = WAYS.index(way)
    return 1000 + number, 10 + number


def script(provider: ScriptedProvider, way: str) -> None:
    name, form, _ = way.split()
    given, made = tokens(way)
    if form == "retried":
        provider.reply(status=429, retry_after_s=0.001)
    if form == "failed":
        provider.reply(status=400)
    elif ENDPOINTS[name].hops:
        # What a refused hop used is not of the call: its record has the usage of the answer that the caller got.
        provider.reply(raw={**REFUSED, "model": way})
        provider.reply(text="Well.", model=FALLBACK, input_tokens=given, output_tokens=made)
    else:
        provider.reply(text="Well.", input_tokens=given, output_tokens=made, polls=4)


def test_every_way_records_one_call(
    provider: ScriptedProvider, reading: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdks.needs("anthropic", "0.125", "middleware")
    url, prices = f"sqlite:///{tmp_path}/calls.db", tmp_path / "prices.json"
    models = {key: {"input": "2", "output": "8"} for key in [*WAYS, FALLBACK]}
    prices.write_text(json.dumps({"version": "t", "models": models}))
    for number in range(PROCESSES):
        ways = WAYS[number::PROCESSES]
        for way in ways:
            script(provider, way)
        given = {
            "store": url, "prices": str(prices), "spool": str(tmp_path / str(number)), "jobs": str(tmp_path / "jobs"),
            "openai_url": provider.openai_url, "anthropic_url": provider.anthropic_url, "ways": ways,
            "last": number == PROCESSES - 1,
        }  # fmt: skip
        command = [sys.executable, "-m", __name__, json.dumps(given)]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
        assert provider.pending == 0
    # In the opposite order, and the first process's records twice.
    shutil.copytree(tmp_path / "0", tmp_path / "again")
    monkeypatch.setenv("CALLSPAN_PRICES", str(prices))
    for name in (*map(str, reversed(range(PROCESSES))), "again"):
        monkeypatch.setenv("CALLSPAN_SPOOL_DIR", str(tmp_path / name))
        open_store(url, deliver=True).close()
    reader = reading(url)
    calls = list(reader.calls(CallFilter(newest_first=False)))
    assert sorted(str(call.request.model) for call in calls) == sorted(WAYS)
    assert {call.request.model: recorded(call) for call in calls} == {way: expected(way) for way in WAYS}
    (sums,) = reader.summary("provider", CallFilter(provider="openai"))
    known = [call for call in calls if call.provider == "openai"]
    assert sums.cost_usd == sum((call.cost.usd for call in known if call.cost), Decimal(0))
    assert sums.input_tokens == sum(call.usage.input_tokens or 0 for call in known if call.usage)


def recorded(call: CallRecord) -> dict[str, Any]:
    usage = call.usage
    return {
        "outcome": call.outcome,
        "tokens": (usage.input_tokens, usage.output_tokens) if usage else (None, None),
        "cost": call.cost.usd if call.cost else None,
        "retries": call.retries,
        "attempts": len(call.attempts),
    }


def expected(way: str) -> dict[str, Any]:
    name, form, _ = way.split()
    endpoint, failed, retries = ENDPOINTS[name], form == "failed", int(form == "retried")
    given, made = tokens(way)
    known = bool(endpoint.tokens) and not failed
    if "out" not in endpoint.tokens:
        made = 0
    # In a stream the middleware asks the next model while the application reads.
    hops = endpoint.hops and form != "failed"
    return {
        "outcome": "error" if failed else "success",
        "tokens": (given, made or None) if known else (None, None),
        "cost": given * INPUT_USD + made * OUTPUT_USD if known else None,
        "retries": retries,
        "attempts": 1 + retries + hops,
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
