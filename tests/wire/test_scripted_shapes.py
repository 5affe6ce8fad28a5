"""The scripted provider's responses have the shape of recorded ones: fields, structure, types."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest

from callspan.testing import ScriptedProvider
from tests.wire import sse
from tests.wire.corpus import Exchange, load

PATHS = {
    "chat_completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "embeddings": "/v1/embeddings",
}
CASES = [(api, stream) for api in PATHS for stream in (False, True) if (api, stream) != ("embeddings", True)]
OPAQUE = {"metadata", "logit_bias", "input"}
"""Objects whose keys are the caller's or the model's own."""
OWN_HOSTS = ("api.openai.com", "api.anthropic.com")
KINDS = {bool: "bool", int: "number", float: "number", str: "text", type(None): "null", dict: "object", list: "array"}
DOCUMENTED = {("response.function_call_arguments.done|response.function_call_arguments.done.name", "text")}
"""Newer than the recordings; the openai SDK declares it as required."""
UNRECORDED_REASONING = [("responses", True)]
"""No recorded stream has a summary of reasoning."""
UNRECORDED_USAGE = [("completions", True)]
"""No recorded stream of the older endpoint was asked for usage."""


def shape(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield each place in a JSON value with the kind of what stands there."""
    yield path, KINDS[type(value)]
    if isinstance(value, dict) and path.rpartition(".")[2] not in OPAQUE:
        for key, each in value.items():
            yield from shape(each, f"{path}.{key}")
    for each in value if isinstance(value, list) else ():
        yield from shape(each, f"{path}[]")


def shapes(text: str, *, stream: bool) -> set[tuple[str, str]]:
    """The shapes of a whole answer; those of a stream by the type and the `event:` line of each event."""
    if not stream:
        return set(shape(json.loads(text), "body"))
    found = set[tuple[str, str]]()
    for event in sse.events(text):
        data = event.json()
        kind = data.get("type", "chunk") if isinstance(data, dict) else event.data
        found |= set(shape(data, f"{event.name}|{kind}"))
    return found


def recorded_shapes(api: str, stream: bool, *hosts: str) -> list[set[tuple[str, str]]]:
    """The shapes of each recorded answer, of any host if none is given."""
    chosen = [each for each in load() if (each.endpoint, each.stream, each.status) == (api, stream, 200) and each.body]
    of_hosts = [each for each in chosen if each.inference and (not hosts or each.host in hosts)]
    return [shapes(each.body, stream=stream) for each in of_hosts]


@pytest.mark.parametrize(
    ("api", "stream"), CASES, ids=[f"{api}-{'sse' if stream else 'json'}" for api, stream in CASES]
)
def test_the_scripted_provider_sends_the_shapes_that_were_recorded(
    api: str, stream: bool, exchanges: tuple[Exchange, ...]
) -> None:
    tool = {"name": "move", "arguments": {"direction": "north"}}
    request: dict[str, object] = {"model": "m", "stream": stream, "messages": [], "input": "x", "prompt": "x"}
    reasoning = None if (api, stream) in UNRECORDED_REASONING else "A wall is east."
    if (api, stream) not in UNRECORDED_USAGE:
        request["stream_options"] = {"include_usage": True}
    with ScriptedProvider() as provider, httpx2.Client(trust_env=False) as client:
        provider.reply(text="Let us go.", reasoning=reasoning, tool_calls=[tool], cache_read_tokens=3)
        url = provider.openai_url.removesuffix("/v1") + PATHS[api]
        answer = client.post(url, json=request)
    ours = shapes(answer.text, stream=stream)
    assert sorted(ours - set().union(*recorded_shapes(api, stream)) - DOCUMENTED) == []
    always = set.intersection(*({path for path, _ in one} for one in recorded_shapes(api, stream, *OWN_HOSTS)))
    assert sorted(always - {path for path, _ in ours}) == []
