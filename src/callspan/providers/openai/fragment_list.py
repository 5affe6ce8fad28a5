"""Growing lists: typed objects whose texts arrive in fragments (content parts, reasoning details)."""

from __future__ import annotations

from typing import Any, Final

from callspan.providers.copies import fill
from callspan.providers.string_builder import StringBuilder

_GROWS: Final = ("text", "summary", "thinking")


class _Entry:
    __slots__ = ("fields", "texts", "wrapped")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.texts: dict[str, StringBuilder] = {}
        self.wrapped = False
        """True when `thinking` came as a list of text parts, as Mistral sends it."""

    def take(self, item: dict[str, Any]) -> bool:
        grown = False
        rest = dict(item)
        for key in _GROWS:
            text = self._text(rest.get(key))
            if text is not None:
                del rest[key]
                self.texts.setdefault(key, StringBuilder()).add(text)
                grown = grown or bool(text)
        fill(self.fields, rest)
        return grown

    def body(self) -> dict[str, Any]:
        whole = dict(self.fields)
        for key, pieces in self.texts.items():
            text = pieces.joined()
            whole[key] = [{"type": "text", "text": text}] if self.wrapped and key == "thinking" else text
        return whole

    def _text(self, value: object) -> str | None:
        if isinstance(value, str):
            return value
        if not isinstance(value, list) or not value:
            return None
        texts = [part.get("text") for part in value if isinstance(part, dict)]
        if len(texts) < len(value) or not all(isinstance(text, str) for text in texts):
            return None
        self.wrapped = True
        return "".join(str(text) for text in texts)


class FragmentList:
    """Folds fragments of typed objects: one with an index continues that one, else one of the newest's type does."""

    __slots__ = ("_by_key", "_entries")

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._by_key: dict[tuple[object, object], _Entry] = {}

    def add(self, item: dict[str, Any]) -> bool:
        """Fold in one object; return True if it carried text, or is a new object of another kind."""
        kind, index = item.get("type"), item.get("index")
        kind = kind if isinstance(kind, str) else None
        index = index if isinstance(index, int) else None
        known = self._by_key.get((kind, index)) if index is not None else self._newest(kind, item)
        if known is None:
            known = _Entry()
            self._entries.append(known)
            if index is not None:
                self._by_key[kind, index] = known
            return known.take(item) or not known.texts
        return known.take(item)

    def body(self) -> list[dict[str, Any]]:
        """Return the objects so far."""
        return [entry.body() for entry in self._entries]

    def __bool__(self) -> bool:
        return bool(self._entries)

    def _newest(self, kind: str | None, item: dict[str, Any]) -> _Entry | None:
        newest = self._entries[-1] if self._entries else None
        if newest is None or newest.fields.get("type") != kind or not any(key in item for key in _GROWS):
            return None
        return newest if newest.texts else None
