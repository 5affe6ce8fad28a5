"""Context: the metadata and the content level of the running code, and carriers.

Metadata and level are stored in the OpenTelemetry context, so they follow tasks, and threads that get the context. A
carrier passes a session's ids to another process as short strings.
"""

from __future__ import annotations

import contextvars
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Final, ParamSpec, TypeAlias, TypeVar, cast
from urllib.parse import quote, unquote

from opentelemetry.context import Context, attach, get_current, set_value
from opentelemetry.trace import get_current_span

from callspan.agent.arguments import MAX_ENTRIES, as_dict, as_field, first_entries
from callspan.agent.decorators import AdvanceBlock, decorated
from callspan.record.call import Place
from callspan.record.plain_json import TRUNCATED_KEY, clean
from callspan.record.span_handle import FOREIGN_RUNS, SCOPE_KEY
from callspan.record.vocabulary import METADATA_FIELDS
from callspan.runtime.fail_open import value_of
from callspan.settings import STRICTNESS, Content, strictest
from callspan.settings_loader import content_word
from callspan.spans.session import SessionSpan, SpanRef

_P = ParamSpec("_P")
_R = TypeVar("_R")

_NO_METADATA: Final[Mapping[str, object]] = {}
_METADATA: Final = "callspan.metadata"
_HOME: Final[contextvars.ContextVar[None]] = contextvars.ContextVar("callspan_home")
"""Its token can be reset only in the context that set it, not in a copy."""
SCOPE: Final = SCOPE_KEY
"""Key of the current scope in the OpenTelemetry context."""
_OWN_KEYS: Final = (SCOPE, _METADATA)
_SUPPRESSION: Final = "suppress"
"""Part of OpenTelemetry's private keys that suppress instrumentation."""
_BLOCK: Final = "callspan.content_block"
"""Key of the content level of the enclosing blocks."""
Carrier: TypeAlias = dict[str, str]
"""Strings for another process, valid as HTTP headers; without secrets."""
_TRACE_KEY: Final = "traceparent"
_ID_KEY: Final = "callspan-session"
_NAME_KEY: Final = "callspan-session-name"
_TRACEPARENT: Final = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class OriginContext:
    """The running context at one moment, told from its copies in tasks and other threads."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token = _HOME.set(None)

    def is_current(self) -> bool:
        """Return whether it is the running context; False also while another thread asks."""
        try:
            _HOME.reset(self._token)
        except (ValueError, RuntimeError):
            return False
        self._token = _HOME.set(None)  # a token can be used once
        return True


def _is_current(origin: OriginContext | None) -> bool:
    return origin is not None and origin.is_current()


class _MetadataBlock(dict[str, object]):
    """The metadata inside a block, and how to tell that the block has ended elsewhere."""

    __slots__ = ("has_ended", "origin_context", "outer")

    def __init__(self, fields: Mapping[str, object], outer: Mapping[str, object]) -> None:
        super().__init__(fields)
        self.has_ended = False
        self.origin_context: OriginContext | None = OriginContext()
        """Where the block began; None once it has been left there."""
        self.outer = outer

    def end(self) -> None:
        """Note the end of the block. Tasks that started inside keep these fields, but not those outside."""
        if _is_current(self.origin_context):
            self.origin_context, self.outer = None, _NO_METADATA
        self.has_ended = True


def metadata_of(context: Context) -> Mapping[str, object]:
    """Return the metadata in `context`, a shared dict that must not be changed; inner values override outer ones.

    Fields that are not standard ones are in `extra`. If a generator is not read to its end, another task closes it, in
    a copy of its context. A block that has ended in such a copy no longer applies in the original context either.
    """
    fields: Any = context.get(_METADATA)
    while (
        type(fields) is _MetadataBlock
        and fields.has_ended
        and fields.origin_context is not None
        and fields.origin_context.is_current()
    ):
        fields = fields.outer
    return fields or _NO_METADATA


def with_metadata(context: Context, fields: dict[str, object]) -> Context:
    """Return `context` with its metadata updated by `fields`, except None values."""
    return set_value(_METADATA, _updated(metadata_of(context), fields), context)


def _updated(metadata: Mapping[str, object], fields: dict[str, object]) -> dict[str, object]:
    merged = dict(metadata)
    extra = dict(cast("dict[str, object]", merged.get("extra") or {}))
    extra.update(as_dict(fields.get("extra")))
    for name, value in first_entries(fields, METADATA_FIELDS).items():
        if value is None or name == "extra":
            continue
        if name not in METADATA_FIELDS:
            extra[name] = value
        elif (names := as_field(name, value)) is not None:
            merged[name] = names
            if isinstance(names, list) and len(names) == MAX_ENTRIES:
                extra |= _left_out(name, value)
    if extra:
        merged["extra"] = extra
    return merged


def _left_out(name: str, items: Any) -> dict[str, object]:
    """Return the note of how many items of a field were left out; empty if none."""
    number = len(items) - MAX_ENTRIES
    return {TRUNCATED_KEY: {name: number}} if number > 0 else {}


def current_context() -> Context:
    """Return the current context, without scopes that were entered in it and have ended in another one.

    A generator that is not read to its end is closed in a copy of its context, by another task.
    """
    context = get_current()
    scope: Any = context.get(SCOPE)
    if scope is not None and scope.state == "ended" and (still := without_ended_scopes(context)) is not context:
        attach(still)
        return still
    return context


def without_ended_scopes(context: Context) -> Context:
    """Return `context` without the ended scopes that were entered in the running context, and not left there.

    Tasks that started in a scope keep it after its end.
    """
    scope: Any = context.get(SCOPE)
    while (
        scope is not None
        and scope.state == "ended"
        and scope.origin_context is not None
        and scope.origin_context.is_current()
    ):
        inner, outer = scope.inner, scope.outer
        entries = {key: entry for key, entry in context.items() if key not in _OWN_KEYS and inner.get(key) is not entry}
        context = Context({**outer, **entries})
        scope = context.get(SCOPE)
    return context


class AsyncWithMixin:
    """Lets a context manager be used with `async with` too."""

    __slots__ = ()

    async def __aenter__(self: AbstractContextManager[_R]) -> _R:
        """Enter as `with` does."""
        return self.__enter__()

    async def __aexit__(
        self: AbstractContextManager[object],
        kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Exit as `with` does."""
        self.__exit__(kind, error, trace)


