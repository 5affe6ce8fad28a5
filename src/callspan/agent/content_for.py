"""Content for: the application's function that decides content levels, called where a session or a call begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from opentelemetry.context import Context, get_current, set_value

from callspan.agent.context import Within, metadata_of, with_content
from callspan.agent.scope import scope_of
from callspan.fail_open import fail_open, reported
from callspan.settings import STRICTNESS, Content, SettingError, shown

ContentFor: TypeAlias = Callable[[Mapping[str, object]], Content]
"""From the metadata of what begins, read-only, to its content level."""
_DECIDING: Final = "callspan.content_for"
"""Key of the context in which the function runs."""
_DECIDE: Final = fail_open("decide by content_for: content is off for what began")


class ContentRule:
    """Decides content levels by a function of the application. Safe from any thread; raises nothing but interrupts."""

    def __init__(self, function: ContentFor) -> None:
        self._function = function

    def level_for(self, metadata: Mapping[str, object]) -> Content:
        """Return the level for this metadata; `off` if the function raises or returns no level, with one warning.

        Calls that the function itself makes are recorded with `off`.
        """
        here = get_current()
        if here.get(_DECIDING):
            return "off"
        try:
            with Within(set_value(_DECIDING, True, with_content(here, "off"))):
                level: Any = self._function(_fields(metadata))
            if level not in STRICTNESS:
                raise SettingError(f"content_for returned {shown(level)}: use one of {', '.join(STRICTNESS)}")
        except reported(_DECIDE):
            return "off"
        return level  # type: ignore[no-any-return]

    def here(self) -> Content:
        """Return the level for what begins now; `full` within a session, whose own level holds for it."""
        return self._within(get_current())

    def later(self) -> Callable[[], Content]:
        """Return a function that returns the level for what begins now, wherever it is called."""
        return partial(self._within, get_current())

    def _within(self, context: Context) -> Content:
        scope = scope_of(context)
        session = None if scope is None else scope.session
        runtime = None if session is None else session._runtime
        if runtime is not None and runtime.content_for is not None:
            return "full"
        return self.level_for(metadata_of(context))


def _fields(metadata: Mapping[str, object]) -> Mapping[str, object]:
    """Return the metadata, read-only, with the free fields under `extra` also beside the others."""
    extra = metadata.get("extra")
    if not isinstance(extra, dict):
        return MappingProxyType(dict(metadata))
    return MappingProxyType({**extra, **metadata, "extra": MappingProxyType(extra)})
