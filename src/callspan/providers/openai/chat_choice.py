"""One choice of a chat stream: folds deltas into a message, with spoken audio and typed lists in fragments."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from callspan.providers.openai.tool_calls import CallFragments, ToolCalls
from callspan.providers.wire_json import StringBuilder, detached, fill, merge_list, overlay
from callspan.record.messages import normalised

_GROWS: Final = ("text", "summary", "thinking")
_SIGNATURE: Final = "signature"
"""Ends a thought: a following text or another signature begins a new one."""

_TEXTS: Final = frozenset({"refusal", "reasoning_content", "reasoning", "reasoning_text", "thinking"})
"""Fields of a delta that arrive in fragments, besides `content`."""
_CONTENT: Final = frozenset({"annotations", "executed_tools", "images"})
"""Fields that carry content but are not folded by a rule."""
_THOUGHTS: Final = "thinking_blocks"
_FOLDED: Final = frozenset({"reasoning_details", _THOUGHTS})
"""Lists of typed objects whose texts arrive in fragments."""
_SPECIFIC: Final = "provider_specific_fields"
_CITATION, _CITATIONS = "citation", "citations"
"""One in each delta is a list in a whole message."""
_SPECIFIC_THOUGHTS: Final = f"{_SPECIFIC}.{_THOUGHTS}"
"""LiteLLM sends Claude's thoughts twice, the second time in its own fields."""
_BESIDE_DELTA: Final = frozenset({"finish_reason", "logprobs", "token_ids"})
# `text`: Together repeats the delta there.
_KNOWN_IN_CHOICE: Final = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "token_ids", "text"})


def choice_index(choice: dict[str, Any], position: int) -> int:
    """Return the index of a choice; without one its position in the chunk."""
    index = choice.get("index")
    return index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else position


def add_logprobs(known: dict[str, Any] | None, logprobs: dict[str, Any]) -> dict[str, Any]:
    """Return the known log probabilities of a choice with those of a chunk: lists grow, of others the last one wins."""
    known = {} if known is None else known
    for key, value in logprobs.items():
        held = known.get(key)
        if isinstance(value, list) and isinstance(held, list):
            held.extend(detached(value))
        elif value is not None or key not in known:
            known[key] = detached(value)
    return known


class Audio:
    """An audio output under construction."""

    __slots__ = ("_data", "_fields", "_transcript")

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._data: list[str] = []
        self._transcript = StringBuilder()

    def take(self, fragment: dict[str, Any]) -> bool:
        """Fold in one `delta.audio`; return True if it carried audio or a transcript."""
        data, transcript = fragment.get("data"), fragment.get("transcript")
        if isinstance(data, str) and data:
            self._data.append(data)
        if isinstance(transcript, str):
            self._transcript.add(transcript)
        fill(self._fields, {key: value for key, value in fragment.items() if key not in ("data", "transcript")})
        return bool(data or transcript)

    def body(self) -> dict[str, Any]:
        """Return the audio object as in a response without streaming."""
        whole = dict(self._fields)
        if self._data:
            whole["data"] = _joined(self._data)
        if self._transcript:
            whole["transcript"] = self._transcript.joined()
        return whole


def _joined(fragments: list[str]) -> str:
    """Return one base64 text: fragments with padding are decoded before they are joined."""
    if not any(fragment.endswith("=") for fragment in fragments[:-1]):
        return "".join(fragments)
    try:
        sound = b"".join(base64.b64decode(fragment, validate=True) for fragment in fragments)
    except (binascii.Error, ValueError):
        return "".join(fragments)
    return base64.b64encode(sound).decode()


class _Entry:
    __slots__ = ("fields", "texts", "wrapped")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.texts: dict[str, StringBuilder] = {}
        self.wrapped = False
        """True if `thinking` was a list of text parts, as Mistral sends it."""

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
    """Folds fragments of typed objects: a fragment continues the object of its index, else the newest of its type."""

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
        if newest is None or newest.fields.get("type") != kind or not newest.texts:
            return None
        signature = newest.fields.get(_SIGNATURE)
        if signature:
            ended = item.get(_SIGNATURE, signature) != signature or any(item.get(key) for key in _GROWS)
        else:
            ends_thought = _SIGNATURE in item and "thinking" in newest.texts
            ended = not ends_thought and not any(key in item for key in _GROWS)
        return None if ended else newest


