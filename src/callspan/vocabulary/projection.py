"""A call as span attributes, in the vocabularies that were chosen: the one door into this package for spans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from callspan.config import Settings
from callspan.record.call import CallRecord
from callspan.record.messages import Conversation
from callspan.vocabulary import call, gen_ai, llm, openinference
from callspan.vocabulary.values import Attributes, ByteBudget

Start: TypeAlias = Callable[[CallRecord], Attributes]
End: TypeAlias = Callable[[CallRecord, Conversation | None, ByteBudget], Attributes]


class Projection:
    """Turns call records into attributes by the vocabularies of the settings. Safe from any thread."""

    __slots__ = ("_attribute_bytes", "_ends", "_span_bytes", "_starts")

    def __init__(self, settings: Settings) -> None:
        self._attribute_bytes = settings.max_attribute_bytes
        self._span_bytes = settings.max_span_bytes
        rows = [_VOCABULARIES[name] for name in settings.vocabularies]
        self._starts: Sequence[Start] = [call.start, *(start for start, _ in rows)]
        self._ends: Sequence[End] = [_ended(end, settings.compatibility) for _, end in rows]

    def start(self, record: CallRecord) -> Attributes:
        """Return what is known before the call is sent."""
        attributes: Attributes = {}
        for start in self._starts:
            attributes.update(start(record))
        return attributes

    def end(self, record: CallRecord, conversation: Conversation | None) -> Attributes:
        """Return everything else. No conversation: no content.

        All content together stays within the span's bytes: each vocabulary may use an equal part, and what
        one leaves the next may have.
        """
        budget = ByteBudget(self._attribute_bytes, self._span_bytes)
        attributes: Attributes = {}
        waiting = len(self._ends)
        for end in self._ends:
            share = budget.share(waiting)
            given = share.left
            attributes.update(end(record, conversation, share))
            budget.settle(share, given)
            waiting -= 1
        attributes.update(call.end(record, conversation, budget))
        return attributes


def _ended(end: End, compatibility: bool) -> End:
    return partial(gen_ai.end, compatibility=compatibility) if end is gen_ai.end else end


_VOCABULARIES: Final[dict[str, tuple[Start, End]]] = {
    "llm": (llm.start, llm.end),
    "gen_ai": (gen_ai.start, gen_ai.end),
    "openinference": (openinference.start, openinference.end),
}
