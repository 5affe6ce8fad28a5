"""The scripted provider's bodies have only keys of recorded bodies, and all keys these always have.

For each kind of body and event: every key of ours occurs in a recorded one of that kind, and every key that all
recorded ones have is in ours. A type of event that nobody recorded is named here, with what is checked instead.
"""

from __future__ import annotations

import http.client
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pytest

from callspan.testing.provider import ScriptedProvider
from tests.wire import corpus, sse

HOSTS = {"api.openai.com", "api.anthropic.com"}

UNRECORDED = {
    "refusal",
    "summary_text",
    "response.incomplete",
    "response.refusal.delta",
    "response.refusal.done",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_part.done",
    "response.reasoning_summary_text.delta",
    "response.reasoning_summary_text.done",
}
"""Types of events and parts that no recorded stream has; the strict models of the SDK check them (unit tests)."""

REQUEST: dict[str, object] = {"input": "x", "include": ["reasoning.encrypted_content"]}
"""A request of every endpoint that asks for all that can be asked for."""

OPEN = {"input", "parameters", "metadata", "logit_bias", "arguments"}
"""Members whose keys are the user's."""

PATHS = {
    "chat_completions": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
}

NEWER: dict[str, set[str]] = {
    "chat_completions": {"reasoning_content", "cache_write_tokens"},
    "responses": {"cache_write_tokens", "name", "reason"},
    "messages": {"output_tokens_details", "thinking_tokens"},
}
"""Keys that are younger than the recordings of this provider, or that only compatible ones use."""


OPTIONAL = {"obfuscation"}
"""Keys that every recording has and that a client may decline."""


@dataclass
class Shapes:
    """The keys seen at each place of one kind of JSON."""

    seen: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    always: dict[str, set[str]] = field(default_factory=dict)

    def learn(self, value: object) -> None:
        for place, keys in places(value):
            self.seen[place] |= keys
            self.always[place] = self.always.get(place, keys) & keys


def places(value: object, at: str = "") -> Iterator[tuple[str, set[str]]]:
    """Each object within a JSON value: where it is, with its `type`, and which keys it has."""
    if isinstance(value, Mapping):
        kind = value.get("type")
        here = f"{at}<{kind}>" if isinstance(kind, str) else at
        yield here, set(value)
        for name, inner in value.items():
            if name not in OPEN:
                yield from places(inner, f"{here}.{name}")
    elif isinstance(value, list):
        for inner in value:
            yield from places(inner, f"{at}[]")


def wanted(exchange: corpus.Exchange, endpoint: str, *, stream: bool) -> bool:
    return (
        exchange.endpoint == endpoint
        and exchange.host in HOSTS
        and exchange.inference
        and exchange.status == 200
        and exchange.body != ""
        and ("event-stream" in exchange.mime) == stream
    )


def bodies(exchanges: Iterable[corpus.Exchange]) -> Iterator[object]:
    for exchange in exchanges:
        yield json.loads(exchange.body)


def events(texts: Iterable[str]) -> Iterator[object]:
    for text in texts:
        yield from sse.chunks(text)


def learn(values: Iterable[object]) -> Shapes:
    shapes = Shapes()
    for value in values:
        shapes.learn(value)
    return shapes


def ask(provider: ScriptedProvider, endpoint: str, request: dict[str, object]) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", int(provider.url.rsplit(":", 1)[1]))
    try:
        connection.request("POST", PATHS[endpoint], body=json.dumps({"model": "m", **request}))
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def script(provider: ScriptedProvider) -> int:
    """Replies that together say everything that can be said; returns how many."""
    tool = {"name": "move", "arguments": {"direction": "north"}}
    provider.reply(text="some words of text", reasoning="a thought", tool_calls=[tool], reasoning_tokens=3)
    provider.reply(refusal="no thank you")
    provider.reply(text="cut", finish_reason="length")
    provider.reply(tool_calls=[tool, tool])
    return 4


def surplus(ours: Shapes, theirs: Shapes, endpoint: str) -> dict[str, set[str]]:
    """Keys of ours that were never recorded at their place."""
    newer = NEWER.get(endpoint, set())
    found = {place: keys - theirs.seen[place] - newer for place, keys in ours.seen.items() if checked(place)}
    return {place: keys for place, keys in found.items() if keys}


def missing(ours: Shapes, theirs: Shapes) -> dict[str, set[str]]:
    """Keys that were always recorded at a place that ours has, and that ours do not always have."""
    found = {
        place: theirs.always.get(place, set()) - keys - OPTIONAL
        for place, keys in ours.always.items()
        if checked(place)
    }
    return {place: keys for place, keys in found.items() if keys}


def checked(place: str) -> bool:
    return not any(f"<{name}>" in place for name in UNRECORDED)


Recorded = Callable[[str, bool], list[corpus.Exchange]]


@pytest.fixture
def recorded(exchanges: tuple[corpus.Exchange, ...]) -> Recorded:
    return lambda endpoint, stream: [each for each in exchanges if wanted(each, endpoint, stream=stream)]


@pytest.mark.parametrize("endpoint", ["chat_completions", "responses", "messages", "completions", "embeddings"])
def test_bodies_have_the_keys_of_recorded_bodies(recorded: Recorded, endpoint: str) -> None:
    with ScriptedProvider() as provider:
        answers = [json.loads(ask(provider, endpoint, REQUEST)) for _ in range(script(provider))]
    ours, theirs = learn(answers), learn(bodies(recorded(endpoint, False)))
    assert surplus(ours, theirs, endpoint) == {}
    assert missing(ours, theirs) == {}


@pytest.mark.parametrize("endpoint", ["chat_completions", "responses", "messages", "completions"])
def test_events_have_the_keys_of_recorded_events(recorded: Recorded, endpoint: str) -> None:
    request = {**REQUEST, "stream": True}
    if endpoint == "chat_completions":
        request["stream_options"] = {"include_usage": True}
    with ScriptedProvider() as provider:
        texts = [ask(provider, endpoint, request) for _ in range(script(provider))]
    ours = learn(events(texts))
    theirs = learn(events(exchange.body for exchange in recorded(endpoint, True)))
    assert surplus(ours, theirs, endpoint) == {}
    assert missing(ours, theirs) == {}