class ChoiceAccumulator:
    """Folds the deltas of one choice. The hot path appends to `content` itself."""

    __slots__ = ("_audio", "_calls", "_extra", "_fields", "_function", "_ids", "_lists", "_logprobs", "_rich",
                 "_texts", "content", "finish_reason", "index", "role")  # fmt: skip

    def __init__(self, index: int) -> None:
        self.index = index
        self.role: str | None = None
        self.finish_reason: str | None = None
        self.content = StringBuilder()
        self._rich: FragmentList | None = None
        self._texts: dict[str, StringBuilder] = {}
        self._lists: dict[str, FragmentList] = {}
        self._calls = ToolCalls()
        self._function: CallFragments | None = None
        self._audio: Audio | None = None
        self._fields: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self._logprobs: dict[str, Any] | None = None
        self._ids: list[Any] | None = None

    def take(self, choice: dict[str, Any]) -> bool:
        """Fold in one entry of `choices`; return True if it carried content."""
        for key, value in choice.items():
            if key in _KNOWN_IN_CHOICE:
                if value is not None and key in _BESIDE_DELTA:
                    self._add_beside(key, value)
            # Azure repeats its filter results on every chunk: comparing is cheaper than copying.
            elif key not in self._extra or self._extra[key] != value:
                overlay(self._extra, {key: value})
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice.get("message")
        return self._add_delta(delta) if isinstance(delta, dict) else False

    def _add_beside(self, key: str, value: object) -> None:
        if key == "finish_reason":
            self.finish_reason = value if isinstance(value, str) and value else self.finish_reason
        elif isinstance(value, dict):
            self._logprobs = add_logprobs(self._logprobs, value) if key == "logprobs" else self._logprobs
        elif isinstance(value, list) and key == "token_ids":
            self._add_ids(value)

    def body(self) -> dict[str, Any]:
        """Return the choice as in a response without streaming; its finish reason is None until received."""
        choice: dict[str, Any] = {
            "index": self.index,
            "message": self._message(),
            "finish_reason": self.finish_reason,
            "logprobs": detached(self._logprobs),
        }
        if self._ids is not None:
            choice["token_ids"] = list(self._ids)
        return {**choice, **detached(self._extra)}

    def _add_delta(self, delta: dict[str, Any]) -> bool:
        carried = False
        for key, value in delta.items():
            if value is None:
                continue
            if key == "content" and isinstance(value, str):
                self.content.add(value)
                carried = carried or value != ""
            elif key in _TEXTS and isinstance(value, str):
                if value:
                    self._texts.setdefault(key, StringBuilder()).add(value)
                    carried = True
            else:
                rule = _RULES.get(key)
                carried = (self._add_other(key, value) if rule is None else rule(self, value)) or carried
        return carried

    def _add_role(self, role: object) -> bool:
        if self.role is None and isinstance(role, str) and role:
            self.role = role
        return False

    def _add_parts(self, content: object) -> bool:
        if not isinstance(content, list):
            return False
        rich = self._settle()
        carried = [rich.add(part if isinstance(part, dict) else {"type": "text", "text": part}) for part in content]
        return True in carried

    def _settle(self) -> FragmentList:
        """Move the plain text so far into the list of parts, to keep the order."""
        self._rich = rich = FragmentList() if self._rich is None else self._rich
        if text := self.content.joined():
            rich.add({"type": "text", "text": text})
        self.content = StringBuilder()
        return rich

    def _add_tool_calls(self, fragments: object) -> bool:
        return self._calls.add(fragments if isinstance(fragments, list) else [fragments])

    def _add_function(self, part: object) -> bool:
        if not isinstance(part, dict):
            return False
        self._function = self._function or CallFragments()
        self._function.grow(part)
        return True

    def _add_audio(self, fragment: object) -> bool:
        if not isinstance(fragment, dict):
            return False
        self._audio = self._audio or Audio()
        return self._audio.take(fragment)

    def _add_to_list(self, key: str, value: object) -> bool:
        entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
        if not entries:
            return False
        known = self._lists.setdefault(key, FragmentList())
        return True in [known.add(entry) for entry in entries]

    def _add_specific(self, fields: object) -> bool:
        if not isinstance(fields, dict):
            return False
        known = self._fields.setdefault(_SPECIFIC, {})
        for key, value in fields.items():
            if key == _CITATION and value:
                if not isinstance(known.get(_CITATIONS), list):
                    known[_CITATIONS] = []
                merge_list(known[_CITATIONS], [value])
            elif isinstance(value, list) and isinstance(known.get(key), list):
                merge_list(known[key], value)
            elif key != _THOUGHTS:
                fill(known, {key: value})
        return self._add_to_list(_SPECIFIC_THOUGHTS, fields.get(_THOUGHTS))

    # Together sends one id per delta, vLLM a list next to the delta.
    def _add_token_id(self, token_id: object) -> bool:
        self._add_ids([token_id])
        return False

    def _add_ids(self, ids: list[Any]) -> None:
        self._ids = [] if self._ids is None else self._ids
        self._ids.extend(detached(ids))

    def _add_other(self, key: str, value: object) -> bool:
        if key in _FOLDED:
            return self._add_to_list(key, value)
        if isinstance(value, list) and isinstance(self._fields.setdefault(key, []), list):
            merge_list(self._fields[key], value)
        elif self._fields.get(key) != value:
            fill(self._fields, {key: value})
        return key in _CONTENT and bool(value)

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": self.role or "assistant", "content": None}
        message.update((key, pieces.joined()) for key, pieces in self._texts.items())
        message.update(detached(self._fields))
        for key, known in self._lists.items():
            if key == _SPECIFIC_THOUGHTS:
                message[_SPECIFIC] = {**message.get(_SPECIFIC, {}), _THOUGHTS: detached(known.body())}
            else:
                message[key] = detached(known.body())
        if self._calls:
            message["tool_calls"] = detached(self._calls.body(cut=self._was_cut()))
        if self._function is not None:
            message["function_call"] = detached(self._function.part())
        if self._audio is not None:
            message["audio"] = detached(self._audio.body())
        message["content"] = self._whole_content(has_more=len(message) > 2)  # noqa: PLR2004 - role and content
        return message

    def _whole_content(self, *, has_more: bool) -> object:
        if self._rich is not None:
            return detached(self._settle().body())
        text = self.content.joined()
        # Streams of tool turns begin with an empty text where a response without streaming has null.
        return text if text or (self.content and not has_more) else None

    def _was_cut(self) -> bool:
        return self.finish_reason is None or normalised(self.finish_reason) == "length"


_RULES: Final = {
    "role": ChoiceAccumulator._add_role,
    "content": ChoiceAccumulator._add_parts,
    "tool_calls": ChoiceAccumulator._add_tool_calls,
    "function_call": ChoiceAccumulator._add_function,
    "audio": ChoiceAccumulator._add_audio,
    _SPECIFIC: ChoiceAccumulator._add_specific,
    "token_id": ChoiceAccumulator._add_token_id,
}
