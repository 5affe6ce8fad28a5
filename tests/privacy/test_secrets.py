"""Secrets are masked under every content setting."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from tests.support.records import made, raw, session

from callspan import Settings, redact_texts
from callspan.cli.command_context import _MAX_MESSAGE, _first_line
from callspan.process.content import UNREADABLE, decoded
from callspan.process.processors import caller_processors
from callspan.process.redaction import redacted
from callspan.process.secret_patterns import PATTERNS
from callspan.process.secrets import (
    MASK,
    MAX_SEARCHED,
    MAX_SETTINGS_SEARCHED,
    mask_record,
    mask_settings,
    mask_text,
    masked_error,
)
from callspan.providers.error_kinds import MAX_MESSAGE_BYTES, MAX_WORD_BYTES, classify, error_info
from callspan.providers.hosts import is_own_host, provider_of
from callspan.record.codec import encode_json
from callspan.record.content_level import without_content
from callspan.record.plain_json import plain
from callspan.records import ErrorInfo, EventRecord, Record, Request, Response, encode
from callspan.runtime.safe_urls import without_passwords
from callspan.sdk_profiles import PROFILES

DATA: dict[str, Any] = json.loads(Path(__file__).with_name("secrets.json").read_text())
KEYS = [
    *(f"{prefix}{joint}abcdefgh12345678" for prefix in DATA["prefixes of keys"] for joint in "_-"),
    *DATA["keys"],
]
KEY_FORMS = ("{}", "Incorrect key: {} is wrong", '{{"key": "{}"}}', "({})")
BLANKS = [chr(code) for code in range(0x3100) if chr(code).isspace()]
TEXTS = [
    *(form.format(f"«{key}»") for key in KEYS for form in KEY_FORMS),
    *DATA["words that only begin like a key"],
    *(f"sent:\n{blank}token: «abcdefgh»" for blank in BLANKS),
    *DATA["labelled"],
]
"""Texts in which the marked parts are secrets."""


@pytest.mark.parametrize("text", TEXTS)
def test_keys_and_labelled_values_are_masked(text: str) -> None:
    assert mask_text(re.sub("[«»]", "", text)) == re.sub("«[^»]*»", MASK, text)


@pytest.mark.parametrize("number", range(len(PATTERNS)))
def test_each_pattern_masks_its_example(number: int) -> None:
    marks, pattern, replacement, example = PATTERNS[number]
    text = re.sub("[«»]", "", example)
    assert not marks or any(mark in text for mark in marks)
    assert re.sub(pattern, replacement, text) == re.sub("«[^»]*»", MASK, example).replace("ann:hunter2@", "")
    assert mask_text(text) == re.sub(pattern, replacement, text)


def test_url_credentials_are_removed() -> None:
    assert mask_text("http://my-secret:hunter2@host/v1") == "http://host/v1"
    for password in ("hunter@2", "hunter?2", "hunter#2"):
        assert mask_text(f"https://user:{password}@host/v1 failed") == "https://host/v1 failed"


SECRET_NAMES: list[str] = DATA["names"]
ALL_NAMES = [*SECRET_NAMES, *(name.upper() for name in SECRET_NAMES if name.islower())]
SETTINGS: list[tuple[dict[str, object], dict[str, object] | None]] = [
    *(({name: "plain", "deep": [{name: "plain"}]}, {name: MASK, "deep": [{name: MASK}]})
      for name in ALL_NAMES),
    *(({name: ["plain", 3, {"id": 7, name: ["plain"]}]}, {name: [MASK, MASK, {"id": 7, name: [MASK]}]})
      for name in SECRET_NAMES),
    *(({name: "plain"}, None) for name in DATA["harmless names"]),
    *((one["given"], one.get("masked")) for one in DATA["settings"]),
]  # fmt: skip
"""Settings, and what they are masked; None for those without a secret."""


@pytest.mark.parametrize(("settings", "masked"), SETTINGS)
def test_settings_are_masked_by_name_and_url(settings: dict[str, object], masked: dict[str, object] | None) -> None:
    before, found = repr(settings), mask_settings(settings)
    assert found == (masked or settings)
    assert (found is settings) == (masked is None)
    assert mask_settings(found) is found
    assert repr(settings) == before, "what was given is not changed"


@pytest.mark.parametrize("name", ["otp", "smsOtp", "TOTP", "pin", "cardPin", "passcode", "password"])
def test_number_under_a_secret_name_is_masked(name: str) -> None:
    assert mask_settings({"deep": [{name: 481516, "user": "u"}]}) == {"deep": [{name: MASK, "user": "u"}]}
    error = ErrorInfo(kind="auth", type="x", body={name: 481516, "status": 401})
    assert masked_error(error).body == {name: MASK, "status": 401}
    assert mask_settings(switch := {name: True}) is switch, "a switch is no secret"


SERVER_KEYS: Final = (
    "Zk3vQ9xLm27TbPq8RwYd4HsN",
    "9f86d081884c7d659a2feaa0c55ad015",
    "7c9e6679-7425-40de-944b-e07fc1f90ae7",
)
KEYED_SERVERS: Final[dict[str, Callable[[str], object]]] = {
    "environment": lambda key: {"tools": [{"type": "mcp", "server_url": "https://m/sse", "env": {"FOO": key}}]},
    "member of nobody's": lambda key: {
        "tools": [{"type": "mcp", "server_url": "https://m/sse", "setup": [{"as": key}]}]
    },
    "argument": lambda key: {"mcpServers": {"files": {"command": "npx", "args": ["-y", "files", key]}}},
    "environment by name": lambda key: {"mcpServers": {"files": {"command": "npx", "env": {"FOO": key}}}},
    "path, by name": lambda key: {"mcp_servers": {"search": {"url": f"https://m/{key}/sse"}}},
    "within a list": lambda key: {"x": {"mcpServers": [{"url": "https://m/sse", "environment": {"FOO": key}}]}},
    "below a secret name": lambda key: {"models": [{"credentials": {"team": {"value": [key]}}}]},
}


@pytest.mark.parametrize("key", [*SERVER_KEYS, "hunter2"])
@pytest.mark.parametrize("where", KEYED_SERVERS)
def test_keys_of_servers_are_masked_wherever_they_stand(where: str, key: str) -> None:
    if key == "hunter2" and where in ("member of nobody's", "argument"):
        pytest.skip("looks like no key")
    settings = KEYED_SERVERS[where](key)
    masked = encode_json(mask_settings(settings)).decode()
    assert key not in masked
    assert masked == encode_json(KEYED_SERVERS[where](MASK)).decode()
    assert mask_settings(mask_settings(settings)) == mask_settings(settings)


def test_words_of_servers_stay() -> None:
    server = {
        "type": "mcp", "server_label": "documents2024abc", "server_url": "https://m/sse", "require_approval": "never",
        "allowed_tools": ["search_doc1234567"], "server_description": "abcdefgh12345678",
    }  # fmt: skip
    call = {"type": "mcp_call", "name": "find", "output": "abcdefgh12345678", "arguments": "abcdefgh12345678"}
    settings = {
        "tools": [server],
        "mcp_servers": {"docs": {"url": "https://m/sse", "name": "docs123456789012"}},
        "input": [call],
    }
    assert mask_settings(settings) is settings
    assert mask_settings(prod := {"env": {"region": "eu-1"}, "environment": "prod"}) is prod


ERRORS: list[tuple[str, object, object]] = [
    ("message", "key sk-abcdefghijklm", f"key {MASK}"),
    ("param", "sk-abcdefghijklm", MASK),
    ("frames", 'client = OpenAI(api_key="sk-abcdefghijklm")', f'client = OpenAI(api_key="{MASK}")'),
    ("body", {"a": ["sk-abcdefghijklm", ("x", 3)]}, {"a": [MASK, ["x", 3]]}),
    ("body", "Bearer abcdefghijkl", f"Bearer {MASK}"),
    ("body", {"api_keys": ["plain", 3, {"id": 7}]}, {"api_keys": [MASK, MASK, {"id": 7}]}),
    ("message", "refused: token=abcdefgh1234", f"refused: token={MASK}"),
    ("frames", "login(user='u', token='abcdefgh1234')", f"login(user='u', token='{MASK}')"),
    ("message", "pwd=abcdefgh; otp=12345678", f"pwd={MASK}; otp={MASK}"),
    ("message", "{'signing_key': 'abcdefgh'}", f"{{'signing_key': '{MASK}'}}"),
    ("message", "accessKeyId=abcdefgh", f"accessKeyId={MASK}"),
]


@pytest.mark.parametrize(("field", "value", "masked"), ERRORS)
def test_error_texts_are_masked(field: str, value: object, masked: object) -> None:
    error = ErrorInfo(kind="auth", type="x", **{field: value})
    processed = kept(session(error=error)).error
    assert processed == masked_error(error)
    assert getattr(processed, field) == masked
    assert (processed.kind, processed.type) == ("auth", "x")


def kept(record: Record, **settings: Any) -> Any:
    return caller_processors(Settings(**settings)).process(record).record


GUARDED = {"tools": [{"type": "mcp", "server_label": "s", "headers": {"X-Key": "plainsecret"}}]}


@pytest.mark.parametrize("credential", DATA["credentials"], ids=str)
def test_credentials_in_bodies_are_masked_exactly(credential: dict[str, Any]) -> None:
    api, setting = credential["api"], credential["sent"]
    content = {name: [{"password": "spoken"}] for name in ("messages", "input", "prompt", "system", "instructions")}
    params = {key: value for key, value in setting.items() if key != "tools"}
    # Anthropic's servers stand beside the tools, and there need not be any.
    names = None if "mcp_servers" in setting else ["s"]
    record = made(api=api, request=Request(params=params, tool_names=names, body=raw(setting | content)))
    found = kept(record)
    assert b"plainsecret" not in encode(found)
    body = json.loads(bytes(found.request.body))
    assert {name: body[name] for name in content} == content
    assert [(note.what, note.why) for note in found.redactions] == [("request.body", "secret")]


@pytest.mark.parametrize("name", [*ALL_NAMES, "headers", "extra_headers"])
def test_secret_name_in_a_tool_is_masked(name: str) -> None:
    value = {"X-Key": "plainsecret"} if name.endswith("headers") else "plainsecret"
    found = kept(
        made(api="responses", request=Request(tool_names=["s"], body=raw({"tools": [{"env": {name: value}}]})))
    )
    assert b"plainsecret" not in encode(found)


LOGPROBS = {"token": "Hello", "logprob": -0.1, "top_logprobs": [{"token": "Hi", "logprob": -2}]}
"""Pieces of text, which are no secrets though they are called so."""


@pytest.mark.parametrize(("sent", "sides"), [(None, ["response.body"]), (GUARDED, ["request.body", "response.body"])])
def test_repeated_tools_are_masked_and_text_is_kept(sent: Any, sides: list[str]) -> None:
    """Also where another request had them, as in the answer of a background response."""
    text = {"type": "output_text", "text": "Hello", "logprobs": [LOGPROBS]}
    answer = {"output": [{"type": "message", "content": [text]}], "choices": [{"logprobs": {"content": [LOGPROBS]}}]}
    request = Request(tool_names=["s"], body=raw({**sent, "input": [{"token": "said"}]})) if sent else Request()
    found = kept(made(api="responses", request=request, response=Response(body=raw(GUARDED | answer))))
    assert b"plainsecret" not in encode(found)
    body = json.loads(bytes(found.response.body))
    assert {name: body[name] for name in answer} == answer
    assert [note.what for note in found.redactions] == sides
    assert not sent or json.loads(bytes(found.request.body))["input"] == [{"token": "said"}]


SAID: Final = "see https://ada:pw12345@host.example/x?token=abc123def"
LONG_SAID: Final = f"{SAID} {'word ' * 70_000}THE END"
ARGUMENTS: Final = {"password": "hunter22", "headers": {"a": "b"}, "user": "ada"}
CONTENTS: Final[dict[str, dict[str, Any]]] = {
    "chat_completions": {"messages": [SAID, LONG_SAID], "prediction": {"type": "content", "content": SAID}},
    "responses": {"input": SAID, "instructions": LONG_SAID, "prompt": {"id": "p", "variables": ARGUMENTS}},
    "messages": {"system": SAID, "messages": [{"content": [{"type": "tool_use", "name": "f", "input": ARGUMENTS}]}]},
    "completions": {"prompt": LONG_SAID, "suffix": SAID},
    "generate_content": {
        "systemInstruction": {"parts": [{"text": SAID}]},
        "contents": [{"parts": [{"text": LONG_SAID}, {"functionCall": {"name": "f", "args": ARGUMENTS}}]}],
    },
    "embed_content": {"requests": [{"content": {"parts": [{"text": LONG_SAID}]}}], "content": SAID},
    "predict": {"instances": [{"content": SAID, **ARGUMENTS}]},
    "interactions": {"input": [{"steps": [SAID]}], "system_instruction": LONG_SAID},
    "bidi_generate_content": {"setup": {"systemInstruction": LONG_SAID}},
    "realtime": {"session": {"instructions": LONG_SAID}},
    "converse": {
        "system": [{"text": SAID}], "messages": [{"content": [{"toolUse": {"name": "f", "input": ARGUMENTS}}]}],
    },
    "invoke_embeddings": {"inputText": LONG_SAID, "texts": [SAID]},
    "cohere_chat": {"messages": [], "documents": [{"data": {"text": LONG_SAID, **ARGUMENTS}}]},
    "cohere_chat_v1": {
        "message": SAID, "preamble": LONG_SAID, "chat_history": [{"tool_calls": [{"parameters": ARGUMENTS}]}],
        "tool_results": [{"call": {"parameters": ARGUMENTS}, "outputs": [ARGUMENTS]}],
    },
    "rerank": {"query": SAID, "documents": [LONG_SAID]},
    "ollama_generate": {"prompt": SAID, "system": LONG_SAID, "suffix": SAID},
    "text_generation": {"inputs": LONG_SAID},
    "watsonx_rerank": {"query": SAID, "inputs": [{"text": LONG_SAID}]},
    "decisions": {"questions": [SAID]},
    "POST /v1/anything": {"utterances": LONG_SAID, "turns": [LONG_SAID]},
}  # fmt: skip
"""What is said, by API: with a credential in a text, in the arguments of a tool, and longer than any setting."""


@pytest.mark.parametrize("api", CONTENTS)
def test_content_beside_a_tool_is_whole(api: str) -> None:
    tools = [{"type": "mcp", "server_label": "s", "authorization": "plainsecret"}]
    sent = {"model": "m", "tools": tools, **CONTENTS[api]}
    answer = {"response": SAID, "text": SAID, "message": {"content": [SAID]}, "output": [ARGUMENTS]}
    record = made(
        api=api, request=Request(tool_names=["s"], body=raw(sent), params={"documents": [ARGUMENTS]}),
        response=Response(body=raw({**answer, "tools": tools})),
    )  # fmt: skip
    found = kept(record)
    masked = [{**tools[0], "authorization": MASK}]
    assert json.loads(bytes(found.request.body)) == {**sent, "tools": masked}
    assert json.loads(bytes(found.response.body)) == {**answer, "tools": masked}
    assert found.request.params == record.request.params


UNKNOWN: Final = [
    ({"extra": {"api_key": "plainsecret"}}, {"extra": {"api_key": MASK}}),
    ({"authorization": "plainsecret"}, {"authorization": MASK}),
    ({"callback": "https://u:plainsecret@h/x"}, {"callback": "https://h/x"}),
    ({"large": {"text": "x" * 5000, "password": "plainsecret"}}, {"large": {"text": "x" * 5000, "password": MASK}}),
    ({"extra_headers": {"x": "plainsecret"}}, {"extra_headers": {"x": MASK}}),
    ({"headers": [["x-own", "plainsecret"], ["y", "plainsecret"]]}, {"headers": [["x-own", MASK], ["y", MASK]]}),
    ({"headers": [{"name": "x", "value": "plainsecret"}]}, {"headers": [{"name": "x", "value": MASK}]}),
    ({"headers": ["x: plainsecret", "A1plainsecretZ9x8"]}, {"headers": [MASK, MASK]}),
    ({"headers": "x: plainsecret"}, {"headers": MASK}),
    (
        {"run": {"args": ["-y", "--api-key", "plainsecret", "--port", "80"]}},
        {"run": {"args": ["-y", "--api-key", MASK, "--port", "80"]}},
    ),
    (
        {"run": {"args": ["--auth-token=plainsecret", "--header", "x:plainsecret", "-H", "y: plainsecret"]}},
        {"run": {"args": [f"--auth-token={MASK}", "--header", f"x:{MASK}", "-H", f"y:{MASK}"]}},
    ),
    ({"setup": {"tools": [{"headers": {"x": "plainsecret"}}]}}, {"setup": {"tools": [{"headers": {"x": MASK}}]}}),
]


@pytest.mark.parametrize("api", ["chat_completions", "generate_content", "POST /v1/anything"])
@pytest.mark.parametrize(("sent", "masked"), UNKNOWN, ids=str)
def test_key_in_an_unknown_member_is_masked(api: str, sent: dict[str, Any], masked: dict[str, Any]) -> None:
    """Also in one that is too large to be a parameter, of a request without tools."""
    found = kept(made(api=api, request=Request(body=raw({"model": "m", "messages": [SAID], **sent}))))
    assert json.loads(bytes(found.request.body)) == {"model": "m", "messages": [SAID], **masked}


@pytest.mark.parametrize("api", ["chat_completions", "generate_content", "converse", "POST /v1/anything"])
@pytest.mark.parametrize(("sent", "masked"), UNKNOWN, ids=str)
def test_setting_that_an_answer_repeats_under_its_name_is_masked(api: str, sent: Any, masked: Any) -> None:
    """Azure and gateways repeat what only they know, such as sources of data."""
    said = {"text": SAID, "choices": [{"message": {"content": SAID}}], "output": [ARGUMENTS]}
    request = Request(body=raw({"model": "m", "messages": [SAID], **sent}))
    found = kept(made(api=api, request=request, response=Response(body=raw({**said, **sent}))))
    assert json.loads(bytes(found.response.body)) == {**said, **masked}


LISTS: Final = ["- the password", "hunter", "--", "x", "-1", "--n=1", "-", "key"]


def test_lines_that_begin_with_a_dash_are_whole() -> None:
    settings = {"lines": LISTS, "args": ["--tokens", "5", "-v", "key"]}
    assert mask_settings(settings) == settings


SERVER: Final = "https://mcp.test/s/a1plainsecretZ9/mcp?k=plainsecret"
MASKED_SERVER: Final = f"https://mcp.test/s/{MASK}/mcp?k={MASK}"
SERVERS: Final[list[tuple[dict[str, Any], dict[str, Any]]]] = [
    ({"tools": [{"type": "mcp_server", "url": SERVER, "headers": {"A": "plainsecret"}}]},
     {"tools": [{"type": "mcp_server", "url": MASKED_SERVER, "headers": {"A": MASK}}]}),
    ({"tools": [{"mcpServers": [{"streamableHttpTransport": {"url": SERVER, "headers": {"A": "plainsecret"}}}]}]},
     {"tools": [{"mcpServers": [{"streamableHttpTransport": {"url": MASKED_SERVER, "headers": {"A": MASK}}}]}]}),
    ({"mcp_servers": [{"name": "s", "url": SERVER}]}, {"mcp_servers": [{"name": "s", "url": MASKED_SERVER}]}),
    ({"environment": {"network": {"allowlist": [{"domain": "d", "credential": "plainsecret"}]}}},
     {"environment": {"network": {"allowlist": [{"domain": "d", "credential": MASK}]}}}),
    ({"tools": [{"googleMaps": {"authConfig": {"apiKeyConfig": {"apiKeyString": "plainsecret"}}}}]},
     {"tools": [{"googleMaps": {"authConfig": {"apiKeyConfig": {"apiKeyString": MASK}}}}]}),
]  # fmt: skip


@pytest.mark.parametrize("api", ["interactions", "responses", "messages", "realtime", "POST /v1/anything"])
@pytest.mark.parametrize(("sent", "masked"), SERVERS, ids=str)
def test_credentials_that_an_answer_repeats_are_masked(api: str, sent: Any, masked: Any) -> None:
    """Also those of another request: the answer continues or fetches what that began."""
    said = {"steps": [{"content": [{"text": SAID}]}], "output": [ARGUMENTS], "session": sent}
    expected = {**said, "session": masked, **masked}
    found = kept(made(api=api, response=Response(body=raw({**said, **sent}))))
    assert json.loads(bytes(found.response.body)) == expected
    sent_found = kept(made(api=api, request=Request(body=raw({"model": "m", **sent, "input": SAID}))))
    assert json.loads(bytes(sent_found.request.body)) == {"model": "m", **masked, "input": SAID}


def test_tools_that_a_search_offers_are_masked() -> None:
    """The result of a search for tools is content, and has servers with their headers."""
    server, text = GUARDED["tools"][0], {"type": "message", "content": [{"text": SAID}]}
    items = [text, {"type": "tool_search_output", "tools": [server]}]
    masked = [text, {"type": "tool_search_output", "tools": [{**server, "headers": {"X-Key": MASK}}]}]
    request = Request(tool_names=["s"], body=raw({"input": items, "tools": []}))
    found = kept(made(api="responses", request=request, response=Response(body=raw({"output": items}))))
    assert json.loads(bytes(found.request.body))["input"] == masked
    assert json.loads(bytes(found.response.body)) == {"output": masked}


SIZES: Final = (10_000, 40_000)
"""Lengths of texts."""
NOISE_S: Final = 0.02
SEEDS: Final = [*(seed for seeds in DATA["seeds"].values() for seed in seeds), "\ud800"]
USES: Final[tuple[Callable[[str], object], ...]] = (
    mask_text,
    without_passwords,
    lambda text: mask_settings({"server_url": f"https://{text}", text: text}),
    lambda text: classify(400, text, text, text, text),
    lambda text: provider_of(("OpenAI",), text, PROFILES["openai"]),
)


def seconds(use: Callable[[str], object], text: str) -> float:
    """The least processor time of several runs."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        use(text)
        taken.append(time.process_time() - began)
    return min(taken)


