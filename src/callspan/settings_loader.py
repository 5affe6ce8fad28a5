"""Settings loader: combines arguments, settings in force, environment variables and defaults, in this order.

An invalid argument raises. An invalid environment variable is logged, and its setting gets the default; `content` and
`content_on_spans` are off.
"""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, cast

import msgspec
from msgspec.structs import fields

from callspan.record.codec import encodable
from callspan.runtime.fail_open import log, value_of
from callspan.runtime.lock_free import Once
from callspan.runtime.safe_urls import safe_url
from callspan.sdk_profiles import HTTP, SOURCES, Source
from callspan.service import SERVICE_FOR_RUN
from callspan.settings import (
    FALSE_WORDS,
    TRUE_WORDS,
    Content,
    InvalidValueError,
    Parse,
    Receive,
    SettingError,
    Settings,
    Vocabulary,
    count,
    days,
    flag,
    one_of,
    optional,
    path,
    safe_repr,
    size,
    text,
    urls,
    words_of,
)

Checks: TypeAlias = Mapping[str, Callable[[object], object]]
"""By setting: a function that raises SettingError for a well-formed value that cannot be used (`stores`: each URL)."""

_CONTENT_STANDARD: Final[Mapping[str, tuple[Content, bool, bool]]] = {
    "no_content": ("off", True, False),
    "span_only": ("full", True, False),
    "event_only": ("full", False, True),
    "span_and_event": ("full", True, True),
    "true": ("full", True, False),
    "false": ("off", True, False),
}
"""The conventions' modes as settings: content, content_on_spans, log_events."""
_NO_CONTENT: Final = ("no_content", "none", "no", "false", "0")
CONTENT_STANDARD_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_PREFIX: Final = "CALLSPAN_"
_OTHER_ARGUMENTS: Final = ("tracer_provider", "meter_provider", "logger_provider", "otlp", "redact", "sdks")
"""Arguments of `callspan.instrument()` that are no settings."""
_DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
"""Entry points that `opentelemetry-instrument` skips; `*` for all."""
RUN_PROCESS: Final = "CALLSPAN_RUN_PROCESS"
"""The id of the first process of `callspan run`, which says at its end how many calls were recorded."""
RUN_TALLY: Final = "CALLSPAN_RUN_TALLY"
"""The directory where the processes of `callspan run` note how many calls they recorded."""
_INTERNAL: Final = frozenset({RUN_PROCESS, SERVICE_FOR_RUN, RUN_TALLY, "CALLSPAN_SCALE"})
"""Variables that are not settings: `callspan run` sets the first three, callspan's tests the last."""

_warned: Final = Once()
_MAX_NAME_LENGTH: Final = 64
_LIKE_NAME: Final = 0.7
_LIKE_PREFIX: Final = 0.8
"""How alike a name and a misspelt one are at least: 1 is the same."""
_OF_KIND: Final[Mapping[object, Parse]] = {
    bool: flag,
    int: size,
    str | None: text,
    Path | None: path,
    float | None: optional(days),
}
"""The parsers by type of setting; all other types are a `Literal`."""
_PARSERS: Final[Mapping[str, Parse]] = {
    **{
        field.name: _OF_KIND[field.type] if field.type in _OF_KIND else one_of(field.type) for field in fields(Settings)
    },
    "stores": urls,
    "content": one_of(Content, off=(False, *_NO_CONTENT)),
    "receive": one_of(Receive, on=(True, *TRUE_WORDS), off=(False, *FALSE_WORDS)),
    "vocabularies": words_of(Vocabulary),
    "chunk_log": count,
}
_VARIABLES: Final[Mapping[str, str]] = {
    **{name: f"{_PREFIX}{name.upper()}" for name in _PARSERS},
    "service": "OTEL_SERVICE_NAME",
}
_STANDARD: Final[Mapping[str, str]] = {
    **dict.fromkeys(("content", "content_on_spans", "log_events"), CONTENT_STANDARD_VARIABLE),
    "enabled": "OTEL_SDK_DISABLED",
}
"""OpenTelemetry's variables by setting, read in addition to callspan's."""
_DEFAULTS: Final = Settings()
_CLOSED: Final[Mapping[str, object]] = {"content": "off", "content_on_spans": False}
"""The values instead of invalid ones, where the default would show prompts."""


