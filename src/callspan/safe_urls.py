"""Safe URLs: a URL for printing, without anything that could be part of a password."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

HIDDEN: Final = "***"
LONGEST_SECRET: Final = 512
"""Characters of a word that `whole_words` removes at most."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}")
_HOST: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[\w.%*-]{0,255})(?::[0-9]{1,5})?")
_PLAIN: Final = re.compile(r"(?:[A-Za-z]:[\\/])?[^:@=?#]*")
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
_NOT_IN_USER: Final = re.compile(r"[/?#\s\"'<>]")


def safe_url(url: str) -> str:
    """Return the URL without user, password, query and fragment, fit for logs.

    Whatever lies before the last `@` may belong to a password that was not escaped, also `/`, `?`, `#` and `@`. Where
    that is ambiguous, everything after the scheme is `***`.
    """
    scheme, mark, rest = url.strip().partition("://")
    if not mark:
        return url if _PLAIN.fullmatch(url) else HIDDEN
    if not _SCHEME.fullmatch(scheme):
        return HIDDEN
    if scheme.partition("+")[0].lower() in _FILES:
        path = re.split("[?#]", rest, maxsplit=1)[0]
        return f"{scheme}://{HIDDEN if names_user(url) else path}"
    return f"{scheme}://{_safe_rest(rest)}"


def user_of(url: str) -> str:
    """Return the user in a URL, "" if there is none; never to be printed."""
    before, at, _ = url.partition("://")[2].rpartition("@")
    return before.partition(":")[0] if at else ""


def safe_name(url: str) -> str:
    """Return the URL without its user, password and query, fit for logs.

    If the password cannot be found in the URL, a short hash distinguishes stores.
    """
    name = safe_url(url)
    return f"{name}-{sha256(url.encode('utf-8', 'replace')).hexdigest()[:8]}" if name.endswith(HIDDEN) else name


def names_user(url: str) -> bool:
    """Return whether user and password precede the path of a URL, which file URLs do not have."""
    rest = url.partition("://")[2]
    return not rest.startswith("/") and ":" in rest.rpartition("@")[0]


def unescaped(url: str) -> bool:
    """Return whether the URL's password may have an unescaped `/`, `?`, `#`, `%` or space, which no driver accepts.

    Drivers quote what they cannot read: a `%` that begins no escape is reported wherever it is.
    """
    scheme, mark, rest = url.strip().partition("://")
    if not mark or scheme.partition("+")[0].lower() in _FILES:
        return False
    if _NO_ESCAPE.search(rest) or any(space in rest for space in _SPACES):
        return True
    before, at, _ = rest.rpartition("@")
    if not at:
        return _safe_rest(rest) == HIDDEN
    end = _NOT_IN_USER.search(before)
    # An earlier `@` ends the password of a URL that has another in its path or query.
    return end is not None and ":" in before[: end.start()] and "@" not in before[: end.start()]


def is_http_url(text: str) -> bool:
    """Return whether the text is the URL of an HTTP server, in ASCII, with no password that a client would misread."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return valid and text.isascii() and text.isprintable() and not unescaped(text)


def without_passwords(text: str) -> str:
    """Return a foreign text, such as a driver's error, with no more of its URLs than `safe_url` returns of them.

    Values of names such as `password` are hidden too. Of a text of more than 4,096 characters only the beginning is
    kept, which ends in `…`.
    """
    if len(text) > _MAX_ERROR:
        text = f"{whole_words(text, _MAX_ERROR)}…"
    parts, start = [], 0
    while (found := _URL.search(text, start)) is not None:
        end = _end_of_url(text, found.start(), found.end())
        parts += [text[start : found.start()], safe_url(text[found.start() : end])]
        start = end
    return _LABELLED.sub(rf"\1{HIDDEN}", "".join([*parts, text[start:]]))


def error_text(error: BaseException) -> str:
    """Return the text of an exception without passwords, see `without_passwords`; "" if it has none."""
    return without_passwords(str(error))


def _end_of_url(text: str, start: int, rest: int) -> int:
    """Return where the URL from `start` ends in `text`; its part after the scheme begins at `rest`.

    In quotes it ends with them. Else at the first space, unless a password with a space may follow: up to the `@` after
    it, or to the end of the line where the URL has a query.
    """
    line = _LINE_END.search(text, rest)
    most = len(text) if line is None else line.start()
    closing = _QUOTES.get(text[start - 1 : start], "")
    quoted = text.rfind(closing, rest, most) if closing in {'"', "'", "`"} and closing else -1
    if quoted >= 0:
        return quoted
    word = _WORD_END.search(text, rest, most)
    end = most if word is None else word.start()
    at = text.rfind("@", end, most)
    if at >= 0:
        word = _WORD_END.search(text, at, most)
        return most if word is None else word.start()
    return end


def whole_words(text: str, most: int) -> str:
    """Return at most the first `most` characters of a text, cut at the end of a word.

    Half a secret may not be recognised as one. Words are separated by spaces; of a word longer than
    `LONGEST_SECRET` that many characters are removed.
    """
    kept = text[: max(0, most)]
    start = max(0, len(kept) - LONGEST_SECRET)
    space = max(kept.rfind(one, start) for one in _SPACES)
    return kept[:start] if space < 0 else kept[: space + 1]


def _safe_rest(rest: str) -> str:
    before, at, after = rest.rpartition("@")
    if at and ("?" in before or "#" in before or ("@" in before and "/" in before)):
        return HIDDEN
    address = re.split("[?#]", after, maxsplit=1)[0]
    hosts, slash, path = address.partition("/")
    if not all(_HOST.fullmatch(host) for host in hosts.split(",")):
        return HIDDEN
    return f"{hosts}{slash}{path}"
