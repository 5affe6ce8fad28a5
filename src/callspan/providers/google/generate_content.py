"""Generate content: requests, answers and streams of `generateContent`.

Each chunk of a stream states the usage so far of the present run of the model. With hosted tools the counters begin
again at each run, and only the last chunk states the counters of the request, sometimes fewer of them: the last usage
counts whole. If a stream was cut, its largest usage is a lower bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final, cast

import msgspec

from callspan.providers.base import Operation, ResponseInfo, parameters
from callspan.providers.error_kinds import error_in, error_info
from callspan.providers.finishing import answer_info, finish_words
from callspan.providers.fold.merge import GrowingText, finished_copy
from callspan.providers.fold.usage_merge import UsageRule, counts_nothing
from callspan.providers.google.partial_args import with_whole_arguments
from callspan.providers.google.parts import camel, candidates, conversation, finish_reason, hidden_finish, snake
from callspan.providers.google.usage import estimated, service_tier, usage
from callspan.providers.tool_runs import Runs, hosted_kinds, with_runs
from callspan.providers.wire_json import Json, detached, flag, items, mapping, objects, text, word
from callspan.record.call import Request, Response
from callspan.record.messages import Conversation
from callspan.record.usage import Usage

_CONTENT: Final = frozenset({"contents", "system_instruction", "tools", "generation_config", "model"})
_RENAMED: Final = {"candidate_count": "n"}
_OF_TEXT: Final = ("thoughtSignature", "videoMetadata", "partMetadata")
"""Fields of a text part beside its text."""
_OF_PIECES: Final = frozenset({"partialArgs", "willContinue"})
_ANSWER: Final = frozenset({"candidates", "promptFeedback", "usageMetadata"})
_BLOCKED: Final = ("promptFeedback", "blockReason")
_INCOMPLETE: Final = "incomplete"
_SEARCH: Final = "google_search"
_MAPS: Final = "google_maps"


class GenerateContentFold:
    """Joins the chunks of a stream: candidates by index, texts of one kind in a row, the newest usage."""

    usage_rule: ClassVar[UsageRule] = "last whole"

    def __init__(self) -> None:
        self._body: Json = {}
        self._candidates: dict[int, Json] = {}
        self._usage: Json | None = None
        """The newest usage, which no one changes: it is copied once, by `body`."""
        self._largest: Json | None = None
        self._largest_total = -1

    @property
    def complete(self) -> bool:
        """True once each candidate has a finish reason, or the prompt was blocked."""
        answers = self._candidates.values()
        return text(self._body, *_BLOCKED) is not None or (bool(answers) and all(map(finish_reason, answers)))

    def add(self, chunk: object) -> bool:
        """Fold in one chunk, or a list of them; return True if it carried content."""
        if not isinstance(chunk, dict):
            return max(map(self.add, chunk), default=False) if isinstance(chunk, list) else False
        carried = False
        for key, value in chunk.items():
            if key == "candidates":
                carried = self._add_candidates(value)
            elif key == "usageMetadata":
                self._add_usage(value)
            elif key not in self._body and value is not None:
                self._body[key] = detached(value)
        return carried

    def _add_candidates(self, listed: object) -> bool:
        has_content = False
        for position, candidate in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(candidate, dict):
                index = candidate.get("index")
                number = index if type(index) is int else position
                entry = self._candidates.get(number)
                if entry is None:
                    entry = self._candidates[number] = {"content": {"parts": []}}
                has_content = _take(entry, candidate) or has_content
        return has_content

    def _add_usage(self, counters: object) -> None:
        if not isinstance(counters, dict):
            return
        total = counters.get("totalTokenCount")
        # Chunks of Vertex may state only the kind of traffic.
        if total or self._usage is None or not counts_nothing(counters):
            self._usage = counters
        if type(total) is int and total >= self._largest_total:
            self._largest, self._largest_total = counters, total

    def body(self) -> Json | None:
        """Return the body so far; None if nothing was received."""
        if not (self._body or self._candidates or self._usage):
            return None
        folded: Json = {**self._body}
        if self._candidates:
            folded["candidates"] = [_finished(self._candidates[number]) for number in sorted(self._candidates)]
        counters = self._usage if self.complete or self._largest is None else self._largest
        if counters:
            folded["usageMetadata"] = detached(counters)
        return folded if self.complete else {**folded, _INCOMPLETE: True}


def _finished(candidate: Json) -> Json:
    copy: Json = finished_copy(candidate)
    for part in copy["content"]["parts"]:
        function_call = mapping(part, "functionCall")
        if function_call is not None and not _OF_PIECES.isdisjoint(function_call):
            part["functionCall"] = with_whole_arguments(function_call)
    return copy


def _take(entry: Json, candidate: Json) -> bool:
    """Add a candidate of a chunk to the body's candidate."""
    has_content = False
    for key, value in candidate.items():
        if key == "content":
            has_content = isinstance(value, dict) and _take_content(entry["content"], value)
        elif value or (value is not None and key not in entry):
            entry[key] = detached(value)
    return has_content


def _take_content(entry: Json, content: Json) -> bool:
    has_content, parts = False, entry["parts"]
    for key, value in content.items():
        if key == "parts":
            for part in value if isinstance(value, list) else ():
                has_content = _append(parts, part) or has_content
        elif value is not None:
            entry[key] = value if isinstance(value, str) else detached(value)
    return has_content