class ContextBlock(ABC):
    """Context manager that changes the value of `_key` in the context for a block. Not reusable."""

    __slots__ = ("_inner", "_outer")
    _key: ClassVar[str]

    @abstractmethod
    def _within(self, outer: Context) -> Context:
        """Return the context of the block."""

    def __enter__(self) -> None:
        """Attach the context of the block."""
        self._outer = current_context()
        self._inner = self._within(self._outer)
        attach(self._inner)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous value of `_key`, in any task, if the current context still has the value of this block.

        Other changes of the context are kept.
        """
        current = get_current()
        if current is self._inner:
            attach(self._outer)
        elif current.get(self._key) is self._inner.get(self._key):
            attach(set_value(self._key, self._outer.get(self._key), current))


class metadata(ContextBlock):  # noqa: N801 - reads as a statement: with callspan.metadata(user_id="u1")
    """Context manager that adds metadata to every call, span and record in the block; inner values override outer ones.

    Fields: application, environment; organization_id, project_id, user_id; internal_organization_id,
    internal_project_id, internal_user_id (of the platform's operator); agent, agent_id, workflow_id, workflow_name,
    run_id, step, step_index, prompt_id, prompt_version, purpose; tags (a list of strings); extra (a dict of anything
    else). Other names are added to `extra`; None leaves a field unchanged. Not reusable.

    Example:
        >>> with callspan.metadata(user_id="u1", prompt_id="greet", extra={"variant": "b"}):
        ...     answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    """

    __slots__ = ("_given", "_inside")
    _key = _METADATA

    def __init__(self, **fields: object) -> None:
        self._given = fields

    def _within(self, outer: Context) -> Context:
        """Return the context with the fields added to the current metadata."""
        outer_metadata = metadata_of(outer)
        self._inside = _MetadataBlock(_updated(outer_metadata, self._given), outer_metadata)
        return set_value(_METADATA, self._inside, outer)

    def __exit__(self, *raised: Any) -> None:
        """Restore the metadata from before the block, see `ContextBlock`."""
        super().__exit__(*raised)
        self._inside.end()


def content_of(context: Context) -> Content | None:
    """Return the content level in force in `context`; None if no block, scope or agent's span restricts it.

    A scope keeps the level of its start wherever it is current, even after the block around its start has ended.
    """
    # Does not call `block_of`, because this runs for every record.
    block: Content | None = context.get(_BLOCK)  # type: ignore[assignment]
    scope: Any = context.get(SCOPE)
    level = block if scope is None or scope.level == "full" else strictest(block, scope.level)
    if FOREIGN_RUNS and (run := FOREIGN_RUNS.get(get_current_span(context).get_span_context().span_id)) is not None:
        return strictest(level, run.level)
    return level


def block_of(context: Context) -> Content | None:
    """Return the content level of the enclosing blocks in `context`; None outside a block."""
    level: Any = context.get(_BLOCK)
    return level  # type: ignore[no-any-return]


def within_block(context: Context, outer: Context) -> Context:
    """Return `context` with the content blocks and the suppression of instrumentation of `outer`."""
    context = with_block(context, block_of(outer))
    for key in outer:
        if _SUPPRESSION in key and outer[key] and not context.get(key):
            context = set_value(key, outer[key], context)
    return context


def with_block(context: Context, block: Content | None) -> Context:
    """Return `context` with `block` as the content level of its enclosing blocks."""
    return context if context.get(_BLOCK) == block else set_value(_BLOCK, block, context)


class content(ContextBlock):  # noqa: N801 - reads as a statement: with callspan.content("off")
    """Context manager that sets the content level of every call, session and event in the block.

    It can only restrict: the setting of `instrument()` and enclosing blocks still apply. A call with its stream, or a
    session, timestep or tool, that starts in the block keeps the level until its end. Not reusable.

    Raises:
        SettingError: The argument is not `full`, `metadata` or `off`.

    Example:
        >>> with callspan.content("off"):
        ...     answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "secret"}])
    """

    __slots__ = ("_setting",)
    _key = _BLOCK

    def __init__(self, setting: Content) -> None:
        self._setting: Content = setting if setting in STRICTNESS else content_word(setting)

    def _within(self, outer: Context) -> Context:
        """Return the context with the stricter of the two levels."""
        # A new object: blocks are told apart by identity, so that leaving one does not end another of the same level.
        level: Any = strictest(self._setting, block_of(outer)).encode().decode()
        return with_block(outer, level)


class _CapturedContext(AdvanceBlock):
    """A block that makes a captured context current, within the content blocks of the running code."""

    __slots__ = ("_before", "_captured")

    def __init__(self, captured: Context) -> None:
        self._captured = captured

    def __enter__(self) -> None:
        self._before = current_context()
        level = strictest(block_of(self._captured), block_of(self._before))
        attach(with_block(self._captured, level))

    def __exit__(self, *_: object) -> None:
        attach(self._before)


def copy_context(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return `function` bound to the current session, timestep, span and metadata.

    For threads and executors: `executor.submit(callspan.copy_context(work), 1)`; coroutines and generators are
    supported too. The thread's own context is restored afterwards.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> def work() -> str | None:
        ...     session = callspan.current_session()
        ...     return None if session is None else session.id
        >>> with ThreadPoolExecutor() as executor, callspan.session(session_id="episode-1"):
        ...     executor.submit(callspan.copy_context(work)).result()
        'episode-1'
    """
    captured = current_context()
    return decorated(function, lambda _: lambda *_, **__: _CapturedContext(captured))


