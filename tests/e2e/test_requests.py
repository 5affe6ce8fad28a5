"""Request attributes: parameters are exported as sent, and no others."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import openai
import pytest

import callspan
from callspan.record.codec import encode
from callspan.stores.base import Reader
from callspan.testing import Captured, ScriptedProvider, capture
from callspan.wiring import Handle
from tests.e2e.ask import APIS, QUESTION, response_of, shown
from tests.intercept.mode import Mode
from tests.intercept.test_endings import the_call

pytestmark = pytest.mark.slow

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(("api", "vendor"), [*((api, "openai") for api in APIS[:2]), ("messages", "anthropic")])
def test_a_failed_call_still_names_its_vendor(api: str, vendor: str, mode: Mode, run: Run, seen: Captured) -> None:
    """The vendor is known before the call is made, so a call that fails has it too."""
    mode.provider.reply(status=400)
    with pytest.raises(Exception, match="scripted provider"):
        run(lambda: response_of(mode, api))
    attributes = shown(seen)
    assert (attributes["llm.vendor"], attributes["gen_ai.provider.name"]) == (vendor, vendor)
    assert attributes["llm.request.model"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("api", APIS)
def test_the_requested_model_and_the_one_of_the_response_are_distinguished(
    api: str, stream: bool, mode: Mode, run: Run, seen: Captured
) -> None:
    """An alias is asked for, a dated model answers: each under its own name, and the operation is the call's own."""
    mode.provider.reply(text="well", model="gpt-x-2025")
    run(lambda: response_of(mode, api, model="gpt-x", stream=stream))
    record, attributes = the_call(seen), shown(seen)
    assert (attributes["llm.request.model"], attributes["llm.response.model"]) == ("gpt-x", "gpt-x-2025")
    assert record.response is not None
    assert (record.request.model, record.response.model) == ("gpt-x", "gpt-x-2025")
    assert record.api == api, "of the call, not guessed from its being streamed"
    assert record.request.stream is stream


def test_prompts_are_text_for_people_and_json_as_sent(mode: Mode, run: Run) -> None:
    """Three messages, one of them named: the exact text; and the JSON of what was sent, tool calls included.

    Where the conventions have the prompt, it stands once on the span unless a setting asks for it.
    """
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    sent = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "name": "ann", "content": [{"type": "text", "text": "Look up."}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "A cloud."},
    ]
    with capture(llm_raw=True) as seen:
        run(lambda: response_of(mode, "chat_completions", messages=sent))
        attributes = shown(seen)
    with capture() as seen:
        run(lambda: response_of(mode, "chat_completions", messages=sent))
        assert not {"llm.prompts", "llm.prompts.raw"} & set(shown(seen))
    assert attributes["llm.prompts"] == "system: Be brief.\n\nann: Look up.\n\ntool: A cloud."
    assert json.loads(attributes["llm.prompts.raw"]) == sent


def test_raw_prompts_begin_with_the_instructions_of_every_api(mode: Mode, run: Run) -> None:
    """A system prompt beside the messages is a message of its own, in the shape in which it was sent."""
    blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    given: dict[str, dict[str, Any]] = {"messages": {"system": blocks}, "responses": {"instructions": "Be brief."}}
    for api, instructions in given.items():
        with capture(llm_raw=True) as seen:
            run(lambda api=api, instructions=instructions: response_of(mode, api, **instructions))
        system, *messages = json.loads(shown(seen)["llm.prompts.raw"])
        assert system == {"role": "system", "content": next(iter(instructions.values()))}
        assert messages == QUESTION


