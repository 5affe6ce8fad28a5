"""Errors of providers: their kind, whether a retry may help, and the fields of their body.

The rules are tables, and the first match wins: client-side exceptions, the provider's words (`code`, then `type`),
patterns in its message, the HTTP status, and last the words and exception classes that only repeat a status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from callspan.providers.wire_json import integer, items, mapping, objects, text
from callspan.record.call import ErrorInfo
from callspan.record.codec import encode_json
from callspan.record.plain_json import TRUNCATED_KEY, clean, plain
from callspan.runtime.safe_urls import whole_words

MAX_MESSAGE_BYTES: Final = 4096
"""Size limit of an error message in UTF-8."""
MAX_BODY_BYTES: Final = 4 * MAX_MESSAGE_BYTES
"""Size limit of an error body as JSON."""
MAX_WORD_BYTES: Final = 256
"""Size limit of an error's type, code or id."""
_MAX_SEARCHED: Final = 65_536
"""Characters of a message that are searched: some servers repeat the request in it, on the event loop's time."""

_ERROR_EVENTS: Final = ("error", "response.error")
_ERROR_FIELDS: Final = frozenset({"error", "errors", "base_resp", "detail"})
"""A body has one of these fields if it states an error in a field."""
_CUT: Final = "…"
FIRST_ERROR: Final = 400
"""The first HTTP status of errors."""
_SERVER_ERRORS: Final = 500
_HTTP_ERROR: Final = re.compile("[45][0-9][0-9]")
RETRYABLE: Final = frozenset({"rate_limit", "timeout", "connection", "overloaded", "server"})

_EXCEPTIONS: Final = {
    "cancelled": "Cancelled CancelledError GeneratorExit KeyboardInterrupt SystemExit",
    "timeout": (
        "APITimeoutError TimeoutError TimeoutException ServerTimeoutError ReadTimeout ConnectTimeout ReadTimeoutError"
        " ConnectTimeoutError"
    ),
    "connection": (
        "APIConnectionError TransportError NetworkError ProtocolError ProxyError ConnectionError ClientConnectionError"
        " ClientPayloadError SSLError gaierror IncompleteRead ConnectionClosed WebSocketConnectionClosedError"
        " InvalidMessage HTTPClientError ResponseStreamingError IncompleteReadError ChunkedEncodingError"
        " NewConnectionError"
    ),
    "parsing": (
        "APIResponseValidationError JSONDecodeError ValidationError UnicodeDecodeError DecodingError DecodeError"
        " LengthFinishReasonError ResponseParserError ParserError ContentDecodingError"
    ),
    "content_filter": "ContentFilterFinishReasonError",
    "auth": (
        "OAuthError CredentialsError IdentityTokenFileError WorkloadIdentityError SubjectTokenProviderError"
        " NoCredentialsError PartialCredentialsError CredentialRetrievalError NoAuthTokenError TokenRetrievalError"
        " SSOError"
    ),
}
"""Exception classes that determine the kind regardless of a response, with all classes below them; without module."""