def load(
    arguments: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    base: Settings | None = None,
    checks: Checks | None = None,
    warn: bool = True,
) -> Settings:
    """Return the settings: arguments (None means "not given"), else `base`, else the environment, else the defaults.

    Each invalid environment variable is logged once per process, unless `warn` is False. `base` are the settings in
    force; with them the environment is not read again.

    Raises:
        SettingError: An argument has an invalid value.
        TypeError: An argument is unknown.
    """
    stated = {name: value for name, value in (arguments or {}).items() if value is not None}
    unknown = stated.keys() - set(Settings.__struct_fields__)
    if unknown:
        names = (*Settings.__struct_fields__, *_OTHER_ARGUMENTS)
        described = ", ".join(
            name + ("" if name in names else _suggestion(name.lower(), names)) for name in sorted(unknown)
        )
        raise TypeError(f"there is no setting {described}")
    values = {name: _argument(name, value, checks or {}) for name, value in stated.items()}
    if base is not None:
        return _supported(msgspec.structs.replace(base, **values))
    problems: list[str] = []
    from_environment = _from_environment(
        os.environ if environment is None else environment, checks or {}, problems, stated.keys()
    )
    for problem in problems if warn else ():
        warn_once(problem)
    return _supported(msgspec.structs.replace(_DEFAULTS, **{**from_environment, **values}))


def _supported(settings: Settings) -> Settings:
    """Return the settings, except that nothing is recorded on Windows: the spool needs POSIX locks."""
    return msgspec.structs.replace(settings, enabled=False, stores=()) if sys.platform == "win32" else settings


def content_word(value: object) -> Content:
    """Parse a value of the setting `content`. Raises SettingError."""
    return cast("Content", _argument("content", value, {}))


def environment_problems(environment: Mapping[str, str] | None = None, *, checks: Checks | None = None) -> list[str]:
    """Return the invalid environment variables, each with the value used instead."""
    problems: list[str] = []
    _from_environment(os.environ if environment is None else environment, checks or {}, problems, frozenset())
    return problems


def changes(old: Settings, new: Settings) -> list[str]:
    """Return the differing settings, each with old and new value; URLs without passwords."""
    names = [name for name in Settings.__struct_fields__ if getattr(old, name) != getattr(new, name)]
    return [f"{name} {_printed(getattr(old, name))} -> {_printed(getattr(new, name))}" for name in names]


def warn_once(message: str) -> None:
    """Log a warning, once per process."""
    if _warned.first(message):
        log(logging.WARNING, "%s", encodable(message))  # the environment's bytes need not be UTF-8


def forget_warnings() -> None:
    """Forget which warnings were logged. For tests."""
    _warned.forget()


def state_directory(environment: Mapping[str, str] | None = None) -> Path:
    """Return the user's state directory (XDG)."""
    source = os.environ if environment is None else environment
    base = source.get("XDG_STATE_HOME")
    return (Path(base) if base else _home() / ".local" / "state") / "callspan"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # without HOME, a user that the system does not know, as in a container
        return Path("/")


def environment_for_run(stores: str, python_path: Path) -> dict[str, str]:
    """Return the environment for `callspan run`: with the stores and the import path of its autostart.

    Agents are received unless this environment says otherwise.
    """
    environment = dict(os.environ)
    python_path_before = environment.get("PYTHONPATH")
    # An empty entry, as in `$PYTHONPATH:lib`, is the current directory.
    paths = [str(python_path), *(python_path_before.split(os.pathsep) if python_path_before else ())]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    environment[_VARIABLES["stores"]] = stores
    environment.setdefault(_VARIABLES["receive"], "on")
    return environment


def _from_environment(
    environment: Mapping[str, str], checks: Checks, problems: list[str], stated_names: AbstractSet[str]
) -> dict[str, object]:
    """Return the values of the environment, without the `stated_names`.

    Adds a message for each invalid one to `problems`.
    """
    values: dict[str, object] = {}
    for name, variable in _VARIABLES.items():
        value = environment.get(variable, "").strip()
        if not value or name in stated_names:
            continue
        try:
            values[name] = _PARSERS[name](value)
        except InvalidValueError as error:
            values[name] = _fallback(name, error.valid_part)
            problems.append(f"{variable}={error.safe_repr}: {error}. {_applies(name, values[name])}")
        values[name] = _usable(name, values[name], checks, problems)
    if not environment.get(_VARIABLES["content"], "").strip():
        _read_standard_content(environment, values, [] if "content" in stated_names else problems)
    if _is_disabled(environment):
        values["enabled"] = False
    problems += _unknown_variables(environment)
    return values


def _is_disabled(environment: Mapping[str, str]) -> bool:
    """Return whether OpenTelemetry's switch is off, which overrides callspan's own."""
    return environment.get(_STANDARD["enabled"], "").strip().lower() == "true"


def _fallback(name: str, valid_part: object) -> object:
    if name in _CLOSED:
        return _CLOSED[name]
    return getattr(_DEFAULTS, name) if valid_part is None else valid_part


def _applies(name: str, value: object) -> str:
    return f"callspan uses {name}={_printed(value)}"


def _usable(name: str, value: object, checks: Checks, problems: list[str]) -> object:
    """Return the usable part of a value of the environment: the valid stores, else the default."""
    check = checks.get(name)
    if check is None or value == getattr(_DEFAULTS, name):
        return value
    default = getattr(_DEFAULTS, name)
    items = value if isinstance(value, tuple) else (value,)
    rejected = {item: error for item in items if (error := _error_of(check, item)) is not None}
    wrong = {item: _without_variable(error, name) for item, error in rejected.items()}
    effect = "This store is not used" if isinstance(value, tuple) else _applies(name, default)
    problems += [f"{_VARIABLES[name]}: {problem}. {effect}" for problem in wrong.values()]
    if isinstance(value, tuple):
        return tuple(item for item in value if item not in wrong)
    return default if wrong else value