def carrier_of(session_id: str, name: str | None, span: SessionSpan) -> Carrier:
    """Return the carrier of a session."""
    carrier = {_ID_KEY: quote(session_id)}
    if name is not None:
        carrier[_NAME_KEY] = quote(name)
    if span.trace_id is not None and span.span_id is not None:
        carrier[_TRACE_KEY] = f"00-{span.trace_id}-{span.span_id}-{bool(span.sampled):02x}"
    return carrier


def read_carrier(carrier: Mapping[str, str] | None) -> SpanRef:
    """Return the session and span in a carrier. Keys are case-insensitive; invalid fields are ignored.

    Accepts any mapping, such as the headers of a request; one without a session is empty, as is anything else.
    """
    items = value_of(partial(dict[object, object], carrier)) if carrier is not None else None
    texts = [(key, value) for key, value in (items or {}).items() if isinstance(key, str) and isinstance(value, str)]
    fields = {str.lower(key): clean(unquote(str.__str__(value))) for key, value in texts}
    if not fields.get(_ID_KEY):
        return SpanRef()  # other callers may send `traceparent` alone
    place = Place(session_id=fields[_ID_KEY], session_name=fields.get(_NAME_KEY))
    trace = _TRACEPARENT.fullmatch(fields.get(_TRACE_KEY, ""))
    if trace is None:
        return SpanRef(place=place)
    return SpanRef(trace_id=trace[1], span_id=trace[2], sampled=bool(int(trace[3], 16) & 1), place=place)
