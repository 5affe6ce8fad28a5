"""Settings: every setting with its type and default, and the parsers for arguments and environment variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

import msgspec

from callspan.runtime.safe_urls import safe_url

if TYPE_CHECKING:
    from typing_extensions import TypedDict
else:
    from typing import TypedDict

__all__ = ["Content", "Media", "SettingArguments", "SettingError", "Settings", "Vocabulary"]

KIB: Final = 1024

Content: TypeAlias = Literal["full", "metadata", "off"]
Vocabulary: TypeAlias = Literal["llm", "gen_ai", "openinference"]
Media: TypeAlias = Literal["reference", "inline"]
Fsync: TypeAlias = Literal["none", "always"]
TracePer: TypeAlias = Literal["session", "timestep"]
Receive: TypeAlias = Literal["off", "on", "files"]
Size: TypeAlias = int | str
"""A number of bytes, or text with a binary unit: `32768`, `"32k"`, `"16m"`, `"1g"`."""

_NONE: Final[tuple[str, ...]] = ()
STRICTNESS: Final[tuple[Content, ...]] = ("full", "metadata", "off")
"""The content levels, the strictest last. SQL relies on their alphabetical order being the same."""
Parse: TypeAlias = Callable[[object], object]
"""Converts an argument, or the text of an environment variable, to a setting's value. Raises InvalidValueError."""
TRUE_WORDS: Final = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS: Final = frozenset({"0", "false", "no", "off", "none"})
_UNITS: Final = {"k": KIB, "m": KIB**2, "g": KIB**3}
_MAX_NUMBER: Final = 2**62
_MAX_DAYS: Final = 36_500
_DAYS: Final = re.compile(r"[0-9]{1,5}(\.[0-9]{1,9})?", re.ASCII)
_DIGITS: Final = re.compile("[0-9]{1,18}", re.ASCII)
_SHOWN: Final = re.compile(r"[A-Za-z_., -]{1,24}|-?[0-9.]{1,20}[A-Za-z]{0,2}")
_URL_START: Final = re.compile(r"\w[\w+.-]*://")
_FILE_URL: Final = re.compile(r"(?:sqlite3?|jsonl|unix|console)(?:\+\w+)?://", re.IGNORECASE)
_FILE_SUFFIXES: Final = (".db", ".sqlite", ".sqlite3", ".jsonl", ".ndjson")


def strictest(*levels: Content | None) -> Content:
    """Return the strictest of content levels; None is no restriction."""
    return "off" if "off" in levels else "metadata" if "metadata" in levels else "full"


