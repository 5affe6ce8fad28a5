"""Errors: the kind of each status, code, message and exception, and the fields of error bodies."""

from __future__ import annotations

import copy
import json
from collections.abc import Container, Iterator
from typing import Any

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

RETRYABLE = {"rate_limit", "timeout", "connection", "overloaded", "server"}
KINDS = RETRYABLE | {
    "quota", "auth", "permission", "not_found", "bad_input", "context_length", "content_filter", "parsing", "cancelled",
    "unknown",
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "type", "code", "message", "param", "request_id", "x"]), inner)
    ),
    max_leaves=12,
)


def info(status: int | None = None, body: object = None, exception: str | None = None, message: str | None = None,
         request_id: str | None = None) -> ErrorInfo:  # fmt: skip
    return error_info(status=status, body=body, exception=exception, message=message, request_id=request_id)


STATUSES = [
    ("bad_input", "400 405 413 415 422 431"),
    ("auth", "401"),
    ("quota", "402"),
    ("permission", "403"),
    ("not_found", "404 410"),
    ("timeout", "408 504 524"),
    ("server", "409 424 425 500 502 520"),
    ("rate_limit", "429"),
    ("overloaded", "498 503 529"),
    ("cancelled", "499"),
    ("unknown", "200"),
]
BY_TYPE_AND_CODE: dict[str, list[tuple[int | None, str | None, str | None]]] = {
    "overloaded": [(529, "overloaded_error", None), (200, "overloaded_error", None)],
    "rate_limit": [
        (429, "rate_limit_error", None), (200, "rate_limit_error", None), (429, "tokens", "rate_limit_exceeded"),
        (200, None, "rate_limit_exceeded"), (None, "ThrottlingException", None), (None, "RESOURCE_EXHAUSTED", "429"),
        (200, None, "429"),
        # A code that is a status counts only where there is no error status.
        (399, None, "429"),
    ],
    "bad_input": [
        (400, "invalid_request_error", None), (200, "invalid_request_error", None), (413, "request_too_large", None),
        (200, None, "invalid_image_format"), (200, "BadRequestError", "400"), (400, None, "429"),
    ],
    "auth": [
        (401, "authentication_error", None), (401, "invalid_request_error", "invalid_api_key"),
        (401, "invalid_request_error", None),
    ],
    "permission": [
        (403, "permission_error", None), (403, "request_forbidden", "unsupported_country_region_territory"),
    ],
    "not_found": [
        (404, "not_found_error", None), (404, "invalid_request_error", "model_not_found"),
        (404, "invalid_request_error", "DeploymentNotFound"),
    ],
    "timeout": [(504, "timeout_error", None)],
    "server": [(500, "api_error", None), (200, None, "server_error"), (200, None, "502")],
    "quota": [
        (400, "billing_error", None), (429, "insufficient_quota", "insufficient_quota"),
        (429, "billing_not_active", "billing_not_active"),
    ],
    "context_length": [(400, "invalid_request_error", "context_length_exceeded")],
    "content_filter": [(400, None, "content_filter")],
    "unknown": [(None, None, "600"), (None, None, "39")],
}  # fmt: skip
WORDS = [
    ("quota", "billing_hard_limit_reached quota_exceeded insufficient_balance insufficient_credits"),
    ("quota", "payment_required ServiceQuotaExceededException linked_organization_spend_limit_reached"),
    ("quota", "linked_organization_billing_unavailable insufficient-quota INSUFFICIENT_QUOTA"),
    ("quota", "exceeded_current_quota_error insufficient_balance_error budget_exceeded Arrearage AccountOverdueError"),
    ("context_length", "context_window_exceeded model_max_prompt_tokens_exceeded exceed_context_size_error"),
    ("context_length", "tokens_limit_reached"),
    ("content_filter", "content_policy_violation image_content_policy_violation moderation_blocked"),
    ("content_filter", "ResponsibleAIPolicyViolation data_inspection_failed SensitiveContentDetected"),
    ("overloaded", "overloaded model_overloaded engine_overloaded engine_overloaded_error server_is_overloaded"),
    ("overloaded", "service_unavailable service_unavailable_error capacity_exceeded UNAVAILABLE slow_down"),
    ("overloaded", "ServiceUnavailableException ModelNotReadyException ServerOverloaded"),
    ("rate_limit", "rate_limit_reached rate_limit_reached_error rate_limited too_many_requests"),
    ("rate_limit", "ramp_limit_exceeded Throttling"),
    ("timeout", "timeout request_timeout gateway_timeout vector_store_timeout DEADLINE_EXCEEDED"),
    ("timeout", "ModelTimeoutException"),
    ("auth", "invalid_authentication account_deactivated UNAUTHENTICATED unauthorized"),
    ("auth", "UnrecognizedClientException ExpiredTokenException"),
    ("permission", "permission_denied insufficient_permissions forbidden AccessDeniedException"),
    ("not_found", "not_found ResourceNotFoundException"),
    ("bad_input", "invalid_prompt invalid_value invalid_type unsupported_parameter unsupported_value"),
]
"""Codes and types that come before any status."""
GENERAL_WORDS = [
    ("bad_input", "invalid_request_body INVALID_ARGUMENT ValidationException invalid_something_new"),
    ("server", "api_error conflict_error internal_error internal_server_error InternalServerException"),
    ("server", "ModelErrorException"),
]
"""Codes that are used with many statuses, and count only without one."""
MESSAGES = [
    (400, "prompt is too long: 210000 tokens > 200000 maximum", "context_length"),
    (400, "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000", "context_length"),
    (400, "Input is too long for requested model.", "context_length"),
    (400, "This model's maximum context length is 8192 tokens.", "context_length"),
    (400, "Your credit balance is too low to access the Anthropic API.", "quota"),
    (429, "You exceeded your current quota, please check your plan", "quota"),
    (400, "The input exceeds the context window of this model", "context_length"),
    (400, "Requested 9000 tokens: context length exceeded", "context_length"),
    (400, "{'error': 'context_length_exceeded'}", "context_length"),
    (400, "The input (5000 tokens) is longer than the model's context length (4096 tokens).", "context_length"),
    (400, "litellm.ContextWindowExceededError: too long", "context_length"),
    (200, "usage limit exceeded", "quota"),
    (400, "input (9000) exceeds the maximum number of tokens allowed", "context_length"),
    (402, "Insufficient Balance", "quota"),
    (400, "insufficient credits", "quota"),
    (400, "insufficient funds", "quota"),
    (400, "Billing hard limit has been reached", "quota"),
    (400, "Output blocked by content filtering policy", "content_filter"),
    (400, "The response was filtered due to the prompt triggering the content management policy", "content_filter"),
    (400, "Your request was rejected as a result of our safety system.", "content_filter"),
    (400, "This request violates our Usage Policies", "content_filter"),
    (400, "messages: roles must alternate", "bad_input"),
    (500, "maximum context length worker crashed", "server"),
]
EXCEPTIONS = [
    ("timeout", "builtins.TimeoutError httpx.TimeoutException httpcore.TimeoutException aiohttp.ServerTimeoutError"),
    ("timeout", "anthropic.DeadlineExceededError openai.GatewayTimeoutError openai.RequestTimeoutError"),
    ("timeout", "openai.APITimeoutError anthropic.APITimeoutError requests.ReadTimeout requests.ConnectTimeout"),
    ("connection", "builtins.ConnectionError ssl.SSLError socket.gaierror http.client.IncompleteRead"),
    ("connection", "openai.APIConnectionError anthropic.APIConnectionError openai.WebSocketConnectionClosedError"),
    ("connection", "httpx.TransportError httpcore.NetworkError httpcore.ProtocolError httpcore.ProxyError"),
    ("connection", "aiohttp.ClientConnectionError aiohttp.ClientPayloadError websockets.ConnectionClosed"),
    ("connection", "websockets.InvalidMessage"),
    ("cancelled", "builtins.GeneratorExit builtins.SystemExit openai.ClientClosedRequestError"),
    ("cancelled", "asyncio.CancelledError builtins.KeyboardInterrupt"),
    ("parsing", "pydantic.ValidationError builtins.UnicodeDecodeError httpx.DecodingError msgspec.DecodeError"),
    ("parsing", "openai.LengthFinishReasonError openai.APIResponseValidationError json.JSONDecodeError"),
    ("auth", "anthropic.CredentialsError anthropic.IdentityTokenFileError anthropic.WorkloadIdentityError"),
    ("auth", "openai.OAuthError openai.SubjectTokenProviderError anthropic.AuthenticationError"),
    ("permission", "openai.PermissionDeniedError"),
    ("not_found", "openai.NotFoundError"),
    ("bad_input", "openai.BadRequestError openai.UnprocessableEntityError anthropic.RequestTooLargeError"),
    ("bad_input", "openai.ContentTooLargeError httpx.UnsupportedProtocol httpx.InvalidURL"),
    ("bad_input", "openai.PreconditionFailedError openai.RequestHeaderFieldsTooLargeError"),
    ("server", "openai.ConflictError openai.InternalServerError"),
    ("quota", "openai.PaymentRequiredError"),
    ("overloaded", "anthropic.OverloadedError anthropic.ServiceUnavailableError"),
    ("content_filter", "openai.ContentFilterFinishReasonError"),
    ("rate_limit", "openai.RateLimitError"),
    ("unknown", "builtins.ZeroDivisionError"),
]
"""Classes whose subclasses are of the same kind, but for those that are named themselves."""
NAMED = {name.rpartition(".")[2] for _, names in EXCEPTIONS for name in names.split()}
CLASSIFIED: list[tuple[str, tuple[Any, ...]]] = [
    *((kind, (int(status), None, None, None)) for kind, statuses in STATUSES for status in statuses.split()),
    *((kind, (*stated, None)) for kind, cases in BY_TYPE_AND_CODE.items() for stated in cases),
    *(
        (kind, (404 if kind in ("auth", "bad_input") else 401, *stated, None))
        for kind, words in WORDS for word in words.split() for stated in ((None, word), (word, None))
    ),
    *(
        (kind if status is None else "not_found", (status, word, None, None))
        for kind, words in GENERAL_WORDS for word in words.split() for status in (None, 404)
    ),
    *(
        (kind, (status, "invalid_request_error" if status == 400 else None, None, message))
        for status, message, kind in MESSAGES
    ),
    # The status of a stream which was begun says nothing; that of an error comes before the exception's class.
    ("rate_limit", (429, None, None, None, "openai.InternalServerError")),
    ("connection", (200, None, None, "peer closed", "httpx.ProtocolError")),
]  # fmt: skip
"""A kind, and the status, type, code, message and exception of an error that is of it."""


