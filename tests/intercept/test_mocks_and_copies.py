"""Mocks, subclasses, copies and pickles of clients, streams and responses work as without callspan.

Each act is done twice, without callspan and with it, and must come to the same, be it an exception.
"""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

import anthropic
import openai
import pytest

from callspan.testing import Captured, capture
from tests.intercept.calls import QUESTION, Run, text_of, the_call
from tests.intercept.mode import Mode

CHAT: dict[str, Any] = {"model": "gpt-5", "messages": QUESTION}
MESSAGE: dict[str, Any] = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": QUESTION}
both = pytest.mark.parametrize("sdk", ["openai", "anthropic"])
plain_and_streamed = pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])


def made(mode: Mode, sdk: str, **options: Any) -> Any:
    return mode.openai(**options) if sdk == "openai" else mode.anthropic(**options)


def ask(client: Any, **options: Any) -> Any:
    """The result of the client's one method, awaitable or not."""
    if hasattr(client, "chat"):
        return client.chat.completions.create(**CHAT, **options)
    return client.messages.create(**MESSAGE, **options)


def outcome_of(run: Run, body: Callable[[], Awaitable[Any]]) -> str:
    """What the caller sees: the value, or the exception."""

    async def seen() -> str:
        try:
            return repr(await body())
        except Exception as error:  # noqa: BLE001 - whatever it is, it must be the same
            return f"{type(error).__name__}: {error}"

    text: str = run(seen)
    return text


def same(run: Run, body: Callable[[], Awaitable[Any]]) -> tuple[str, Captured]:
    """What the caller sees, the same with callspan as without, and what was captured."""
    bare = outcome_of(run, body)
    with capture() as seen:
        assert outcome_of(run, body) == bare
        gc.collect()
        assert isinstance(seen.records, list)
    return bare, seen


# Mocks


@both
@plain_and_streamed
def test_a_mock_instead_of_a_client_is_not_observed(sdk: str, stream: bool, mode: Mode, run: Run) -> None:
    client = mock.AsyncMock() if mode.is_async else mock.MagicMock()
    create = client.chat.completions.create if sdk == "openai" else client.messages.create
    create.return_value = "mocked"
    text, seen = same(run, lambda: mode.wait(create(**CHAT, stream=stream)))
    assert (text, seen.records) == ("'mocked'", [])


@both
def test_a_patched_class_is_put_back_as_it_was(sdk: str, mode: Mode, run: Run, seen: Captured) -> None:
    """A test that patches the base client itself while we have patched it."""
    base = __import__(f"{sdk}._base_client", fromlist=["x"])
    owner = base.AsyncAPIClient if mode.is_async else base.SyncAPIClient
    ours = vars(owner)["request"]
    kind = mock.AsyncMock if mode.is_async else mock.MagicMock
    with mock.patch.object(owner, "request", kind(return_value="mocked")):
        assert run(lambda: mode.wait(ask(made(mode, sdk)))) == "mocked"
    assert vars(owner)["request"] is ours
    run(lambda: mode.wait(ask(made(mode, sdk))))
    assert the_call(seen).outcome == "success"


# Subclasses


@both
@plain_and_streamed
def test_a_subclass_that_overrides_request_is_called_once_per_call(
    sdk: str, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    mode.provider.reply(text="I am well.")
    requests: list[str] = []
    kinds: dict[tuple[str, bool], Any] = {
        ("openai", False): openai.OpenAI, ("openai", True): openai.AsyncOpenAI,
        ("anthropic", False): anthropic.Anthropic, ("anthropic", True): anthropic.AsyncAnthropic,
    }  # fmt: skip
    kind = kinds[sdk, mode.is_async]

    class Counting(kind):  # type: ignore[misc,valid-type]
        def request(self, *args: Any, **kwargs: Any) -> Any:
            requests.append("request")
            return super().request(*args, **kwargs)

        def _process_response(self, **kwargs: Any) -> Any:
            requests.append("response")
            return super()._process_response(**kwargs)

    url = mode.provider.openai_url if sdk == "openai" else mode.provider.anthropic_url

    async def body() -> None:
        client = mode.keep(Counting(api_key="k", base_url=url))
        result = await mode.wait(ask(client, stream=stream))
        if stream:
            await mode.all(result)
        assert type(client.with_options(timeout=3)) is Counting

    run(body)
    assert requests == ["request", "response"]
    record = the_call(seen)
    assert (record.outcome, text_of(record)) == ("success", "I am well.")


# Copies and pickles

WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}
ways = pytest.mark.parametrize("way", WAYS)


# A copy that fails leaves a half of a client behind, of which its finalizer complains.


# A copy that fails leaves a half of a client behind, of which its finalizer complains.


@both
@ways
def test_answers_are_copied_whole_and_have_no_callspan_attributes(
    sdk: str, way: str, mode: Mode, run: Run, seen: Captured
) -> None:
    async def body() -> tuple[Any, Any]:
        client = made(mode, sdk)
        resource = client.chat.completions if sdk == "openai" else client.messages
        raw = await mode.wait(resource.with_raw_response.create(**(CHAT if sdk == "openai" else MESSAGE)))
        return await mode.wait(raw.parse()), raw.http_response

    answer, response = run(body)
    assert WAYS[way](answer) == answer
    assert getattr(WAYS[way](answer), "_request_id", None) == getattr(answer, "_request_id", None)
    twin = WAYS[way](response)
    assert twin.content == response.content
    assert b"callspan" not in pickle.dumps(answer) + pickle.dumps(response)