_WORDS: Final = {
    "quota": (
        "insufficient_quota billing_error billing_not_active billing_hard_limit_reached quota_exceeded"
        " exceeded_current_quota budget_exceeded Arrearage AccountOverdue"
        " insufficient_balance insufficient_credits payment_required ServiceQuotaExceededException"
        " contract_spend_limit_reached enforced_spend_limit_reached linked_organization_spend_limit_reached"
        " linked_organization_billing_unavailable"
    ),
    "context_length": (
        "context_length_exceeded context_window_exceeded model_max_prompt_tokens_exceeded exceed_context_size"
        " tokens_limit_reached"
    ),
    "content_filter": (
        "content_filter content_blocked content_policy_violation image_content_policy_violation moderation_blocked"
        " ResponsibleAIPolicyViolation data_inspection_failed SensitiveContentDetected bio_policy"
        " misalignment_policy_violation"
    ),
    "overloaded": (
        "overloaded model_overloaded engine_overloaded server_is_overloaded ServerOverloaded slow_down"
        " service_unavailable capacity_exceeded UNAVAILABLE ServiceUnavailableException ModelNotReadyException"
    ),
    "rate_limit": (
        "rate_limit_error rate_limit_exceeded rate_limit_reached rate_limited too_many_requests RESOURCE_EXHAUSTED"
        " ramp_limit_exceeded Throttling ThrottlingException"
    ),
    "timeout": "timeout request_timeout gateway_timeout vector_store_timeout DEADLINE_EXCEEDED ModelTimeoutException",
    "auth": (
        "authentication_error invalid_api_key invalid_authentication account_deactivated UNAUTHENTICATED unauthorized"
        " UnrecognizedClientException ExpiredTokenException ExpiredToken InvalidSignatureException"
        " SignatureDoesNotMatch MissingAuthenticationTokenException IncompleteSignatureException InvalidClientTokenId"
    ),
    "permission": (
        "permission_error permission_denied insufficient_permissions unsupported_country_region_territory forbidden"
        " AccessDeniedException"
    ),
    "not_found": "not_found model_not_found DeploymentNotFound ResourceNotFoundException",
    "bad_input": (
        "request_too_large invalid_prompt invalid_value invalid_type unsupported_parameter unsupported_value"
        " data_residency_mismatch image_too_large image_too_small image_parse_error image_file_too_large"
        " unsupported_image_media_type empty_image_file failed_to_download_image image_file_not_found"
    ),
}
"""Codes and types of the providers; compared case-insensitively, ignoring `_`, `-` and a final `error`."""

_MESSAGES: Final = {
    "context_length": (
        r"prompt is too long|input is too long|exceeds? (the )?context (limit|window)|maximum context length"
        r"|context length exceeded|context_length_exceeded|exceeds the maximum number of tokens"
        r"|ContextWindowExceeded|longer than the model's context length"
    ),
    "quota": (
        r"credit balance is too low|exceeded your current quota|insufficient (balance|credits|funds)"
        r"|billing hard limit|usage limit exceeded"
    ),
    "content_filter": r"content management policy|content filtering policy|our safety system|usage policies",
}
"""Patterns for errors that some providers distinguish only in the message, under a general type."""

_STATUSES: Final = {
    401: "auth",
    402: "quota",
    403: "permission",
    404: "not_found",
    408: "timeout",
    # A conflict or lock timeout is about the server's state, not the request; both SDKs retry.
    409: "server",
    410: "not_found",
    424: "server",
    425: "server",
    429: "rate_limit",
    498: "overloaded",
    499: "cancelled",
    503: "overloaded",
    504: "timeout",
    524: "timeout",
    529: "overloaded",
}
"""Statuses that are not simply `bad_input` (4xx) or `server` (5xx). 498: Groq's capacity exceeded."""

_REPEATED: Final = {
    "rate_limit": "RateLimitError",
    "quota": "PaymentRequiredError",
    "auth": "AuthenticationError",
    "permission": "PermissionDeniedError",
    "not_found": "NotFoundError",
    "bad_input": (
        "invalid_request_error invalid_request_body INVALID_ARGUMENT ValidationException BadRequestError"
        " UnprocessableEntityError RequestTooLargeError ContentTooLargeError UnsupportedProtocol InvalidURL"
        " PreconditionFailedError RequestHeaderFieldsTooLargeError ParamValidationError"
    ),
    "server": (
        "server_error api_error conflict_error internal_error internal_server_error InternalServerException"
        " ModelErrorException ModelStreamErrorException INVALID_TOOL_GENERATION ConflictError InternalServerError"
    ),
    "cancelled": "ClientClosedRequestError",
    "overloaded": "OverloadedError ServiceUnavailableError",
    "timeout": "DeadlineExceededError GatewayTimeoutError RequestTimeoutError",
}
"""Words and classes used with several statuses, so that the status is more reliable."""

_CLOSE_CODES: Final = {
    1003: "bad_input",
    1007: "bad_input",
    1008: "permission",
    1009: "bad_input",
    1011: "server",
    1013: "overloaded",
    1014: "server",
    3000: "auth",
    3003: "permission",
    3008: "timeout",
}
"""Codes with which a server closes a websocket; any other is the end of a connection (RFC 6455 and IANA's registry)."""