@pytest.mark.parametrize(("kind", "stated"), CLASSIFIED)
def test_an_error_has_its_kind_and_may_be_retried_or_not(kind: str, stated: tuple[Any, ...]) -> None:
    status, error_type, code, message, *exception = stated
    body = {"type": error_type, "code": code, "message": message}
    found = error_info(status=status, body=body, exception=exception[0] if exception else None)
    assert (classify(*stated), found.kind, found.retryable) == (kind, kind, kind in RETRYABLE)


OPENAI = {"message": "Incorrect key.", "type": "invalid_request_error", "param": "model", "code": "invalid_api_key"}


@pytest.mark.parametrize("body", [OPENAI, {"error": OPENAI}, [{"error": OPENAI}]], ids=["inner", "whole", "listed"])
def test_an_openai_body_is_read_whole_or_as_its_inner_part(body: object) -> None:
    assert info(401, body, "openai.AuthenticationError", "Error code: 401 - {...}", "req_1") == ErrorInfo(
        kind="auth", type="invalid_api_key", retryable=False, exception="openai.AuthenticationError", status=401,
        message="Incorrect key.", code="invalid_api_key", param="model", request_id="req_1", body=body,
    )  # fmt: skip


def spent(error_code: str) -> dict[str, object]:
    """A refusal of Anthropic's whose details name a limit."""
    inner = {"type": "rate_limit_error", "message": "m", "details": {"error_code": error_code}}
    return {"type": "error", "error": inner}


