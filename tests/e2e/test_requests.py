"""Request attributes: parameters and prompts, by the names that each API gives them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest

import callspan
from callspan.testing import Captured, ScriptedProvider, capture
from tests.e2e.ask import APIS, response_of, shown
from tests.intercept.mode import Mode
from tests.intercept.test_endings import the_call

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("api", APIS)
def test_a_prompt_has_the_name_and_version_that_the_application_gives_it(
    api: str, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """From the metadata, under the conventions' names, as texts; without a name there is no version."""

    async def body() -> None:
        with callspan.metadata(prompt_version=2):
            await response_of(mode, api, stream=stream)
            with callspan.metadata(prompt_id="greet"):
                await response_of(mode, api, stream=stream)

    run(body)
    assert [named(dict(span.attributes or {})) for span in seen.spans] == [{}, {"name": "greet", "version": "2"}]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            {"id": "pmpt_0123abcd", "version": "7", "variables": {"city": "Rome"}},
            {"name": "pmpt_0123abcd", "version": "7"},
        ),
        ({"id": "pmpt_0123abcd"}, {"name": "pmpt_0123abcd"}),
        ({"id": None, "version": "7"}, {"name": "greet", "version": "2"}),
        (None, {"name": "greet", "version": "2"}),
    ],
)
@pytest.mark.parametrize("content", ["full", "metadata", "off"])
def test_a_template_of_the_provider_is_the_prompt_of_its_call(
    template: Any, expected: dict[str, str], content: Any, provider: ScriptedProvider
) -> None:
    """Responses' own `prompt` goes before the metadata, of which nothing is mixed in; its variables are content."""
    with (
        capture(content=content) as seen,
        openai.OpenAI(api_key="k", base_url=provider.openai_url) as client,
        callspan.metadata(prompt_id="greet", prompt_version=2),
    ):
        client.responses.create(model="gpt-5", input="Hi", prompt=template)
    attributes = shown(seen)
    assert named(attributes) == expected
    assert the_call(seen).request.params.get("prompt", {}).get("id") == (template or {}).get("id")
    assert "Rome" not in json.dumps(the_call(seen).request.params)


def named(attributes: dict[str, Any]) -> dict[str, str]:
    """The attributes of the prompt, without their prefix."""
    prefix = "gen_ai.prompt."
    return {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}