_CLOSE_REASONS: Final = {
    "auth": r"\bAPI key\b|unregistered callers|authentication",
    "quota": r"credits are depleted",
    "rate_limit": r"resource (has been )?exhausted",
    "not_found": r"\bnot found\b",
    "permission": r"\bdenied\b|has not been used in project|location is not supported",
    "timeout": r"deadline.?(expired|exceeded)",
    "overloaded": r"(currently|temporarily) unavailable|overloaded",
}
"""Reasons beside these codes. Gemini closes with 1007, 1008 and 1011 for what is a status elsewhere."""
_BY_EXCEPTION: Final = {name: kind for kind, names in _EXCEPTIONS.items() for name in names.split()}


def error_in(body: Mapping[str, Any]) -> object:
    """Return the error in a body or stream event, or None.

    It is a field, the first of a list in one, the object itself, the only field `detail`, or MiniMax's `base_resp`,
    which every body has.
    """
    # Most events state none, and this runs for each of them.
    stated, kind = body.get("object"), body.get("type")
    if _ERROR_FIELDS.isdisjoint(body) and stated != "error" and kind not in _ERROR_EVENTS:
        return None
    if error := body.get("error"):
        return error
    if "errors" in body and (error := next(objects(body, "errors"), None)):
        return error
    if stated == "error" or kind in _ERROR_EVENTS:
        return {key: value for key, value in body.items() if not _is_about_event(key, value)} or {"type": "error"}
    if "base_resp" in body and (status := integer(body, "base_resp", "status_code")):
        return {"code": str(status), "message": text(body, "base_resp", "status_msg")}
    return dict(body) if len(body) == 1 and body.get("detail") else None


def _is_about_event(key: str, value: object) -> bool:
    return key in ("error", "object", "sequence_number") or (key == "type" and value in _ERROR_EVENTS)


def classify(
    status: int | None, error_type: str | None, code: str | None, message: str | None, exception: str | None = None
) -> str:
    """Return the kind of an error, see `ErrorInfo.kind`.

    `status` is the HTTP status, `error_type` and `code` the provider's words, `exception` a class name with or without
    its module, see `known_base`. All may be None; if nothing is known the kind is `unknown`. Never raises.
    """
    name = None if exception is None else _class_name(exception)
    if name in _BY_EXCEPTION:
        return _BY_EXCEPTION[name]
    words = [_folded(word) for word in (code, error_type) if word]
    for word in words:
        if word in _BY_WORD:
            return _BY_WORD[word]
    status = _effective_status(status, code)
    if message and (status is None or status < _SERVER_ERRORS):
        for kind, pattern in _MESSAGES.items():
            if re.search(pattern, message[:_MAX_SEARCHED], re.IGNORECASE):
                return kind
    if status is not None and status >= FIRST_ERROR:
        return _STATUSES.get(status) or ("bad_input" if status < _SERVER_ERRORS else "server")
    for word in (*words, _folded(name or "")):
        if word in _BY_REPEATED or word.startswith("invalid"):
            return _BY_REPEATED.get(word, "bad_input")
    return "unknown"


def kind_of_close(code: int, reason: str) -> str | None:
    """Return the kind of the error that made a server close a websocket; None if the server states no error."""
    kind = _CLOSE_CODES.get(code)
    if kind is None:
        return None
    patterns = (*_MESSAGES.items(), *_CLOSE_REASONS.items())
    return next((stated for stated, pattern in patterns if re.search(pattern, reason, re.IGNORECASE)), kind)


def known_base(kind: type[BaseException]) -> str:
    """Return the name of the nearest class of an exception's hierarchy that has a kind, else its own name."""
    names = [base.__name__ for base in kind.__mro__]
    return next((name for name in names if name in _BY_EXCEPTION or _folded(name) in _BY_REPEATED), names[0])