STATED: list[tuple[int | None, object, dict[str, object]]] = [
    (
        404,
        {"type": "error", "error": {"type": "not_found_error", "message": "model: claude-x"}, "request_id": "req_2"},
        {"kind": "not_found", "type": "not_found_error", "message": "model: claude-x", "request_id": "req_2",
         "code": None},
    ),
    *(
        (429, spent(code), {"kind": kind, "type": "rate_limit_error", "code": code})
        for code, kind in (
            ("enforced_spend_limit_reached", "quota"), ("contract_spend_limit_reached", "quota"),
            ("ramp_limit_exceeded", "rate_limit"), ("never_seen", "rate_limit"),
        )
    ),
    (429,
     [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"error_code": "x"}]}}],
     {"kind": "rate_limit", "type": "RESOURCE_EXHAUSTED", "code": "429"}),
    (200,
     {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
     {"kind": "overloaded", "type": "overloaded_error", "retryable": True, "status": 200}),
    (200,
     {"type": "error", "code": "server_error", "message": "sorry", "param": None},
     {"kind": "server", "type": "server_error", "message": "sorry"}),
    (200,
     {"object": "error", "message": "bad", "type": "BadRequestError", "code": 400},
     {"kind": "bad_input", "type": "BadRequestError", "code": "400"}),
    *(
        (404, body, {"kind": "not_found", "type": "404", "message": "no model 'x'"})
        for body in ({"error": "no model 'x'"}, {"detail": "no model 'x'"}, "no model 'x'")
    ),
    (None, {"type": "error", "error_type": "overloaded_error"}, {"kind": "overloaded", "type": "overloaded_error"}),
    (None, {"type": "error", "status": "UNAVAILABLE"}, {"kind": "overloaded", "type": "UNAVAILABLE"}),
    (None, {"type": "", "status": "UNAVAILABLE"}, {"kind": "overloaded", "type": "UNAVAILABLE"}),
    (500, {"request_id": "r"}, {"request_id": "r"}),
    (500, {"error": {"request_id": "r"}}, {"request_id": "r"}),
    (500, {"error": {}, "request_id": "r"}, {"request_id": "r"}),
]  # fmt: skip
"""A status, a body, and what it states of the error."""


