"""Secrets are masked under every content setting."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from callspan import Settings
from callspan.process.processors import caller_processors
from callspan.process.secrets import MASK, MAX_SEARCHED, mask_settings, mask_text, masked_error
from callspan.providers.anthropic.messages import Messages
from callspan.records import (
    CallRecord,
    ErrorInfo,
    EventRecord,
    MessageRecord,
    Record,
    Request,
    Response,
    RewardRecord,
    SessionRecord,
    Timing,
    encode,
)

_SECRETS = [
    "sk-proj-abcdefghijklmnop1234567890",
    "sk-ant-api03-abcdefghijklmnop",
    "sk-or-v1-0123456789abcdef",
    "gsk_abcdefghijklmnopqrst",
    "hf_abcdefghijklmnopqrstu",
    "AIzaSyA1234567890abcdefghijk",
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "ya29.a0AfH6SMBx-1234567890_abc",
    "github_pat_11ABCDEFG0123456789abc",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefgh",
]


_PREFIXES = ["ek", "gsk", "hf", "ghp", "gho", "ghs", "r8", "pplx", "xai", "csk", "tvly", "nvapi", "fw", "whsec"]


@pytest.mark.parametrize("prefix", _PREFIXES)
@pytest.mark.parametrize("joint", ["_", "-"])
def test_keys_are_recognised_by_their_providers_prefix(prefix: str, joint: str) -> None:
    key = f"{prefix}{joint}abcdefgh12345678"
    assert mask_text(f"key {key}.") == f"key {MASK}."


@pytest.mark.parametrize(
    "text", ["sk-short", "hf_short", "AKIA1234", "eyJhbGci.short", "github_pat_short", "task-force-nine"]
)
def test_words_that_only_begin_like_a_key_are_kept(text: str) -> None:
    assert mask_text(text) == text


@pytest.mark.parametrize("secret", _SECRETS)
@pytest.mark.parametrize("text", ["{}", "Incorrect API key provided: {}. You can", '{{"key": "{}"}}', "({})"])
def test_keys_of_providers_are_masked_in_any_text(secret: str, text: str) -> None:
    masked = mask_text(text.format(secret))
    assert secret not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {MASK}"),
        (
            "https://h/?X-Amz-Signature=ab&X-Amz-Credential=c",
            f"https://h/?X-Amz-Signature={MASK}&X-Amz-Credential={MASK}",
        ),
        ("https://h/?X-Amz-Security-Token=abc", f"https://h/?X-Amz-Security-Token={MASK}"),
        ("https://h/?token=abc&design=x&encode=y", f"https://h/?token={MASK}&design=x&encode=y"),
        ("passwd=hunter2x, private_key: abcdefgh", f"passwd={MASK}, private_key: {MASK}"),
        ("session_token=abcdefgh AWS_SECRET_ACCESS_KEY=abcdefgh", f"session_token={MASK} AWS_SECRET_ACCESS_KEY={MASK}"),
        ("MY_API_KEY=abcdefgh x-goog-api-key: abcdefgh", f"MY_API_KEY={MASK} x-goog-api-key: {MASK}"),
        ("xoxb-1234567890-abcdef sk_live_abcdefgh1234", f"{MASK} {MASK}"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIabc\n-----END RSA PRIVATE KEY----- x", f"{MASK} x"),
        (
            "the token 'abcdefgh' of the answer, 512 tokens: too many",
            "the token 'abcdefgh' of the answer, 512 tokens: too many",
        ),
        ("token: abcdefgh", f"token: {MASK}"),
        ("sent:\r\n> Token: abcdefgh\r\n> a: b", f"sent:\r\n> Token: {MASK}\r\n> a: b"),
        ("no: x-vault-token: abcdefgh.", f"no: x-vault-token: {MASK}"),
        ("{'X-Custom-Token': 'abcdefgh'}", f"{{'X-Custom-Token': '{MASK}'}}"),
        ("Unexpected token: identifier", "Unexpected token: identifier"),
        ("http://my-secret:hunter2@host/v1", "http://host/v1"),
        ("'x-api-key': 'abcdef123456'", f"'x-api-key': '{MASK}'"),
        ("api_key=abcdef123456&x=1", f"api_key={MASK}&x=1"),
        ("bearer abcdef123456", f"bearer {MASK}"),
        ("https://user:hunter2@host/v1 failed", "https://host/v1 failed"),
        ("GET https://host/v1?key=abc&x=1", f"GET https://host/v1?key={MASK}&x=1"),
        ("https://host/?access_token=abc", f"https://host/?access_token={MASK}"),
        ("Basic dXNlcjpwdw== refused", f"Basic {MASK} refused"),
        ("Authorization=Basic dXNlcjpwdw==", f"Authorization=Basic {MASK}"),
        ("client_secret: abcdef123456", f"client_secret: {MASK}"),
        ("access-token = abcdef123456", f"access-token = {MASK}"),
        ("password: hunter2x", f"password: {MASK}"),
        ("API key provided: abcdef123456.", f"API key provided: {MASK}"),
        ("password: short", "password: short"),
        ("https://host/?a=1&sig=abc&b=2", f"https://host/?a=1&sig={MASK}&b=2"),
        ("https://host/?signature=abc#f", f"https://host/?signature={MASK}#f"),
        ("https://host/?code=abc", f"https://host/?code={MASK}"),
        ("https://host/?password=abc", f"https://host/?password={MASK}"),
        ("https://host/?secret=abc", f"https://host/?secret={MASK}"),
        ("https://host/?subscription-key=abc", f"https://host/?subscription-key={MASK}"),
        ("no secret in here: rate limit of 5 reached", "no secret in here: rate limit of 5 reached"),
    ],
)
def test_labelled_values_and_url_credentials_are_masked(text: str, masked: str) -> None:
    assert mask_text(text) == masked


def test_secret_settings_are_masked_by_name_and_others_untouched() -> None:
    settings = {
        "temperature": 1,
        "api_key": "k",
        "extra_headers": {"X-Anything": "v"},
        "base_url": "https://u:p@host/v1?api-key=z&a=1",
        "servers": [{"name": "n", "authorization_token": "t"}],
        "max_tokens": 5,
    }
    assert mask_settings(settings) == {
        "temperature": 1,
        "api_key": MASK,
        "extra_headers": {"X-Anything": MASK},
        "base_url": f"https://host/v1?api-key={MASK}&a=1",
        "servers": [{"name": "n", "authorization_token": MASK}],
        "max_tokens": 5,
    }
    assert settings["api_key"] == "k", "what was given is not changed"


_NAMES = [
    *("api_key", "apiKey", "x-api-key", "Authorization", "Proxy-Authorization", "authorization_token", "auth_token"),
    *("access_token", "refresh_token", "bearer_token", "azure_ad_token", "aws_session_token", "aws_secret_key"),
    *("aws_secret_access_key", "secret", "secret_key", "client_secret", "webhook_secret", "password", "credentials"),
    *("cookie", "Set-Cookie", "token", "private_key", "passwd", "passphrase", "session_token", "x-goog-api-key"),
    *("subscription_key", "Ocp-Apim-Subscription-Key", "X-Amz-Signature", "X-Amz-Security-Token", "x-amz-credential"),
    *(
        "pwd",
        "DB_PWD",
        "dbPwd",
        "bearer",
        "signing_key",
        "signingKey",
        "otp",
        "smsOtp",
        "accessKeyId",
        "AWS_ACCESS_KEY_ID",
    ),
    *(
        "webhookSigningKey",
        "encryption-key",
        "personal_access_token",
        "csrfToken",
        "jwt",
        "passcode",
        "api_keys",
        "sas",
    ),
    *("OPENAI_API_KEY", "my_service_api_key", "db_password", "id_token", "connection_string", "x-functions-key"),
]


@pytest.mark.parametrize("name", _NAMES)
def test_a_setting_of_a_secret_name_is_masked_however_it_is_spelt(name: str) -> None:
    assert mask_settings({name: "plain", "deep": [{name: "plain"}]}) == {name: MASK, "deep": [{name: MASK}]}


@pytest.mark.parametrize("name", ["otp", "smsOtp", "TOTP", "pin", "cardPin", "passcode", "password"])
def test_a_number_of_a_secret_name_is_masked_as_a_text_is(name: str) -> None:
    settings = {name: 481516, "deep": [{name: 481516}], "mixed": {name: 481516, "user": "u"}}
    assert mask_settings(settings) == {name: MASK, "deep": [{name: MASK}], "mixed": {name: MASK, "user": "u"}}
    error = ErrorInfo(kind="auth", type="x", body={name: 481516, "status": 401})
    assert masked_error(error).body == {name: MASK, "status": 401}
    kept = {name: True, "max_tokens": 5, "token": 7, "pinned": 3, "spin": 2, "logit_bias": {"50256": -100}}
    assert mask_settings(kept) is kept, "a switch is no secret"


@pytest.mark.parametrize(
    "name",
    [
        "key",
        "tokens",
        "prompt_cache_key",
        "max_tokens",
        "secretary",
        "api",
        "cookies_eaten",
        "option",
        "pwdx",
        "key_id",
        "bearers",
        "adopt",
        "primary_key",
        "foreign_key_id",
        "keyboard",
    ],
)
def test_a_setting_of_a_harmless_name_stays(name: str) -> None:
    settings = {name: "plain"}
    assert mask_settings(settings) is settings


@pytest.mark.parametrize("name", ["headers", "extra_headers", "default_headers", "Extra-Headers"])
def test_values_of_headers_are_masked(name: str) -> None:
    masked = {name: {"X-Anything": MASK, "X-Number": MASK}}
    assert mask_settings({name: {"X-Anything": "v", "X-Number": 3}}) == masked
    assert mask_settings(masked) is masked
    assert mask_settings({name: ["X-Anything"]}) == {name: ["X-Anything"]}


def test_the_words_of_a_servers_path_stay() -> None:
    server = {"type": "mcp", "server_url": "https://mcp.example.com:8443/v1/teams/sse"}
    assert mask_settings(server) is server
    guarded = {"type": "mcp", "server_url": "https://u:p@mcp.example.com/s/4f9d0c7e-1b/mcp/?x=1#4f9d"}
    assert mask_settings(guarded) == {
        "type": "mcp", "server_url": f"https://mcp.example.com/s/{MASK}/mcp/?x={MASK}#{MASK}"
    }  # fmt: skip
    picture = {"type": "image", "url": "https://cdn.test/4f9d0c7e1b.png"}
    assert mask_settings(picture) is picture


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("refused: token=abcdefgh1234", f"refused: token={MASK}"),
        ("login(user='u', token='abcdefgh1234')", f"login(user='u', token='{MASK}')"),
        ("pwd=abcdefgh; otp=12345678", f"pwd={MASK}; otp={MASK}"),
        ("{'signing_key': 'abcdefgh'}", f"{{'signing_key': '{MASK}'}}"),
        ("accessKeyId=abcdefgh", f"accessKeyId={MASK}"),
        ("max_tokens=1234567 tokens=1234567 key=abcdefgh", "max_tokens=1234567 tokens=1234567 key=abcdefgh"),
    ],
)
def test_values_of_secret_names_are_masked_in_the_text_of_an_error(text: str, masked: str) -> None:
    error = ErrorInfo(kind="unknown", type="ValueError", message=text, frames=text)
    record = SessionRecord(session_id="s", seen_ns=1, error=error)
    kept = caller_processors(Settings()).process(record).record
    assert kept.error is not None
    assert kept.error.message == kept.error.frames == masked


def test_secrets_that_are_masked_already_are_left_alone() -> None:
    settings = {"api_key": MASK, "api_key_count": 3, "password": False, "url": "https://host/v1?a=1", "many": [1, "x"]}
    assert mask_settings(settings) is settings


@pytest.mark.parametrize("content", ["full", "metadata", "off"])
def test_key_in_settings_and_error_is_in_no_byte_of_the_record(content: str) -> None:
    key = "sk-test-0123456789abcdef"
    body = {"model": "m", "messages": [], "api_key": "plainsecret", "headers": {"Authorization": "plainsecret"}}
    record = CallRecord(
        call_id="c",
        timing=Timing(start_ns=1),
        request=Request(
            params={"api_key": "plainsecret", "headers": {"Authorization": "plainsecret"}},
            body=msgspec.Raw(json.dumps(body).encode()),
        ),
        error=ErrorInfo(
            kind="auth",
            type="authentication_error",
            message=f"Incorrect API key provided: {key}",
            body={"error": {"message": f"key {key}", "details": [key], "api_key": "plainsecret"}},
        ),
        metadata={"password": "plainsecret", "run": 1},
    )
    kept = caller_processors(msgspec.structs.replace(Settings(), content=content)).process(record).record
    assert key.encode() not in encode(kept)
    assert b"plainsecret" not in encode(kept)
    assert {note.why for note in kept.redactions} >= {"secret"}
    assert kept.metadata["run"] == 1


@pytest.mark.parametrize(
    ("api", "setting"),
    [
        ("responses", {"tools": [{"type": "mcp", "server_label": "s", "authorization": "plainsecret"}]}),
        ("responses", {"tools": [{"type": "mcp", "server_label": "s", "headers": {"X-Key": "plainsecret"}}]}),
        ("messages", {"mcp_servers": [{"name": "s", "authorization_token": "plainsecret"}]}),
        ("chat_completions", {"tools": [{"type": "mcp", "server_label": "s", "authorization": "plainsecret"}]}),
        ("chat_completions", {"tools": [{"type": "mcp", "server_url": "https://u:plainsecret@h/mcp"}]}),
        ("responses", {"tools": [{"type": "mcp", "server_url": "https://mcp.test/s/a1plainsecretZ9/mcp"}]}),
        ("responses", {"tools": [{"type": "mcp", "server_url": "https://mcp.test/sse#plainsecret"}]}),
        ("messages", {"mcp_servers": [{"type": "url", "name": "s", "url": "https://mcp.test/a1plainsecretZ9"}]}),
        ("messages", {"mcp_servers": [{"type": "url", "name": "s", "url": "https://mcp.test/sse?k=plainsecret"}]}),
        ("responses", {"tools": [{"type": "mcp", "server_label": "s", "signingKey": "plainsecret"}]}),
        ("chat_completions", {"functions": [{"name": "f", "api_key": "plainsecret"}]}),
    ],
)
def test_credentials_of_mcp_servers_are_masked_in_the_body(api: str, setting: dict[str, object]) -> None:
    body = {"messages": [{"role": "user", "content": "authorization of visitors", "password": "spoken"}]}
    params = {key: value for key, value in setting.items() if key != "tools"}
    record = CallRecord(
        call_id="c",
        api=api,
        timing=Timing(start_ns=1),
        request=Request(params=params, tool_names=["s"], body=msgspec.Raw(json.dumps(setting | body).encode())),
    )
    kept = caller_processors(Settings()).process(record).record
    assert isinstance(kept, CallRecord)
    assert b"plainsecret" not in encode(kept)
    assert json.loads(bytes(kept.request.body))["messages"] == body["messages"], "messages stay exact"


def test_tools_that_an_answer_repeats_are_masked_also_where_the_request_had_none() -> None:
    """As in the answer of a background response, which another request reads."""
    body = {"output": [], "tools": [{"type": "mcp", "server_label": "s", "headers": {"X-Key": "plainsecret"}}]}
    response = Response(body=msgspec.Raw(json.dumps(body).encode()))
    record = CallRecord(call_id="c", api="responses", timing=Timing(start_ns=1), response=response)
    assert b"plainsecret" not in encode(caller_processors(Settings()).process(record).record)


@pytest.mark.parametrize("field", [{"metadata": type("Odd", (dict,), {"__len__": lambda _: 1 // 0})()}, {"api": []}])
def test_a_record_that_no_processor_can_read_keeps_no_content(field: dict[str, Any]) -> None:
    record = CallRecord(call_id="c", timing=Timing(start_ns=1), request=Request(body=msgspec.Raw(b'"plainsecret"')))
    odd = msgspec.structs.replace(record, **field)
    assert b"plainsecret" not in bytes(caller_processors(Settings()).process(odd).record.request.body)


@pytest.mark.parametrize("field", ["messages", "input", "prompt", "system", "instructions"])
def test_content_is_exact_also_where_settings_are_masked(field: str) -> None:
    body = {"model": "m", "api_key": "plainsecret", field: [{"password": "spoken"}]}
    request = Request(params={"api_key": "plainsecret"}, body=msgspec.Raw(json.dumps(body).encode()))
    kept = (
        caller_processors(Settings())
        .process(CallRecord(call_id="c", timing=Timing(start_ns=1), request=request))
        .record
    )
    assert isinstance(kept, CallRecord)
    assert json.loads(bytes(kept.request.body)) == {**body, "api_key": MASK}
    assert [(note.what, note.why) for note in kept.redactions] == [("request.body", "secret")]


@pytest.mark.parametrize(
    ("api", "request_"),
    [
        ("responses", Request(body=msgspec.Raw(b'{"authorization":"x"}'))),
        ("responses", Request(tool_names=["s"], body=msgspec.Raw(b'{"authority":"x"}'))),
        ("responses", Request(tool_names=["s"])),
    ],
    ids=["no tools", "no credentials", "no body"],
)
def test_bodies_that_cannot_carry_credentials_are_not_read(api: str, request_: Request) -> None:
    record = CallRecord(call_id="c", api=api, timing=Timing(start_ns=1), request=request_)
    assert caller_processors(Settings()).process(record).record is record


def test_credentials_that_an_answer_repeats_are_masked_and_listed() -> None:
    tools = {"tools": [{"type": "mcp", "server_label": "s", "headers": {"Authorization": "plainsecret"}}]}
    body = msgspec.Raw(json.dumps(tools).encode())
    record = CallRecord(
        call_id="c",
        api="responses",
        timing=Timing(start_ns=1),
        request=Request(tool_names=["s"], body=body),
        response=Response(body=body),
    )
    kept = caller_processors(Settings()).process(record).record
    assert b"plainsecret" not in encode(kept)
    assert [note.what for note in kept.redactions] == ["request.body", "response.body"]


@pytest.mark.parametrize(
    ("field", "value", "masked"),
    [
        ("message", "key sk-abcdefghijklm", f"key {MASK}"),
        ("param", "sk-abcdefghijklm", MASK),
        ("frames", 'client = OpenAI(api_key="sk-abcdefghijklm")', f'client = OpenAI(api_key="{MASK}")'),
        ("body", {"a": ["sk-abcdefghijklm", ("x", 3)]}, {"a": [MASK, ["x", 3]]}),
        ("body", "Bearer abcdefghijkl", f"Bearer {MASK}"),
    ],
)
def test_every_text_of_an_error_is_masked(field: str, value: object, masked: object) -> None:
    error = ErrorInfo(kind="auth", type="x", **{field: value})
    kept = masked_error(error)
    assert getattr(kept, field) == masked
    assert (kept.kind, kept.type) == ("auth", "x")


def test_an_error_without_secrets_is_the_same_object() -> None:
    error = ErrorInfo(kind="auth", type="x", message="no", param="p", body={"a": 1})
    assert masked_error(error) is error


@pytest.mark.parametrize(
    "record",
    [
        EventRecord(event_id="e", event_type="action", time_ns=1, metadata={"password": "plainsecret"}),
        MessageRecord(message_id="m", message_type="observation", time_ns=1, metadata={"password": "plainsecret"}),
        RewardRecord(reward_id="r", time_ns=1, value=1.0, metadata={"password": "plainsecret"}),
        SessionRecord(session_id="s", seen_ns=1, metadata={"password": "plainsecret"}),
    ],
    ids=lambda record: type(record).__name__,
)
def test_metadata_of_every_kind_of_record_are_masked_and_listed(record: Record) -> None:
    kept = caller_processors(Settings()).process(record).record
    assert kept.metadata == {"password": MASK}
    assert [(note.what, note.why) for note in kept.redactions] == [("metadata", "secret")]


def test_a_body_that_only_mentions_credentials_is_unchanged() -> None:
    body = msgspec.Raw(b'{"input":"what is an authorization header?","tools":[{"type":"mcp","server_label":"s"}]}')
    request = Request(tool_names=["s"], body=body)
    record = CallRecord(call_id="c", api="responses", timing=Timing(start_ns=1), request=request)
    assert caller_processors(Settings()).process(record).record is record


def test_the_token_of_a_server_is_masked_also_where_no_tool_is_named() -> None:
    """Anthropic's connector: the servers stand beside the tools, and there need not be any."""
    server = {"type": "url", "url": "https://mcp.example.com/sse", "name": "s", "authorization_token": "plainsecret"}
    body = {"model": "m", "max_tokens": 1, "messages": [], "mcp_servers": [server]}
    request = msgspec.structs.replace(Messages().request(body), body=msgspec.Raw(json.dumps(body).encode()))
    call = CallRecord(call_id="c", api="messages", timing=Timing(start_ns=1), request=request)
    kept = caller_processors(Settings()).process(call).record
    assert json.loads(bytes(kept.request.body)) == {
        **body,
        "mcp_servers": [{**server, "authorization_token": MASK}],
    }


