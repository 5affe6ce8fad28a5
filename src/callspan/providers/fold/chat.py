"""Chat: folds the chunks of chat completions, and of completions of the older kind."""

from __future__ import annotations

from operator import itemgetter
from typing import Final

from callspan.providers.error_kinds import error_in
from callspan.providers.fold.merge import Json, Numbered, extend, is_json, merge, whole
from callspan.providers.wire_json import detached, integer
from callspan.record.messages import LENGTH, normalised

_CUMULATIVE: Final = frozenset({"usage", "x_groq"})
# `obfuscation` is padding against eavesdroppers; `value` is the text of Writer's chunks.
_NOT_OF_BODY: Final = frozenset({"choices", "obfuscation", "object", "value"})


class ChatFold:
    """Joins chunks with choices, which are known by their index, without one by their place in the list.

    Of the fields around them the first that says something stays; for usage the last counters.
    """

    kind = "chat.completion"
    grows: str | None = None
    """The field of a choice whose text comes in pieces; None: those of its message do."""

    def __init__(self) -> None:
        self._body: Json = {}
        self._complete = False
        self._choices = Numbered()
        self._keys: set[str] = set()
        self._open: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """True once each choice has a finish reason, or a last chunk with only usage has come."""
        ended = [bool(choice.get("finish_reason")) for choice in self._choices.values()]
        return self._complete or (bool(ended) and all(ended))

    @property
    def terminated(self) -> bool:
        """True once its last event was received, which in some APIs follows the signal."""
        return self.complete

    def add(self, chunk: object) -> bool:
        """Fold in one parsed chunk; return True if it carried content (text, reasoning, refusal, tool call).

        Called in the caller's loop: takes constant time and keeps only strings of the chunk.
        """
        if not isinstance(chunk, dict):
            return False
        choices, carried = chunk.get("choices"), False
        if type(choices) is list:
            for place, choice in enumerate(choices):
                if type(choice) is dict and self._take(choice, place):
                    carried = True
        # Most chunks repeat the fields of the one before.
        if chunk.keys() <= self._keys:
            for key in self._open:
                if chunk.get(key):
                    self._take_head(chunk)
                    break
        else:
            self._take_head(chunk)
        return carried

    def _take(self, choice: Json, place: int) -> bool:
        index = choice.get("index")
        if type(index) is not int or index < 0:
            index = place
        held = self._choices.get(index)
        if held is None:
            held = self._choices[index] = {"index": index, "message": {}}
        carried = False
        for key, value in choice.items():
            if value is None or key == "index":
                continue
            if key == "delta" or key == "message":  # noqa: PLR1714 - a tuple takes longer, for each chunk
                if type(value) is dict and merge(held["message"], value):
                    carried = True
            elif key == "text":
                # Together repeats the delta in `text`.
                carried = (self.grows == key and merge(held, {key: value})) or carried
            elif key in ("logprobs", "token_ids"):
                self._extend(held, key, value)
            # Azure repeats its filter results on every chunk.
            elif held.get(key) != value and (key != "finish_reason" or (value and isinstance(value, str))):
                merge(held, {key: value}, last=True)
        return carried

    def _extend(self, held: Json, key: str, value: object) -> None:
        if key == "token_ids" and isinstance(value, list):
            extend(held, {key: value})
        elif key == "logprobs" and isinstance(value, dict):
            extend(held.setdefault(key, {}), value)

    def _take_head(self, chunk: Json) -> None:
        body = self._body
        if (error := error_in(chunk)) is not None:
            body.setdefault("error", detached(error))
        for key, value in chunk.items():
            held = body.get(key)
            if key in _CUMULATIVE:
                if isinstance(value, dict):
                    merge(body, {key: value}, last=True)
            elif key not in _NOT_OF_BODY and not held and (value or key not in body):
                body[key] = detached(value)
        self._keys.update(chunk)
        self._open = tuple(key for key in self._keys - _NOT_OF_BODY if key in _CUMULATIVE or not body.get(key))
        # A chunk with only usage is the last one, even from servers that send no finish reason.
        if chunk.get("choices") == [] and self._choices and chunk.get("usage"):
            self._complete = True

    def body(self) -> Json | None:
        """Return the body so far, valid after any prefix of the stream; None if nothing was received.

        It is a new object. Incomplete tool calls are marked by `"incomplete": true`; an unfinished choice has no finish
        reason.
        """
        if not self._keys:
            return None
        choices = [self._choice(whole(self._choices[index])) for index in sorted(self._choices)]
        return {"object": self.kind, **whole(self._body), "choices": choices}

    def _choice(self, choice: Json) -> Json:
        message = choice.pop("message")
        ids = message.pop("token_ids", None)
        found = {"index": choice["index"], "message": message, "finish_reason": None, "logprobs": None, **choice}
        if ids is not None:
            found.setdefault("token_ids", ids)
        content = message.pop("content", None)
        # Streams of tool turns begin with an empty text where a response without streaming has null.
        is_null = content == "" and any(key != "role" for key in message)
        found["message"] = {"role": "assistant", "content": None if is_null else content, **message}
        if isinstance(calls := message.get("tool_calls"), list):
            was_cut = normalised(choice.get("finish_reason") or LENGTH) == LENGTH
            found["message"]["tool_calls"] = [_finished_call(call, was_cut) for call in _in_order(calls)]
        return found


def _in_order(calls: list[Json]) -> list[Json]:
    """Return calls by their index; one without an index has that of its place."""
    placed = [(place if (at := integer(call, "index")) is None else at, call) for place, call in enumerate(calls)]
    return [call for _, call in sorted(placed, key=itemgetter(0))]


def _finished_call(call: Json, was_cut: bool) -> Json:
    """Return a call as in a response without streaming, marked if it is incomplete."""
    kind = next((kind for kind in ("function", "custom") if isinstance(call.get(kind), dict)), "function")
    grows = "input" if kind == "custom" else "arguments"
    inner = {"name": None, grows: "", **(call.get(kind) or {})}
    found = {key: value for key, value in call.items() if key != "index"}
    found |= {"type": call.get("type") or kind, kind: inner}
    if not inner["name"] or (was_cut and (kind == "custom" or not is_json(inner[grows]))):
        found["incomplete"] = True
    return found


class CompletionFold(ChatFold):
    """Completions of the older kind."""

    kind = "text_completion"
    grows = "text"

    def add(self, chunk: object) -> bool:
        """Fold in one chunk; those of Writer are texts alone."""
        if isinstance(chunk, dict) and chunk.get("choices") is None and isinstance(chunk.get("value"), str):
            chunk = {**chunk, "choices": [{"index": 0, "text": chunk["value"]}]}
        return super().add(chunk)

    @property
    def terminated(self) -> bool:
        """True if complete; streams of plain texts have neither finish reasons nor `[DONE]`."""
        return self.complete or "value" in self._keys

    def _choice(self, choice: Json) -> Json:
        del choice["message"]
        return {"text": "", "finish_reason": None, "logprobs": None, **choice}