@pytest.mark.parametrize(("status", "body", "fields"), STATED)
def test_what_a_body_states(status: int | None, body: object, fields: dict[str, object]) -> None:
    error = info(status, body)
    assert {name: getattr(error, name) for name in fields} == fields


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for kind, names in EXCEPTIONS for name in names.split()])
def test_an_exception_has_the_kind_of_its_nearest_known_class(name: str, kind: str) -> None:
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


def test_a_call_and_its_attempt_have_the_kind_of_the_base_of_an_exception() -> None:
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
    assert by_hand.error is not None
    assert by_sdk.attempts[0].error_kind == by_hand.error.kind == "connection"


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_every_status_error_of_the_sdks_is_classified_by_its_class_alone(name: str) -> None:
    """Also where a mocked client raises it without an answer."""
    sdk = pytest.importorskip(name)
    kinds = {found: call_error(found.__new__(found)).kind for found in [*below(sdk.APIStatusError, but=())][1:]}
    assert len(kinds) >= 8
    assert "unknown" not in kinds.values(), kinds


@pytest.mark.parametrize(("before", "kind"), [(60_000, "context_length"), (70_000, "bad_input")])
def test_of_a_message_that_repeats_the_request_only_a_part_is_searched(before: int, kind: str) -> None:
    assert classify(400, None, None, "x" * before + " prompt is too long") == kind


def test_a_long_message_is_cut_and_the_id_of_the_headers_comes_first() -> None:
    error = info(500, {"error": {"message": "é" * 9000}, "request_id": "r"}, request_id="of the headers")
    assert str(error.message).endswith("é…")
    assert len(str(error.message).encode()) <= MAX_MESSAGE_BYTES
    assert error.request_id == "of the headers"
    assert info() == ErrorInfo(kind="unknown", type="_OTHER")


@given(st.none() | st.integers(), JSON)
def test_any_body_gives_an_error_and_stays_as_it_was(status: int | None, body: object) -> None:
    before = copy.deepcopy(body)

    error = info(status, body)

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
def test_of_a_large_body_message_and_size_are_kept(many: Any) -> None:
    body = {"message": "no", "all": many}
    error = info(400, body)
    size = len(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())
    assert (error.message, error.body) == ("no", {"callspan_truncated": {"bytes": size}})


ERRORS: list[dict[str, Any]] = [
    {"error": {"message": "no", "code": "slow_down"}},
    {"error": "no"},
    {"object": "error", "message": "no", "type": "NotFoundError", "code": 404},
    {"type": "error", "message": "no", "code": "slow_down"},
    {"type": "error", "error": {"type": "overloaded_error", "message": "no"}},
    {"detail": "no"},
    {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "no"}},
]
BEGINS: dict[str, dict[str, Any]] = {
    "chat_completions": {"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}}]},
    "completions": {"id": "c", "choices": [{"index": 0, "text": "a"}]},
    "responses": {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "a"},
    "messages": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
    "images": {"type": "image_generation.partial_image", "b64_json": "aGk="},
    "speech": {"type": "speech.audio.delta", "audio": "aGk="},
    "transcriptions": {"type": "transcript.text.delta", "delta": "a"},
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("api", BEGINS)
def test_an_error_is_the_same_in_a_stream_as_in_a_body(api: str, begun: bool, error: dict[str, Any]) -> None:
    body = folded(api, *((BEGINS[api], error) if begun else (error,)))
    stated, streamed = (endpoint(api).response_info(one).error for one in (error, body))
    assert stated is not None
    assert stated.message == "no"
    assert streamed == stated


@pytest.mark.parametrize("fields", [{"error": None}, {"base_resp": {"status_code": 0, "status_msg": ""}}])
@pytest.mark.parametrize("api", BEGINS)
def test_a_field_that_states_no_error_is_none(api: str, fields: dict[str, Any]) -> None:
    body = folded(api, {**BEGINS[api], **fields})
    assert endpoint(api).response_info({**body, **fields}).error is None
