"""Errors: the kind of each status, code, message and exception, and the fields of error bodies."""

from __future__ import annotations

import copy
import json
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, get_args

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import sdks
from tests.support.bodies import endpoint, folded

import callspan
from callspan.errors import call_error
from callspan.providers.error_kinds import MAX_MESSAGE_BYTES, classify, error_info, known_base
from callspan.records import ErrorInfo
from callspan.testing import capture

Json = dict[str, Any]
RETRYABLE = {"rate_limit", "timeout", "connection", "overloaded", "server"}
KINDS = RETRYABLE | {
    "quota", "auth", "permission", "not_found", "bad_input", "context_length", "content_filter", "parsing", "cancelled",
    "unknown",
}  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "type", "code", "message", "param", "request_id", "x"]), inner)
    ),
    max_leaves=12,
)


DATA: Json = json.loads(Path(__file__).with_name("error_kinds.json").read_text())
BY_CLASS: dict[str, list[str]] = DATA["by class"]
"""Classes whose subclasses are of the same kind, but for those that are named themselves."""
NAMED = {name.rpartition(".")[2] for names in BY_CLASS.values() for name in names}
CLASSIFIED: list[tuple[str, tuple[Any, ...]]] = [
    *((kind, (status, None, None, None)) for kind, statuses in DATA["by status"].items() for status in statuses),
    # A code that is a status counts only where there is no error status.
    *((kind, (*stated, None)) for kind, cases in DATA["by status, type and code"].items() for stated in cases),
    *(
        (kind, (404 if kind in ("auth", "bad_input") else 401, *stated, None))
        for kind, words in DATA["by type or code, whatever the status"].items()
        for word in words for stated in ((None, word), (word, None))
    ),
    *(
        (kind if status is None else "not_found", (status, word, None, None))
        for kind, words in DATA["by type or code, without a status"].items()
        for word in words for status in (None, 404)
    ),
    *(
        (kind, (status, "invalid_request_error" if status == 400 else None, None, message))
        for kind, status, message in DATA["by message"]
    ),
    # The status of a stream which was begun says nothing; that of an error comes before the exception's class.
    ("rate_limit", (429, None, None, None, "openai.InternalServerError")),
    ("connection", (200, None, None, "peer closed", "httpx.ProtocolError")),
]  # fmt: skip
"""A kind, and the status, type, code, message and exception of an error that is of it."""


@pytest.mark.parametrize(("kind", "stated"), CLASSIFIED)
def test_error_has_a_kind_and_retryability(kind: str, stated: tuple[Any, ...]) -> None:
    status, error_type, code, message, *exception = stated
    body = {"type": error_type, "code": code, "message": message}
    found = error_info(status=status, body=body, exception=exception[0] if exception else None)
    assert (classify(*stated), found.kind, found.retryable) == (kind, kind, kind in RETRYABLE)


def test_response_error_codes_have_a_kind() -> None:
    found: Any = pytest.importorskip("openai.types.responses.response_error").ResponseError
    codes = get_args(found.model_fields["code"].annotation)
    assert "server_error" in codes
    assert [code for code in codes if classify(None, None, code, None) == "unknown"] == []


OPENAI = {"message": "Incorrect key.", "type": "invalid_request_error", "param": "model", "code": "invalid_api_key"}


@pytest.mark.parametrize("body", [OPENAI, {"error": OPENAI}, [{"error": OPENAI}]], ids=["inner", "whole", "listed"])
def test_openai_error_is_read_with_or_without_its_envelope(body: object) -> None:
    error = error_info(
        status=401, body=body, exception="openai.AuthenticationError", message="Error code: 401 - {...}",
        request_id="req_1",
    )  # fmt: skip
    assert error == ErrorInfo(
        kind="auth", type="invalid_api_key", retryable=False, exception="openai.AuthenticationError", status=401,
        message="Incorrect key.", code="invalid_api_key", param="model", request_id="req_1", body=body,
    )  # fmt: skip


@pytest.mark.parametrize("stated", DATA["stated"], ids=str)
def test_facts_of_error_bodies(stated: Json) -> None:
    error = error_info(status=stated["status"], body=stated["body"])
    assert {name: getattr(error, name) for name in stated["fields"]} == stated["fields"]


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for kind, names in BY_CLASS.items() for name in names])
def test_exception_has_the_kind_of_its_nearest_known_class(name: str, kind: str) -> None:
    module, _, attribute = name.rpartition(".")
    root = getattr(pytest.importorskip(module), attribute, None)
    for found in [] if root is None else below(root):
        assert classify(None, None, None, None, known_base(found)) == kind, found


def below(root: type[BaseException], *, but: Container[str] = NAMED) -> Iterator[type[BaseException]]:
    """The class and those below it, but for those of these names."""
    yield root
    for found in root.__subclasses__():
        if found.__name__ not in but:
            yield from below(found, but=but)


