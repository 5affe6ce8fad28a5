"""Secrets and media: no data leaving the process contains a secret, even if echoed, and media go by reference."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from tests.support.receiver import OtlpReceiver

import callspan
from callspan import open_store
from callspan.testing import ScriptedProvider

KEY = "sk-proj-SECRETKEYSECRETKEY0123456789"
ANTHROPIC_KEY = "sk-ant-api03-SECRETKEYSECRETKEY9876543210"
HEADER = "header-SECRETVALUE-5150"
USER, PASSWORD = "urluser-SECRET", "urlpass-SECRET-42"
ARGUMENT = "argument-SECRETWORD-77"
ALWAYS = (KEY, ANTHROPIC_KEY, HEADER, PASSWORD, USER)
"""What is nowhere, whatever the settings."""
NAMED = "name-SECRETWORD-88"
"""What the application itself says by names and metadata, which no content setting takes away."""
_ANY = re.compile("|".join(map(re.escape, (*ALWAYS, ARGUMENT, NAMED))))


def mask(text: str) -> str:
    """An application's redactor: masks its own words wherever they are."""
    return _ANY.sub("[mine]", text)


class Outside:
    """Everything that leaves the process, as bytes."""

    def __init__(self, place: Path, receiver: OtlpReceiver, log: pytest.LogCaptureFixture) -> None:
        self.place = place
        self.receiver = receiver
        self.log = log

    def found(self, *secrets: str) -> list[tuple[str, str]]:
        """Where which of the secrets is, plain or in base64."""
        places = {f"otlp {number}": body for number, body in enumerate(self.receiver.raw)}
        places |= {str(path): path.read_bytes() for path in self.place.rglob("*") if path.is_file()}
        places["log"] = self.log.text.encode()
        return [
            (secret, name)
            for secret in secrets
            for form in (secret.encode(), base64.b64encode(secret.encode()))
            for name, body in places.items()
            if form in body
        ]


