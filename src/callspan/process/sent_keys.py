"""Sent keys: the secrets in the headers, the URL and the settings of a request. `known_keys` masks them in errors."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, cast
from urllib.parse import unquote, unquote_plus

import msgspec

from callspan.process.content import decoded, encoded, with_bodies
from callspan.process.known_keys import is_key, pattern, remember, starts, without_keys, without_known_keys
from callspan.process.secrets import is_secret_name, mask_text, secrets_of_settings
from callspan.providers.hosts import is_own_host
from callspan.record.call import CallRecord, Redaction, Response
from callspan.record.codec import encode_json
from callspan.runtime.fail_open import fail_open, value_of
from callspan.runtime.safe_urls import without_passwords

_READ: Final = fail_open("mask the keys of a request")
_PIECE: Final = re.compile(r"[^\s,;\"'=]{8,}=*")
_SCHEME: Final = r"(?i)(?:bearer|basic|token|api-?key|key)[\s=]+"
_PARAMETER: Final = re.compile(r"[?&]([^=&#]{1,64})=([^&#]+)")
_USER: Final = r"^[a-z]{2,5}://([^/@]*):([^/@]*)@"
_BASIC: Final = r"(?i)basic\s+([\w+/=-]+)"
_SIGNED: Final = "AWS4-"
"""How a header begins that has a signature in place of a key."""
_SIGNER: Final = r"Credential=([^/,\s]+)"
_PROTOCOLS: Final = "sec-websocket-protocol"
_OF_PROTOCOL: Final = r"(?i)(?:key\.|(?:token|bearer),\s*)([^\s,]+)"
"""A key among the protocols of a websocket, where browsers can set no header."""
_WORDS: Final = (
    r"(?:^|[^a-z])(?:auth|bypass|credentials?|jwt|keys?|pass(?:code|word)?|secrets?|sig|signature|tokens?|access-code)"
    r"(?:$|[^a-z])"
)
_NO_KEYS: Final = frozenset({"idempotency-key", "x-idempotency-key", "sec-websocket-key", "x-max-tokens"})
_PLAIN_HEADER: Final = (
    r"accept(?:-.*)?|amz-sdk-.*|anthropic-.*|b3|baggage|cache-control|connection|content-.*|date|expect|forwarded|host|if-.*"
    r"|openai-.*|origin|range|referer|sec-.*|te|trace(?:parent|state)|sentry-trace|transfer-encoding|upgrade|user-agent|via"
    r"|x-amz-(?:content-sha256|date)|x-b3-.*|x-cloud-trace-context|x-forwarded-.*|x-goog-api-client|x-stainless-.*"
    r"|(?:.*-)?(?:model|deployment)(?:-(?:id|name|version))?"
    r"|.*-?(?:request|trace|correlation|span|session|conversation|message|invocation|user|org|organization|project)-?id"
)
"""Headers with values that may look like keys, and are not. `re` compiles texts with the first failed request."""
_RANDOM: Final = re.compile(r"(?=.{12})(?:.*?(?:[A-Za-z][0-9]|[0-9][A-Za-z])){3}")
"""A value that is no name, date or version: a key in a header with a name that does not announce one."""
_LONG: Final = 12
"""Characters of a password that are unlikely in other text."""
_MAX_CAUSES: Final = 16
"""Number of exceptions that are asked for their request: one, what caused it, and the members of groups."""
_REQUESTS: Final = ("request", "request_info")
_ANSWERS: Final = ("response", "raw_response", "http_response")
"""Attributes by which exceptions name their answer, and answers and exceptions their request."""
_STATED: Final = ("response", "usage", "stream", "attempts", "rate_limits")
"""Fields of a record with what its answer states."""
_MAX_HEADER: Final = 4096
"""Characters of a text that may be a header."""
_MAX_REMEMBERED: Final = 128
"""Number of headers and URLs that are not searched for keys again."""
_CAUSE: Final[Callable[[BaseException], BaseException | None]] = vars(BaseException)["__cause__"].__get__
_CONTEXT: Final[Callable[[BaseException], BaseException | None]] = vars(BaseException)["__context__"].__get__
"""Read what Python keeps: the attributes are any value where a class of the application has its own."""


def sent_keys(request: Any) -> list[str]:
    """Return what is secret in the headers and the URL of a request of any HTTP library, the longest first."""
    keys: set[str] = set()
    if request is not None:
        with _READ:
            keys.update(_keys(request))
    return sorted(keys, key=len, reverse=True)


def without_sent_keys(text: str, request: Any) -> str:
    """Return a text of an answer, such as its id, without the keys of its request, where it repeats one."""
    keys = sent_keys(request)
    return without_keys(text, keys) if keys else text


def remember_request(request: object, body: msgspec.Raw) -> None:
    """Mask the keys of a failed request, and the secrets in the settings of its body, in errors."""
    remember(sent_keys(request))
    with _READ:
        remember(key for value in secrets_of_settings(body) for key in keys_in(value))


def remember_failure(error: BaseException) -> None:
    """Mask the keys of the requests that an exception names, or one that caused it or is in its group."""
    errors, seen = [error], set[int]()
    while errors and len(seen) < _MAX_CAUSES:
        error = errors.pop(0)
        if id(error) in seen:
            continue
        seen.add(id(error))
        for request in _requests_of(error):
            remember(value_of(partial(_list_of_keys, request)) or ())
        # A class of the application may raise for any attribute, even `__class__`, which `isinstance` asks for.
        if issubclass(type(error), UnicodeEncodeError):
            remember(value_of(partial(_unsent_keys, error)) or ())
        errors += [cause for cause in (_CAUSE(error), _CONTEXT(error)) if cause is not None]
        errors += value_of(partial(_members, error)) or ()


def _requests_of(error: BaseException) -> Iterator[object]:
    """Yield the requests of HTTP libraries that an exception of one, or of an SDK, names as its own."""
    for holder in (error, *(_attribute(error, name) for name in _ANSWERS)):
        for name in _REQUESTS:
            if holder is not None and (request := _attribute(holder, name)) is not None:
                yield request


def _unsent_keys(error: Any) -> list[str]:
    """Return the keys in a header that cannot be encoded, which is in no request yet."""
    return [key for key in keys_in(error.object) if _RANDOM.match(key)] if len(error.object) <= _MAX_HEADER else []


def _attribute(value: object, name: str) -> object:
    return value_of(partial(getattr, value, name, None))


def _members(error: BaseException) -> list[BaseException]:
    """Return the exceptions of a group."""
    members: Any = getattr(error, "exceptions", ())
    return [member for member in members[:_MAX_CAUSES] if issubclass(type(member), BaseException)]


def without_secrets(text: str) -> str:
    """Return what another program says, such as a store or a receiver, without secrets, for logs and messages.

    It is cut after 4,096 characters.
    """
    return mask_text(without_known_keys(without_passwords(text)))


def without_repeated_keys(record: CallRecord, request: Any) -> CallRecord:
    """Return the record of an ended call without the keys of its request in its answer, and in what that states.

    In a success they are looked for as they are in the body, and in any form in the facts of the response, which costs
    least; not in one of a large provider's own host, since to look takes 2.7 % of a call's instructions. The same
    object if there are none.
    """
    response = record.response
    if record.error is None:
        if response is None or request is None or is_own_host(record.server_address or ""):
            return record
        keys: tuple[_SentKey, ...] = ()
        with _READ:
            keys = _keys_of_answered(request)
        if not keys or not _is_repeated(response, keys):
            return record
        remember(key.text for key in keys)
    facts = {name: getattr(record, name) for name in _STATED}
    masked = without_known_keys(facts)
    if masked != facts:
        record = msgspec.structs.replace(record, **masked)
    return _with_masked_body(record)


def _is_repeated(response: Response, keys: Iterable[_SentKey]) -> bool:
    body = bytes(response.body)
    # One text: each of its words is looked at in the same step.
    facts = (
        f"{response.id} {response.model} {response.finish_reasons} {response.service_tier} {response.status}"
        f" {response.system_fingerprint} {response.prompt_cache_miss}"
    ).lower()
    for key in keys:
        if key.written and body.find(key.written) >= 0:
            return True
        for start in key.starts:
            if start in facts and pattern(key.text).search(facts) is not None:
                return True
    return False


def _with_masked_body(record: CallRecord) -> CallRecord:
    answer = None if record.response is None else decoded(record.response.body)
    masked = without_known_keys(answer)
    if masked == answer:
        return record
    note = Redaction(what="response.body", why="secret")
    record = with_bodies(record, None, encoded(masked))
    return msgspec.structs.replace(record, redactions=[*record.redactions, note])


class _SentKey(NamedTuple):
    text: str
    written: bytes
    """As JSON has it; empty if nothing says that it is a key: content may have it too."""
    starts: tuple[str, ...]
    """What is, in lower case, in every text with the key in any form."""


def _keys_of_answered(request: Any) -> tuple[_SentKey, ...]:
    """Return the keys of a request, as `sent_keys` does, in a tenth of its time: most headers have plain names."""
    url = _url_of(request)
    query = getattr(url, "query", url)  # bytes of httpx; else the whole URL, as a text or as aiohttp has it
    keys = _keys_of_query(query if type(query) is bytes else str(url)) if query else ()
    for name, value in _headers_of(request):
        if name not in _PLAIN_NAMES:
            keys += _keys_of_pair(name, value)
    return keys


_PLAIN_NAMES: Final[set[object]] = set()
"""Names of headers without keys, as HTTP libraries have them."""


@lru_cache(maxsize=_MAX_REMEMBERED)
def _keys_of_query(query: bytes | str) -> tuple[_SentKey, ...]:
    keys = _keys_of_url(query if isinstance(query, str) else f"?{_text(query)}")
    return (*(_sent_key(key, is_named=True) for key in keys),)


@lru_cache(maxsize=_MAX_REMEMBERED)
def _keys_of_pair(name: object, value: object) -> tuple[_SentKey, ...]:
    if _is_plain(name):
        if len(_PLAIN_NAMES) < _MAX_REMEMBERED:
            _PLAIN_NAMES.add(name)
        return ()
    header = _text(name).lower()
    keys = dict.fromkeys(_keys_of_header(header, _text(value)))
    return (*(_sent_key(key, is_named=_has_key(header)) for key in keys),)


def _sent_key(key: str, *, is_named: bool) -> _SentKey:
    return _SentKey(key, encode_json(key)[1:-1] if is_named else b"", (*starts(key),))


def _list_of_keys(request: Any) -> list[str]:
    return list(_keys(request))


def _keys(request: Any) -> Iterator[str]:
    for name, value in _headers_of(request):
        if not _is_plain(name):
            yield from _keys_of_header(_text(name).lower(), _text(value))
    yield from _keys_of_url(str(_url_of(request) or ""))


def _headers_of(request: Any) -> Iterable[tuple[Any, Any]]:
    """Return names and values of headers as their HTTP library has them, in bytes or as text."""
    headers = request.headers
    # httpx decodes all headers for a look at one; a websocket's may be there twice.
    pairs = getattr(headers, "raw", None)
    return cast("Iterable[tuple[Any, Any]]", getattr(headers, "raw_items", headers.items)() if pairs is None else pairs)


def _url_of(request: Any) -> Any:
    """Return the URL of a request; the path of a websocket's handshake, which has no more."""
    return getattr(request, "url", None) or getattr(request, "path", None)


