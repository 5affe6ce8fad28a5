"""Settings: what can be set, with types and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from callspan.safe_urls import safe_url
from callspan.setting_values import KIB, SettingError

if TYPE_CHECKING:
    from typing_extensions import TypedDict
else:
    from typing import TypedDict

__all__ = ["Content", "Media", "Native", "SettingArguments", "SettingError", "Settings", "Vocabulary"]

Content: TypeAlias = Literal["full", "metadata", "off"]
Vocabulary: TypeAlias = Literal["llm", "gen_ai", "openinference"]
Media: TypeAlias = Literal["reference", "inline"]
Native: TypeAlias = Literal["replace", "keep"]
Fsync: TypeAlias = Literal["none", "interval", "always"]
TracePer: TypeAlias = Literal["session", "timestep"]
Size: TypeAlias = int | str
"""Bytes, as a number or as text with a unit of 1024: `32768`, `"32k"`, `"16m"`, `"1g"`."""

_NONE: Final[tuple[str, ...]] = ()


class SettingArguments(TypedDict, total=False):
    """Keyword arguments of `callspan.instrument()` that set settings; `Settings` says what each means.

    None is "not given". False is none at all for those that are a path or a text, and `stores`.
    """

    enabled: bool | None
    stores: str | Path | Sequence[str | Path] | Literal[False] | None
    content: Content | Literal[False] | None
    content_on_spans: bool | None
    vocabularies: Sequence[Vocabulary] | None
    llm_prompts: bool | None
    max_attribute_bytes: Size | None
    max_span_bytes: Size | None
    max_record_bytes: Size | None
    media: Media | None
    propagate: bool | None
    stream_usage: bool | None
    estimate_usage: bool | None
    chunk_log: int | None
    native: Native | None
    log_events: bool | None
    completion_hook: str | Literal[False] | None
    attempt_spans: bool | None
    fsync: Fsync | None
    spool_max_bytes: Size | None
    spool_dir: str | Path | Literal[False] | None
    flush_on_sigterm: bool | None
    trace_per: TracePer | None
    prices: str | Path | Literal[False] | None
    span_cost: bool | None
    compatibility: bool | None
    strict: bool | None
    service: str | Literal[False] | None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force, as `Handle.settings` shows them. Immutable.

    Each is an argument of `callspan.instrument()`, and most have an environment variable, `CALLSPAN_` and the name in
    capitals. Sizes are bytes, as arguments also text with a unit: `32k`, `16m`, `1g`.

    Attributes:
        enabled: Off: nothing is patched, and the session API does nothing. Default: on.
        stores: URLs or paths of stores for records. Reading asks the first that can be read. Default: none, only spans.
        content: `full`: prompts and completions; `metadata`: counts, roles, tool names, hashes; `off`: no content
            anywhere. Default: `full`.
        content_on_spans: Off: content in records and log events only, as the conventions' EVENT_ONLY. Default: on.
        vocabularies: Attribute sets on spans: `llm`, `gen_ai`, `openinference`. Default: `llm` and `gen_ai`.
        llm_prompts: `llm.prompts` and `llm.prompts.raw` on spans even if another vocabulary has the prompt.
            Default: off.
        max_attribute_bytes: Longest attribute, in bytes; what is cut stays valid JSON. Default: 32 KiB.
        max_span_bytes: Content of all attributes of one span, in bytes. Default: 128 KiB.
        max_record_bytes: Largest record, in bytes; bodies of larger ones are left out and listed. Default: 16 MiB.
        media: `reference`: base64 images, audio and files become `{sha256, mime, bytes}`; `inline` keeps them.
            Default: `reference`.
        propagate: Send W3C `traceparent` to the provider. Default: off.
        stream_usage: Ask for the usage of OpenAI chat streams, and keep the extra chunk from the caller. Default: off.
        estimate_usage: Estimate tokens where the provider reports none; marked as estimates. Default: off.
        chunk_log: For how many chunks of a stream the record keeps arrival time and kind. Default: 0.
        native: The anthropic SDK's own spans: `replace` them by ours, or `keep` both. Default: `replace`.
        log_events: Content and rewards as log events of the conventions. Default: off.
        completion_hook: Name of a completion hook of OpenTelemetry's GenAI utilities, called with each finished call.
            Default: none.
        attempt_spans: A child span for each HTTP request of a call, besides the events. Default: off.
        fsync: `none`; `interval`: every second; `always`: with every record. Default: `none`.
        spool_max_bytes: Records that wait for their stores, in bytes; beyond it bodies are given up first, then
            records, both counted. Default: 1 GiB.
        spool_dir: Directory of the records that wait. Default: beside a file store, else the user's state directory.
        flush_on_sigterm: Under `opentelemetry-instrument`, `callspan run` and with `otlp`: send telemetry before an
            unhandled SIGTERM ends the process. Default: on.
        trace_per: `session`: one trace per session; `timestep`: one per timestep, linked. Default: `session`.
        prices: File of your own prices of models, used before the published ones. Default: none.
        span_cost: Computed cost on spans too, at about 0.1 ms a call; a cost the provider reports is always there.
            Default: off.
        compatibility: Attribute names that backends still read, besides the conventions' own. Default: on.
        strict: Wrong use of the session API raises `MisuseError` instead of being flagged. Default: off.
        service: Name of the service in records; spans have that of their resource. Default: none.

    Example:
        >>> callspan.instrument(content="metadata").settings.content
        'metadata'
    """

    enabled: bool = True
    stores: tuple[str, ...] = _NONE
    content: Content = "full"
    content_on_spans: bool = True
    vocabularies: tuple[Vocabulary, ...] = ("llm", "gen_ai")
    llm_prompts: bool = False
    max_attribute_bytes: int = 32 * KIB
    max_span_bytes: int = 128 * KIB
    max_record_bytes: int = 16 * KIB * KIB
    media: Media = "reference"
    propagate: bool = False
    stream_usage: bool = False
    estimate_usage: bool = False
    chunk_log: int = 0
    native: Native = "replace"
    log_events: bool = False
    completion_hook: str | None = None
    attempt_spans: bool = False
    fsync: Fsync = "none"
    spool_max_bytes: int = KIB**3
    spool_dir: Path | None = None
    flush_on_sigterm: bool = True
    trace_per: TracePer = "session"
    prices: Path | None = None
    span_cost: bool = False
    compatibility: bool = True
    strict: bool = False
    service: str | None = None

    def __repr__(self) -> str:
        """Return the settings as keyword arguments, store URLs without passwords."""
        values = {**msgspec.structs.asdict(self), "stores": tuple(map(safe_url, self.stores))}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in values.items())})"
