"""Secrets: masked in settings and error texts always, whatever the content setting says."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec

from callspan.policy.bodies import UNREADABLE, decoded, encoded, is_kept, with_bodies
from callspan.record.call import CallRecord, ErrorInfo, Redaction
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord, TimestepRecord

MASK: Final = "[secret]"

_R = TypeVar("_R", bound=CallRecord | SessionRecord | TimestepRecord | EventRecord | MessageRecord | RewardRecord)

_SECRET_NAMES: Final = frozenset(
    {
        "accesstoken",
        "apikey",
        "authorization",
        "authorizationtoken",
        "authtoken",
        "awssecretaccesskey",
        "awssecretkey",
        "awssessiontoken",
        "azureadtoken",
        "bearertoken",
        "clientsecret",
        "cookie",
        "credentials",
        "password",
        "proxyauthorization",
        "refreshtoken",
        "secret",
        "secretkey",
        "setcookie",
        "webhooksecret",
        "xapikey",
    }
)
_HEADER_MAPS: Final = frozenset({"headers", "extraheaders", "defaultheaders"})
_MESSAGES: Final = frozenset({"messages", "input", "prompt", "system", "instructions"})
_CARRIES_CREDENTIALS: Final = frozenset({"responses", "messages"})
"""APIs whose tools and servers may bring credentials of their own (MCP)."""

_TOKENS: Final = re.compile(
    r"""
      \bsk-[\w*.-]{8,}                        # OpenAI, Anthropic, OpenRouter, DeepSeek
    | \b(?:gsk|hf|ghp|gho|ghs|r8|pplx|xai|csk|tvly|nvapi|fw|whsec)[_-][\w*-]{16,}
    | \bgithub_pat_\w{20,}
    | \bAIza[\w*-]{20,}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
    | \bya29\.[\w.-]{20,}
    | \beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*       # JSON web tokens
    """,
    re.VERBOSE,
)
_LABELLED: Final = re.compile(
    r"""(?ix)
    ( \b (?: bearer | basic ) \s+
    | \b (?: x-api-key | api[-_ ]?key | access[-_]?token | authorization | client[-_]?secret | password )
      (?: \s+ provided )? ["']? \s* [:=] \s* ["']? (?: bearer \s+ | basic \s+ )?
    ) [^\s"',;}\]&]{6,}
    """
)
_URL_USER: Final = re.compile(r"(?<=://)[^/\s@\"']+@")
_URL_SECRET: Final = re.compile(r"(?i)([?&](?:[\w-]*key|[\w-]*token|sig|signature|code|password|secret)=)[^&\s\"'#]+")


def mask_text(text: str) -> str:
    """Return `text` with keys, tokens, authorization values and URL credentials replaced by `[secret]`."""
    text = _TOKENS.sub(MASK, text)
    text = _LABELLED.sub(r"\1" + MASK, text)
    text = _URL_USER.sub("", text)
    return _URL_SECRET.sub(r"\1" + MASK, text)


def bare_url(url: str) -> str:
    """Return a URL without user, password, query and fragment; MASK where it cannot be read as one."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return MASK
    host = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


def mask_settings(value: object) -> object:
    """Return settings with the values of secret names and of header maps masked and URLs stripped of credentials.

    The same object when there is nothing to mask; never changes the one given.
    """
    if isinstance(value, dict):
        changed = {key: safe for key, item in value.items() if (safe := _masked_item(key, item)) is not item}
        return {**value, **changed} if changed else value
    if isinstance(value, list):
        several = [mask_settings(item) for item in value]
        return several if any(new is not old for new, old in zip(several, value, strict=True)) else value
    return _masked_url(value)


def mask_record(record: Record) -> Record:
    """Return the record without secrets in its settings, its metadata and its error; the same object if it has none.

    Of a call also the settings part of its body is masked, never its messages.
    """
    if isinstance(record, CallRecord):
        record = _mask_settings(record)
    elif isinstance(record, RewardRecord | MessageRecord):
        return _mask_metadata(record)
    record = _mask_metadata(record)
    error = record.error
    if error is None or (masked := masked_error(error)) is error:
        return record
    note = Redaction(what="error", why="secret")
    return msgspec.structs.replace(record, error=masked, redactions=[*record.redactions, note])


def masked_error(error: ErrorInfo) -> ErrorInfo:
    """Return the error with its message, parameter and body masked; the same object where nothing was to be."""
    message = None if error.message is None else mask_text(error.message)
    param = None if error.param is None else mask_text(error.param)
    body = _mask_strings(error.body, mask_text)
    if message == error.message and param == error.param and body == error.body:
        return error
    return msgspec.structs.replace(error, message=message, param=param, body=body)


def _mask_settings(record: CallRecord) -> CallRecord:
    params = record.request.params
    safe = mask_settings(params) if params else params
    if safe is not params:
        request = msgspec.structs.replace(record.request, params=safe)
        record = msgspec.structs.replace(record, request=request)
    if safe is not params or _may_carry_credentials(record):
        return _mask_bodies(record)
    return record


def _mask_metadata(record: _R) -> _R:
    metadata = record.metadata
    if not metadata or (safe := mask_settings(metadata)) is metadata:
        return record
    note = Redaction(what="metadata", why="secret")
    return msgspec.structs.replace(record, metadata=safe, redactions=[*record.redactions, note])


def _mask_strings(value: object, mask: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {
            key: MASK if _is_secret(key) and isinstance(item, str) else _mask_strings(item, mask)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_mask_strings(item, mask) for item in value]
    return value


def _masked_item(key: object, item: object) -> object:
    kind = type(item)
    if kind is int or kind is float or kind is bool:
        return item
    if kind is str:
        return MASK if _is_secret(key) and item != MASK else _masked_url(item)
    if isinstance(item, dict) and isinstance(key, str) and _plain_name(key) in _HEADER_MAPS:
        return item if all(value == MASK for value in item.values()) else dict.fromkeys(item, MASK)
    return mask_settings(item) if isinstance(item, dict | list) else item


def _masked_url(value: object) -> object:
    if isinstance(value, str) and "://" in value and (_URL_USER.search(value) or _URL_SECRET.search(value)):
        return _URL_SECRET.sub(r"\1" + MASK, _URL_USER.sub("", value))
    return value


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and _plain_name(key) in _SECRET_NAMES


@lru_cache(maxsize=1024)
def _plain_name(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")


def _may_carry_credentials(record: CallRecord) -> bool:
    request = record.request
    if record.api not in _CARRIES_CREDENTIALS or not is_kept(request.body):
        return False
    body = bytes(request.body)
    if not request.tool_names and b'"mcp_servers"' not in body:
        return False
    return b"uthorization" in body or b'"headers"' in body


def _mask_bodies(record: CallRecord) -> CallRecord:
    request = _masked_body(record.request.body)
    response = None if record.response is None else _masked_body(record.response.body)
    notes = [
        Redaction(what=f"{side}.body", why="secret")
        for side, body in (("request", request), ("response", response))
        if body is not None
    ]
    if not notes:
        return record
    record = with_bodies(record, request, response)
    return msgspec.structs.replace(record, redactions=[*record.redactions, *notes])


def _masked_body(body: msgspec.Raw) -> msgspec.Raw | None:
    """The body with its settings masked, messages untouched; None where nothing is to be masked."""
    value = decoded(body)
    if value is UNREADABLE or not isinstance(value, dict):
        return None
    settings = {key: item for key, item in value.items() if key not in _MESSAGES}
    masked = mask_settings(settings)
    return None if masked is settings or not isinstance(masked, dict) else encoded({**value, **masked})
