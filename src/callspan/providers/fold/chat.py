"""Chat: folds the chunks of chat completions and legacy completions."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from callspan.providers.error_kinds import error_in
from callspan.providers.fold.accounts import joined
from callspan.providers.fold.merge import carries, extend, finished_copy, is_json, merge
from callspan.providers.fold.usage_merge import UsageRule, merge_usage
from callspan.providers.media_parts import one_base64
from callspan.providers.wire_json import Json, detached, integer, mapping
from callspan.record.finish_reasons import ERROR, LENGTH, normalised

_USAGE: Final = "usage"
_GEMINI: Final = ("gemini", "models/gemini", "google/gemini")
"""Prefixes of the names of models with chunks that each state the usage of the present run, as on Gemini's own wire."""
_GROQ: Final = "x_groq"
"""Groq's field with the usage of a stream."""
_REPLACED: Final = frozenset({"timings", "extra_fields"})
"""Fields that count by their last value: llama.cpp's counts so far, and Bifrost's word of a cache."""
_EXTENSIONS: Final = frozenset({"nvext", "sglext"})
"""Objects of inference servers. Each chunk states some of their fields."""
_NEW_IDS: Final = frozenset({"completion_logprobs", "completion_token_ids", "output_ids"})
"""Their lists with the ids and probabilities of the chunk's own tokens."""
# `obfuscation` is padding against eavesdroppers; `value` is the text of Writer's chunks.
_APPENDED: Final = frozenset({"logprobs", "token_ids"})
"""Fields of a choice that are deltas: each chunk has only what is new."""
_STATED: Final = "stated"
"""Where a choice under construction has the account of its message."""
_ENDED_BY: Final = "ended_by"
"""Where it has whether that account is one, given with its finish reason, and so of all of the message."""
_NOT_OF_BODY: Final = frozenset({"choices", "obfuscation", "object", "value"})


class ChatFold:
    """Joins chunks with choices, identified by their index or else their position in the list.

    Of other fields the first value that is not null is kept; of usage the last.
    """

    kind = "chat.completion"
    usage_rule: ClassVar[UsageRule] = "last of each"
    growing_field: str | None = None
    """The field of a choice with a text that is streamed in pieces; None: the fields of its message."""

    def __init__(self) -> None:
        self._body: Json = {}
        self._choices: dict[int, Json] = {}
        self._has_usage_last = False
        self._settled_fields = {_USAGE, *_NOT_OF_BODY}
        """Fields beside the choices that are known or not part of the body."""

    @property
    def complete(self) -> bool:
        """True once each choice has a finish reason or a final chunk with only usage was received."""
        are_finished = [bool(choice.get("finish_reason")) for choice in self._choices.values()]
        return self._has_usage_last or (bool(are_finished) and all(are_finished))

    def add(self, chunk: object) -> bool:
        """Fold in one parsed chunk; return True if it carried content (text, reasoning, refusal, tool call).

        Called in the caller's loop: takes constant time and keeps only strings of the chunk.
        """
        if not isinstance(chunk, dict):
            return False
        choices, has_content = chunk.get("choices"), False
        if type(choices) is list:
            for position, choice in enumerate(choices):
                if type(choice) is dict and self._take(choice, position):
                    has_content = True
        elif (error := error_in(chunk)) is not None:
            self._body.setdefault("error", detached(error))
        # Most chunks repeat the fields of the previous one.
        if chunk.get(_USAGE) or not chunk.keys() <= self._settled_fields:
            self._take_fields(chunk)
        return has_content

    def _take(self, choice: Json, position: int) -> bool:
        index = choice.get("index")
        if type(index) is not int or index < 0:
            index = position
        entry = self._choices.get(index)
        if entry is None:
            entry = self._choices[index] = {"index": index, "message": {}}
        has_content = False
        for key, value in choice.items():
            if not value or key == "index":
                continue
            if key == "delta":
                if type(value) is dict and merge(entry["message"], value):
                    has_content = True
            elif self._take_beside(entry, choice, key, value):
                has_content = True
        return has_content

    def _take_beside(self, entry: Json, choice: Json, key: str, value: Any) -> bool:
        """Take a field beside the delta of a choice; return True if it has content."""
        if key == "message":
            # Perplexity states the message so far beside each delta.
            is_last = bool(choice.get("finish_reason") or entry.get("finish_reason"))
            return not choice.get("delta") and self._state(entry, value, is_last=is_last)
        if key == "text":
            # Together repeats the delta in `text`.
            return self.growing_field == key and merge(entry, {key: value})
        if key in _APPENDED:
            # Together states the number of the chunk's only token, and the list of them in an answer.
            extend(entry, {key: {"token_logprobs": [value]} if isinstance(value, int | float) else value})
        elif key in _EXTENSIONS:
            _extend(entry, {key: value})
        # Azure repeats its filter results on every chunk.
        elif entry.get(key) != value and (key != "finish_reason" or isinstance(value, str)):
            merge(entry, {key: value}, last=True)
        return False

    def _state(self, choice: Json, message: object, *, is_last: bool) -> bool:
        """Take an account of all of a message, so far or at its end; return True if it has content."""
        if not isinstance(message, dict):
            return False
        choice[_ENDED_BY] = is_last and _STATED not in choice
        choice[_STATED] = joined(choice.get(_STATED) or {}, message)
        return carries("", message)

    def _take_fields(self, chunk: Json) -> None:
        """Take the fields beside the choices."""
        for key, value in chunk.items():
            if key == _USAGE and isinstance(value, dict):
                self._take_usage(self._body, value)
            elif key == _GROQ and isinstance(value, dict):
                self._take_groq(value)
            elif key in _REPLACED and isinstance(value, dict):
                merge(self._body, {key: value}, last=True)
            elif key in _EXTENSIONS and isinstance(value, dict):
                _extend(self._body, {key: value})
            elif value and key not in self._settled_fields:
                self._settled_fields.add(key)
                self._body.setdefault(key, detached(value))
        # A chunk with only usage is the last one, even from servers that send no finish reason.
        if chunk.get("choices") == [] and self._choices and chunk.get(_USAGE):
            self._has_usage_last = True

    def _take_usage(self, holder: Json, usage: Json) -> None:
        model = self._body.get("model")
        is_gemini = isinstance(model, str) and model.startswith(_GEMINI)
        rule: UsageRule = "last whole" if is_gemini else self.usage_rule
        holder[_USAGE] = merge_usage(mapping(holder, _USAGE) or {}, usage, rule)

    def _take_groq(self, fields: Json) -> None:
        """Take Groq's field. Its usage adds up by the same rule as the field `usage`."""
        extension = self._body.setdefault(_GROQ, {})
        merge(extension, {key: value for key, value in fields.items() if key != _USAGE}, last=True)
        if isinstance(usage := fields.get(_USAGE), dict):
            self._take_usage(extension, usage)

    def body(self) -> Json | None:
        """Return the body so far, valid after any prefix of the stream; None if nothing was received.

        It is a new object. Incomplete tool calls are marked by `"incomplete": true`; an unfinished choice has no finish
        reason.
        """
        if not self._body and not self._choices:
            return None
        choices = [self._choice(finished_copy(self._choices[index])) for index in sorted(self._choices)]
        return {"object": self.kind, **finished_copy(self._body), "choices": choices}

    def _choice(self, choice: Json) -> Json:
        # Streams of tool calls start with an empty text; non-streamed responses have null.
        streamed, final, is_last = choice.pop("message"), choice.pop(_STATED, {}), choice.pop(_ENDED_BY, False)
        message = {"role": "assistant", "content": None, **joined(streamed, final, is_last=is_last)}
        ids = {"token_ids": message.pop("token_ids")} if "token_ids" in message else {}
        if isinstance(calls := message.get("tool_calls"), list):
            was_cut = normalised(choice.get("finish_reason") or LENGTH) in (LENGTH, ERROR)
            message["tool_calls"] = [_finished_call(call, was_cut) for call in _in_order(calls)]
        if isinstance(sound := message.get("audio"), dict) and isinstance(sound.get("data"), str):
            sound["data"] = one_base64(sound["data"])
        return {"index": choice["index"], "message": message, "finish_reason": None, "logprobs": None, **ids, **choice}


