"""Secrets are masked under every content setting."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from callspan import Settings
from callspan.process.processors import caller_processors
from callspan.process.secrets import MASK, mask_settings, mask_text, masked_error
from callspan.records import ErrorInfo, Record, Request, Response, encode
from tests.support.records import made, raw, session

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
    x-functions-key
"""
HARMLESS_NAMES = """
    key tokens prompt_cache_key max_tokens secretary api cookies_eaten option pwdx key_id bearers adopt primary_key
    foreign_key_id keyboard
"""
HEADERS = {"X-Anything": MASK, "X-Number": MASK}
SETTINGS: list[tuple[dict[str, object], dict[str, object] | None]] = [
    *(({name: "plain", "deep": [{name: "plain"}]}, {name: MASK, "deep": [{name: MASK}]})
      for name in SECRET_NAMES.split()),
    *(({name: {"X-Anything": "v", "X-Number": 3}}, {name: HEADERS})
      for name in ("headers", "extra_headers", "default_headers", "Extra-Headers")),
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


@pytest.mark.parametrize("content", ["full", "metadata", "off"])
def test_a_key_in_settings_and_error_is_in_no_byte_of_the_record(content: Any) -> None:
    key = "sk-test-0123456789abcdef"
    settings = {"api_key": "plainsecret", "headers": {"Authorization": "plainsecret"}}
    details = {"message": f"key {key}", "details": [key], "api_key": "plainsecret"}
    record = made(
        request=Request(params=settings, body=raw({"model": "m", "messages": [], **settings})),
        error=ErrorInfo(kind="auth", type="x", message=f"Incorrect API key provided: {key}", body={"error": details}),
        metadata={"password": "plainsecret", "run": 1},
    )
    found = kept(record, content=content)
    assert key.encode() not in encode(found)
    assert b"plainsecret" not in encode(found)
    assert {note.why for note in found.redactions} >= {"secret"}
    assert found.metadata["run"] == 1


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
