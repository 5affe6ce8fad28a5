"""Secrets are nowhere, whatever the content setting says."""

from __future__ import annotations

import json

import msgspec
import pytest

from callspan.config import Settings
from callspan.policy.apply import Policy
from callspan.policy.secrets import MASK, bare_url, mask_settings, mask_text
from callspan.record.call import CallRecord, ErrorInfo, Request, Timing
from callspan.record.codec import encode
from callspan.record.events import SessionRecord, TimestepRecord

_SECRETS = [
    "sk-proj-abcdefghijklmnop1234567890",
    "sk-ant-api03-abcdefghijklmnop",
    "sk-or-v1-0123456789abcdef",
    "gsk_abcdefghijklmnopqrst",
    "hf_abcdefghijklmnopqrstu",
    "AIzaSyA1234567890abcdefghijk",
    "AKIAIOSFODNN7EXAMPLE",
    "github_pat_11ABCDEFG0123456789abc",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefgh",
]


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
        ("'x-api-key': 'abcdef123456'", f"'x-api-key': '{MASK}'"),
        ("api_key=abcdef123456&x=1", f"api_key={MASK}&x=1"),
        ("bearer abcdef123456", f"bearer {MASK}"),
        ("https://user:hunter2@host/v1 failed", "https://host/v1 failed"),
        ("GET https://host/v1?key=abc&x=1", f"GET https://host/v1?key={MASK}&x=1"),
        ("https://host/?access_token=abc", f"https://host/?access_token={MASK}"),
        ("no secret in here: rate limit of 5 reached", "no secret in here: rate limit of 5 reached"),
    ],
)
def test_labelled_values_and_url_credentials_are_masked(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    ("url", "bare"),
    [
        ("https://u:p@host:8443/v1?key=1#f", "https://host:8443/v1"),
        ("http://host", "http://host"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://host:no/x", MASK),
    ],
)
def test_bare_url_has_no_credentials_and_no_query(url: str, bare: str) -> None:
    assert bare_url(url) == bare


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
    kept = Policy(msgspec.structs.replace(Settings(), content=content)).apply(record)
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
    ],
)
def test_credentials_of_mcp_servers_are_masked_in_the_body(api: str, setting: dict[str, object]) -> None:
    said = {"messages": [{"role": "user", "content": "authorization of visitors", "password": "spoken"}]}
    params = {key: value for key, value in setting.items() if key != "tools"}
    record = CallRecord(
        call_id="c",
        api=api,
        timing=Timing(start_ns=1),
        request=Request(params=params, tool_names=["s"], body=msgspec.Raw(json.dumps(setting | said).encode())),
    )
    kept = Policy(Settings()).apply(record)
    assert isinstance(kept, CallRecord)
    assert b"plainsecret" not in encode(kept)
    assert json.loads(bytes(kept.request.body))["messages"] == said["messages"], "messages stay exact"


def test_errors_of_steps_are_masked_too() -> None:
    error = ErrorInfo(kind="unknown", type="X", message="Bearer abcdefghijkl")
    record = TimestepRecord(timestep_id="t", session_id="s", record_version=1, index=0, error=error)
    kept = Policy(Settings()).apply(record)
    assert isinstance(kept, TimestepRecord)
    assert kept.error is not None
    assert kept.error.message == f"Bearer {MASK}"
    assert [note.what for note in kept.redactions] == ["error"]


def test_record_without_secrets_is_the_same_object() -> None:
    record = SessionRecord(session_id="s", record_version=1, metadata={"seed": 7, "note": "secretary"})
    assert Policy(Settings()).apply(record) is record
