"""Secrets: masks keys and passwords in bodies and error texts, regardless of the content setting."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache, partial
from typing import Final, TypeVar

import msgspec

from callspan.process.content import decoded, encoded, with_bodies
from callspan.process.known_keys import MASK, fields_without_known_keys
from callspan.process.secret_patterns import PATTERNS, USER, VALUE
from callspan.providers.error_kinds import FIRST_ERROR
from callspan.record import json_schema, wire_fields
from callspan.record.apis import APIS, of_every_api
from callspan.record.call import CallRecord, ErrorInfo, Redaction
from callspan.record.codec import encode_json
from callspan.record.events import EventRecord, MessageRecord, Record, RewardRecord, SessionRecord, TimestepRecord
from callspan.runtime.safe_urls import whole_words

_R = TypeVar("_R", bound=CallRecord | SessionRecord | TimestepRecord | EventRecord | MessageRecord | RewardRecord)

_WORD_BREAK: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")


@lru_cache(maxsize=1024)
def _plain_name(key: str) -> str:
    return key.lower().replace("-", "").replace("_", "")


_KEYS: Final = (
    "api access account auth functions? master private secret subscription signing encryption webhook shared ssh hmac"
    " openai anthropic byok licen[cs]e provider"
)
_TOKENS_OF: Final = "access ad api authorization auth bearer bot id refresh sas security session csrf"
_SECRET_NAME: Final = re.compile(
    # Matches the last words of a name, in lower case and joined by `_`; long words match even without a separator.
    rf"(?:{_KEYS.replace(' ', '|')})_?keys?$|access_?key_?id$|api_?key_?string$"
    rf"|(?:_|{_TOKENS_OF.replace(' ', '|')})token$"
    r"|(?:authorization|connection_?string|cookies?|credentials?|pass_?code|pass_?phrase|passwd|passwords?|secrets?)$"
    r"|(?:^|_)(?:admin|db|pg|redis|root|smtp|ssh|user)_?pass$"
    r"|(?:^|_)(?:bearer|jwt|[ht]?otp|pin|pwd|sas|x?_?amz_?signature)$"
    r"|(?:^|_)(?:authn?|authentication|oauth2?|byok|dsn|hmac|pat)$"
    r"|(?:auth|authn|authentication|authorization|oauth2?|api_?key|token|cookie)_headers?$"
)
_MAYBE_KEYS: Final = frozenset({"key", "keys", "signature"})
"""Names of a secret only if the value looks like one."""
_KEY_LIKE: Final = re.compile(r"[\w+/=.~:-]{16,}")
_RANDOM_PART: Final = re.compile(r"(?=[a-zA-Z]*[0-9])(?=[0-9]*[a-zA-Z])[a-zA-Z0-9]{8,}")
"""A part of a key, with letters and digits. Words, dates and numbers are not parts of keys."""
_NUMBERS: Final = frozenset({int, float, bool})
_TOKEN: Final = "token"  # noqa: S105 - a name
"""The name of a secret in settings and metadata; in answers (log probabilities) it is a piece of text."""
_IN_PROSE: Final = frozenset({_TOKEN, "auth", "authentication", "oauth", "pat"})
"""Names that prose may have before a colon and a word."""
_NAME_END: Final = 64
_HEADER_MAPS: Final = frozenset(
    {"headers", "extraheaders", "defaultheaders", "httpheaders", "requestheaders", "customheaders"}
)
_OPTION: Final = re.compile(r"--?([A-Za-z][\w-]{0,63})(=|$)")
"""An option of a command, as of those that start an MCP server, perhaps with the beginning of its value."""
_HEADER_OPTIONS: Final = frozenset({"H", "header", "headers"})
_HEADER_NAME: Final = re.compile(r"[\w-]{1,64}")
_PAIRS: Final = (("name", "value"), ("key", "value"), ("type", "value"), ("type", "key"))
"""The members of an object that name a secret, and those with its value."""
_CONTENT: Final = of_every_api(lambda row: (*row.said, *row.instructions, *row.content))
"""Members of requests, on any wire, with what is said. They are not searched, however long they are."""
_WITHOUT_SECRETS: Final = _CONTENT | of_every_api(lambda row: row.params_in) | {"model", "stream"}
"""Members of requests that need no search: content, words, and objects with members that are parameters of the
record."""
_OFFERED: Final = (b'"mcp', b'"tools"')
"""Byte strings in all content that offers the tools of an MCP server, as the result of a search for tools does."""
_CREDENTIAL_MARKS: Final = (
    *(b'key"', b'keys"', b'token"', b'otp"', b'pin"', b'pwd"', b'jwt"', b'sas"', b'headers"', b"://", b"access"),
    *(b'pat"', b'dsn"', b'hmac"', b'byok"', b'"args"', b'"env'),
    *(b"auth", b"bearer", b"connection", b"cookie", b"credential", b"pass", b"secret", b"signature"),
)
"""Lower-case byte strings. Every setting with a secret has one of them."""
_WITHOUT_SETTINGS: Final = frozenset(name for name, row in APIS.items() if not row.repeats_credentials)
"""APIs with answers that repeat no settings."""

MAX_SEARCHED: Final = 65_536
"""Characters of one error that are searched for secrets; the rest is cut."""
MAX_SETTINGS_SEARCHED: Final = 262_144
"""Characters of one record's settings and metadata that are searched for secrets in URLs; the rest is cut."""
_MAX_SETTING: Final = 4096
"""Characters of a text in a member of a body that callspan does not know; a longer one is no setting, but content."""
_CUT: Final = "…[cut: {} characters]"
_ERROR_TEXTS: Final = ("type", "code", "param", "request_id", "frames", "message")
"""Fields of an error with foreign text; the longest last, so that it does not use up the limit for the others."""