def test_only_the_sampling_parameters_that_were_sent_are_there(mode: Mode, run: Run, seen: Captured) -> None:
    """No default temperature is made up; what the provider alone knows is kept with the rest."""
    given = {"temperature": 0, "top_p": 0.5, "seed": 7, "n": 1, "stop": ["x", "y"], "user": "u1"}
    run(lambda: response_of(mode, "chat_completions", **given, extra_body={"top_k": 3, "min_p": 0.1}))
    run(lambda: response_of(mode, "chat_completions", stop="x"))
    full, bare = (dict(span.attributes or {}) for span in seen.spans)
    assert (full["llm.temperature"], full["llm.top_p"], full["gen_ai.request.seed"]) == (0.0, 0.5, 7)
    assert (full["llm.chat.stop_sequences"], full["llm.user"]) == ('["x","y"]', "u1")
    assert bare["llm.chat.stop_sequences"] == '"x"'
    assert not {"llm.temperature", "gen_ai.request.temperature", "llm.top_p", "llm.user"} & set(bare)
    params = seen.records[0].request.params
    assert params == {**given, "top_k": 3, "min_p": 0.1}
    assert json.loads(full["llm.options"]) == params


def test_every_sampling_parameter_of_each_api_has_its_attribute(mode: Mode, run: Run, seen: Captured) -> None:
    """By the names that chat completions, Responses and Messages give them."""
    penalties = {"frequency_penalty": 0.5, "presence_penalty": -0.5, "max_completion_tokens": 9, "n": 2, "seed": 7}
    run(lambda: response_of(mode, "chat_completions", **penalties))
    run(lambda: response_of(mode, "responses", max_output_tokens=8, temperature=0.25, user="u2"))
    sampling = {"top_k": 3, "top_p": 0.75, "stop_sequences": ["END"], "metadata": {"user_id": "u3"}}
    run(lambda: response_of(mode, "messages", max_tokens=7, extra_body=sampling))
    chat, response, message = (dict(span.attributes or {}) for span in seen.spans)
    assert {name: chat[f"gen_ai.request.{name}"] for name in ("frequency_penalty", "presence_penalty", "seed")} == {
        name: penalties[name] for name in ("frequency_penalty", "presence_penalty", "seed")
    }
    assert (chat["llm.frequency_penalty"], chat["llm.presence_penalty"]) == (0.5, -0.5)
    assert chat["gen_ai.request.choice.count"] == 2
    for attributes, tokens in ((chat, 9), (response, 8), (message, 7)):
        assert (attributes["gen_ai.request.max_tokens"], attributes["llm.request.max_tokens"]) == (tokens, tokens)
    assert (response["llm.temperature"], response["llm.user"]) == (0.25, "u2")
    assert (message["gen_ai.request.top_k"], message["llm.top_p"], message["llm.user"]) == (3, 0.75, "u3")
    assert json.loads(message["llm.chat.stop_sequences"]) == ["END"]
    assert message["gen_ai.request.stop_sequences"] == ("END",)


def test_format_tools_and_the_choice_among_them_are_kept_as_given(mode: Mode, run: Run, seen: Captured) -> None:
    """A tool choice that names a function is that, and not "auto"; tools are named, counted and defined."""
    choice = {"type": "function", "function": {"name": "look"}}
    options: dict[str, Any] = {"tools": [LOOK], "tool_choice": choice, "response_format": {"type": "json_object"}}
    run(lambda: response_of(mode, "chat_completions", **options))
    record, attributes = the_call(seen), shown(seen)
    assert record.request.params["tool_choice"] == choice
    assert record.request.params["response_format"] == {"type": "json_object"}
    assert record.request.tool_names == ["look"]
    assert record.conversation is not None
    assert record.conversation.tools == [LOOK]
    assert attributes["gen_ai.output.type"] == "json"
    assert json.loads(attributes["gen_ai.tool.definitions"])[0]["name"] == "look"