class SettingArguments(TypedDict, total=False):
    """Keyword arguments of `callspan.instrument()` for settings; `Settings` documents them.

    None means "not given". False disables `stores`, and settings that are a path or a string.
    """

    enabled: bool | None
    stores: str | Path | Sequence[str | Path] | Literal[False] | None
    content: Content | Literal[False] | None
    content_on_spans: bool | None
    vocabularies: Sequence[Vocabulary] | None
    max_attribute_bytes: Size | None
    max_record_bytes: Size | None
    media: Media | None
    propagate: bool | None
    http: bool | None
    stream_usage: bool | None
    estimate_usage: bool | None
    chunk_log: int | None
    log_events: bool | None
    attempt_spans: bool | None
    fsync: Fsync | None
    spool_max_bytes: Size | None
    spool_dir: str | Path | Literal[False] | None
    flush_on_sigterm: bool | None
    trace_per: TracePer | None
    receive: bool | Receive | None
    runs: bool | None
    prices: str | Path | Literal[False] | None
    retain_days: float | Literal[False] | None
    retain_content_days: float | Literal[False] | None
    service: str | Literal[False] | None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force, see `Handle.settings`. Immutable.

    Each is an argument of `callspan.instrument()`, and most have an environment variable: `CALLSPAN_` and the name in
    upper case. Sizes are in bytes; arguments may also be text with a unit: `32k`, `16m`, `1g`.

    Attributes:
        enabled: If off, nothing is patched, and the session API has no effect. Default: on.
        stores: URLs or paths of stores for records. Reads use the first readable one. Default: none, only spans.
        content: `full`: prompts and completions; `metadata`: counts, roles, tool names, hashes; `off`: no content
            anywhere. Default: `full`.
        content_on_spans: If off, only records and log events have content, as with EVENT_ONLY. Default: on.
        vocabularies: Attribute sets on spans: `llm`, `gen_ai`, `openinference`. Default: `llm` and `gen_ai`.
        max_attribute_bytes: Maximum size of an attribute in bytes; truncated values stay valid JSON. Default: 32 KiB.
        max_record_bytes: Maximum content of a record, in bytes; larger bodies are removed. Default: 16 MiB.
        media: `reference`: base64 images, audio and files become `{sha256, mime, bytes}`; `inline` keeps them, and
            hashes the audio of websockets; otherwise its bytes are only counted. Default: `reference`.
        propagate: Send W3C `traceparent` to the provider. Default: off.
        http: Record requests to models that other code, or an SDK without a hook, sends by httpx, httpx2, requests or
            aiohttp, known by their path and body. Off if you list `sdks` without `http`. Default: on.
        stream_usage: Request the usage of OpenAI chat streams, and hide the extra chunk from the caller. Default: off.
        estimate_usage: Estimate tokens if the provider returns none; marked as estimates. Default: off.
        chunk_log: Number of chunks per stream to record with time and kind. Default: 0.
        log_events: Content as log events of the conventions. Default: off.
        attempt_spans: A child span for each HTTP request of a call, in addition to the events. Default: off.
        fsync: `always`: sync every record to disk; `none`: never. Default: `none`.
        spool_max_bytes: Maximum size of undelivered records in bytes. Above it the oldest are given up for stores that
            fail, and new ones are dropped if no store works; both are counted. Default: 1 GiB.
        spool_dir: Directory for undelivered records. Default: next to a file store, else the user's state directory.
        flush_on_sigterm: Under `opentelemetry-instrument`, `callspan run` and with `otlp`: send telemetry before an
            unhandled SIGTERM ends the process. Default: on.
        trace_per: `session`: one trace per session; `timestep`: one per timestep, linked. Default: `session`.
        receive: Record the calls of agents that this process starts by the claude-agent-sdk or openai-codex, from
            their telemetry. `files`: with bodies in files also where there is a redactor. Default: off, except under
            `callspan run`.
        runs: Make sessions, agents and tools of the spans that agent frameworks, or instrumentations of them, emit in
            this process, and runs of calls outside of sessions that continue each other. Default: on.
        prices: File with your own model prices, which override the published ones. Default: none.
        retain_days: Number of days after which stores delete sessions (from their end) and calls outside ended sessions
            (from their start). Default: never.
        retain_content_days: Number of days, counted in the same way, after which stores with tables remove the content
            of records, as `content="metadata"` does. Default: never.
        service: Name of the service in records, and in spans sent by `otlp`; other spans have their resource's name.
            Default: the name in OTEL_RESOURCE_ATTRIBUTES, else the program's name.

    Example:
        >>> callspan.instrument(content="metadata").settings.content
        'metadata'
    """

    enabled: bool = True
    stores: tuple[str, ...] = _NONE
    content: Content = "full"
    content_on_spans: bool = True
    vocabularies: tuple[Vocabulary, ...] = ("llm", "gen_ai")
    max_attribute_bytes: int = 32 * KIB
    max_record_bytes: int = 16 * KIB * KIB
    media: Media = "reference"
    propagate: bool = False
    http: bool = True
    stream_usage: bool = False
    estimate_usage: bool = False
    chunk_log: int = 0
    log_events: bool = False
    attempt_spans: bool = False
    fsync: Fsync = "none"
    spool_max_bytes: int = KIB**3
    spool_dir: Path | None = None
    flush_on_sigterm: bool = True
    trace_per: TracePer = "session"
    receive: Receive = "off"
    runs: bool = True
    prices: Path | None = None
    retain_days: float | None = None
    retain_content_days: float | None = None
    service: str | None = None

    def __repr__(self) -> str:
        """Return the settings as keyword arguments, with store URLs without passwords."""
        values = {**msgspec.structs.asdict(self), "stores": tuple(map(safe_url, self.stores))}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"


class SettingError(ValueError):
    """A setting has an invalid value. The message names the setting and the valid values.

    Example:
        >>> callspan.instrument(content="everything")
        Traceback (most recent call last):
        callspan.settings.SettingError: content='everything': use one of full, metadata, off
    """


class InvalidValueError(ValueError):
    """A value is invalid for its setting. The message states the valid values."""

    def __init__(self, expected: str, value: object, valid_part: object = None) -> None:
        super().__init__(expected)
        self.safe_repr = safe_repr(value)
        self.valid_part = valid_part
        """The valid part of the value, if any."""


def safe_repr(value: object) -> str:
    """Return a value for a message: words and small numbers unchanged, otherwise only its type."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) <= _MAX_NUMBER):
        return repr(value)
    if isinstance(value, str):
        return repr(value) if _SHOWN.fullmatch(value) else f"a text of {len(value)} characters"
    return f"a value of type {type(value).__name__}"


def flag(value: object) -> bool:
    """Parse a bool."""
    if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    lowered = value.strip().lower() if isinstance(value, str) else ""
    if lowered in TRUE_WORDS or lowered in FALSE_WORDS:
        return lowered in TRUE_WORDS
    raise InvalidValueError("use true or false", value)


def size(value: object) -> int:
    """Parse a number of bytes, also with a unit: `32k`, `16m`, `1g`."""
    number = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if isinstance(value, str):
        text, unit = value.strip().lower(), 1
        if text[-1:] in _UNITS:
            text, unit = text[:-1], _UNITS[text[-1]]
        number = int(text) * unit if _DIGITS.fullmatch(text) else -1
    if not 0 < number <= _MAX_NUMBER:
        raise InvalidValueError("use a positive number of bytes, such as 32768 or 32k", value)
    return number