def test_what_is_too_long_to_be_searched_is_cut_and_marked() -> None:
    key = "sk-abcdefghijklm"
    long = "word " * 50_000 + key
    masked = masked_error(ErrorInfo(kind="x", type="x", body={"a": [long, key], key: {"password": "p"}}))
    text = json.dumps(masked.body, ensure_ascii=False)
    assert key not in text
    assert f"\u2026[cut: {len(long)} characters]" in text
    assert len(text) < 70_000
    split = "x" * (MAX_SEARCHED - 6) + " " + key
    assert "sk-ab" not in str(masked_error(ErrorInfo(kind="x", type="x", message=split)).message)


def test_pieces_of_text_are_not_secrets_where_credentials_are_masked() -> None:
    """An answer's log-probabilities say `token` to each piece of text."""
    piece = {"token": "Hello", "logprob": -0.1, "top_logprobs": [{"token": "Hi", "logprob": -2}]}
    tools = [{"type": "mcp", "server_label": "s", "headers": {"x": "plainsecret"}, "token": "plainsecret"}]
    output = [{"type": "message", "content": [{"type": "output_text", "text": "Hello", "logprobs": [piece]}]}]
    body = {"tools": tools, "output": output, "choices": [{"logprobs": {"content": [piece]}}]}
    record = CallRecord(
        call_id="c",
        api="responses",
        timing=Timing(start_ns=1),
        request=Request(
            tool_names=["s"],
            params={"metadata": {"token": "plainsecret"}},
            body=msgspec.Raw(json.dumps({"tools": tools, "input": [{"token": "said"}]}).encode()),
        ),
        response=Response(body=msgspec.Raw(json.dumps(body).encode())),
    )
    kept = caller_processors(Settings()).process(record).record
    assert isinstance(kept, CallRecord)
    assert kept.response is not None
    answer = json.loads(bytes(kept.response.body))
    assert (answer["output"], answer["choices"]) == (output, body["choices"])
    assert json.loads(bytes(kept.request.body))["input"] == [{"token": "said"}]
    assert b"plainsecret" not in encode(kept)


@pytest.mark.parametrize("blank", [chr(code) for code in range(0x3100) if chr(code).isspace()])
def test_a_token_on_a_line_of_its_own_is_masked_whatever_blank_it_is_indented_by(blank: str) -> None:
    assert mask_text(f"sent:\n{blank}token: abcdefgh") == f"sent:\n{blank}token: {MASK}"
