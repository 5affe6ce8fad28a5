"""Settings: what can be set, its defaults, and the only reader of the environment.

Argument beats environment beats default. An unknown value is an error that names the setting.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

Content: TypeAlias = Literal["full", "metadata", "off"]
Vocabulary: TypeAlias = Literal["llm", "gen_ai", "openinference"]

_KIB: Final = 1024
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off", ""})


class SettingError(ValueError):
    """A setting has a value that means nothing. The message names the setting and what it may be."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one `instrument()`; see `docs/settings.md`."""

    enabled: bool = True
    stores: tuple[str, ...] = ()
    content: Content = "full"
    content_on_spans: bool = True
    vocabularies: tuple[Vocabulary, ...] = ("llm", "gen_ai")
    max_attribute_bytes: int = 32 * _KIB
    max_span_bytes: int = 128 * _KIB
    max_record_bytes: int = 16 * _KIB * _KIB
    media: Literal["reference", "inline"] = "reference"
    propagate: bool = False
    stream_usage: bool = False
    attempt_spans: bool = False
    native: Literal["replace", "enrich", "keep"] = "replace"
    log_events: bool = False
    estimate_usage: bool = False
    span_cost: bool = False
    fsync: Literal["none", "interval", "always"] = "none"
    spool_max_bytes: int = _KIB**3
    spool_dir: Path | None = None
    trace_per: Literal["session", "timestep"] = "session"
    compatibility: bool = True
    """The compatibility names of other backends beside the conventions' own."""
    service: str | None = None