def _error_of(check: Callable[[object], object], value: object) -> SettingError | None:
    try:
        check(value)
    except SettingError as error:
        return error
    return None


def _without_variable(error: SettingError, name: str) -> str:
    return str(error).removeprefix(f"{_VARIABLES[name]}: ")


def _read_standard_content(environment: Mapping[str, str], values: dict[str, object], problems: list[str]) -> None:
    value = environment.get(CONTENT_STANDARD_VARIABLE, "").strip()
    if not value:
        return
    mode = value.lower()
    if mode not in _CONTENT_STANDARD and mode not in _NO_CONTENT:
        modes = "NO_CONTENT, SPAN_ONLY, EVENT_ONLY, SPAN_AND_EVENT"
        problems.append(
            f"{CONTENT_STANDARD_VARIABLE}={safe_repr(value)}: use one of {modes}. {_applies('content', 'off')}"
        )
    values["content"], on_spans, events = _CONTENT_STANDARD.get(mode, ("off", True, False))
    values.setdefault("content_on_spans", on_spans)
    if events:
        values.setdefault("log_events", True)


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    variables = [variable for variable in _VARIABLES.values() if variable.startswith(_PREFIX)]
    endings = tuple(variable.removeprefix(_PREFIX) for variable in variables)
    for name in sorted(environment):
        upper = name.upper()
        is_ours = upper.startswith(_PREFIX) and name not in _INTERNAL
        if name not in variables and (is_ours or (upper.endswith(endings) and _has_misspelt_prefix(upper))):
            ending = upper.removeprefix(_PREFIX)
            suggestion = _suggestion(ending, endings, _PREFIX) if is_ours else _suggestion(upper, variables)
            yield f"unknown variable {ascii(name[:_MAX_NAME_LENGTH])[1:-1]}{suggestion}"


def _has_misspelt_prefix(name: str) -> bool:
    """Return whether a name without callspan's prefix begins with nearly the same letters."""
    start = name[: len(_PREFIX) + 1]
    return not name.startswith(_PREFIX) and bool(difflib.get_close_matches(start, [_PREFIX], cutoff=_LIKE_PREFIX))


def _suggestion(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Return the end of a message that asks for the nearest of these names; empty if none is near."""
    matches = difflib.get_close_matches(name, names, n=1, cutoff=_LIKE_NAME)
    return f"; did you mean {prefix}{matches[0]}?" if matches else ""


def _argument(name: str, value: object, checks: Checks) -> object:
    """Parse and check an argument. Raises SettingError, which names it."""
    try:
        parsed = _PARSERS[name](value)
    except InvalidValueError as error:
        raise SettingError(f"{name}={error.safe_repr}: {error}") from None
    check = checks.get(name)
    if check is not None and parsed is not None:
        for item in parsed if isinstance(parsed, tuple) else (parsed,):
            problem = _error_of(check, item)
            if problem is not None:
                raise SettingError(f"{name}: {_without_variable(problem, name)}") from problem.__cause__
    return parsed


def _printed(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(safe_url(str(url)) for url in value) or "none"
    return "none" if value is None else str(value)


def enabled_sources(environment: Mapping[str, str] | None = None) -> tuple[Source, ...]:
    """Return the sources of calls that `OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` leaves on.

    An SDK that it leaves out is a choice, which does not extend to all other code: without `CALLSPAN_HTTP=on` it leaves
    out `http`, too.
    """
    source = os.environ if environment is None else environment
    disabled = {name.strip() for name in source.get(_DISABLED, "").split(",")}
    if "*" in disabled:
        return ()
    enabled = tuple(name for name in SOURCES if f"callspan-{name}" not in disabled)
    return enabled if names_http({}, source) or enabled == SOURCES else tuple(name for name in enabled if name != HTTP)


def names_http(arguments: Mapping[str, object], environment: Mapping[str, str]) -> bool:
    """Return whether the setting `http` is given as on, which a choice of SDKs does not switch off."""
    given = arguments.get(HTTP)
    return value_of(partial(flag, environment.get(_VARIABLES[HTTP], "") if given is None else given)) is True


def variables() -> Mapping[str, str]:
    """Return callspan's environment variables by setting, for documentation."""
    return _VARIABLES


def variable_of(name: str) -> str:
    """Return the environment variable that determines a setting in this process, callspan's own or OpenTelemetry's."""
    variable = _VARIABLES[name]
    is_overridden = name == "enabled" and _is_disabled(os.environ)
    return variable if os.environ.get(variable, "").strip() and not is_overridden else _STANDARD.get(name, variable)