def error_info(
    *, status: int | None = None, body: object, exception: str | None = None, base: str | None = None,
    message: str | None = None, request_id: str | None = None,
) -> ErrorInfo:  # fmt: skip
    """Return the facts of an error.

    `body` is the parsed error body (complete, or only its inner `error`), its text, or None. `exception` is the
    qualified class the caller got, `base` the class that determines its kind, `message` its message; the body's own
    message is preferred. `type` is the provider's type (Anthropic), or its code or type (OpenAI and compatible
    servers), else the class of the exception, else the status, else `_OTHER`. Messages are truncated to
    `MAX_MESSAGE_BYTES`.
    """
    # Google's OpenAI-compatible endpoint returns a list.
    outer = next(iter(items(body)), body)
    inner = mapping(outer, "error") or next(objects(outer, "errors"), None) or outer
    word, code, detail = _word(inner), _code(inner), _short(text(inner, "details", "error_code"))
    text_of_error = _message(inner) or _message(outer) or (body if isinstance(body, str) and body else None) or message
    kind = classify(status, word, code or detail, text_of_error, base or exception)
    specific = None if code is None or code.isdigit() else code
    general = _class_name(exception) if exception else "_OTHER" if status is None else str(status)
    return ErrorInfo(
        kind=kind,
        type=specific or word or general,
        retryable=kind in RETRYABLE,
        exception=exception,
        message=None if text_of_error is None else capped(text_of_error),
        code=code or detail,
        param=_short(text(inner, "param")),
        status=status,
        request_id=_short(request_id or text(outer, "request_id") or text(inner, "request_id")),
        body=_kept_body(body),
    )


def capped(text: str, max_bytes: int = MAX_MESSAGE_BYTES) -> str:
    """Return the text without lone surrogates and NUL, cut to at most `max_bytes` bytes of UTF-8 with a final `…`.

    A partial word at the end is removed, because the search for secrets does not recognise half a secret.
    """
    text = clean(text)
    if len(text) * 4 <= max_bytes:
        return text
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return text
    head = encoded[: max(0, max_bytes - 3)].decode("utf-8", "ignore")
    return whole_words(head, len(head)) + _CUT


def _kept_body(body: object) -> object:
    """Return an error body, or only its size if it is too large, for example because it repeats the request."""
    if isinstance(body, str):
        return capped(body)
    size = len(encode_json(body))
    return plain(body) if size <= MAX_BODY_BYTES else {TRUNCATED_KEY: {"bytes": size}}


def _effective_status(status: int | None, code: str | None) -> int | None:
    """Return the status, or the one in the error's `code` that a gateway sends under another HTTP status."""
    match = code is not None and (status is None or status < FIRST_ERROR) and _HTTP_ERROR.fullmatch(code)
    return int(match[0]) if match else status


def _class_name(exception: str) -> str:
    return exception.rpartition(".")[2]


def _word(inner: object) -> str | None:
    for key in ("type", "status", "error_type"):
        word = text(inner, key)
        if word and word != "error":
            return _short(word)
    return None


def _code(inner: object) -> str | None:
    number = integer(inner, "code")
    return _short(str(number) if number is not None else text(inner, "code") or None)


def _short(word: str | None) -> str | None:
    return None if word is None else capped(word, MAX_WORD_BYTES)


def _message(value: object) -> str | None:
    """Return the message; some servers return it as the error itself, or as `detail`, a text or a list of them."""
    plain_text = text(value, "message") or text(value, "error") or text(value, "detail")
    if plain_text or not isinstance(value, dict):
        return plain_text
    details = (*objects(value, "detail"), *objects(value, "message", "detail"))  # FastAPI, Mistral
    return "; ".join(filter(None, (text(detail, "msg") for detail in details))) or None


def _folded(word: str) -> str:
    return word.replace("_", "").replace("-", "").casefold().removesuffix("error")


_BY_WORD: Final = {_folded(word): kind for kind, words in _WORDS.items() for word in words.split()}
_BY_REPEATED: Final = {_folded(word): kind for kind, words in _REPEATED.items() for word in words.split()}
