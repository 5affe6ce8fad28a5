"""A call as span attributes, in the vocabularies that were chosen: the one door into this package for spans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

from callspan.record.call import CallRecord
from callspan.record.messages import Conversation
from callspan.semconv import call, gen_ai, llm, openinference
from callspan.semconv.values import Attributes, ByteBudget
from callspan.settings import Settings

_SHOWN_TIMES: Final = 8
"""How often a vocabulary or two show the same body."""
_LONGER_TIMES: Final = 4
"""How much longer than on the wire it is at most there."""

Start: TypeAlias = Callable[[CallRecord], Attributes]
End: TypeAlias = Callable[[CallRecord, Conversation | None, ByteBudget], Attributes]


class Projection:
    """Turns call records into attributes by the vocabularies of the settings. Safe from any thread."""

    __slots__ = ("_attribute_bytes", "_ends", "_later", "_plenty_bytes", "_span_bytes", "_starts")

    def __init__(self, settings: Settings) -> None:
        self._attribute_bytes = settings.max_attribute_bytes
        self._span_bytes = settings.max_span_bytes
        rows = [_VOCABULARIES[name] for name in settings.vocabularies]
        starts = [start for start, _ in rows]
        # A sampler is told once: what the other vocabularies say of the same costs several times as much then as later.
        first = [start for start in starts if start is gen_ai.start] or starts
        self._starts: Sequence[Start] = [call.start, *first]
        self._later: Sequence[Start] = [start for start in starts if start not in first]
        ends = [_configured(end, settings) for _, end in rows]
        self._ends: Sequence[tuple[int, End]] = list(zip(range(len(ends), 0, -1), ends, strict=True))
        smallest = min(settings.max_attribute_bytes, settings.max_span_bytes // _SHOWN_TIMES)
        self._plenty_bytes = smallest // _LONGER_TIMES

    def start(self, record: CallRecord) -> Attributes:
        """Return what is known before the call is sent, as far as a sampler may ask for it."""
        attributes: Attributes = {}
        for start in self._starts:
            attributes.update(start(record))
        return attributes

    def end(self, record: CallRecord, conversation: Conversation | None) -> Attributes:
        """Return everything else. No conversation: no content.

        All content together stays within the span's bytes: each vocabulary may use an equal part, and what
        one leaves the next may have.
        """
        plenty = conversation is not None and self._has_plenty(record)
        budget = ByteBudget(self._attribute_bytes, self._span_bytes, plenty=plenty)
        # First: what a vocabulary says of the end may take the place of what it said of the start.
        parts = [start(record) for start in self._later]
        for waiting, end in self._ends:
            share = budget if plenty else budget.share(waiting)
            given = share.left
            parts.append(end(record, conversation, share))
            if not plenty:
                budget.settle(share, given)
        shown, *others = (*parts, call.end(record, conversation, budget))
        for other in others:
            shown.update(other)
        return shown

    def _has_plenty(self, record: CallRecord) -> bool:
        """Whether all that a call has said surely fits, however the vocabularies write it."""
        answer = record.response
        asked, answered = len(memoryview(record.request.body)), 0 if answer is None else len(memoryview(answer.body))
        return 0 < asked <= self._plenty_bytes and 0 < answered <= self._plenty_bytes and not record.metadata


def _configured(end: End, settings: Settings) -> End:
    if end is gen_ai.end:
        return partial(gen_ai.end, compatibility=settings.compatibility)
    if end is llm.end:
        return partial(llm.end, prompts=settings.llm_prompts or settings.vocabularies == ("llm",))
    return end


_VOCABULARIES: Final[dict[str, tuple[Start, End]]] = {
    "llm": (llm.start, llm.end),
    "gen_ai": (gen_ai.start, gen_ai.end),
    "openinference": (openinference.start, openinference.end),
}