_URL_USER: Final = re.compile(rf"(?<=://){USER}")
_QUERY: Final = re.compile(r"([?&#][\w.-]{1,64}=)[^&\s\"'#]+")
_ASSIGNED: Final = re.compile(r"""(?<![\w.-])([A-Za-z][\w-]{1,63})(["']?\s?[:=]\s?["']?)""")
"""A name before its value, in prose, code, a connection string or JSON."""
_VALUE: Final = re.compile(rf"(?!(?i:bearer|basic|token|api-?key)\s){VALUE}")
_URL_PARTS: Final = re.compile("[/?#&=@:]+")
_SERVER_URLS: Final = sorted(wire_fields.SERVER_URLS)
_OF_SERVERS: Final = wire_fields.SERVER_URLS | wire_fields.SERVER_MARKS
"""Members that a server has; an object of the same type without any is a call, or a list of tools."""
_SERVERS: Final = {_plain_name(name) for name in wire_fields.SERVER_LISTS}
"""Plain names of members that hold MCP servers, which need not say that they are."""
_PLAIN_SEGMENT: Final = re.compile(r"(?:v[0-9]{1,3}|[a-z]+(?:[_-][a-z]+)*)?")
"""A path segment of plain words."""
_WITHOUT_ERROR: Final = (RewardRecord, MessageRecord)
_ERROR: Final = "error"
"""The member of a body with an error."""
_QUERY_ENDINGS: Final = ("key", "token", "signature", "credential", "password", "passwd", "secret", "=sig", "=code")


def mask_text(text: str) -> str:
    """Return `text` with keys, tokens, authorization values and URL credentials replaced by `[secret]`.

    Takes linear time.
    """
    for marks, pattern, masked, _ in PATTERNS:
        if not marks or any(mark in text for mark in marks):
            text = re.sub(pattern, masked, text)
    if "=" in text or ":" in text:
        text = _mask_assigned(text)
    return _QUERY.sub(_masked_parameter, text) if "=" in text else text


def _mask_assigned(text: str) -> str:
    """Return the text with the values after secret names masked."""
    parts, end = list[str](), 0
    for match in _ASSIGNED.finditer(text):
        value = _VALUE.match(text, match.end()) if match.start() >= end and _names_secret(*match.groups()) else None
        if value is not None:
            parts += text[end : value.start()], MASK
            end = value.end()
    return "".join((*parts, text[end:]))


