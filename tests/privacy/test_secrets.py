"""Secrets are masked under every content setting."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest
from tests.support.records import made, raw, session

from callspan import Settings, redact_texts
from callspan.cli.command_context import _MAX_MESSAGE, _first_line
from callspan.process.content import UNREADABLE, decoded
from callspan.process.processors import caller_processors
from callspan.process.redaction import redacted
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
from callspan.providers.hosts import provider_of
from callspan.record.content_level import without_content
from callspan.record.plain_json import plain
from callspan.records import CallRecord, ErrorInfo, EventRecord, Record, Request, Response, encode
from callspan.safe_urls import without_passwords
from callspan.sdk_profiles import PROFILES

PREFIXES = ["ek", "gsk", "hf", "ghp", "gho", "ghs", "r8", "pplx", "xai", "csk", "tvly", "nvapi", "fw", "whsec"]
KEYS = [
    *(f"{prefix}{joint}abcdefgh12345678" for prefix in PREFIXES for joint in "_-"),
    "sk-proj-abcdefghijklmnop1234567890",
    "sk-ant-api03-abcdefghijklmnop",
    "sk-or-v1-0123456789abcdef",
    "AIzaSyA1234567890abcdefghijk",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "ya29.a0AfH6SMBx-1234567890_abc",
    "github_pat_11ABCDEFG0123456789abc",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefgh",
]
KEY_FORMS = ("{}", "Incorrect key: {} is wrong", '{{"key": "{}"}}', "({})")
BLANKS = [chr(code) for code in range(0x3100) if chr(code).isspace()]
LABELLED = (
    "Authorization: Bearer «abc.def-123»",
    "https://h/?X-Amz-Signature=«ab»&X-Amz-Credential=«c»",
    "https://h/?X-Amz-Security-Token=«abc»",
    "https://h/?token=«abc»&design=x&encode=y",
    "passwd=«hunter2x», private_key: «abcdefgh»",
    "session_token=«abcdefgh» AWS_SECRET_ACCESS_KEY=«abcdefgh»",
    "MY_API_KEY=«abcdefgh» x-goog-api-key: «abcdefgh»",
    "«xoxb-1234567890-abcdef» «sk_live_abcdefgh1234»",
    "«-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY-----» x",
    "the token 'abcdefgh' of the answer, 512 tokens: too many",
    "token: «abcdefgh»",
    "sent:\r\n> Token: «abcdefgh»\r\n> a: b",
    "no: x-vault-token: «abcdefgh.»",
    "{'X-Custom-Token': '«abcdefgh»'}",
    "Unexpected token: identifier",
    "'x-api-key': '«abcdef123456»'",
    "api_key=«abcdef123456»&x=1",
    "bearer «abcdef123456»",
    "GET https://host/v1?key=«abc»&x=1",
    "https://host/?access_token=«abc»",
    "Basic «dXNlcjpwdw==» refused",
    "Authorization: Token «abcdef123456»",
    "authorization: ApiKey «abcdef123456»",
    "Authorization=Basic «dXNlcjpwdw==»",
    "client_secret: «abcdef123456»",
    "access-token = «abcdef123456»",
    "password: «hunter2x»",
    "API key provided: «abcdef123456.»",
    "password: short",
    "https://host/?a=1&sig=«abc»&b=2",
    "https://host/?signature=«abc»#f",
    "https://host/?code=«abc»",
    "https://host/?password=«abc»",
    "https://host/?secret=«abc»",
    "https://host/?subscription-key=«abc»",
    "no secret in here: rate limit of 5 reached",
)
TEXTS = [
    *(form.format(f"«{key}»") for key in KEYS for form in KEY_FORMS),
    # Words that only begin like a key.
    *("sk-short", "hf_short", "AKIA1234", "eyJhbGci.short", "github_pat_short", "task-force-nine"),
    *(f"sent:\n{blank}token: «abcdefgh»" for blank in BLANKS),
    *LABELLED,
]
"""Texts in which the marked parts are secrets."""


@pytest.mark.parametrize("text", TEXTS)
def test_keys_and_labelled_values_are_masked_in_any_text(text: str) -> None:
    assert mask_text(re.sub("[«»]", "", text)) == re.sub("«[^»]*»", MASK, text)


def test_credentials_of_urls_are_taken_out() -> None:
    assert mask_text("http://my-secret:hunter2@host/v1") == "http://host/v1"
    assert mask_text("https://user:hunter2@host/v1 failed") == "https://host/v1 failed"


SECRET_NAMES = """
    api_key apiKey x-api-key Authorization Proxy-Authorization authorization_token auth_token access_token
    refresh_token bearer_token azure_ad_token aws_session_token aws_secret_key aws_secret_access_key secret
    secret_key client_secret webhook_secret password credentials cookie Set-Cookie token private_key passwd
    passphrase session_token x-goog-api-key subscription_key Ocp-Apim-Subscription-Key X-Amz-Signature
    X-Amz-Security-Token x-amz-credential pwd DB_PWD dbPwd bearer signing_key signingKey otp smsOtp
    accessKeyId AWS_ACCESS_KEY_ID webhookSigningKey encryption-key personal_access_token csrfToken jwt
    passcode api_keys sas OPENAI_API_KEY my_service_api_key db_password id_token connection_string
    x-functions-key secrets passwords dbPasswords cookies
