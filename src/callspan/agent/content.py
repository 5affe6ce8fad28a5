"""Content: less of what is said shown and kept, for a block of code instead of the whole process."""

from __future__ import annotations

from types import TracebackType
from typing import Final, cast

from opentelemetry.context import Context, attach, get_current, set_value

from callspan.agent.context import restore
from callspan.config import Content, content_word

_KEY: Final = "callspan.content"
_STRICTNESS: Final[tuple[Content, ...]] = ("full", "metadata", "off")


def current_content() -> Content | None:
    """Return the content setting of the blocks around the running code; None: there is none."""
    return content_of(get_current())


def content_of(context: Context) -> Content | None:
    """Return the content setting `context` carries, see `current_content`."""
    return cast("Content | None", context.get(_KEY))


def stricter(one: Content, other: Content | None) -> Content:
    """Return the one that shows less; None asks for nothing."""
    return one if other is None else max(one, other, key=_STRICTNESS.index)


class content:  # noqa: N801 - reads as a statement: with callspan.content("off")
    """Context manager: `full`, `metadata` or `off` for every call, session and event made within.

    It only takes away: neither the setting of `instrument()` nor that of a block around can be loosened. A call
    keeps what held when it was made, wherever its stream is read. An object is entered once. Raises SettingError
    for any other word.
    """

    __slots__ = ("_inner", "_outer", "_setting")

    def __init__(self, setting: Content) -> None:
        self._setting: Content = setting if setting in _STRICTNESS else content_word(setting)

    def __enter__(self) -> None:
        """Take away what this block does not want shown."""
        self._outer = get_current()
        self._inner = set_value(_KEY, stricter(self._setting, current_content()), self._outer)
        attach(self._inner)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the setting around, from whichever task this is."""
        restore(_KEY, self._inner, self._outer)
