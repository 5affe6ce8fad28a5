"""Recorded text is untrusted: it never controls the terminal, and scripts get it unchanged."""

from __future__ import annotations

import json
import re

import anthropic
import openai
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from tests.support.commands import ask as in_process

import callspan
from callspan.testing import ScriptedProvider, capture

pytestmark = pytest.mark.usefixtures("no_settings")

EVIL = (
    "\x1b]0;owned\x07\x1b[2J\x9b31mred\x9d52;c;Zm9v\x9c \u202egnp.exe\u202c \u2066x\u2069 \x7f\b\r[bold]markup[/] end"
)
COMMANDING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in which everything a user or a model can name is hostile."""
    url = f"sqlite:///{tmp_path_factory.mktemp('hostile') / 'callspan.db'}"
    with ScriptedProvider() as provider, capture(stores=url):
        provider.reply(text=EVIL, tool_calls=[{"name": "t" + EVIL, "arguments": {EVIL: EVIL}}], model="m" + EVIL)
        provider.reply(status=400, message=EVIL, error_type="bad" + EVIL)
        with (
            openai.OpenAI(base_url=provider.openai_url, api_key="x", max_retries=0) as client,
            callspan.session("name" + EVIL, session_id="id" + EVIL, metadata={EVIL: EVIL}) as session,
            session.timestep(name="step" + EVIL) as step,
        ):
            session.observation(EVIL)
            ask = {"model": "gpt" + EVIL, "messages": [{"role": "user", "content": EVIL}], "user": EVIL}
            client.chat.completions.create(**ask)
            with step.tool("tool" + EVIL, arguments={EVIL: EVIL}) as tool:
                tool.result = EVIL
            step.event("kind" + EVIL, {EVIL: EVIL}, name=EVIL, error=EVIL)
            step.environment(EVIL, reward=1)
            session.reward(1, objective=EVIL, source=EVIL, annotation=EVIL, label=EVIL)
            with pytest.raises(openai.BadRequestError):
                client.chat.completions.create(**ask)
            session.outcome(status="odd" + EVIL)
    return url


@pytest.mark.parametrize(
    "command", ["sessions", "calls", "show last", "stats", "stats --by session", "calls --rewards", "show CALL"]
)
def test_control_characters_never_reach_the_terminal(store: str, command: str) -> None:
    for call in in_process("--store", store, "calls", "--json").json:
        answer = in_process("--store", store, *command.replace("CALL", call["call_id"]).split())
        assert answer.code == 0
        assert not COMMANDING.search(answer.out)
        assert "end" in answer.out or "…" in answer.out


def test_markup_is_printed_as_text(store: str) -> None:
    call = in_process("--store", store, "calls", "--no-failed", "--json").json[0]
    assert "[bold]markup[/]" in in_process("--store", store, "show", call["call_id"]).out


def test_json_output_round_trips_hostile_text(store: str) -> None:
    for command in (["calls"], ["show", "last"], ["sessions"], ["stats"], ["stats", "--by", "session"]):
        assert not COMMANDING.search(in_process("--store", store, *command, "--json").out)
    assert in_process("--store", store, "sessions", "--json").json[0]["name"] == "name" + EVIL
    call = in_process("--store", store, "calls", "--no-failed", "--json").json[0]
    record = in_process("--store", store, "show", call["call_id"], "--json").json["record"]
    assert record["conversation"]["input"][0]["parts"][0]["text"] == EVIL


def test_oversized_numbers_lose_only_themselves(
    provider: ScriptedProvider, client: openai.OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    """As OTLP and the stores hold integers: one that is larger is unknown, and the other facts of the call stay."""
    huge = 10**30
    answer = {
        "id": "c", "object": "chat.completion", "created": huge, "model": "m",
        "choices": [{"index": huge, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi."}}],
        "usage": {"prompt_tokens": huge, "completion_tokens": 2, "total_tokens": huge},
    }  # fmt: skip
    provider.reply(raw=answer)
    with capture() as seen:
        client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "Hello"}], max_tokens=huge, seed=huge, n=-huge,
            extra_body={"top_k": huge},
        )  # fmt: skip
    (record,) = seen.records
    assert (record.text, record.usage.input_tokens, record.usage.output_tokens) == ("Hi.", None, 2)
    shown = {name: value for name, value in (seen.spans[0].attributes or {}).items() if isinstance(value, int)}
    assert shown["gen_ai.usage.output_tokens"] == 2
    assert not [name for name, value in shown.items() if abs(value) >= 2**63]
    encode_spans(seen.spans)
    assert not caplog.records


def test_lone_surrogates_lose_no_span(
    provider: ScriptedProvider, client: openai.OpenAI, claude: anthropic.Anthropic, caplog: pytest.LogCaptureFixture
) -> None:
    """A lone surrogate in a name, status or event fails the export of all spans that are sent with it."""
    lone, messages = "\ud800", [{"role": "user", "content": "Hello"}]
    counted = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    message = {"role": "assistant", "content": lone}
    answers = (
        {"id": lone, "object": "chat.completion", "model": lone, "service_tier": lone, "system_fingerprint": lone,
         "choices": [{"index": 0, "finish_reason": lone, "message": message}], "usage": counted},
        {"id": lone, "object": "chat.completion", "model": lone, "choices": [], "usage": counted},
        {"id": lone, "object": "response", "model": lone, "status": lone, "output": [], "usage": counted},
        {"id": lone, "type": "message", "model": lone, "role": "assistant", "stop_reason": lone,
         "content": [{"type": "text", "text": lone}], "usage": {"input_tokens": 1, "output_tokens": 1}},
    )  # fmt: skip
    for answer in answers:
        provider.reply(raw=json.dumps(answer).encode())
    wrong = {"error": {"message": lone, "type": lone, "code": lone, "param": lone}}
    provider.reply(raw=json.dumps(wrong).encode(), status=400)
    with (
        capture() as seen,
        callspan.session(lone, session_id=lone, user_id=lone, metadata={lone: lone}) as session,
        session.timestep(name=lone) as step,
    ):
        client.chat.completions.create(model="m", messages=messages)
        client.chat.completions.create(model="m", messages=messages)
        client.responses.create(model="m", input="Hello")
        claude.messages.create(model="m", messages=messages, max_tokens=1)
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="m", messages=messages)
        with pytest.raises(UnicodeEncodeError):
            client.chat.completions.create(model=lone, messages=messages, user=lone)
        with callspan.metadata(user_id=lone), callspan.record_call(provider=lone, client=lone, model=lone) as call:
            call.request({"model": lone, "messages": [{"role": "user", "content": lone}]})
            call.response(answers[0])
        with step.tool(lone, arguments={lone: lone}) as tool:
            tool.result = lone
        step.event(lone, {lone: lone}, name=lone, error=lone)
        step.environment(lone, reward=1)
        session.reward(1, objective=lone, source=lone, annotation=lone, label=lone)
        session.outcome(status=lone)
    assert len(seen.spans) == 10
    encode_spans(seen.spans)
    assert not caplog.records