"""
ALL_NAMES = [*SECRET_NAMES.split(), *(name.upper() for name in SECRET_NAMES.split() if name.islower())]
HARMLESS_NAMES = """
    key tokens prompt_cache_key max_tokens secretary api cookies_eaten option pwdx key_id bearers adopt primary_key
    foreign_key_id keyboard
"""
HEADERS = {"X-Anything": MASK, "X-Number": MASK}
SETTINGS: list[tuple[dict[str, object], dict[str, object] | None]] = [
    *(({name: "plain", "deep": [{name: "plain"}]}, {name: MASK, "deep": [{name: MASK}]})
      for name in ALL_NAMES),
    *(({name: ["plain", 3, {"id": 7, name: ["plain"]}]}, {name: [MASK, MASK, {"id": 7, name: [MASK]}]})
      for name in SECRET_NAMES.split()),
    *(({name: {"X-Anything": "v", "X-Number": 3}}, {name: HEADERS})
      for name in ("headers", "extra_headers", "default_headers", "Extra-Headers", "http_headers")),
    ({"domain_secrets": [{"value": "plain", "port": 3}]}, {"domain_secrets": [{"value": MASK, "port": 3}]}),
    ({"cookies": {"sid": "plain"}, "mode": "x"}, {"cookies": {"sid": MASK}, "mode": "x"}),
    ({"type": "api_key", "key": "plain"}, {"type": "api_key", "key": MASK}),
    *(({name: "X-Api-Key", "value": "plain"}, {name: "X-Api-Key", "value": MASK}) for name in ("name", "key")),
    ({"properties": {"password": "plain"}}, {"properties": {"password": MASK}}),
    *(({name: {"headers": {"type": "object"}, "Credentials": {"$ref": "#"}, "api_key": {"title": "Key"}}}, None)
      for name in ("properties", "$defs", "definitions")),
    ({"base_url": "https://u:p@host/v1?api-key=z&a=1"}, {"base_url": f"https://host/v1?api-key={MASK}&a=1"}),
    ({"type": "mcp", "server_url": "https://u:p@mcp.example.com/s/4f9d0c7e-1b/mcp/?x=1#4f9d"},
     {"type": "mcp", "server_url": f"https://mcp.example.com/s/{MASK}/mcp/?x={MASK}#{MASK}"}),
    *(({name: "plain"}, None) for name in HARMLESS_NAMES.split()),
    ({"headers": ["X-Anything"]}, None),
    ({"type": "mcp", "server_url": "https://mcp.example.com:8443/v1/teams/sse"}, None),
    ({"type": "image", "url": "https://cdn.test/4f9d0c7e1b.png"}, None),
    ({"api_key": MASK, "api_key_count": 3, "password": False, "url": "https://host/v1?a=1", "many": [1, "x"]}, None),
    ({"max_tokens": 5, "token": 7, "pinned": 3, "spin": 2, "logit_bias": {"50256": -100}}, None),
]  # fmt: skip
"""Settings, and what they are masked; None for those without a secret."""


@pytest.mark.parametrize(("settings", "masked"), SETTINGS)
def test_settings_are_masked_by_name_and_url_and_others_are_the_same_object(
    settings: dict[str, object], masked: dict[str, object] | None
) -> None:
    before, found = repr(settings), mask_settings(settings)
    assert found == (masked or settings)
    assert (found is settings) == (masked is None)
    assert mask_settings(found) is found
    assert repr(settings) == before, "what was given is not changed"


@pytest.mark.parametrize("name", ["otp", "smsOtp", "TOTP", "pin", "cardPin", "passcode", "password"])
def test_a_number_of_a_secret_name_is_masked_as_a_text_is(name: str) -> None:
    assert mask_settings({"deep": [{name: 481516, "user": "u"}]}) == {"deep": [{name: MASK, "user": "u"}]}
    error = ErrorInfo(kind="auth", type="x", body={name: 481516, "status": 401})
    assert masked_error(error).body == {name: MASK, "status": 401}
    assert mask_settings(switch := {name: True}) is switch, "a switch is no secret"


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
def test_every_text_of_an_error_is_masked(field: str, value: object, masked: object) -> None:
    error = ErrorInfo(kind="auth", type="x", **{field: value})
    processed = kept(session(error=error)).error
    assert processed == masked_error(error)
    assert getattr(processed, field) == masked
    assert (processed.kind, processed.type) == ("auth", "x")


def kept(record: Record, **settings: Any) -> Any:
    return caller_processors(Settings(**settings)).process(record).record


TOOL = {"type": "mcp", "server_label": "s"}
GUARDED = {"tools": [{**TOOL, "headers": {"X-Key": "plainsecret"}}]}
CREDENTIALS: list[tuple[str, dict[str, Any]]] = [
    ("responses", GUARDED),
    ("responses", {"tools": [{**TOOL, "authorization": "plainsecret"}]}),
    ("responses", {"tools": [{**TOOL, "server_url": "https://mcp.test/s/a1plainsecretZ9/mcp"}]}),
    ("responses", {"tools": [{**TOOL, "server_url": "https://mcp.test/sse#plainsecret"}]}),
    ("responses", {"tools": [{**TOOL, "signingKey": "plainsecret", "token": "plainsecret"}]}),
    ("chat_completions", {"tools": [{**TOOL, "authorization": "plainsecret"}]}),
    ("chat_completions", {"tools": [{**TOOL, "server_url": "https://u:plainsecret@h/mcp"}]}),
    ("chat_completions", {"functions": [{"name": "f", "api_key": "plainsecret"}]}),
    ("chat_completions", {"tools": [{**TOOL, "secrets": ["plainsecretZ9"]}]}),
    ("messages", {"mcp_servers": [{"name": "s", "authorization_token": "plainsecret"}]}),
    ("messages", {"mcp_servers": [{"type": "url", "name": "s", "url": "https://mcp.test/a1plainsecretZ9"}]}),
    ("messages", {"mcp_servers": [{"type": "url", "name": "s", "url": "https://mcp.test/sse?k=plainsecret"}]}),
]


@pytest.mark.parametrize(("api", "setting"), CREDENTIALS)
def test_credentials_are_masked_in_the_body_and_content_stays_exact(api: str, setting: dict[str, Any]) -> None:
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
def test_each_name_alone_is_found_in_a_tool(name: str) -> None:
    value = {"X-Key": "plainsecret"} if name.endswith("headers") else "plainsecret"
    found = kept(
        made(api="responses", request=Request(tool_names=["s"], body=raw({"tools": [{"env": {name: value}}]})))
    )
    assert b"plainsecret" not in encode(found)


LOGPROBS = {"token": "Hello", "logprob": -0.1, "top_logprobs": [{"token": "Hi", "logprob": -2}]}
"""Pieces of text, which are no secrets though they are called so."""


@pytest.mark.parametrize(("sent", "sides"), [(None, ["response.body"]), (GUARDED, ["request.body", "response.body"])])
def test_tools_that_an_answer_repeats_are_masked_and_its_pieces_of_text_stay(sent: Any, sides: list[str]) -> None:
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


SIZES: Final = (10_000, 40_000)
"""Lengths of texts."""
NOISE_S: Final = 0.02
SEEDS: Final = (
    # The beginnings of secrets and labels, and what nearly is one.
    "eyJ", "eyJaaaaaaaaa.", "eyJ-", "sk-", "AKIA", "bearer  ", "password ", "x-token", "api key provided ", "data:",
    "-----BEGIN PRIVATE KEY-----", "X-X-X-", "token: ", ">\n", "?a=", "&token", "eyJaaaaaaaa.aaaaaaaa-", "eyJa.",
    "sk-a ", 'password   "', "bearer ", "://a:", "?key", "&-token=", "gsk_", "xoxb-", "-----BEGIN A B C ", "ya29.",
    "Authorization: Bearer ", "secretsecret", "a.b-c_", "sk_live_", "Cookie:", "://", "a:@", "http://a",
    # What repetitions are made of.
    "bedrock.", "a", "A", "a ", " ", "\t", "\n", "\r\n", " \n", ".", "-", "_", "=", ":", '"', "'", "\\", "a-", "a_",
    "\ud800", "é", "exceed", "prompt is too ",
)  # fmt: skip
USES: Final[tuple[Callable[[str], object], ...]] = (
    mask_text,
    without_passwords,
    lambda text: mask_settings({"server_url": f"https://{text}", text: text}),
    lambda text: classify(400, text, text, text, text),
    lambda text: provider_of("OpenAI", text, PROFILES["openai"]),
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
def test_searching_takes_time_in_proportion_to_the_text(seed: str) -> None:
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
    record = session(metadata={"a": plain(value)})
    return encode(mask_record(record)).decode()


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
def test_a_secret_across_a_cut_is_not_kept_in_part(name: str, secret: str) -> None:
    bound, kept = CUTS[name]
    step = 1 if bound < MAX_MESSAGE_BYTES else 4
    for before in range(bound - len(secret) - 3, bound + 3, step):
        text = ("word " * (bound // 5 + 1))[:before] + " " + secret + " more" * 20
        assert not leaks(kept(text)), (before, kept(text)[-200:])


@pytest.mark.parametrize("where", ["metadata", "params", "body", "answer", "event"])
def test_texts_with_urls_beyond_the_bound_are_cut_and_say_so(where: str) -> None:
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


def test_a_body_that_is_not_utf_8_is_unreadable_and_loses_only_itself() -> None:
    body = msgspec.Raw(b'{"messages":[{"role":"user","content":"\xff SESAME"}],"a":"\xff"}')
    assert decoded(body) is UNREADABLE
    call = made(
        api="responses", metadata={"password": "p", "seed": 7},
        request=Request(model="m", body=body, tool_names=["t"], params={"api_key": "k", "temperature": 1}),
    )  # fmt: skip
    kept = mask_record(call)
    assert isinstance(kept, CallRecord)
    assert (kept.metadata, kept.request.params) == ({"password": MASK, "seed": 7}, {"api_key": MASK, "temperature": 1})
    bare = without_content(call, keep_outline=True)
    assert isinstance(bare, CallRecord)
    assert (bare.request.model, bare.request.roles) == ("m", ["user"])
    assert redacted(call, redact_texts(lambda text: text.replace("SESAME", "[mine]"))).metadata == {
        "password": "p",
        "seed": 7,
    }