@pytest.fixture
def outside(tmp_path: Path, receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> Outside:
    caplog.set_level(logging.DEBUG, logger="callspan")
    return Outside(tmp_path, receiver, caplog)


def everything(outside: Outside, provider: ScriptedProvider, **settings: Any) -> TracerProvider:
    """Make calls that carry secrets everywhere, and have all of them delivered."""
    tracer_provider = outside.receiver.tracer_provider()
    stores = [f"sqlite:///{outside.place / 'a.db'}", f"jsonl:///{outside.place / 'b.jsonl'}"]
    handle = callspan.instrument(stores=stores, tracer_provider=tracer_provider, **settings)
    try:
        _calls(provider)
        assert handle.force_flush(20_000)
    finally:
        handle.uninstrument()
        tracer_provider.shutdown()
    return tracer_provider


def _calls(provider: ScriptedProvider) -> None:
    host = provider.url.removeprefix("http://")
    messages: Any = [{"role": "user", "content": "Hi"}]
    echo = f"Incorrect API key provided: {KEY}. Authorization: Bearer {KEY}; http://{USER}:{PASSWORD}@{host}/v1"
    with (
        callspan.metadata(user_id=NAMED, extra={"who": NAMED}),
        callspan.session(NAMED, user_id=NAMED, metadata={"of": NAMED}) as session,
        callspan.timestep() as step,
    ):
        internal: Any = {"default_headers": {"x-internal": HEADER}}
        url = f"http://{USER}:{PASSWORD}@{host}/v1"
        with openai.OpenAI(api_key=KEY, base_url=url, max_retries=1, **internal) as client:
            provider.reply(tool_calls=[{"name": "login", "arguments": {"password": ARGUMENT}, "id": "call_1"}])
            client.chat.completions.create(model="gpt-5", messages=messages, extra_headers={"x-api-key": HEADER})
            provider.reply(text="as it is", chunk_delay_s=0.0)
            list(client.chat.completions.create(model="gpt-5", messages=messages, stream=True))
            provider.reply(status=401, message=echo)
            with pytest.raises(openai.AuthenticationError):
                client.chat.completions.create(model="gpt-5", messages=messages)
            provider.reply(text=f"drawn {ARGUMENT}")
            client.images.generate(model="gpt-image-1", prompt=f"draw {ARGUMENT}")
            provider.reply(text=f"heard {ARGUMENT}")
            sound: Any = (f"{ARGUMENT}.wav", b"sound")
            client.audio.transcriptions.create(model="whisper-1", file=sound, prompt=f"hear {ARGUMENT}")
            client.audio.speech.create(model="tts-1", voice="alloy", input=f"say {ARGUMENT}")
            provider.reply(status=500, message=echo, retry_after_s=0.001)
            provider.reply(text="after a retry")
            server: Any = {"server_label": "s", "server_url": f"https://{USER}:{PASSWORD}@mcp.test/x"}
            keys: Any = {"authorization": KEY, "headers": {"x": HEADER}}
            client.responses.create(model="gpt-5", input="Hi", tools=[{"type": "mcp", **server, **keys}])
        options: Any = {"base_url": provider.anthropic_url, "max_retries": 0, **internal}
        with anthropic.Anthropic(api_key=ANTHROPIC_KEY, **options) as claude:
            provider.reply(status=400, message=f"x-api-key: {ANTHROPIC_KEY}")
            with pytest.raises(anthropic.BadRequestError):
                claude.messages.create(model="claude-test", max_tokens=9, messages=messages)
        with step.tool("login", arguments={"password": ARGUMENT}) as tool:
            tool.result = {"said": ARGUMENT}
        with pytest.raises(ValueError, match="SECRETWORD"), step.tool("login") as tool:
            raise ValueError(f"{ARGUMENT} is wrong")
        session.message(ARGUMENT, kind="note")
        step.action({"typed": ARGUMENT})
        step.environment({"screen": ARGUMENT}, reward=1.0)
    with pytest.raises(KeyError), callspan.session("fails"), callspan.timestep():
        raise KeyError(ARGUMENT)


@pytest.mark.parametrize("content", ["full", "metadata", "off"])
def test_keys_headers_and_url_credentials_are_nowhere_whatever_the_settings(
    outside: Outside, provider: ScriptedProvider, content: str
) -> None:
    """The application's own words are kept, so that the search is known to look in the right places."""
    everything(outside, provider, content=content, attempt_spans=True, log_events=True)
    assert outside.receiver.spans
    assert (outside.place / "b.jsonl").stat().st_size > 1000
    assert outside.found(*ALWAYS) == []
    for word in (ARGUMENT, NAMED) if content == "full" else (NAMED,):
        kinds = {Path(name).suffix or name.split()[0] for _, name in outside.found(word)}
        assert {"otlp", ".jsonl"} <= kinds


def test_with_a_redactor_what_tools_and_the_environment_echo_is_nowhere_either(
    outside: Outside, provider: ScriptedProvider
) -> None:
    every = ("llm", "gen_ai", "openinference")
    everything(
        outside, provider, redact=callspan.redact_texts(mask), log_events=True, attempt_spans=True, vocabularies=every
    )
    assert outside.receiver.spans
    assert outside.found(*ALWAYS, ARGUMENT, NAMED) == []
    kept = (outside.place / "b.jsonl").read_bytes()
    assert b"redactor_failed" not in kept, "it was redacted, not lost"
    assert kept.count(b"[mine]") > 10
    assert b'"kind":"call"' in kept
    assert b"as it is" in kept, "what is no secret is there"


PIXELS = bytes(range(256)) * 200
ENCODED = base64.b64encode(PIXELS).decode()
DIGEST = hashlib.sha256(PIXELS).hexdigest()


def ask(provider: ScriptedProvider, sdk: str, content: list[Any]) -> None:
    """Make one call of either SDK with this content."""
    messages: Any = [{"role": "user", "content": content}]
    if sdk == "anthropic":
        with anthropic.Anthropic(api_key="k", base_url=provider.anthropic_url) as claude:
            claude.messages.create(model="claude-test", max_tokens=9, messages=messages)
        return
    with openai.OpenAI(api_key="k", base_url=provider.openai_url) as client:
        if sdk == "responses":
            client.responses.create(model="gpt-5", input=messages)
        else:
            client.chat.completions.create(model="gpt-5", messages=messages)


MEDIA: list[tuple[str, str, dict[str, Any]]] = [
    ("openai", "image/png", {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{ENCODED}"}}),
    ("openai", "audio/wav", {"type": "input_audio", "input_audio": {"data": ENCODED, "format": "wav"}}),
    ("responses", "application/pdf",
     {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{ENCODED}"}),
    ("anthropic", "image/png",
     {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ENCODED}}),
]  # fmt: skip


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(("sdk", "mime", "part"), MEDIA)
def test_media_goes_by_reference_to_receiver_and_store(
    receiver: OtlpReceiver,
    provider: ScriptedProvider,
    tmp_path: Path,
    sdk: str,
    mime: str,
    part: Any,
    inline: bool,
) -> None:
    """Or whole to the store alone, where that is set."""
    kind = {"openai": "text", "responses": "input_text", "anthropic": "text"}[sdk]
    store, tracing = f"sqlite:///{tmp_path / 'a.db'}", receiver.tracer_provider()
    handle = callspan.instrument(stores=store, tracer_provider=tracing, media="inline" if inline else "reference")
    ask(provider, sdk, [{"type": kind, "text": "What is this?"}, part])
    handle.uninstrument()
    tracing.shutdown()
    piece, whole = ENCODED[1000:1200].encode(), ENCODED.encode()
    assert whole in provider.requests[0].content, "the provider got it whole"
    with closing(open_store(store)) as reader:
        (call,) = reader.calls()
        body = bytes(call.request.body)
    assert (whole in body, piece in body, DIGEST.encode() in body) == (inline, inline, not inline)
    attributes = receiver.spans[-1].attributes
    parts = json.loads(attributes["gen_ai.input.messages"])[0]["parts"]
    assert parts[0] == {"type": "text", "content": "What is this?"}
    assert parts[1]["uri"] == f"urn:sha256:{DIGEST}"
    assert (parts[1]["mime_type"], parts[1]["size"]) == (mime, len(PIXELS))
    assert "callspan.truncated_bytes" not in attributes, "nothing was cut: what it stands for is elsewhere"
    assert not any(piece in each for each in receiver.raw)
