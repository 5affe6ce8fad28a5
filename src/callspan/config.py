"""Settings: what can be set, its defaults, and the only reader of the environment.

Argument beats environment beats default. An unknown value is an error that names the setting.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast, get_args

import msgspec

Content: TypeAlias = Literal["full", "metadata", "off"]
Vocabulary: TypeAlias = Literal["llm", "gen_ai", "openinference"]
Media: TypeAlias = Literal["reference", "inline"]
Native: TypeAlias = Literal["replace", "enrich", "keep"]
Fsync: TypeAlias = Literal["none", "interval", "always"]
TracePer: TypeAlias = Literal["session", "timestep"]

_KIB: Final = 1024
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_PASSWORD: Final = re.compile(r"(?<=://)([^:@/]*):.*@")
_QUERY: Final = re.compile(r"\?.*", re.DOTALL)
_UNITS: Final = {"k": _KIB, "m": _KIB**2, "g": _KIB**3}
_CONTENT_STANDARD: Final[Mapping[str, tuple[Content, bool, bool]]] = {
    "no_content": ("off", True, False),
    "span_only": ("full", True, False),
    "event_only": ("full", False, True),
    "span_and_event": ("full", True, True),
    "true": ("full", True, False),
    "false": ("off", True, False),
}
"""What the conventions' modes mean: content, whether on spans, whether as log events."""
_OTLP_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_RUN_PROCESS_VARIABLE: Final = "CALLSPAN_RUN_PROCESS"
CONTENT_STANDARD_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


class SettingError(ValueError):
    """A setting has a value that means nothing. The message names the setting and what it may be."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one `instrument()`. Sizes are bytes."""

    enabled: bool = True
    """Off: nothing is patched and the session API is a cheap no-op."""
    stores: tuple[str, ...] = ()
    """Store URLs in order; the first that can be read answers reads. None: spans only."""
    content: Content = "full"
    content_on_spans: bool = True
    """Off under EVENT_ONLY of the conventions: content in records (and events), not on spans."""
    vocabularies: tuple[Vocabulary, ...] = ("llm", "gen_ai")
    llm_prompts: bool = False
    """`llm.prompts` and `llm.prompts.raw` also where another vocabulary has the prompt."""
    max_attribute_bytes: int = 32 * _KIB
    max_span_bytes: int = 128 * _KIB
    """Content of all attributes of one span together."""
    max_record_bytes: int = 16 * _KIB * _KIB
    media: Media = "reference"
    propagate: bool = False
    stream_usage: bool = False
    """Ask for the usage of OpenAI chat streams, and keep the extra chunk from the caller."""
    estimate_usage: bool = False
    """Estimate tokens where the provider states none; marked as estimates."""
    chunk_log: int = 0
    """Of how many chunks of a stream the record says when they came and of what kind they were."""
    native: Native = "replace"
    """The anthropic SDK's own spans: ours instead, our attributes on them, or both."""
    log_events: bool = False
    """Content as log events of the conventions."""
    completion_hook: str | None = None
    """The hook of OpenTelemetry's GenAI utilities that is called with each finished call; None: none."""
    attempt_spans: bool = False
    """A child span for each HTTP request of a call, beside the events."""
    fsync: Fsync = "none"
    spool_max_bytes: int = _KIB**3
    spool_dir: Path | None = None
    """None: beside a file store, else the user's state directory."""
    flush_on_sigterm: bool = True
    """Under `opentelemetry-instrument`, `callspan run` and with `otlp`: send spans before an unhandled SIGTERM."""
    trace_per: TracePer = "session"
    prices: Path | None = None
    """The user's own prices of models, see `callspan.cost`; None: published ones only."""
    span_cost: bool = False
    """Computed cost on spans too, on the caller's thread; what a provider states is there anyway."""
    compatibility: bool = True
    """The compatibility names of other backends beside the conventions' own."""
    strict: bool = False
    """Misuse of the session API raises."""
    service: str | None = None
    """Written into records; the resource's `service.name` on spans is OpenTelemetry's own affair."""

    def __repr__(self) -> str:
        """Return the settings as they would be written, without what opens a store."""
        told = {**msgspec.structs.asdict(self), "stores": tuple(_without_password(url) for url in self.stores)}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in told.items())})"


