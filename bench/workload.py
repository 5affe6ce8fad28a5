"""A workload of records: 1 KB of input, of which 50 bytes are new, and 0.5 KB of output, 50 calls per session.

One call is made with the real SDK over a mocked transport. The others are copies with their own ids, times, texts and
counts.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import openai

import wire_bodies as wire
from callspan.records import CallRecord, Place
from callspan.testing import capture

SENT, NEW, RECEIVED = 1000, 50, 500
"""Numbers of characters of the request, of its new part, and of the answer."""
PER_SESSION = 50
START_NS = 1_760_000_000_000_000_000
STEP_NS = 40_000_000
"""Time between two calls. A million calls take eleven hours."""
_QUESTION, _ANSWER = "<question>", "<answer>"
_MODELS = ("gpt-5", "gpt-5-mini", "gpt-4o")
_VOWELS, _CONSONANTS = "aeiou", "bcdfghklmnprstvw"


def payloads(calls: int, seed: int = 1) -> Iterator[bytes]:
    """Yield the JSON of a number of calls, as in a spool."""
    for record in records(calls, seed):
        yield msgspec.json.encode(record)


def records(calls: int, seed: int = 1) -> Iterator[CallRecord]:
    """Yield a number of calls, ordered by time."""
    chance, words = random.Random(seed), _words()
    originals = [_original(model) for model in _MODELS]
    for number in range(calls):
        original = originals[number // PER_SESSION % len(originals)]
        yield _varied(original, number, chance, words)


def _varied(original: CallRecord, number: int, chance: random.Random, words: list[str]) -> CallRecord:
    session, step = divmod(number, PER_SESSION)
    replace = msgspec.structs.replace
    response_id = f"chatcmpl-{chance.getrandbits(112):028x}"
    request, response, usage, timing = original.request, original.response, original.usage, original.timing
    if response is None or usage is None:
        raise ValueError("the call that was made has no answer")
    sent = bytes(request.body).replace(_QUESTION.encode(), _text(chance, words, NEW))
    received = bytes(response.body).replace(_ANSWER.encode(), _text(chance, words, RECEIVED))
    received = received.replace(b"chatcmpl-1", response_id.encode()).replace(
        b'tokens":250,', b'tokens":%d,' % (250 + step)
    )
    return replace(
        original,
        call_id=f"01990000-0000-7000-8000-{number:012x}",
        trace_id=f"{session + 1:032x}",
        span_id=f"{number + 1:016x}",
        place=Place(session_id=f"01990000-0000-7000-8000-5{session:011x}", session_name="bench", timestep=step),
        request=replace(request, body=msgspec.Raw(sent)),
        response=replace(response, id=response_id, body=msgspec.Raw(received)),
        usage=replace(
            usage,
            input_tokens=250 + step,
            total_tokens=320 + step,
            raw={**(usage.raw or {}), "prompt_tokens": 250 + step},
        ),
        timing=replace(timing, start_ns=START_NS + number * STEP_NS, duration_ns=chance.randrange(10**9, 10**10)),
        attempts=[replace(original.attempts[0], request_id=f"req_{chance.getrandbits(96):024x}")],
        conversation=None,
    )


def _words() -> list[str]:
    chance = random.Random(0)
    return [
        "".join(chance.choice(_CONSONANTS) + chance.choice(_VOWELS) for _ in range(chance.randint(1, 4)))
        for _ in range(5_000)
    ]


def _text(chance: random.Random, words: list[str], size: int) -> bytes:
    return " ".join(chance.choices(words, k=size // 3))[:size].encode()


def _original(model: str) -> CallRecord:
    """Return a call of the SDK, without a cost."""
    answer = json.loads(wire.openai_answer())
    answer["model"] = f"{model}-2025-08-07"
    answer["choices"][0]["message"]["content"] = _ANSWER

    def respond(request: httpx2.Request) -> httpx2.Response:
        del request
        return httpx2.Response(200, headers=wire.HEADERS["openai"], json=answer)

    client = openai.OpenAI(
        api_key="sk-test", http_client=httpx2.Client(transport=httpx2.MockTransport(respond)), max_retries=0
    )
    messages: list[Any] = [
        {"role": "system", "content": wire.prose(SENT - NEW)},
        {"role": "user", "content": _QUESTION},
    ]
    with capture() as captured:
        client.chat.completions.create(model=model, messages=messages, max_completion_tokens=500)
    return captured.records[-1]
