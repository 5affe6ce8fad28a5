"""Secret patterns: what keys, tokens and credentials look like in any text, a row for each, with an example.

All patterns take linear time. `re` compiles one when a text first needs it: to compile all takes as long as a tenth of
`instrument()`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from callspan.process.known_keys import MASK

VALUE: Final = r"""(?!\[secret)[^\s"',;}\]&]{6,}"""
_JOINT: Final = r"""(?:\s{1,8}provided)?["']?\s{0,8}[:=]\s{0,8}["']?(?:(?i:bearer|basic|token|api-?key)\s{1,8})?"""
_NEAR: Final = (
    r"""["']?(?:\s{1,8}(?i:headers?|values?|provided|given|sent|is|was|of)){0,3}["']?[\s:=,>(]{1,8}[bB]?["'(]?"""
)
"""Between a label and its value in prose, in code, or in a list of headers."""
_UNMARKED_KEY: Final = r"""(?=[^\s"',;]{0,64}[0-9])(?=[^\s"',;]{0,64}[A-Za-z])[\w+/=.~-]{12,}"""
"""A value that must look like a key, as nothing says that it is one."""
_LABELS: Final = (
    ("api_key", r"[Aa](?i:pi[-_ ]?key|ccess[-_]?(?:token|key)|ccount[-_]?key|uth[-_]?token|uthorization)"),
    ("Cookie", r"[Cc](?i:lient[-_]?secret|ookie)"),
    ("password", r"[Pp](?i:assword|asswd|assphrase|rivate[-_]?key)"),
    ("refresh_token", r"[Rr](?i:efresh[-_]?token)"),
    (
        "secret-key",
        r"[Ss](?i:ecret(?:[-_]?(?:access[-_]?)?key)?|ession[-_]?token|ecurity[-_]?token|ubscription[-_]?key)",
    ),
)
"""An example of a label, and the pattern of all with its first letter: `re` searches fast for a fixed first character
set."""
_PREFIXES: Final = (
    *("gsk", "hf", "ghp", "gho", "ghs", "ghu", "ghr", "r8", "pplx", "xai", "csk", "tvly", "nvapi", "fw", "whsec"),
    *("lsv2", "glpat", "npm", "ek", "dop_v1", "shpat", "pypi", "tgp", "jina", "voyage"),
)
_TOKENS: Final = ("oken", "OKEN")
_BLANK: Final = r" \t\v\f\r\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
r"""`\s` without line ends: with them, the search would take quadratic time in texts with many empty lines."""
USER: Final = r"""[^/\s"']+@"""
"""User and password in a URL, which may have an unescaped `@`, `?` or `#`."""


class SecretPattern(NamedTuple):
    """One kind of secret."""

    marks: tuple[str, ...]
    """Texts, one of which every match has; empty if a search for them would take as long as the pattern."""
    pattern: str
    replacement: str
    example: str
    """A text with such a secret between « and »."""


def _key(prefix: str, rest: str, example: str, *marks: str) -> SecretPattern:
    """Return the row of a key with a known prefix. The pattern starts with a literal, which `re` finds fast."""
    escaped = re.escape(prefix)
    pattern = f"{escaped}(?<![A-Za-z0-9_]{escaped}){rest}"
    return SecretPattern(marks or (prefix,), pattern, MASK, f"«{prefix}{example}»")


_AFTER: Final = rf"\1{MASK}"
"""What stands before the secret stays."""
PATTERNS: Final = (
    # Before the labels: one of them may match inside a user name and consume the `@`.
    SecretPattern(("://",), rf"://{USER}", "://", "https://ann:hunter2@example.com"),
    SecretPattern(
        ("-----BEGIN",),
        r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY-----[^-]{0,65536}(?:-----END [A-Z0-9 ]{1,64}-----)?",
        MASK,
        "«-----BEGIN RSA PRIVATE KEY-----MIIEow-----END RSA PRIVATE KEY-----»",
    ),
    # OpenAI, Anthropic, OpenRouter, DeepSeek; Stripe
    _key("sk-", r"[\w*.-]{8,}", "ant-api03-abcdefgh"),
    *(
        _key(f"{word}_", r"(?:live|test)_\w{8,}", "live_abcdefgh", f"{word}_live_", f"{word}_test_")
        for word in ("sk", "rk", "pk")
    ),
    *(_key(f"{prefix}{joint}", r"[\w*-]{16,}", "abcdefgh12345678") for prefix in _PREFIXES for joint in "_-"),
    *(_key(f"xox{kind}-", r"[\w-]{10,}", "1234567890-abc") for kind in "abeoprs"),
    _key("github_pat_", r"\w{20,}", "11ABCDEFG0123456789abc"),
    _key("AIza", r"[\w*-]{20,}", "SyA0123456789abcdefgh"),
    _key("AKIA", r"[A-Z0-9]{16}(?!\w)", "IOSFODNN7EXAMPLE"),
    _key("ASIA", r"[A-Z0-9]{16}(?!\w)", "IOSFODNN7EXAMPLE"),
    _key("ya29.", r"[\w.-]{20,}", "a0AfH6SMBabcdefghijkl"),
    # JSON web tokens match only at the start of a word: otherwise the search would take quadratic time.
    SecretPattern(
        ("eyJ",), r"eyJ(?<![\w-]eyJ)[\w-]{8,}\.[\w-]{8,}\.[\w-]*", MASK, "«eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM»"
    ),
    *(SecretPattern((), rf"({label}{_JOINT}){VALUE}", _AFTER, f"{name}: «hunter22»") for name, label in _LABELS),
    *(
        SecretPattern((), rf"({label}{_NEAR}){_UNMARKED_KEY}", _AFTER, f"{name} given was «abcdefgh12345678»")
        for name, label in _LABELS
    ),
    # HTTP libraries quote a header that cannot be sent.
    SecretPattern(
        ("eader value",),
        r"""([Hh]eader value:?\s{1,4}[bB]?["'])[^\s"']{8,}""",
        _AFTER,
        "Illegal header value b'«abc\\n12345»'",
    ),
    # A header on its own line, or an `X-` header; elsewhere `token` may be a piece of text.
    SecretPattern(
        _TOKENS,
        rf"(?m)(^[>*{_BLANK}]{{0,8}}[\w-]{{0,40}}[Tt](?i:oken):[ \t]{{0,8}}){VALUE}",
        _AFTER,
        "my-token: «abcdefgh»",
    ),
    SecretPattern(
        _TOKENS,
        rf"([Xx](?<![\w-][Xx])-[\w-]{{0,40}}[Tt](?i:oken){_JOINT}){VALUE}",
        _AFTER,
        "with X-My-Token: «abcdefgh»",
    ),
    SecretPattern(
        (), rf"([Bb](?<![A-Za-z0-9_][Bb])(?i:earer|asic)\s{{1,8}}){VALUE}", _AFTER, "sent Bearer «abcdefgh» to it"
    ),
)
