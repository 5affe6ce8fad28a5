"""Fold: joins the events of a stream into the body that the endpoint returns without streaming.

`merge` joins the news of each event with what is known. Until the body is read, a text under construction is a list of
its pieces, and a list whose entries have numbers is a dictionary of them.

A fold is total: a value of a wrong type is absent. It takes constant time for a chunk and keeps only strings of it.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from itertools import islice
from operator import itemgetter
from typing import Any, Final, TypeAlias

from callspan.providers.wire_json import detached, integer
from callspan.record.messages import LENGTH, normalised

Json: TypeAlias = dict[str, Any]

_TEXTS: Final = frozenset(
    {
        "arguments", "code", "completion", "content", "data", "input", "partial_json", "reasoning", "reasoning_content",
        "reasoning_text", "refusal", "summary", "text", "thinking", "transcript",
    }
)  # fmt: skip
"""Fields whose texts come in pieces."""
_RICH: Final = frozenset({"content", "thinking"})
"""Those that may be a list of parts instead: Mistral's."""
_ENTRY_TEXTS: Final = ("text", "summary", "thinking")
"""Those by which an entry without a number continues the one before."""
_LISTED: Final = {"citation": "citations", "token_id": "token_ids"}
"""One in each delta is a list in a whole message: LiteLLM's, Anthropic's, Together's."""
_SHAPES: Final[dict[str, type]] = {
    "annotations": list, "audio": dict, "executed_tools": list, "function_call": dict, "images": list,
    "provider_specific_fields": dict, "reasoning_details": list, "thinking_blocks": list, "tool_calls": list,
}  # fmt: skip
_OBJECTS: Final = frozenset(key for key, shape in _SHAPES.items() if shape is list)
_ALWAYS_CONTENT: Final = frozenset({"annotations", "deltas", "executed_tools", "images"})
_NAMED_TEXTS: Final = _TEXTS | {"name"}
_MAX_PIECES: Final = 1000
_MAX_SEARCHED: Final = 128
_MAX_DEPTH: Final = 8
_ABOUT_EVENT: Final = frozenset({"object", "sequence_number", "type"})


class Pieces(list[str]):
    """A text under construction: the pieces after those that are already joined."""

    __slots__ = ("_joined",)

    def __init__(self, begin: str) -> None:
        super().__init__((begin,))
        self._joined: list[str] = []

    def join_some(self) -> None:
        """Join the pieces, each of which takes about 50 bytes besides its text."""
        self._joined.append("".join(self))
        self.clear()

    def text(self) -> str:
        """Return the text so far."""
        return "".join([*self._joined, *self])


class Numbered(dict[int, Any]):
    """A list under construction, by the numbers of its entries."""


def merge(known: Json, news: Mapping[str, Any], *, last: bool = False) -> bool:
    """Merge `news` into `known`; return True if they carry content. Null says nothing.

    Texts in pieces grow, objects are merged, lists by their entries. Of other values the first that says something
    stays. With `last` the last one stays, also of texts and lists.
    """
    carried = False
    for key, value in news.items():
        if value is None:
            continue
        held = known.get(key)
        if type(held) is Pieces and type(value) is str:
            if value:
                held.append(value)
                carried = True
                if len(held) > _MAX_PIECES:
                    held.join_some()
        elif isinstance(held, dict) and isinstance(value, dict):
            carried = merge(held, value, last=last) or carried
        elif last:
            known[key] = detached(value)
        elif isinstance(value, _SHAPES.get(key, object)):
            _put(known, key, value)
            carried = carried or carries(key, value)
    return carried


def _put(known: Json, key: str, value: Any) -> None:  # noqa: ANN401 - JSON
    """Merge one value that neither grows a text under construction nor an object."""
    if key in _LISTED:
        known.setdefault(_LISTED[key], []).append(detached(value))
    elif key in _TEXTS and isinstance(value, str):
        _put_text(known, key, value)
    elif isinstance(value, list):
        _put_list(known, key, value)
    elif isinstance(value, dict) and key in _SHAPES:
        merge(known.setdefault(key, {}), value)
    elif not known.get(key) and (value or key not in known):
        known[key] = detached(value)


def _put_text(known: Json, key: str, value: str) -> None:
    held = known.get(key)
    if key in _RICH and isinstance(held, list):
        _merge_list(held, [{"type": "text", "text": value}])
    elif isinstance(held, str):
        known[key] = Pieces(held + value)
    elif value or (key == "content" and held is None):
        known[key] = Pieces(value)


def _put_list(known: Json, key: str, value: list[Any]) -> None:
    held = known.get(key)
    if type(held) is Pieces and key in _RICH:
        before = held.text()
        held = known[key] = [{"type": "text", "text": before}] if before else []
    elif not isinstance(held, list):
        held = known[key] = []
    _merge_list(held, [one for one in value if isinstance(one, dict)] if key in _OBJECTS else value)