def test_no_secret_of_a_request_reaches_an_attribute_or_a_record(provider: ScriptedProvider, seen: Captured) -> None:
    """Keys in options, headers and the base URL are in no byte of a span or record, where the call goes as ever."""
    key = "sk-proj-abcdefghijklmnopqrstuv"
    url = provider.openai_url.replace("://", "://ann:pass-word-7@")
    headers, query = {"x-team": "team-secret-7"}, {"token": "tok-en-7"}
    with openai.OpenAI(api_key=key, base_url=url, default_headers=headers, default_query=query) as client:
        client.chat.completions.create(
            model="gpt-5", messages=QUESTION, extra_headers={"x-other": "other-secret-7"},
            extra_body={"api_key": key, "proxy": "http://bob:pass-word-8@proxy:1", "temperature": 0.5},
        )  # fmt: skip
        provider.reply(status=401, message=f"Incorrect API key provided: {key}.")
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="gpt-5", messages=QUESTION)
    assert provider.requests[0].headers["authorization"].startswith("Basic "), "the request is as without us"
    kept = b"".join(encode(record) for record in seen.everything).decode()
    text = "".join(span.to_json() for span in seen.spans)
    for secret in (key, "pass-word", "tok-en-7", "secret-7"):
        assert secret not in kept
        assert secret not in text
    assert seen.records[0].request.params["temperature"] == 0.5
    assert seen.records[0].server_address == "127.0.0.1"


FIELDS: dict[str, Any] = {
    "application": "shop", "environment": "test", "organization_id": "o1", "project_id": "p1", "user_id": "u1",
    "workflow_id": "w1", "workflow_name": "checkout", "run_id": "r1", "step": "plan", "step_index": 3,
    "prompt_id": "pr1", "prompt_version": 2, "purpose": "summarization", "agent_id": "a1",
}  # fmt: skip


@pytest.mark.parametrize("api", APIS)
def test_metadata_around_a_call_is_on_its_span_and_in_its_record(
    api: str, mode: Mode, run: Run, seen: Captured
) -> None:
    """Every field that is set around a call, its purpose among them, and free ones collected in `extra`."""

    async def body() -> None:
        with callspan.metadata(**FIELDS, tags=["x", "y"], extra={"a": {"b": 1}}):
            await response_of(mode, api)

    run(body)
    attributes = shown(seen)
    assert {name: attributes[f"llm.meta.{name}"] for name in FIELDS} == FIELDS
    assert json.loads(attributes["llm.meta.extra"]) == {"a": {"b": 1}, "tags": ["x", "y"]}
    assert the_call(seen).metadata == {**FIELDS, "tags": ["x", "y"], "extra": {"a": {"b": 1}}}


def test_of_three_levels_that_say_the_same_the_innermost_wins(mode: Mode, run: Run, seen: Captured) -> None:
    """Three levels set one key, each another one besides: the innermost word counts, the others are kept."""

    async def body() -> None:
        with (
            callspan.metadata(run_id="outer", application="shop"),
            callspan.metadata(run_id="middle", workflow_id="w1"),
            callspan.metadata(run_id="inner", step="plan", workflow_id=None),
        ):
            await response_of(mode, "chat_completions")

    run(body)
    assert the_call(seen).metadata == {"run_id": "inner", "application": "shop", "workflow_id": "w1", "step": "plan"}


@pytest.mark.parametrize(("given", "service"), [({}, "shop"), ({"service": "given"}, "given")])
def test_the_source_is_the_service_that_was_set_or_the_well_known_variable(
    given: dict[str, str], service: str, mode: Mode, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    instrumented: Callable[..., Handle], reading: Callable[[object], Reader],
) -> None:  # fmt: skip
    """Only OTEL_SERVICE_NAME is set: records name it as their source; a setting of one's own comes first."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    handle = instrumented(stores=f"sqlite:///{tmp_path}/calls.db", **given)
    run(lambda: response_of(mode, "chat_completions"))
    assert handle.force_flush(60_000)
    (record,) = reading(tmp_path / "calls.db").calls()
    assert record.service == service


@pytest.mark.parametrize("content", ["full", "metadata"])
def test_marks_of_prompt_caching_are_kept(content: Any, mode: Mode, run: Run) -> None:
    """`cache_control` on a message survives in what is shown of the prompt, if anything is shown of it."""
    marked = [{"role": "user", "content": [{"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}]}]
    with capture(content=content, llm_raw=True) as seen:
        run(lambda: response_of(mode, "messages", messages=marked))
        attributes = shown(seen)
    if content == "full":
        assert json.loads(attributes["llm.prompts.raw"]) == marked
    else:
        assert "llm.prompts.raw" not in attributes


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
