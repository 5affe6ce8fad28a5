"""The search for secrets is bounded: text beyond the bound is removed, never kept unsearched."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from callspan import redact_texts
from callspan.cli.command_context import _first_line
from callspan.process.content import UNREADABLE, decoded
from callspan.process.redaction import redacted
from callspan.process.secrets import MASK, MAX_SEARCHED, MAX_SETTINGS_SEARCHED, mask_record, masked_error
from callspan.providers.error_kinds import MAX_MESSAGE_BYTES, MAX_WORD_BYTES, error_info
from callspan.record.content_level import without_content
from callspan.record.plain_json import plain
from callspan.records import CallRecord, ErrorInfo, EventRecord, Request, Response, encode
from callspan.safe_urls import without_passwords
from tests.support.records import made, raw, session

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
    "a driver's error in a command": (500, lambda text: _first_line(RuntimeError(text))),
}
URLS_ONLY = ("the description of an object", "a driver's error", "a driver's error in a command")


@pytest.mark.parametrize("name", CUTS)
@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_across_a_cut_is_not_kept_in_part(name: str, secret: str) -> None:
    if name in URLS_ONLY and "@" not in secret:
        return  # only passwords in URLs are masked here
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


BAD_BODIES = {
    "no UTF-8": b'{"messages":[{"role":"user","content":"\xff SESAME"}],"a":"\xff"}',
    "half a surrogate pair": b'{"messages":[{"role":"user","content":"\\ud800 SESAME"}]}',
    "surrogates as UTF-8": '{"messages":[{"role":"user","content":"\ud800 SESAME"}]}'.encode("utf-8", "surrogatepass"),
    "NaN": b'{"messages":[{"role":"user","content":NaN}],"b":"SESAME"}',
    "too deep": b'{"a":' + b"[" * 3000 + b"]" * 3000 + b',"b":"SESAME"}',
    "no JSON": b"SESAME \xff",
    "cut": b'{"a":"SESAME',
}


def mine(text: str) -> str:
    return text.replace("SESAME", "[mine]")


def test_a_body_that_is_not_utf_8_is_unreadable_and_loses_only_itself() -> None:
    body = msgspec.Raw(BAD_BODIES["no UTF-8"])
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
    assert redacted(call, redact_texts(mine)).metadata == {"password": "p", "seed": 7}