def _merge_list(known: list[Any], news: list[Any]) -> None:
    """Add entries to a list; those that continue one of it are merged into that.

    A longer list that begins with `known` is that list as it has grown: only the rest is new.
    """
    for item in news[len(known) :] if len(news) > len(known) and news[: len(known)] == known else news:
        held = _continued(known, item) if isinstance(item, dict) else None
        if held is None:
            known.append(detached(item))
        else:
            merge(held, item)


def _continued(known: list[Any], item: Json) -> Json | None:
    """Return the entry that an item continues: that of its number, else of its id, else the newest."""
    number, name, kind = item.get("index"), item.get("id"), item.get("type")
    for held in islice(reversed(known), _MAX_SEARCHED):
        if isinstance(held, dict) and kind in (None, held.get("type")):
            if type(number) is int:
                if held.get("index") == number:
                    # Some gateways number all calls 0; others send a new id with every piece, but no name.
                    is_another = name and name != held.get("id", name) and _of_call(item, "name")
                    return None if is_another else held
            elif name:
                if held.get("id") == name:
                    return held
            else:
                return held if _goes_on(held, item) else None
        elif type(number) is not int and not name:
            return None
    return None


def _goes_on(held: Json, item: Json) -> bool:
    """Return whether an entry without number or id continues the newest one."""
    if "function" in held or "custom" in held:
        return not _begins_call(held, item)
    begins = any(item.get(key) for key in _ENTRY_TEXTS)
    if signature := held.get("signature"):  # it ends a thought
        return not begins and item.get("signature", signature) == signature
    grows = any(key in item for key in _ENTRY_TEXTS) or ("signature" in item and "thinking" in held)
    return grows and any(key in held for key in _ENTRY_TEXTS)


def _begins_call(held: Json, item: Json) -> bool:
    """Return whether a named piece after arguments begins the next call: another name, or new arguments."""
    name, opening = _of_call(item, "name"), _of_call(item, "arguments")
    if not name or not whole(_of_call(held, "arguments")):
        return False
    return name != _of_call(held, "name") or isinstance(opening, dict) or str(opening or "").startswith("{")


def _of_call(call: Json, key: str) -> Any:  # noqa: ANN401 - JSON
    inner = call.get("function") or call.get("custom")
    return inner.get(key) if isinstance(inner, dict) else None


def carries(key: str, value: object, depth: int = 0) -> bool:
    """Return whether a new value has content: a text that comes in pieces, a name, or an entry that comes whole."""
    if isinstance(value, str):
        return value != "" and key in _NAMED_TEXTS
    if depth == _MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return any(carries(name, item, depth + 1) for name, item in value.items())
    if isinstance(value, list):
        return any(key in _ALWAYS_CONTENT or carries(key, item, depth + 1) for item in value)
    return False


def whole(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a copy of a value in which nothing is under construction."""
    if isinstance(value, Pieces):
        return value.text()
    if isinstance(value, Numbered):
        return [whole(value[number]) for number in sorted(value)]
    if isinstance(value, dict):
        return {
            key: _sound(item) if key == "data" and type(item) is Pieces else whole(item) for key, item in value.items()
        }
    return [whole(item) for item in value] if isinstance(value, list) else value


def _sound(pieces: Pieces) -> str:
    """Return one base64 text: pieces with padding are decoded before they are joined."""
    if not any(piece.endswith("=") for piece in pieces[:-1]):
        return pieces.text()
    try:
        sound = b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except (binascii.Error, ValueError):
        return pieces.text()
    return base64.b64encode(sound).decode()


def extend(known: Json, news: Mapping[str, Any]) -> None:
    """Merge objects whose lists grow by whole entries; of other values the last one that is not null stays."""
    for key, value in news.items():
        held = known.get(key)
        if isinstance(value, list) and isinstance(held, list):
            held += detached(value)
        elif value is not None or key not in known:
            known[key] = detached(value)


def error_in(event: Mapping[str, Any]) -> object:
    """Return the error that a body or an event has or is; None if there is none.

    It is a field, the object itself, or the `detail` of a server that knows nothing else to say.
    """
    if found := event.get("error"):
        return found
    if event.get("object") == "error" or event.get("type") in ("error", "response.error"):
        return {key: value for key, value in event.items() if key not in _ABOUT_EVENT} or {"type": "error"}
    return dict(event) if set(event) == {"detail"} and event["detail"] else None


def is_json(written: object) -> bool:
    """Return whether a value is one complete JSON value, as text or as it is."""
    try:
        json.loads(written) if isinstance(written, str) else None
    except (ValueError, RecursionError):
        return False
    return True


# Chat completions, and completions of the older kind.

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