def _append(parts: list[Any], part: object) -> bool:
    """Add a part; a text continues the previous text of its kind, unless a signature has ended it."""
    words = part.get("text") if isinstance(part, dict) else None
    last = parts[-1] if parts else None
    if not isinstance(part, dict) or type(words) is not str:
        return _append_other(parts, last, part)
    if (
        not isinstance(last, dict)
        or type(last.get("text")) is not GrowingText
        or last.get("thought") != part.get("thought")
        or "thoughtSignature" in last
    ):
        last = {"text": GrowingText()}
        if (thought := part.get("thought")) is not None:
            last["thought"] = thought
        parts.append(last)
    if words:
        last["text"].add(words)
    if len(part) > 1:
        last.update({key: detached(part[key]) for key in _OF_TEXT if part.get(key) is not None})
    return words != ""


def _append_other(parts: list[Any], last: object, part: object) -> bool:
    """Add a part that is no text; the arguments of a function may come in several."""
    function_call, last_call = mapping(part, "functionCall"), mapping(last, "functionCall")
    if function_call is not None and last_call is not None and _is_continued(last_call, function_call):
        pieces = last_call.get("partialArgs")
        if not isinstance(pieces, list):
            pieces = last_call["partialArgs"] = []
        pieces.extend(map(detached, items(function_call, "partialArgs")))
        last_call["willContinue"] = function_call.get("willContinue") is True
        return True
    parts.append(detached(part))
    return isinstance(part, dict) and part.keys() != {"thoughtSignature"}


def _is_continued(call: Json, piece: Json) -> bool:
    """Return whether a piece is of the call before it: it names none, or this one, and is neither whole nor a start."""
    if call.get("willContinue") is not True or "args" in piece:
        return False
    if not piece.get("name"):
        return True
    is_own = piece["name"] == call.get("name") and piece.get("id") == call.get("id")
    is_start = piece.get("willContinue") is True and not piece.get("partialArgs")
    return is_own and (piece.get("id") is not None or not is_start)


class GenerateContent:
    """`generateContent` and `streamGenerateContent`. Stateless."""

    operation: Operation = "generate_content"
    accumulator = GenerateContentFold

    def __init__(self, api: str) -> None:
        self.api = api

    def request(self, body: object) -> Request:
        """Return parameters and counts of a request. The path has the model."""
        if not isinstance(body, dict):
            return Request()
        fields = _in_snake_case(body)
        config, contents = _in_snake_case(mapping(fields, "generation_config") or {}), fields.get("contents")
        has_tools = isinstance(fields.get("tools"), list)
        return Request(
            params={
                **parameters(cast("dict[object, object]", fields), _CONTENT),
                **parameters(cast("dict[object, object]", config), ()),
            },
            message_count=len(contents) if isinstance(contents, list) else None,
            tool_names=_tool_names(fields) if has_tools else None,
            hosted_tools=hosted_kinds(snake(name) for tool in _tools(fields) for name in tool) if has_tools else None,
        )

    def response_info(self, body: object) -> ResponseInfo:
        """Return identity, finish reasons, usage and error of a complete or folded body; accepts any JSON."""
        if isinstance(body, list):  # a stream without events is a list of chunks, and so are some errors
            fold = GenerateContentFold()
            fold.add(body)
            body = fold.body()
        answers = candidates(body)
        reasons = list(map(finish_reason, answers))
        blocked, counters = text(body, *_BLOCKED), mapping(body, "usageMetadata")
        error = error_in(body) if isinstance(body, dict) else None
        tokens = _with_searches(usage(counters), answers)
        if tokens is not None and not tokens.output_tokens and any(map(_has_content, answers)):
            tokens = msgspec.structs.replace(tokens, output_tokens=None)
        if tokens is not None and flag(body, _INCOMPLETE):
            tokens = estimated(tokens)
        response = Response(
            id=word(body, "responseId"),
            model=word(body, "modelVersion"),
            finish_reasons=reasons or ([blocked] if blocked else []),
            finish=finish_words(map(hidden_finish, answers)),
            service_tier=service_tier(counters),
        )
        return answer_info(
            response,
            reasons,
            tokens,
            error_info(body={"error": error}) if error else None,
            recognized=isinstance(body, dict) and not _ANSWER.isdisjoint(body),
            refused=bool(blocked),
        )

    def conversation(self, request: object, response: object) -> Conversation:
        """Return the messages of both bodies, typed. Either may be None."""
        return conversation(request, response)


def _has_content(candidate: Json) -> bool:
    """Return whether a candidate has more than empty texts, so that 0 cannot be the count of its tokens."""
    return any(part != {"text": ""} for part in objects(candidate, "content", "parts"))


def _with_searches(tokens: Usage | None, answers: list[Json]) -> Usage | None:
    """Return the usage with the searches behind the candidates, which are charged beside the tokens."""
    runs: Runs = {}
    for grounding in filter(None, (mapping(candidate, "groundingMetadata") for candidate in answers)):
        if queries := len(items(grounding, "webSearchQueries")):
            runs[_SEARCH] = (runs.get(_SEARCH) or 0) + queries
        if any("maps" in chunk for chunk in objects(grounding, "groundingChunks")):
            runs[_MAPS] = None
    return with_runs(tokens, runs)


def _in_snake_case(value: Json) -> Json:
    return {_RENAMED.get(name := snake(key), name): item for key, item in value.items() if isinstance(key, str)}


def _tools(fields: Json) -> Iterator[Json]:
    """Yield the tools of a request, without the kinds that are null: each key is a kind."""
    for tool in objects(fields, "tools"):
        yield {key: value for key, value in camel(tool).items() if isinstance(key, str) and value is not None}


def _tool_names(fields: Json) -> list[str]:
    """Return the names of the application's functions, and the kinds of hosted tools."""
    names: list[str] = []
    for tool in _tools(fields):
        for key, value in tool.items():
            declared = [name for function in objects(tool, key) if (name := word(function, "name"))]
            names += declared if isinstance(value, list) else [snake(key)]
    return names