def _names_secret(name: str, joint: str) -> bool:
    # In prose, `token: word` may be about a piece of text.
    if name.lower() in _IN_PROSE:
        return joint.strip() != ":"
    return _is_secret(name)


def _masked_parameter(match: re.Match[str]) -> str:
    name = match[1][1:-1]
    return match[1] + MASK if _is_secret(name) or f"={name.lower()}".endswith(_QUERY_ENDINGS) else match[0]


def mask_settings(value: object, search: BoundedSearch | None = None) -> object:
    """Return settings with values of secret names and header maps masked, and credentials removed from URLs.

    Returns the same object if nothing is masked, and never changes its argument. `search` is a limit shared by several
    settings; the default is `MAX_SETTINGS_SEARCHED` characters.
    """
    search = BoundedSearch(MAX_SETTINGS_SEARCHED) if search is None else search
    if isinstance(value, dict):
        if _NUMBERS.issuperset(map(type, value.values())) and not any(map(_is_secret, value)):
            return value
        masked = {key: safe for key, item in value.items() if (safe := _masked_item(key, item, search)) is not item}
        if _is_server(value.get("type")):
            masked |= _masked_servers(value | masked)
        if "value" in value or "key" in value:
            masked |= _masked_pairs(value)
        return {**value, **masked} if masked else value
    if isinstance(value, list):
        items = [mask_settings(item, search) for item in _with_masked_options(value)]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return search.without_credentials(value)


def mask_record(record: Record) -> Record:
    """Return the record without secrets in its settings, metadata and error; the same object if it has none.

    In the bodies of a call, settings are masked, messages never. At most `MAX_SEARCHED` characters of the error and
    `MAX_SETTINGS_SEARCHED` of everything else are searched.
    """
    if record.metadata or isinstance(record, CallRecord):
        search = BoundedSearch(MAX_SETTINGS_SEARCHED)
        if isinstance(record, CallRecord):
            record = _mask_call(record, search)
        if record.metadata:
            record = _mask_metadata(record, search)
    if isinstance(record, _WITHOUT_ERROR):
        return record
    error = record.error
    if error is None:
        return record
    if isinstance(record, CallRecord):
        record = _mask_refusal(record, error)
    if (masked := masked_error(error)) is error:
        return record
    note = Redaction(what="error", why="secret")
    return msgspec.structs.replace(record, error=masked, redactions=[*record.redactions, note])


def _mask_refusal(record: CallRecord, error: ErrorInfo) -> CallRecord:
    """Mask the body of an answer that is an error, or the error that a stream has in it: it may repeat the request."""
    answer = None if record.response is None else decoded(record.response.body)
    is_whole = error.status is not None and error.status >= FIRST_ERROR
    if not isinstance(answer, dict) or not (is_whole or _ERROR in answer):
        return record
    search = BoundedSearch(MAX_SEARCHED)
    masked = search.all_masked(answer) if is_whole else {**answer, _ERROR: search.all_masked(answer[_ERROR])}
    if masked == answer:
        return record
    note = Redaction(what="response.body", why="secret")
    record = with_bodies(record, None, encoded(masked))
    return msgspec.structs.replace(record, redactions=[*record.redactions, note])


def masked_error(error: ErrorInfo) -> ErrorInfo:
    """Return the error with its texts and body masked; the same object if nothing is masked.

    The texts are cut after `MAX_SEARCHED` characters in total, with a note.
    """
    error = fields_without_known_keys(error)
    search = BoundedSearch(MAX_SEARCHED)
    texts = {name: getattr(error, name) for name in _ERROR_TEXTS}
    safe = {name: search.masked(text) for name, text in texts.items() if isinstance(text, str)}
    body = search.all_masked(error.body)
    if body == error.body and all(text == texts[name] for name, text in safe.items()):
        return error
    return msgspec.structs.replace(error, body=body, **safe)