def test_call_and_attempt_share_the_kind_of_the_base_class() -> None:
    """As one of the application's transport, or raised in a call that is recorded by hand."""
    library: Any = sdks.http_of("openai")
    refused = type("Refused", (library.ConnectError,), {})

    def refuse(request: Any) -> Any:
        raise refused("no", request=request)

    http = library.Client(transport=library.MockTransport(refuse))
    with capture() as seen:
        client = openai.OpenAI(api_key="k", http_client=http, max_retries=0)
        with client, pytest.raises(openai.APIConnectionError):
            client.embeddings.create(model="m", input="x")
        with pytest.raises(ConnectionResetError), callspan.record_call(provider="mine"):
            raise type("Gone", (ConnectionResetError,), {})
    by_sdk, by_hand = seen.records
    assert by_sdk.attempts[0].error_kind == by_hand.error.kind == "connection"


CLOSES: list[tuple[str, int, str]] = [
    ("bad_input", 1007, "Request contains an invalid argument."),
    ("bad_input", 1009, ""),
    ("auth", 1007, "API key not valid. Please pass a valid API key."),
    ("permission", 1007, "User location is not supported for the API use."),
    ("permission", 1008, ""),
    ("permission", 1008, "Your project has been denied access."),
    ("not_found", 1008, "models/m-1 is not found for API version v1beta"),
    ("server", 1011, "Internal error encountered."),
    ("quota", 1011, "You exceeded your current quota, please check your plan and billing details."),
    ("timeout", 1011, "Deadline expired before operation could complete."),
    ("overloaded", 1011, "The service is currently unavailable."),
    ("overloaded", 1013, ""),
    ("connection", 1001, "Your session hit the maximum duration of 60 minutes."),
    ("connection", 1012, "Internal error encountered."),
    ("connection", 4001, "API key not valid."),
]
"""A kind, and the code and the reason with which a server closes a websocket: those of Gemini, and of openai."""


@pytest.mark.parametrize(("kind", "code", "reason"), CLOSES)
def test_kind_of_a_close(kind: str, code: int, reason: str) -> None:
    """Only what the server states first: it repeats the code of a client, as for pings without an answer."""
    exceptions, frames = pytest.importorskip("websockets.exceptions"), pytest.importorskip("websockets.frames")
    close = frames.Close(code, reason)
    stated = call_error(exceptions.ConnectionClosedError(close, close, True))
    assert (stated.kind, stated.retryable, stated.code) == (kind, kind in RETRYABLE, str(code))
    assert reason in (stated.message or "")
    for received, repeated in ((close, False), (None, None)):
        error = call_error(exceptions.ConnectionClosedError(received, close, repeated))
        assert (error.kind, error.code) == ("connection", None)


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_sdk_status_errors_are_classified_by_class(name: str) -> None:
    """Also where a mocked client raises it without an answer."""
    sdk = pytest.importorskip(name)
    kinds = {found: call_error(found.__new__(found)).kind for found in [*below(sdk.APIStatusError, but=())][1:]}
    assert len(kinds) >= 8
    assert "unknown" not in kinds.values(), kinds


@pytest.mark.parametrize(("before", "kind"), [(60_000, "context_length"), (70_000, "bad_input")])
def test_search_in_a_repeated_request_is_limited(before: int, kind: str) -> None:
    assert classify(400, None, None, "x" * before + " prompt is too long") == kind


def test_long_message_is_cut_and_header_id_precedes() -> None:
    body = {"error": {"message": "é" * 9000}, "request_id": "r"}
    error = error_info(status=500, body=body, request_id="of the headers")
    assert str(error.message).endswith("é…")
    assert len(str(error.message).encode()) <= MAX_MESSAGE_BYTES
    assert error.request_id == "of the headers"
    assert error_info(body=None) == ErrorInfo(kind="unknown", type="_OTHER")


@given(st.none() | st.integers(), VALUES)
def test_any_body_gives_an_error_and_is_unchanged(status: int | None, body: object) -> None:
    before = copy.deepcopy(body)

    error = error_info(status=status, body=body)

    assert error.kind in KINDS
    assert error.type
    assert repr(body) == repr(before)


@pytest.mark.parametrize(
    "many",
    [
        ["word"] * 100_000,
        {f"key {number}": number for number in range(100_000)},
        [{"loc": ["body", number], "msg": "is missing", "input": "x" * 500} for number in range(1_000)],
        "é" * 9000,
    ],
    ids=["texts", "keys", "validation errors", "a text"],
)
def test_large_error_body_keeps_message_and_size(many: Any) -> None:
    body = {"message": "no", "all": many}
    error = error_info(status=400, body=body)
    size = len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
    assert (error.message, error.body) == ("no", {"callspan_truncated": {"bytes": size}})


BEGINS: Json = DATA["how a stream begins"]


@pytest.mark.parametrize("error", DATA["errors of every server"])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("api", BEGINS)
def test_stream_error_equals_body_error(api: str, begun: bool, error: Json) -> None:
    body = folded(api, *((BEGINS[api], error) if begun else (error,)))
    stated, streamed = (endpoint(api).response_info(one).error for one in (error, body))
    assert stated.message == "no"
    assert streamed == stated


@pytest.mark.parametrize(
    "fields", [{"error": None}, {"errors": []}, {"base_resp": {"status_code": 0, "status_msg": ""}}]
)
@pytest.mark.parametrize("api", BEGINS)
def test_field_without_an_error_is_ignored(api: str, fields: Json) -> None:
    assert endpoint(api).response_info({**folded(api, {**BEGINS[api], **fields}), **fields}).error is None
