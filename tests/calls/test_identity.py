"""Identity: types, introspection, mocks, subclasses, copies and pickles are as without callspan."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import anthropic
import openai
import pytest

import callspan
from callspan.testing import Captured, ScriptedProvider, capture
from tests.support import sdks
from tests.support.calls import CHAT, MESSAGE, Run, ask, client_of, text_of, the_call
from tests.support.mode import Mode


def base_of(sdk: str) -> Any:
    return __import__(f"{sdk}._base_client", fromlist=["x"])


def test_results_and_streams_are_exactly_the_sdks_own_and_have_no_callspan_attributes(
    sdk: str, mode: Mode, run: Run, seen: Captured
) -> None:
    module: Any = openai if sdk == "openai" else anthropic

    async def body() -> None:
        client = client_of(mode, sdk)
        before = set(vars(client))
        answer = await mode.wait(ask(client))
        assert (type(answer).__name__, type(answer).__module__.split(".")[0]) == (
            "ChatCompletion" if sdk == "openai" else "Message", sdk,
        )  # fmt: skip
        stream = await mode.wait(ask(client, stream=True))
        assert type(stream) is (module.AsyncStream if mode.is_async else module.Stream)
        assert type(stream.response) is sdks.http_of(sdk).Response
        await mode.all(stream)
        assert set(vars(client)) - before <= {"chat", "messages"}, "cached properties of the SDK's"
        assert [name for name in vars(stream) if "callspan" in name] == []

    run(body)
    assert len(seen.records) == 2


def test_coroutine_functions_and_signatures_stay_what_they_are(sdk: str) -> None:
    base, http = base_of(sdk), sdks.http_of(sdk)
    functions = [
        (base.AsyncAPIClient, "request"), (base.SyncAPIClient, "request"), (http.AsyncClient, "send"),
        (http.Client, "send"), (http.Response, "aclose"), (base.BaseClient, "_process_response_data"),
    ]  # fmt: skip

    def look() -> list[Any]:
        found = [getattr(owner, name) for owner, name in functions]
        return [
            (inspect.signature(one), inspect.iscoroutinefunction(one), one.__name__, one.__qualname__, one.__doc__)
            for one in found
        ]

    before = look()
    with capture():
        assert look() == before


def test_uninstrumenting_in_the_middle_of_a_stream_lets_it_end(mode: Mode, run: Run) -> None:
    mode.provider.reply(text="one two three")
    held: list[Any] = []

    async def body() -> str:
        stream = await mode.wait(mode.openai().chat.completions.create(**CHAT, stream=True))
        first = await mode.next(stream)
        callspan.uninstrument()
        chunks = [first, *await mode.all(stream)]
        held.append(stream)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    with capture() as seen:
        assert run(body) == "one two three", "the caller's stream is whole"
        record = the_call(seen)
    assert record.stream is not None
    assert record.stream.end == "complete", "it was observed from before"
    assert text_of(record) == "one two three"


def test_hooks_left_for_an_open_stream_are_removed_at_the_next_uninstrument(
    provider: ScriptedProvider, seen: Captured
) -> None:
    response = sdks.http_of("openai").Response
    callspan.uninstrument()
    bare = response.close
    for _ in range(2):
        callspan.instrument()
        with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
            stream = client.chat.completions.create(**CHAT, stream=True)
            callspan.uninstrument()
            assert response.close is not bare, "the stream is still to be read"
            assert response.close.__wrapped__ is bare, "and wrapped once"
            list(stream)
    callspan.instrument()
    callspan.uninstrument()
    assert response.close is bare


def test_a_subclass_that_overrides_request_is_called_once_per_call(
    sdk: str, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text="I am well.")
    requests: list[str] = []

    async def body() -> None:
        client = client_of(mode, sdk)
        kind = type(client)

        class Counting(kind):  # type: ignore[misc,valid-type]
            def request(self, *args: Any, **kwargs: Any) -> Any:
                requests.append("request")
                return super().request(*args, **kwargs)

            def _process_response(self, **kwargs: Any) -> Any:
                requests.append("response")
                return super()._process_response(**kwargs)

        counting = mode.keep(Counting(api_key="k", base_url=client.base_url))
        result = await mode.wait(ask(counting, stream=stream))
        if stream:
            await mode.all(result)
        assert type(counting.with_options(timeout=3)) is Counting

    run(body)
    assert requests == ["request", "response"]
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}


@pytest.mark.parametrize("way", WAYS)
def test_answers_are_copied_whole_and_have_no_callspan_attributes(
    sdk: str, way: str, mode: Mode, run: Run, seen: Captured
) -> None:
    async def body() -> tuple[Any, Any]:
        client = client_of(mode, sdk)
        resource = client.chat.completions if sdk == "openai" else client.messages
        raw = await mode.wait(resource.with_raw_response.create(**(CHAT if sdk == "openai" else MESSAGE)))
        return await mode.wait(raw.parse()), raw.http_response

    answer, response = run(body)
    assert WAYS[way](answer) == answer
    assert getattr(WAYS[way](answer), "_request_id", None) == getattr(answer, "_request_id", None)
    assert WAYS[way](response).content == response.content
    assert b"callspan" not in pickle.dumps(answer) + pickle.dumps(response)