@lru_cache(maxsize=1024)
def _is_plain(raw_name: object) -> bool:
    """Return whether a header of this name has no key."""
    name = _text(raw_name).lower()
    if name == _PROTOCOLS or _has_key(name):
        return False
    return name in _NO_KEYS or re.fullmatch(_PLAIN_HEADER, name) is not None


# A client sends the same keys with each request.
@lru_cache(maxsize=_MAX_REMEMBERED)
def _keys_of_header(name: str, value: str) -> tuple[str, ...]:
    if name == _PROTOCOLS:
        return (*filter(is_key, re.findall(_OF_PROTOCOL, value)),)
    return (*(keys_in(value) if _has_key(name) else filter(_RANDOM.match, keys_in(value))),)


@lru_cache(maxsize=_MAX_REMEMBERED)
def _keys_of_url(url: str) -> tuple[str, ...]:
    keys: list[str] = []
    for name, value in _PARAMETER.findall(url):
        if _has_key(unquote(name).lower()) or name.lower() == "code":
            for text in {value, unquote(value), unquote_plus(value)}:
                keys += keys_in(text)
    for match in re.finditer(_USER, url):
        keys += _of_login(unquote(match[1]), unquote(match[2]))
    return (*keys,)


@lru_cache(maxsize=1024)
def _has_key(name: str) -> bool:
    """Return whether a header or parameter of this name, in lower case, may have a key."""
    return name not in _NO_KEYS and (re.search(_WORDS, name) is not None or is_secret_name(name))


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def keys_in(value: str) -> Iterable[str]:
    """Return the value without its scheme, and the parts of it that look like keys."""
    if value.startswith(_SIGNED):
        return [*filter(is_key, re.findall(_SIGNER, value))]
    logins = [_login(match[1]) for match in re.finditer(_BASIC, value)]
    whole = re.sub(_SCHEME, "", value.strip(), count=1)
    pieces = [piece for text in (value, *(f"{user} {word}" for user, _, word in logins)) for piece in _pieces(text)]
    keys = [*filter(is_key, pieces)]
    if not any(map(str.isspace, whole)) and is_key(whole):
        keys.append(whole)
    for user, _, word in logins:
        keys += _of_login(user, word)
    return keys


def _login(coded: str) -> tuple[str, str, str]:
    """Return user, separator and password; empty if they are coded wrongly, which must hide no key beside them."""
    try:
        return base64.b64decode(f"{coded}==").decode("latin-1").partition(":")
    except ValueError:
        return "", "", ""


def _of_login(user: str, word: str) -> Iterable[str]:
    return [*filter(is_key, (user,)), *((word,) if len(word) >= _LONG or is_key(word) else ())]


def _pieces(text: str) -> list[str]:
    return _PIECE.findall(text.replace(":", " "))
