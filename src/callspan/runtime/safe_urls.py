"""Safe URLs: removes everything from a URL that could be part of a password, for logs and messages."""

from __future__ import annotations

import re
from functools import partial
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

from callspan.runtime.fail_open import value_of

HIDDEN: Final = "***"
MAX_SECRET_LENGTH: Final = 512
"""Maximum number of characters of a word that `whole_words` removes."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}")
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[\w.%*-]{0,255})(?::[0-9]{1,5})?")
_PLAIN: Final = re.compile(r"(?:[A-Za-z]:[\\/])?[^:@=?]*")
"""A path. Nothing separates a password in it."""
_FILES: Final = frozenset({"sqlite", "sqlite3", "jsonl", "unix", "console", "file"})
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}://")
_QUOTES: Final = {'"': '"', "'": "'", "<": ">", "`": "`", "(": ")"}
_WORD_END: Final = re.compile(r"[\s\"'<>]")
_LINE_END: Final = re.compile(r"[\r\n]")
_LABELLED: Final = re.compile(
    r"""(?i)\b((?:password|passwd|passphrase|sslpassword|token|secret|api_?key)\s{0,4}=\s{0,4})"""
    r"""('(?:[^'\\]|\\.){0,512}'|[^\s&"']{1,512})"""
)
"""A secret in the form `name=value`, as in a connection string or a query."""
_MAX_ERROR: Final = 4096
_SPACES: Final = " \t\r\n"
_NO_ESCAPE: Final = re.compile("%(?!0[1-9A-Fa-f]|[1-9A-Fa-f][0-9A-Fa-f])")
_NOT_IN_USER: Final = re.compile(r"[][/?#\s\"'<>]")


def safe_url(url: str) -> str:
    """Return the URL without user, password, query and fragment, for logs.

    Anything before the last `@`, including `/`, `?`, `#` and `@`, may be part of an unescaped password. If that is
    ambiguous, everything after the scheme becomes `***`. In the URL of a file, `#` is part of the path.
    """
    scheme, mark, address = url.strip().partition("://")
    if not mark:
        return url if _PLAIN.fullmatch(url) else HIDDEN
    if not _SCHEME.fullmatch(scheme):
        return HIDDEN
    if scheme.partition("+")[0].lower() in _FILES:
        path = address.partition("?")[0]
        return f"{scheme}://{HIDDEN if names_user(url) else path}"
    return f"{scheme}://{_safe_address(address)}"


def safe_name(url: str) -> str:
    """Return the result of `safe_url`, with a short hash to distinguish stores if it hides everything."""
    name = safe_url(url)
    return f"{name}-{sha256(url.encode('utf-8', 'replace')).hexdigest()[:8]}" if name.endswith(HIDDEN) else name


def names_user(url: str) -> bool:
    """Return whether a URL has user and password before its path, which file URLs do not allow."""
    address = url.partition("://")[2]
    return not address.startswith("/") and ":" in address.rpartition("@")[0]


def unescaped(url: str) -> bool:
    """Return whether the URL's password may contain an unescaped `/?#%[]` or space, which no driver accepts.

    Drivers quote values that they cannot parse, so a `%` that starts no escape is reported anywhere in the URL.
    """
    scheme, mark, address = url.strip().partition("://")
    if not mark or scheme.partition("+")[0].lower() in _FILES:
        return False
    if _NO_ESCAPE.search(address) or any(space in address for space in _SPACES):
        return True
    user, at, _ = address.rpartition("@")
    if not at:
        return _safe_address(address) == HIDDEN
    end = _NOT_IN_USER.search(user)
    # An earlier `@` ends the password of a URL that has another in its path or query.
    return end is not None and ":" in user[: end.start()] and "@" not in user[: end.start()]


def is_http_url(text: str) -> bool:
    """Return whether the text is an ASCII HTTP URL without an unescaped password."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return valid and text.isascii() and text.isprintable() and not unescaped(text)


def without_passwords(text: str) -> str:
    """Return a foreign text, such as a driver's error, with its URLs reduced by `safe_url`.

    Values of names such as `password` are hidden too. A text is truncated to 4,096 characters, with a final `…`.
    """
    if len(text) > _MAX_ERROR:
        text = f"{whole_words(text, _MAX_ERROR)}…"
    parts, start = [], 0
    while (match := _URL.search(text, start)) is not None:
        end = _end_of_url(text, match.start(), match.end())
        parts += [text[start : match.start()], safe_url(text[match.start() : end])]
        start = end
    return _LABELLED.sub(rf"\1{HIDDEN}", "".join([*parts, text[start:]]))


def error_text(error: BaseException) -> str:
    """Return the text of an exception without passwords, see `without_passwords`; "" if it has no readable one."""
    return without_passwords(value_of(partial(str, error)) or "")


def first_line(text: str, limit: int) -> str:
    """Return the first line of a text, cut at a word beyond `limit` characters, with a final `…`."""
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= limit else f"{whole_words(line, limit).rstrip()}…"


def _end_of_url(text: str, start: int, address_start: int) -> int:
    """Return the end of the URL at `start` in `text`; `address_start` is the position after its scheme.

    A quoted URL ends at the closing quote. Otherwise it ends at the first space, unless a password with a space may
    follow: then it extends to the `@` after the space and the end of that word.
    """
    line = _LINE_END.search(text, address_start)
    limit = len(text) if line is None else line.start()
    closing_quote = _QUOTES.get(text[start - 1 : start], "")
    quoted = (
        text.rfind(closing_quote, address_start, limit) if closing_quote in {'"', "'", "`"} and closing_quote else -1
    )
    if quoted >= 0:
        return quoted
    word = _WORD_END.search(text, address_start, limit)
    end = limit if word is None else word.start()
    at = text.rfind("@", end, limit)
    if at >= 0:
        word = _WORD_END.search(text, at, limit)
        return limit if word is None else word.start()
    return end


def whole_words(text: str, max_length: int) -> str:
    """Return at most the first `max_length` characters of a text, cut at the end of a word.

    Half a secret might not be recognised. At most `MAX_SECRET_LENGTH` characters of a longer word are removed.
    """
    beginning = text[: max(0, max_length)]
    start = max(0, len(beginning) - MAX_SECRET_LENGTH)
    space = max(beginning.rfind(character, start) for character in _SPACES)
    return beginning[:start] if space < 0 else beginning[: space + 1]


def _safe_address(address: str) -> str:
    user, at, location = address.rpartition("@")
    if at and ("?" in user or "#" in user or ("@" in user and "/" in user)):
        return HIDDEN
    hosts_and_path = re.split("[?#]", location, maxsplit=1)[0]
    hosts, slash, path = hosts_and_path.partition("/")
    if not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        return HIDDEN
    return f"{hosts}{slash}{path}"