def optional(parse_value: Parse) -> Parse:
    """Return a parser that also accepts False, `off` and `none`, for None."""

    def parse(value: object) -> object:
        word = value.strip().lower() if isinstance(value, str) else value
        return None if word is False or word in ("off", "none", "no", "false") else parse_value(value)

    return parse


def days(value: object) -> float:
    """Parse a positive number of days."""
    number = float(value) if isinstance(value, str) and _DAYS.fullmatch(value.strip()) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= _MAX_DAYS:
        raise InvalidValueError("use a positive number of days, such as 30, or off", value)
    return float(number)


def count(value: object) -> int:
    """Parse a non-negative integer."""
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_NUMBER:
        raise InvalidValueError("use a number, 0 for none", value)
    return value


def one_of(choices: object, **aliases: tuple[object, ...]) -> Parse:
    """Return a parser for one word of a `Literal`; `aliases` are other values of a word: `off=(False, "no")`."""
    words = cast("tuple[str, ...]", get_args(choices))
    words_by_value: dict[object, str] = {word: word for word in words}
    words_by_value |= {alias: word for word, alias_values in aliases.items() for alias in alias_values}

    def parse(value: object) -> str:
        key = value.strip().lower() if isinstance(value, str) else value
        # 0, 0.0 and False are the same dictionary key.
        if isinstance(key, str | bool) and key in words_by_value:
            return words_by_value[key]
        raise InvalidValueError(f"use one of {', '.join(words)}", value)

    return parse


def words_of(choices: object) -> Parse:
    """Return a parser for a comma-separated list or a sequence of words of a `Literal`."""
    words = cast("tuple[str, ...]", get_args(choices))

    def parse(value: object) -> tuple[str, ...]:
        items = _items(value, f"use some of {', '.join(words)}")
        lowered = [item.strip().lower() if isinstance(item, str) else item for item in items]
        valid = tuple(dict.fromkeys(item for item in lowered if isinstance(item, str) and item in words))
        wrong = [item for item in lowered if item not in valid]
        if wrong:
            raise InvalidValueError(f"use some of {', '.join(words)}", wrong[0], valid or None)
        return valid

    return parse


def urls(value: object) -> tuple[str, ...]:
    """Parse URLs or paths of stores: a comma-separated list, a path, or a sequence. False and `none` mean no store."""
    expected = "use URLs or paths of stores, as a comma-separated list or a sequence"
    if value is False or (isinstance(value, str) and value.strip().lower() == "none"):
        return ()
    urls_and_paths: list[str] = []
    for item in [value] if isinstance(value, Path) else _items(value, expected, split_url_list):
        if isinstance(item, Path):
            if "," in str(item):
                raise InvalidValueError("the path of a store cannot contain a comma", item)
            urls_and_paths.append(str(item))
        elif isinstance(item, str):
            urls_and_paths += split_url_list(item)
        else:
            raise InvalidValueError(expected, item)
    return tuple(dict.fromkeys(urls_and_paths))


def split_url_list(text: str) -> list[str]:
    """Split a comma-separated list of URLs and paths. A comma in a password or between hosts does not split a URL."""
    parts: list[str] = []
    for part in text.split(","):
        stripped = part.strip()
        may_continue = bool(parts) and bool(_URL_START.match(parts[-1])) and not _FILE_URL.match(parts[-1])
        if (
            may_continue
            and stripped
            and not _URL_START.match(stripped)
            and not stripped.lower().endswith(_FILE_SUFFIXES)
        ):
            parts[-1] += f",{stripped}"
        elif stripped:
            parts.append(stripped)
    return parts


def text(value: object) -> str | None:
    """Parse a string; False for None."""
    if value is False:
        return None
    if not isinstance(value, str):
        raise InvalidValueError("use a text", value)
    return value.strip() or None


def absolute(path: Path) -> Path:
    """Return an absolute path, for a process that may change its directory; unchanged if that was deleted."""
    try:
        return path.absolute()
    except FileNotFoundError:
        return path


def with_absolute_paths(settings: Settings) -> Settings:
    """Return the settings with absolute paths, except of stores: each store makes its own path absolute."""
    paths = {name: getattr(settings, name) for name in ("prices", "spool_dir")}
    return msgspec.structs.replace(settings, **{name: file and absolute(file) for name, file in paths.items()})


def path(value: object) -> Path | None:
    """Parse the path of a file or directory; False for None."""
    if value is False:
        return None
    if not isinstance(value, str | Path) or not str(value).strip() or "\0" in str(value):
        raise InvalidValueError("use a path", value)
    if "://" in str(value):  # a path is shown, a URL may have a password
        raise InvalidValueError("use a path, not a URL", value)
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise InvalidValueError("use a path; its home directory is unknown", value) from error


def _items(value: object, expected: str, split_text: Callable[[str], list[str]] | None = None) -> list[object]:
    """Return the items of a comma-separated list or iterable, except bytes and dicts. Raises InvalidValueError."""
    if isinstance(value, str):
        return list(split_text(value)) if split_text else [word.strip() for word in value.split(",") if word.strip()]
    if not isinstance(value, Iterable) or isinstance(value, bytes | bytearray | dict):
        raise InvalidValueError(expected, value)
    return list(value)