def _extend(fields: Json, update: Json) -> None:
    """Add the fields of a server's extension: lists of new ids grow, of other fields the first value is kept."""
    for key, value in update.items():
        current = fields.get(key)
        if current is None:
            fields[key] = detached(value)
        elif isinstance(value, dict) and isinstance(current, dict):
            _extend(current, value)
        elif isinstance(value, list) and isinstance(current, list) and key in _NEW_IDS:
            current += detached(value)


def _in_order(calls: list[object]) -> list[Json]:
    """Return calls in order of their index, or else their position."""
    indexed = [{"index": position, **call} for position, call in enumerate(calls) if isinstance(call, dict)]
    return sorted(indexed, key=lambda call: integer(call, "index") or 0)


def _finished_call(call: Json, was_cut: bool) -> Json:
    """Return a call as in a non-streamed response, marked if incomplete."""
    kind = next((kind for kind in ("function", "custom") if isinstance(call.get(kind), dict)), "function")
    growing_field = "input" if kind == "custom" else "arguments"
    inner = {"name": None, growing_field: "", **(mapping(call, kind) or {})}
    fields = {key: value for key, value in call.items() if key != "index"}
    fields |= {"type": call.get("type") or kind, kind: inner}
    if not inner["name"] or (was_cut and (kind == "custom" or not is_json(inner[growing_field]))):
        fields["incomplete"] = True
    return fields


class CompletionFold(ChatFold):
    """Joins the chunks of legacy completions."""

    kind = "text_completion"
    growing_field = "text"
    _is_of_texts = False

    def add(self, chunk: object) -> bool:
        """Fold in one chunk. Writer's chunks are plain texts."""
        if isinstance(chunk, dict) and chunk.get("choices") is None and isinstance(chunk.get("value"), str):
            self._is_of_texts = True
            chunk = {**chunk, "choices": [{"index": 0, "text": chunk["value"]}]}
        return super().add(chunk)

    @property
    def terminated(self) -> bool:
        """True if complete. Streams of plain texts have neither finish reasons nor `[DONE]`."""
        return self.complete or self._is_of_texts

    def _choice(self, choice: Json) -> Json:
        del choice["message"]
        choice.pop(_STATED, None)
        choice.pop(_ENDED_BY, None)
        return {"text": "", "finish_reason": None, "logprobs": None, **choice}
