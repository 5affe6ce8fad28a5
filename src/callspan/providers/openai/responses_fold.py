"""Responses streams: where the news of each event belong in a response."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from callspan.providers.fold.events import EventFold, Place
from callspan.providers.fold.merge import Json

_ITEM: Final = (("output", "output_index"),)
CONTENT: Final = (*_ITEM, ("content", "content_index"))
_SUMMARY: Final = (*_ITEM, ("summary", "summary_index"))
_TEXTS: Final = {
    "output_text": (CONTENT, "text", ("message", "output_text")),
    "refusal": (CONTENT, "refusal", ("message", "refusal")),
    "reasoning_text": (CONTENT, "text", ("reasoning", "reasoning_text")),
    "reasoning_summary_text": (_SUMMARY, "text", ("reasoning", "summary_text")),
    "function_call_arguments": (_ITEM, "arguments", ("function_call",)),
    "mcp_call_arguments": (_ITEM, "arguments", ("mcp_call",)),
    "custom_tool_call_input": (_ITEM, "input", ("custom_tool_call",)),
    "code_interpreter_call_code": (_ITEM, "code", ("code_interpreter_call",)),
}
_ENDS: Final = frozenset(f"response.{end}" for end in ("completed", "incomplete", "failed", "cancelled"))


class ResponsesFold(EventFold):
    """Folds the events of a response. Of its items and those of the terminal event, the more complete one wins."""

    entries = "output"
    ends = _ENDS
    carrying: ClassVar = frozenset({"grow"})
    defaults: ClassVar = {"object": "response", "output": []}
    places: ClassVar = {
        **{f"response.{status}": Place((), "response", "", "begin") for status in ("created", "queued", "in_progress")},
        **{end: Place((), "response", "", "done") for end in _ENDS},
        None: Place((), "", "", "done"),
        "response.output_item.added": Place(_ITEM, "item", "", "begin"),
        "response.output_item.done": Place(_ITEM, "item", "", "done"),
        **{
            f"response.{part}.{step}": Place(lists, "part", "", "whole")
            for part, lists in (("content_part", CONTENT), ("reasoning_summary_part", _SUMMARY))
            for step in ("added", "done")
        },
        **{
            f"response.{text}.delta": Place(at, "delta", name, "grow", kinds)
            for text, (at, name, kinds) in _TEXTS.items()
        },
        **{
            f"response.{text}.done": Place(at, name, name, "whole", kinds) for text, (at, name, kinds) in _TEXTS.items()
        },
        "response.output_text.annotation.added": Place(
            CONTENT, "annotation", "annotation", "grow", ("message", "output_text")
        ),
    }

    def _finished(self, number: int, entry: Any) -> Any:
        if not isinstance(entry, dict) or number in self._done:
            return entry
        item = {"type": "message", **entry}
        if item["type"] == "message":
            item.setdefault("role", "assistant")
        if self._final.get("status") == "completed" and item.get("status") == "in_progress":
            item["status"] = "completed"
        return super()._finished(number, item)

    def _is_cut(self, number: int, entry: Json) -> bool:
        ended = self._final.get("status") == "completed"
        return number not in self._settled and not ended and str(entry["type"]).endswith("_call")