@pytest.mark.parametrize("seed", SEEDS)
def test_secret_search_time_is_linear(seed: str) -> None:
    """Four times the text takes less than eight times the time, halfway from 4 to the 16 of a quadratic pattern."""
    short, long = (seed * (size // len(seed)) + "\x07" for size in SIZES)
    for use in USES:
        took = seconds(use, long)
        assert took <= NOISE_S or took <= 8 * seconds(use, short), (use, seed)


PARTS = ("a1B2c3D4e5F6g7H8i9J0k1L2m3N4", "hunter2hunter2hunter2")
"""What is secret in the texts below, in pieces of which four characters tell too much."""
SECRETS = (
    f"sk-proj-{PARTS[0]}",
    f"gsk_{PARTS[0]}",
    f"AIza{PARTS[0]}",
    f"https://user:{PARTS[1]}@host/v1",
    f"https://host/v1?api-key={PARTS[0]}",
    f"Authorization: Bearer {PARTS[0]}",
    f"password={PARTS[1]}",
    f'"api_key": "{PARTS[0]}"',
    f"eyJhbGciOiJIUzI1NiJ9.{PARTS[0]}.{PARTS[1]}",
    f"-----BEGIN PRIVATE KEY-----\n{PARTS[0]}\n-----END PRIVATE KEY-----",
)


def leaks(text: str) -> list[str]:
    """The pieces of secrets in a text."""
    return [part[at : at + 6] for part in PARTS for at in range(len(part) - 5) if part[at : at + 6] in text]


def of_provider(**fields: Any) -> str:
    return json.dumps(msgspec.to_builtins(masked_error(error_info(
        status=401, **{"body": None, "exception": None, "message": None, "request_id": None} | fields)
    )), ensure_ascii=False)  # fmt: skip


class Described:
    """An object of the application that says more of itself than is kept."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def metadata(value: object) -> str:
    return encode(mask_record(session(metadata={"a": plain(value)}))).decode()


CUTS: dict[str, tuple[int, Callable[[str], str]]] = {
    "message": (MAX_MESSAGE_BYTES, lambda text: of_provider(message=text)),
    "message of a body": (MAX_MESSAGE_BYTES, lambda text: of_provider(body={"error": {"message": text}})),
    "text of a body": (MAX_MESSAGE_BYTES, lambda text: of_provider(body=text)),
    "deep in a body": (MAX_MESSAGE_BYTES, lambda text: of_provider(body={"error": {"inner": [{"x": text}]}})),
    "a body's key": (MAX_MESSAGE_BYTES, lambda text: of_provider(body={"error": {text: 1}})),
    "code": (MAX_WORD_BYTES, lambda text: of_provider(body={"error": {"code": text}})),
    "type": (MAX_WORD_BYTES, lambda text: of_provider(body={"error": {"type": text}})),
    "parameter": (MAX_WORD_BYTES, lambda text: of_provider(body={"error": {"param": text}})),
    "request id": (MAX_WORD_BYTES, lambda text: of_provider(request_id=text)),
    "an application's error": (
        MAX_SEARCHED,
        lambda text: str(masked_error(ErrorInfo(kind="unknown", type="X", message=text)).message),
    ),
    "the description of an object": (200, lambda text: metadata(Described(text))),
    "a driver's error": (4096, without_passwords),
    "a driver's error in a command": (_MAX_MESSAGE, lambda text: _first_line(RuntimeError(text))),
}
URLS_ONLY = ("the description of an object", "a driver's error", "a driver's error in a command")
"""Where only passwords in URLs are masked."""


@pytest.mark.parametrize(
    ("name", "secret"),
    [(name, secret) for name in CUTS for secret in SECRETS if name not in URLS_ONLY or "@" in secret],
)
def test_secret_across_a_cut_is_removed_completely(name: str, secret: str) -> None:
    bound, kept = CUTS[name]
    step = 1 if bound < MAX_MESSAGE_BYTES else 4
    for before in range(bound - len(secret) - 3, bound + 3, step):
        text = ("word " * (bound // 5 + 1))[:before] + " " + secret + " more" * 20
        assert not leaks(kept(text)), (before, kept(text)[-200:])


@pytest.mark.parametrize("where", ["metadata", "params", "body", "answer", "event"])
def test_texts_with_too_many_urls_are_cut_and_marked(where: str) -> None:
    urls = [f"see https://user:{PARTS[1]}@host/{number} and more, a text of some length" for number in range(20_000)]
    settings = {"password": "p", "server_url": urls}
    body = raw({"model": "m", "tools": [settings], "messages": []})
    call = made(api="responses", request=Request(tool_names=["t"]))
    record: Any = {
        "metadata": msgspec.structs.replace(call, metadata=settings),
        "params": msgspec.structs.replace(call, request=Request(params=settings)),
        "body": msgspec.structs.replace(call, request=Request(tool_names=["t"], body=body)),
        "answer": msgspec.structs.replace(
            call, request=Request(tool_names=["t"], params=settings, body=body), response=Response(body=body)
        ),
        "event": EventRecord(event_id="e", event_type="x", time_ns=1, metadata=settings),
    }[where]
    kept = encode(mask_record(record)).decode()
    assert not leaks(kept)
    assert "[cut: " in kept
    assert kept.count("/1 and more") + kept.count("/2 and more") > 0, "what is within the bound is there"
    assert sum(len(text) for text in urls) > 4 * MAX_SETTINGS_SEARCHED


def test_body_that_is_not_utf_8_loses_only_itself() -> None:
    body = msgspec.Raw(b'{"messages":[{"role":"user","content":"\xff SESAME"}],"a":"\xff"}')
    assert decoded(body) is UNREADABLE
    call = made(
        api="responses", metadata={"password": "p", "seed": 7},
        request=Request(model="m", body=body, tool_names=["t"], params={"api_key": "k", "temperature": 1}),
    )  # fmt: skip
    kept = mask_record(call)
    assert (kept.metadata, kept.request.params) == ({"password": MASK, "seed": 7}, {"api_key": MASK, "temperature": 1})
    bare = without_content(call, keep_outline=True)
    assert (bare.request.model, bare.request.roles) == ("m", ["user"])
    assert redacted(call, redact_texts(lambda text: text.replace("SESAME", "[mine]"))).metadata == {
        "password": "p",
        "seed": 7,
    }


@pytest.mark.parametrize(
    ("host", "is_own"),
    [
        ("api.openai.com", True),
        ("europe-west4-aiplatform.googleapis.com", True),
        ("team.openai.azure.com", True),
        ("bedrock-runtime.eu-central-1.amazonaws.com", True),
        ("api.openai.com.gateway.example", False),
        ("myapi.openai.com", False),
        ("api.openai.com\n", False),
        ("a1b2.execute-api.eu-central-1.amazonaws.com", False),
        ("openrouter.ai", False),
        ("127.0.0.1", False),
        ("", False),
    ],
)
def test_answers_of_any_other_host_are_searched_for_keys(host: str, is_own: bool) -> None:
    assert is_own_host(host) is is_own