class BoundedSearch(msgspec.Struct, eq=False):
    """Masks texts up to a total number of characters, and truncates the rest."""

    _remaining: int
    _longest: int | None = None
    """Length of the longest text that is masked; longer ones, and those beyond the limit, stay. None: all are."""

    def masked(self, text: str) -> str:
        """Return the masked text, truncated at the limit."""
        return self._searched(text, mask_text)

    def without_credentials(self, value: object) -> object:
        """Return a string with credentials removed from URLs; any other value unchanged."""
        if not isinstance(value, str) or "://" not in value:
            return value
        masked = self._searched(value, _mask_urls)
        return value if masked == value else masked

    def _searched(self, text: str, mask: Callable[[str], str]) -> str:
        room = max(0, self._remaining)
        if self._longest is not None and len(text) > min(self._longest, room):
            return text
        self._remaining -= len(text)
        return mask(text) if len(text) <= room else mask(whole_words(text, room)) + _CUT.format(len(text))

    def all_masked(self, value: object) -> object:
        """Return JSON with all strings and keys masked, and the values of secret names replaced."""
        if isinstance(value, str):
            return self.masked(value)
        if isinstance(value, dict):
            return {self._key(key): self._item(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.all_masked(item) for item in value]
        return value

    def _key(self, key: object) -> object:
        return self.masked(key) if isinstance(key, str) else key

    def _item(self, key: object, item: object) -> object:
        return _masked_values(item, self.all_masked) if _is_secret(key) else self.all_masked(item)


def _mask_call(record: CallRecord, search: BoundedSearch) -> CallRecord:
    params = record.request.params
    safe = mask_settings(params, search) if params else params
    if safe is not params:
        safe = _without_content(params, safe)
    if safe is not params:
        record = msgspec.structs.replace(record, request=msgspec.structs.replace(record.request, params=safe))
    try:
        sent = _decode_members(record.request.body)
    except _UNREADABLE:
        sent = {}
    masked: dict[str, object] = {}
    for key in sent:
        if safe is not params or (key not in _WITHOUT_SECRETS and key not in params):
            # A setting besides the parameters, or one that may be like a masked one.
            masked = _changed_members(sent, search)
            break
    request = encoded({**sent, **masked}) if masked else None
    response = None
    if record.response is not None and (masked or record.api not in _WITHOUT_SETTINGS):
        received = _members(record.response.body)
        # Most answers are content alone: the loop over their members is for the others.
        if masked or any(map(_is_repeated, received)) or _offers_tools(bytes(record.response.body)):
            repeated = _changed_members(received, search, masked.keys())
            response = encoded({**received, **repeated}) if repeated else None
    if request is None and response is None:
        return record
    notes = [
        Redaction(what=f"{side}.body", why="secret")
        for side, body in (("request", request), ("response", response))
        if body is not None
    ]
    record = with_bodies(record, request, response)
    return msgspec.structs.replace(record, redactions=[*record.redactions, *notes])


def _without_content(params: dict[str, object], safe: object) -> dict[str, object]:
    """Return masked parameters with what is content among them as it was; the same object if nothing else changed."""
    if not isinstance(safe, dict):
        return params
    masked = safe | {key: params[key] for key in params.keys() & _CONTENT}
    return params if masked == params else masked


def _mask_metadata(record: _R, search: BoundedSearch) -> _R:
    metadata = record.metadata
    if (safe := mask_settings(metadata, search)) is metadata:
        return record
    note = Redaction(what="metadata", why="secret")
    return msgspec.structs.replace(record, metadata=safe, redactions=[*record.redactions, note])


def _masked_values(value: object, masked: Callable[[object], object]) -> object:
    """Return the value of a secret name masked: a number, and all texts in it; `masked` masks other values."""
    if isinstance(value, list):
        return [_masked_values(item, masked) for item in value]
    if isinstance(value, dict) and isinstance(safe := masked(value), dict):
        return {name: _masked_member(member, masked) for name, member in safe.items()}
    return MASK if type(value) in (str, int) else masked(value)


def _masked_member(member: object, masked: Callable[[object], object]) -> object:
    if isinstance(member, dict | list):
        return _masked_values(member, masked)
    return MASK if type(member) is str else member


def _masked_item(key: object, item: object, search: BoundedSearch) -> object:
    kind = type(item)
    if kind in _NUMBERS:
        return MASK if kind is int and _is_secret(key) else item
    if isinstance(key, str) and _plain_name(key[-_NAME_END:]) in _HEADER_MAPS:
        masked_headers = _masked_headers(item)
        return item if masked_headers == item else masked_headers
    if kind is str:
        is_secret = _is_secret_setting(key) or (_may_be_key(key) and _looks_like_key(item))
        return MASK if is_secret and item != MASK else search.without_credentials(item)
    if isinstance(item, dict | list) and _may_be_key(key):
        item = _with_masked_keys(item)
    if isinstance(item, dict | list) and _is_secret_setting(key):
        masked = _masked_values(item, partial(mask_settings, search=search))
        return item if masked == item else masked
    if isinstance(item, dict) and isinstance(key, str) and key in json_schema.BY_NAME:
        return _masked_schemas(item, search)
    if not isinstance(item, dict | list):
        return item
    masked = mask_settings(item, search)
    return (
        _with_masked_servers(masked) if isinstance(key, str) and _plain_name(key[-_NAME_END:]) in _SERVERS else masked
    )


def _masked_headers(headers: object) -> object:
    """Return headers with their values masked: a mapping, or a list of pairs or of objects with a name and a value."""
    if isinstance(headers, list):
        return [*map(_masked_header, headers)]
    return dict.fromkeys(headers, MASK) if isinstance(headers, dict) else headers if headers is None else MASK


def _masked_header(header: object) -> object:
    match header:
        case [str(name), _] if _HEADER_NAME.fullmatch(name):
            return [name, MASK]
        case {"name": str(name), **others} if "value" in others and _HEADER_NAME.fullmatch(name):
            return {"name": name, **dict.fromkeys(others, MASK)}
        case str(name) if _HEADER_NAME.fullmatch(name) and not _looks_like_key(name):
            return name
        case _:
            return _masked_headers(header)


@lru_cache(maxsize=1024)
def _may_be_key(key: object) -> bool:
    return isinstance(key, str) and key.lower() in _MAYBE_KEYS


def _looks_like_key(value: object) -> bool:
    return isinstance(value, str) and bool(_KEY_LIKE.fullmatch(value)) and bool(_RANDOM_PART.search(value))


def _with_masked_keys(items: dict[object, object] | list[object]) -> dict[object, object] | list[object]:
    """Return a list or mapping of keys with those masked that look like one; the same object if none does."""
    if not any(map(_looks_like_key, items.values() if isinstance(items, dict) else items)):
        return items
    if isinstance(items, dict):
        return {name: MASK if _looks_like_key(value) else value for name, value in items.items()}
    return [MASK if _looks_like_key(value) else value for value in items]


def _masked_schemas(schemas: dict[object, object], search: BoundedSearch) -> object:
    """Return schemas with their contents masked; their names are no names of secrets."""
    masked = {
        name: safe
        for name, schema in schemas.items()
        if (safe := mask_settings(schema, search) if _is_schema(schema) else _masked_item(name, schema, search))
        is not schema
    }
    return {**schemas, **masked} if masked else schemas


def _is_schema(value: object) -> bool:
    return isinstance(value, dict) and not json_schema.KEYWORDS.isdisjoint(value)


def _with_masked_options(items: list[object]) -> list[object]:
    """Return a list with the secrets in the options of a command line masked; the same object if it has no options."""
    if not any(isinstance(item, str) and item[:1] == "-" for item in items):
        return items
    return [_masked_option(before, item) for before, item in zip(["", *items], items, strict=False)]


def _masked_option(before: object, item: object) -> object:
    """Return an item of a command line masked if it is the value of a secret option, or has one; `before` precedes."""
    if not isinstance(item, str):
        return item
    if (own := _OPTION.match(item)) is not None:
        return f"{own[0]}{MASK}" if own[2] and _is_secret_setting(own[1]) else item
    option = _OPTION.fullmatch(before) if isinstance(before, str) else None
    if option is None or option[2]:
        return item
    if option[1] in _HEADER_OPTIONS:
        return "".join((*item.partition(":")[:2], MASK)) if ":" in item else MASK
    return MASK if _is_secret_setting(option[1]) else item


def _masked_pairs(pair: dict[object, object]) -> dict[object, object]:
    """Return the masked value of an object that names its secret, as `{"type": "api_key", "key": "..."}` does."""
    values = {value_name: pair.get(value_name) for name, value_name in _PAIRS if _is_secret(pair.get(name))}
    return {value_name: MASK for value_name, text in values.items() if isinstance(text, str) and text != MASK}


def _is_server(kind: object) -> bool:
    """Return whether an object of this type is an MCP server."""
    return isinstance(kind, str) and (kind in wire_fields.SERVER_TYPES or kind.startswith("mcp"))


def _with_masked_servers(servers: object) -> object:
    """Return MCP servers, in a list or by name, or one, masked; the same object if nothing is."""
    if isinstance(servers, list):
        masked = [*map(_with_masked_servers, servers)]
        return masked if any(new is not old for new, old in zip(masked, servers, strict=True)) else servers
    if not isinstance(servers, dict):
        return servers
    changed = _masked_servers(servers)
    if not _OF_SERVERS.isdisjoint(servers):
        return {**servers, **changed} if changed else servers
    changed |= {name: safe for name, one in servers.items() if (safe := _with_masked_servers(one)) is not one}
    return {**servers, **changed} if changed else servers


def _masked_servers(server: dict[object, object]) -> dict[object, object]:
    """Return the members of an MCP server that masking changes: URLs, its environment, and what looks like a key."""
    urls = {name: url for name in _SERVER_URLS if isinstance(url := server.get(name), str)}
    masked: dict[object, object] = {name: safe for name, url in urls.items() if (safe := _mask_server_url(url)) != url}
    if not _OF_SERVERS.isdisjoint(server):
        for name, member in server.items():
            if name not in urls and name not in wire_fields.SERVER_WORDS:
                is_environment = name in wire_fields.SERVER_ENVIRONMENTS
                safe_member = _masked_headers(member) if is_environment else _without_keys(member)
                masked |= {} if safe_member == member else {name: safe_member}
    return masked


def _without_keys(value: object) -> object:
    """Return the value with each text in it masked that looks like a key."""
    if isinstance(value, dict):
        return {name: _without_keys(member) for name, member in value.items()}
    if isinstance(value, list):
        return [*map(_without_keys, value)]
    return MASK if _looks_like_key(value) else value


def _mask_server_url(url: str) -> str:
    """Mask parameters, fragment, and all path segments that are not plain words."""
    scheme, mark, address = url.partition("://")
    address, sharp, fragment = address.partition("#")
    address, question, query = address.partition("?")
    host, *segments = address.split("/")
    path = [segment if segment == MASK or _PLAIN_SEGMENT.fullmatch(segment) else MASK for segment in segments]
    query = "&".join(
        f"{parameter.partition('=')[0]}={MASK}" if "=" in parameter else MASK for parameter in query.split("&")
    )
    return "".join(
        (scheme, mark, "/".join((host, *path)), question, query if question else "", sharp, MASK if fragment else "")
    )


def _mask_urls(text: str) -> str:
    return _QUERY.sub(_masked_parameter, _URL_USER.sub("", text))


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and _ends_secretly(key[-_NAME_END:])


def is_secret_name(name: str) -> bool:
    """Return whether a header or parameter of this name has a secret."""
    return _is_secret(name)


def secrets_of_settings(body: msgspec.Raw) -> list[str]:
    """Return the texts that are masked in the settings of a request, also those in URLs."""
    settings = _settings(_members(body))
    return [*_removed(settings, _masked_members(settings, BoundedSearch(MAX_SETTINGS_SEARCHED)))]


def _removed(before: object, after: object) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            yield from _removed(value, after.get(name))
    elif isinstance(before, list) and isinstance(after, list):
        for value, masked in zip(before, after, strict=False):
            yield from _removed(value, masked)
    elif isinstance(before, str) and isinstance(after, str) and before != after:
        kept = {*_URL_PARTS.split(after)}
        yield from (part for part in ([before] if after == MASK else _URL_PARTS.split(before)) if part not in kept)


def _is_secret_setting(key: object) -> bool:
    return _is_secret(key) or (isinstance(key, str) and key.lower() == _TOKEN)


@lru_cache(maxsize=1024)
def _ends_secretly(key: str) -> bool:
    return _SECRET_NAME.search(_WORD_BREAK.sub("_", key).lower()) is not None


def _is_marked(text: bytes, marks: tuple[bytes, ...]) -> bool:
    for mark in marks:  # noqa: SIM110 - a generator calls as many functions as there are marks
        if text.find(mark) >= 0:
            return True
    return False


_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Raised for a body that is no JSON object; a missing one is empty."""
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _members(body: msgspec.Raw) -> dict[str, msgspec.Raw]:
    """Return the members of a body; none if it is no JSON object."""
    try:
        return _decode_members(body)
    except _UNREADABLE:
        return {}


def _changed_members(
    members: dict[str, msgspec.Raw], search: BoundedSearch, repeated: Collection[str] | None = None
) -> dict[str, object]:
    """Return the members of a body that masking its settings changes, masked.

    `repeated` are the masked members of the request, if the body is its answer.
    """
    settings = _settings(members, repeated)
    if not settings:
        return {}
    masked = _masked_members(settings, search, repeated)
    return {key: item for key, item in masked.items() if item != settings[key]}


def _settings(members: dict[str, msgspec.Raw], repeated: Collection[str] | None = None) -> dict[str, object]:
    """Return the members of a body that may have a secret. Most of an answer is content."""
    settings: dict[str, msgspec.Raw] = {}
    for key, item in members.items():  # a function for each member would cost as much as the search
        content = bytes(item)
        if (
            (key not in _CONTENT if repeated is None else _is_repeated(key) or key in repeated)
            # Only the entries of a list offer tools.
            or (content[:1] == b"[" and _offers_tools(content))
        ):
            settings[key] = item
    if not settings or not _is_marked(encode_json(settings).lower(), _CREDENTIAL_MARKS):
        return {}
    return {key: decoded(item) for key, item in settings.items()}


def _offers_tools(content: bytes) -> bool:
    """Return whether content may offer the tools of an MCP server."""
    return content.find(_OFFERED[0]) >= 0 and content.find(_OFFERED[1]) >= 0


@lru_cache(maxsize=1024)
def _is_repeated(key: str) -> bool:
    """Return whether a member of an answer repeats settings."""
    is_defined = key in wire_fields.KEY_SETTINGS or key in wire_fields.ENVELOPES
    return is_defined or _is_secret(key) or _plain_name(key[-_NAME_END:]) in _HEADER_MAPS


def _masked_members(
    members: dict[str, object], search: BoundedSearch, repeated: Collection[str] | None = None
) -> dict[str, object]:
    """Return the members of a body, or of an envelope in it, with settings masked; of content only offered tools.

    Texts that may be content, as they are in a member that callspan does not know, are never cut.
    """
    texts = BoundedSearch(MAX_SETTINGS_SEARCHED, _MAX_SETTING)
    masked: dict[str, object] = {}
    for key, item in members.items():
        if key in wire_fields.ENVELOPES:
            masked[key] = _masked_members(item, search, repeated) if isinstance(item, dict) else item
        elif key in _CONTENT or (repeated is not None and key not in repeated and not _is_repeated(key)):
            masked[key] = _with_masked_tools(item, search)
        else:
            masked[key] = _masked_item(key, item, search if key in wire_fields.KEY_SETTINGS else texts)
    return masked


def _with_masked_tools(content: object, search: BoundedSearch) -> object:
    """Return content, with the tools masked that its entries offer."""
    if not isinstance(content, list):
        return content
    return [
        {**entry, "tools": mask_settings(entry["tools"], search)}
        if isinstance(entry, dict) and isinstance(entry.get("tools"), list)
        else entry
        for entry in content
    ]