def load(arguments: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings: given arguments (None means "not given"), else the environment, else defaults.

    Raises SettingError for a value that means nothing, and TypeError for an unknown argument.
    """
    given = {name: value for name, value in (arguments or {}).items() if value is not None}
    unknown = given.keys() - set(Settings.__struct_fields__)
    if unknown:
        raise TypeError(f"callspan.instrument() has no setting {', '.join(sorted(unknown))}")
    values = _from_environment(os.environ if environment is None else environment)
    values.update({name: _argument(name, value) for name, value in given.items()})
    return msgspec.structs.replace(_DEFAULTS, **values)


def forgiving(environment: Mapping[str, str] | None = None) -> tuple[Settings, str | None]:
    """Return the settings of the environment, or the defaults and what was wrong with it.

    For auto-instrumentation, which must never keep an application from starting.
    """
    try:
        return load(None, environment), None
    except SettingError as error:
        return Settings(), str(error)


def state_directory(environment: Mapping[str, str] | None = None) -> Path:
    """Return the user's directory for state that outlives a process (XDG)."""
    source = os.environ if environment is None else environment
    base = source.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "callspan"


def otlp_in_environment(environment: Mapping[str, str] | None = None) -> str | None:
    """Return the OTLP endpoint for traces that OpenTelemetry's own variables name, or None."""
    source = os.environ if environment is None else environment
    named = (source.get(name, "").strip() for name in _OTLP_VARIABLES)
    return next((url for url in named if url), None)


def enabled_in_environment(environment: Mapping[str, str] | None = None) -> bool:
    """Return False where the environment switches callspan off; a value that is not understood does not."""
    source = os.environ if environment is None else environment
    off = source.get("CALLSPAN_ENABLED", "").strip().lower() in _FALSE
    return not off and source.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"


def environment_for_run(stores: str, python_path: Path) -> dict[str, str]:
    """Return the environment of a process under `callspan run`: ours, with its stores and a directory to start from.

    It names this very process, which becomes the application.
    """
    environment = dict(os.environ)
    paths = [str(python_path), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    environment["PYTHONPATH"] = os.pathsep.join(path for path in dict.fromkeys(paths) if path)
    environment[_VARIABLES["stores"][0]] = stores
    environment[_RUN_PROCESS_VARIABLE] = str(os.getpid())
    return environment


def is_run_process() -> bool:
    """Return whether this process is the one that `callspan run` became, and none that it started."""
    return os.environ.get(_RUN_PROCESS_VARIABLE) == str(os.getpid())


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, (variable, parse) in _VARIABLES.items():
        text = environment.get(variable, "").strip()
        if text:
            values[name] = parse(variable, text)
    if "content" not in values:
        _take_standard_content(environment, values)
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        values["enabled"] = False
    return values


def _take_standard_content(environment: Mapping[str, str], values: dict[str, object]) -> None:
    text = environment.get(CONTENT_STANDARD_VARIABLE, "").strip().lower()
    if not text:
        return
    if text not in _CONTENT_STANDARD:
        raise SettingError(f"{CONTENT_STANDARD_VARIABLE}={text!r}: use one of {', '.join(_CONTENT_STANDARD)}")
    values["content"], values["content_on_spans"], events = _CONTENT_STANDARD[text]
    if events:
        values.setdefault("log_events", True)


def _argument(name: str, value: object) -> object:
    """An argument as the environment would have given it; wrong types are named."""
    if isinstance(value, str) and name in _VARIABLES:
        return _VARIABLES[name][1](name, value)
    if name in ("stores", "vocabularies") and isinstance(value, Sequence):
        return _VARIABLES[name][1](name, ",".join(str(item) for item in value)) if value else ()
    expected: type = Path if name in ("spool_dir", "prices") else type(getattr(_DEFAULTS, name))
    if name not in ("service", "completion_hook") and not isinstance(value, expected):
        raise SettingError(f"{name}={value!r}: expected {expected.__name__}")
    return value


def _without_password(url: str) -> str:
    return _QUERY.sub("?***", _PASSWORD.sub(r"\1:***@", url))


def _flag(name: str, text: str) -> bool:
    lowered = text.lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise SettingError(f"{name}={text!r}: use true or false")


def _size(name: str, text: str) -> int:
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in _UNITS else (text, "")
    if not number.isdigit() or int(number) == 0:
        raise SettingError(f"{name}={text!r}: use a positive number of bytes, such as 32768 or 32k")
    return int(number) * _UNITS.get(unit, 1)


def _count(name: str, text: str) -> int:
    if not text.isdecimal():
        raise SettingError(f"{name}={text!r}: use a number, 0 for none")
    return int(text)


def _one_of(choices: object) -> Callable[[str, str], str]:
    words = cast("tuple[str, ...]", get_args(choices))

    def parse(name: str, text: str) -> str:
        if text.lower() not in words:
            raise SettingError(f"{name}={text!r}: use one of {', '.join(words)}")
        return text.lower()

    return parse


def _urls(name: str, text: str) -> tuple[str, ...]:
    del name
    return tuple(url.strip() for url in text.split(",") if url.strip())


def _words_of(choices: object) -> Callable[[str, str], tuple[str, ...]]:
    one = _one_of(choices)

    def parse(name: str, text: str) -> tuple[str, ...]:
        return tuple(one(name, word.strip()) for word in text.split(",") if word.strip())

    return parse


def _text(name: str, text: str) -> str:
    del name
    return text


def _path(name: str, text: str) -> Path:
    del name
    return Path(text)


_VARIABLES: Final[Mapping[str, tuple[str, Callable[[str, str], object]]]] = {
    "enabled": ("CALLSPAN_ENABLED", _flag),
    "stores": ("CALLSPAN_STORES", _urls),
    "content": ("CALLSPAN_CONTENT", _one_of(Content)),
    "vocabularies": ("CALLSPAN_VOCABULARIES", _words_of(Vocabulary)),
    "llm_prompts": ("CALLSPAN_LLM_PROMPTS", _flag),
    "max_attribute_bytes": ("CALLSPAN_MAX_ATTRIBUTE_BYTES", _size),
    "max_span_bytes": ("CALLSPAN_MAX_SPAN_BYTES", _size),
    "max_record_bytes": ("CALLSPAN_MAX_RECORD_BYTES", _size),
    "media": ("CALLSPAN_MEDIA", _one_of(Media)),
    "propagate": ("CALLSPAN_PROPAGATE", _flag),
    "stream_usage": ("CALLSPAN_STREAM_USAGE", _flag),
    "estimate_usage": ("CALLSPAN_ESTIMATE_USAGE", _flag),
    "chunk_log": ("CALLSPAN_CHUNK_LOG", _count),
    "native": ("CALLSPAN_NATIVE", _one_of(Native)),
    "log_events": ("CALLSPAN_LOG_EVENTS", _flag),
    "completion_hook": ("OTEL_INSTRUMENTATION_GENAI_COMPLETION_HOOK", _text),
    "attempt_spans": ("CALLSPAN_ATTEMPT_SPANS", _flag),
    "fsync": ("CALLSPAN_FSYNC", _one_of(Fsync)),
    "spool_max_bytes": ("CALLSPAN_SPOOL_MAX_BYTES", _size),
    "spool_dir": ("CALLSPAN_SPOOL_DIR", _path),
    "flush_on_sigterm": ("CALLSPAN_FLUSH_ON_SIGTERM", _flag),
    "trace_per": ("CALLSPAN_TRACE_PER", _one_of(TracePer)),
    "prices": ("CALLSPAN_PRICES", _path),
    "span_cost": ("CALLSPAN_SPAN_COST", _flag),
    "compatibility": ("CALLSPAN_COMPATIBILITY", _flag),
    "strict": ("CALLSPAN_STRICT", _flag),
    "service": ("OTEL_SERVICE_NAME", _text),
}
_DEFAULTS: Final = Settings()


def variables() -> Mapping[str, str]:
    """Return setting -> environment variable, for documentation and `doctor`."""
    return {name: variable for name, (variable, _) in _VARIABLES.items()}
