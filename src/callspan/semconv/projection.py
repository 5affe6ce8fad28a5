"""Projection: the span attributes of a call in the chosen vocabularies; the entry point of this package for spans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from callspan.record.call import CallRecord
from callspan.record.ids import is_of_response
from callspan.record.messages import Conversation
from callspan.semconv import call, gen_ai, llm, openinference
from callspan.semconv.budgets import Attributes, ByteBudget
from callspan.semconv.content_parts import NOTHING_SHOWN, Shown
from callspan.semconv.table import Table
from callspan.settings import Settings

_SHOWN_TIMES: Final = 8
"""How many times vocabularies may repeat the same body."""
_LONGER_TIMES: Final = 4
"""Maximum ratio of its length in an attribute to that on the wire."""
_VOCABULARIES: Final = {
    "llm": (llm.START, llm.END),
    "gen_ai": (gen_ai.START, gen_ai.END),
    "openinference": (openinference.START, openinference.END),
}


class Projection:
    """Converts call records to attributes of the configured vocabularies. Safe from any thread."""

    __slots__ = ("_attribute_bytes", "_ends", "_later", "_plenty_bytes", "_prompts", "_span_bytes", "_starts")

    def __init__(self, settings: Settings) -> None:
        self._attribute_bytes = settings.max_attribute_bytes
        self._span_bytes = settings.max_span_bytes
        self._prompts = settings.llm_prompts or settings.vocabularies == ("llm",)
        tables = [_VOCABULARIES[name] for name in settings.vocabularies]
        starts, ends = tuple(start for start, _ in tables), tuple(end for _, end in tables)
        # An attribute costs several times more at the start than at the end; one vocabulary is enough for samplers.
        first = (gen_ai.START,) if gen_ai.START in starts else starts
        self._starts: Sequence[Table] = (call.START, *first)
        self._later: Sequence[Table] = [start for start in starts if start not in first]
        self._ends: Sequence[Table] = ends if settings.compatibility else [end.without_compatibility() for end in ends]
        smallest = min(settings.max_attribute_bytes, settings.max_span_bytes // _SHOWN_TIMES)
        self._plenty_bytes = smallest // _LONGER_TIMES

    def start(self, record: CallRecord) -> Attributes:
        """Return the attributes for samplers, known before the call is sent."""
        attributes: Attributes = {}
        for table in self._starts:
            table.put(attributes, record, NOTHING_SHOWN)
        return attributes

    def end(self, record: CallRecord, conversation: Conversation | None) -> Attributes:
        """Return all other attributes. Without a conversation: no content.

        All content together stays within the span's byte limit: each vocabulary may use an equal share, plus what
        earlier ones left.
        """
        answer, most = record.response, self._plenty_bytes
        sent, received = len(memoryview(record.request.body)), 0 if answer is None else len(memoryview(answer.body))
        # Whether all content surely fits, however the vocabularies write it.
        plenty = conversation is not None and 0 < sent <= most and 0 < received <= most and not record.metadata
        budget = ByteBudget(self._attribute_bytes, self._span_bytes, plenty=plenty)
        shown = Shown(conversation, budget, prompts=self._prompts)
        attributes: Attributes = {}
        # First, because attributes set at the end may replace these.
        for table in self._later:
            table.put(attributes, record, NOTHING_SHOWN)
        waiting = len(self._ends)
        for table in self._ends:
            if plenty:
                table.put(attributes, record, shown)
            else:
                share = shown.budget = budget.share(waiting)
                given = share.left
                table.put(attributes, record, shown)
                budget.settle(share, given)
                waiting -= 1
        shown.budget = budget
        call.END.put(attributes, record, shown)
        if record.api == "responses" and is_of_response(record.call_id):
            attributes[call.CALL_ID] = record.call_id  # at the start it was another
        if budget.cut:
            attributes[call.TRUNCATED_BYTES] = budget.cut
        return attributes
