"""Prompt cache: what a call read from its provider's prompt cache, and why it did not read more.

A prompt cache keeps what requests begin with. So a request is compared with an earlier one of its session, piece by
piece in the order of the cache (`request_pieces.py`). Tokens are those of the usage alone. Nothing here knows where
calls are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from callspan.joining.request_pieces import MESSAGES, SECONDS, Piece, Sent
from callspan.providers.registry import decoded
from callspan.record.apis import APIS, OTHER
from callspan.record.call import CallRecord
from callspan.record.merging import Price
from callspan.record.messages import tool_name
from callspan.runtime.amounts import EXACT

MAX_EARLIER: Final = 32
"""Earlier calls of a session that a call is compared with."""
HIT, FIRST, EXPIRED, UNKNOWN, NO_CONTENT, BATCH = "hit", "first", "expired", "unknown", "no content", "batch"
NOT_COMPARED: Final = "not compared"
SILENT: Final = "states nothing about its cache"
ANSWERED: Final = "answered by a gateway's cache"
NONE_WRITTEN: Final = "none was written"
SHORT: Final = "shorter than the least"
LOOKBACK: Final = "messages: more than 20 new blocks"
_UNMARKED: Final = "{}: missing where it was before"
_BLOCKS: Final = 20
"""Blocks before each mark that providers with marks look for a kept prefix, by Anthropic's page."""
_BY_BLOCK: Final = {"openai": 128, "azure.ai.openai": 128}
"""Tokens of the blocks that a cache has, by provider; no other page states them.

https://developers.openai.com/cookbook/examples/prompt_caching_201,
https://learn.microsoft.com/azure/foundry/openai/how-to/prompt-caching
"""
_LEAST: Final = 1024
"""Tokens of the shortest prompt that these keep, by the same pages."""
_IDLE_S: Final = 600
"""Seconds without use after which these usually forget, by the same pages."""
_OMITS_ZERO: Final = frozenset({"generate_content"})
"""APIs that leave out a counter of 0."""
_KEPT: Final = frozenset({MESSAGES, "conversation", "previous_response_id"})
"""Sections that a response has which is continued by its id."""
_NAMED: Final = 3
_LOSSLESS: Final = frozenset({HIT, NONE_WRITTEN, SHORT, NO_CONTENT})
_CHANGED: Final = "messages: an earlier one was changed"
_INSERTED: Final = "messages: something was put in before"
_REMOVED: Final = "messages: an earlier one was removed"
Read: TypeAlias = "Callable[[Turn], Sent]"
"""Returns a call with its request in pieces."""


class CacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """What one call read from the prompt cache, and why it did not read more."""

    call_id: str
    session_id: str | None = None
    start_ns: int
    """Start of the call, Unix nanoseconds."""
    model: str | None = None
    input_tokens: int | None = None
    """All input tokens, cached ones included."""
    read_tokens: int | None = None
    """Input tokens that were read from the cache; None: the usage does not state it."""
    cause: str
    """`hit`, if it read what the earlier call left; else the first difference, such as `system: changed`, or `expired`,
    `unknown` (the request begins like the earlier one: eviction and routing are the provider's), `no content`, or why
    nothing was to be read."""
    is_certain: bool = True
    """False for `expired` if the provider states no exact time."""
    stated: str | None = None
    """What the provider says of it, `Response.prompt_cache_miss`."""
    previous_call_id: str | None = None
    """The earlier call that it is compared with."""
    since_previous_ns: int | None = None
    """Nanoseconds between the starts of both."""
    expected_tokens: int | None = None
    """Tokens that the earlier call left in the cache, of the input of this one; None if that is unknown."""
    lost_tokens: int | None = None
    """Expected tokens that were not read; None if that is unknown, or nothing was expected."""
    lost_usd: Decimal | None = None
    """What the call would have cost less if they had been read; None without a price."""
    lost_usd_estimated: bool = False
    place: str | None = None
    """The first piece that differs, such as `messages[4].content[1]`."""
    at_byte: int | None = None
    """The number of bytes of this piece that are equal."""
    before: str | None = None
    """Content: 24 characters on each side of the first different one, in the earlier request."""
    after: str | None = None
    """Content: the same in this request; None if the piece is not there."""


class Turn(NamedTuple):
    """What is known of a call without its content: columns of the table `calls`."""

    call_id: str
    session_id: str | None
    provider: str
    api: str
    model: str | None
    outcome: str
    start_ns: int
    first_token_ns: int | None
    duration_ns: int | None
    input_tokens: int | None
    cache_read_tokens: int | None
    cache_write_tokens: int | None
    cached: str | None
    prompt_cache_miss: str | None
    batch_id: str | None
    response_id: str | None
    continues: str | None
    previous_call_id: str | None

    @property
    def leaves_prefix(self) -> bool:
        """Whether a later call may read what this one sent."""
        return self.outcome == "success" and bool(self.input_tokens) and self.cached is None and self.batch_id is None

    def precedes(self, turn: Turn) -> bool:
        """Whether its answer began before the other call: only then a cache has its prompt."""
        until_ns = self.duration_ns if self.first_token_ns is None else self.first_token_ns
        return self.start_ns + (until_ns or 0) <= turn.start_ns


class _Rules(NamedTuple):
    """How the cache of a provider counts."""

    is_stated: bool
    """Whether the usage states what was written."""
    block: int | None
    """Tokens that are kept or read together; None: no page states it."""

    @property
    def is_exact(self) -> bool:
        return self.is_stated or self.block is not None

    @property
    def nothing(self) -> str:
        """Why an earlier call left nothing."""
        return NONE_WRITTEN if self.is_stated else SHORT

    def kept(self, turn: Turn) -> int:
        """Return how many tokens of a call the cache has, at most."""
        if self.is_stated:
            return (turn.cache_read_tokens or 0) + (turn.cache_write_tokens or 0)
        return self.readable(turn)

    def readable(self, turn: Turn) -> int:
        """Return how many tokens of a call can be read from the cache, at most."""
        tokens = turn.input_tokens or 0
        if self.is_stated or self.block is None:
            return tokens
        return tokens // self.block * self.block if tokens >= _LEAST else 0

    def expected(self, base: Turn, turn: Turn) -> int:
        """Return how many tokens a call can read of what another one left."""
        return min(self.kept(base), self.readable(turn))


def cache_use(turn: Turn, earlier: Iterable[Turn], read: Read, price: Price, *, around: int) -> CacheUse:
    """Return what a call read from the prompt cache, and why not more.

    Args:
        turn: The call.
        earlier: The calls of its session before it, by their start, of the same provider and API.
        read: Returns a call with its request in pieces. It is asked only where the usage alone leaves a question.
        price: Returns a call with its cost.
        around: Characters to return on each side of the first different one.
    """
    use = CacheUse(
        call_id=turn.call_id,
        session_id=turn.session_id,
        start_ns=turn.start_ns,
        model=turn.model,
        input_tokens=turn.input_tokens,
        read_tokens=turn.cache_read_tokens,
        stated=turn.prompt_cache_miss,
        cause=FIRST,
    )
    if turn.cached is not None:
        return replace(use, cause=ANSWERED)
    before = [each for each in earlier if each.leaves_prefix and each.precedes(turn)][-MAX_EARLIER:]
    if turn.cache_read_tokens is None and turn.api in _OMITS_ZERO and any(each.cache_read_tokens for each in before):
        turn, use = turn._replace(cache_read_tokens=0), replace(use, read_tokens=0)
    if turn.cache_read_tokens is None or not turn.input_tokens:
        return replace(use, cause=SILENT)
    row = APIS.get(turn.api, OTHER)
    if turn.batch_id is not None or not row.prefix:
        return replace(use, cause=BATCH if row.prefix else NOT_COMPARED)
    if not before:
        return use
    writes = any(each.cache_write_tokens for each in (*before, turn) if each.model == turn.model)
    rules = _Rules(writes or bool(row.cache_mark), _BY_BLOCK.get(turn.provider))
    base, finding = _compared(turn, before, rules, read)
    if base is None:
        return use
    expected, at = rules.expected(base, turn), _common(finding.before or "", finding.after or "")
    use = replace(
        use,
        previous_call_id=base.call_id,
        since_previous_ns=turn.start_ns - base.start_ns,
        expected_tokens=expected if rules.is_exact else None,
        lost_tokens=0 if finding.cause == HIT else None,
        cause=finding.cause,
        is_certain=finding.is_certain,
        place=finding.place,
        at_byte=None if finding.place is None else len((finding.after or "")[:at].encode(errors="replace")),
        before=_around(finding.before, at, around),
        after=_around(finding.after, at, around),
    )
    if not rules.is_exact or finding.cause in _LOSSLESS:
        return use
    lost = expected - turn.cache_read_tokens
    usd, is_estimated = _lost_usd(read(turn).call, lost, price)
    return replace(use, lost_tokens=lost, lost_usd=usd, lost_usd_estimated=is_estimated)


class _Finding(NamedTuple):
    """What two requests decide."""

    cause: str
    is_certain: bool = True
    place: str | None = None
    before: str | None = None
    """The text at this place in the earlier request."""
    after: str | None = None


def _compared(turn: Turn, before: Sequence[Turn], rules: _Rules, read: Read) -> tuple[Turn | None, _Finding]:
    """Return the earlier call that a call is compared with, and what came of it; None if it begins a conversation."""
    was_read = turn.cache_read_tokens or 0
    continued = next((each for each in reversed(before) if _continues(turn, each)), None)
    base = continued or before[-1]
    most = max(rules.expected(each, turn) for each in before)
    if was_read >= most:
        return base, _Finding(HIT if most else rules.nothing)
    own = read(turn)
    if continued is None and own.pieces is not None and read(base).pieces is not None:
        related = _same_conversation(own, before, read)
        if related is None:
            return None, _Finding(FIRST)
        base = related
    expected, there = rules.expected(base, turn), read(base)
    if was_read >= expected:
        return base, _Finding(HIT if expected else rules.nothing)
    if own.pieces is None or there.pieces is None:
        return base, _Finding(NO_CONTENT)
    theirs, mine = there.pieces, _whole(turn, base, own.pieces, there.pieces)
    same = _equal(theirs, mine)
    for each in before:
        # An agent goes back to an earlier state, or to another model.
        if 0 < rules.kept(each) <= was_read and (pieces := read(each).pieces) is not None:
            also = _equal(pieces, mine)
            if also > same or also == len(mine):
                return each, _Finding(HIT)
    if same < len(theirs):
        return base, _difference(theirs, mine, same)
    return base, _of_equal(turn, base, there, mine, rules)


def _same_conversation(own: Sent, before: Sequence[Turn], read: Read) -> Turn | None:
    """Return the newest call with a message of this one, else one with nearly its instructions; None: it begins one."""
    for each in reversed(before):
        if not own.messages.isdisjoint(read(each).messages):
            return each
    pieces, most, base = own.pieces or (), -1, None
    head = sum(piece.section not in _KEPT for piece in pieces)
    for each in reversed(before):
        same = _equal(read(each).pieces or (), pieces)
        if same >= head:
            return None
        if same > most and _agree(own, read(each)):
            most, base = same, each
    return base


def _agree(*requests: Sent) -> bool:
    """Return whether at least half of the instructions of two requests is the same text."""
    a, b = ("".join(piece.text for piece in each.pieces or () if piece.section == "system") for each in requests)
    equal = _common(a, b)
    return bool(a and b) and equal + _common(a[:equal:-1], b[:equal:-1]) >= max(len(a), len(b)) / 2


def _whole(turn: Turn, base: Turn, mine: Sequence[Piece], theirs: Sequence[Piece]) -> Sequence[Piece]:
    """Return the pieces of a request with those of the call that it continues by the id of its response."""
    if turn.continues is None or turn.continues != base.response_id:
        return mine
    first = [piece for piece in mine if piece.section not in _KEPT]
    kept = [piece for piece in theirs if piece.section in _KEPT]
    return [*first, *kept, *(piece for piece in mine if piece.section == MESSAGES)]


def _continues(turn: Turn, other: Turn) -> bool:
    is_named = turn.continues is not None and turn.continues == other.response_id
    return is_named or turn.previous_call_id == other.call_id


def _equal(theirs: Sequence[Piece], mine: Sequence[Piece]) -> int:
    """Return how many pieces two requests have in common from the first on."""
    for number, (a, b) in enumerate(zip(theirs, mine, strict=False)):
        if a is not b and (a.key, a.section) != (b.key, b.section):
            return number
    return min(len(theirs), len(mine))


def _of_equal(turn: Turn, base: Turn, there: Sent, mine: Sequence[Piece], rules: _Rules) -> _Finding:
    """Return why a request that begins with another one did not read all that this one had left."""
    mark = APIS.get(turn.api, OTHER).cache_mark
    if mark:
        end = max((number for number, piece in enumerate(there.pieces or ()) if piece.kept_s is not None), default=0)
        behind = [number for number, piece in enumerate(mine) if piece.kept_s is not None and number >= end]
        if not behind:
            return _Finding(_UNMARKED.format(mark))
        if min(behind) - end >= _BLOCKS:
            return _Finding(LOOKBACK)
    lifetime_s, is_certain = there.lifetime_s, True
    if lifetime_s is None and base.provider in _BY_BLOCK:
        lifetime_s, is_certain = (SECONDS[b"30m"], True) if rules.is_stated else (_IDLE_S, False)
    if lifetime_s is not None and turn.start_ns - base.start_ns > lifetime_s * 1_000_000_000:
        return _Finding(EXPIRED, is_certain)
    return _Finding(UNKNOWN, is_certain=False)


def _difference(theirs: Sequence[Piece], mine: Sequence[Piece], same: int) -> _Finding:
    """Return the first difference of two requests that have so many pieces in common."""
    a, b = theirs[same], mine[same] if same < len(mine) else None
    texts: tuple[str | None, str | None]
    if b is not None and a.section != b.section and any(piece.section == a.section for piece in mine[same:]):
        section, texts = b.section, (None, b.text)
    elif b is None or a.section != b.section:
        section, texts = a.section, (a.text, None)
    else:
        section = a.section
        texts = (a.text, b.text) if a.text != b.text else (f"{a.role}: {a.text}", f"{b.role}: {b.text}")
    was, now = ([piece for piece in pieces[same:] if piece.section == section] for pieces in (theirs, mine))
    if section == "tools":
        cause = _of_tools(was, now)
    else:
        cause = _of_history(was, now) if section == MESSAGES else f"{section}: changed"
    place, pieces = (a.place, theirs) if b is None or texts[0] is not None else (b.place, mine)
    number = sum(piece.begins for piece in pieces[: same + 1]) - 1
    return _Finding(cause, True, place.format(number), *texts)


def _of_tools(was: Sequence[Piece], now: Sequence[Piece]) -> str:
    """Return what became of tools, from the first difference on."""
    texts, others = [piece.text for piece in was], [piece.text for piece in now]
    if sorted(texts) == sorted(others):
        return "tools: another order"
    for word, fewer, more in (("added", texts, others), ("removed", others, texts)):
        rest = iter(more)
        if all(text in rest for text in fewer):  # each in turn, with others between them
            new = [text for text in more if text not in fewer]
            names = ", ".join(filter(None, map(_name, new[:_NAMED])))
            dots = ", …" if len(new) > _NAMED else ""
            return f"tools: {len(more) - len(fewer)} {word}" + (f" ({names}{dots})" if names else "")
    return "tools: changed"


def _name(text: str) -> str | None:
    """Return the name in the JSON of a tool."""
    tool = decoded(text)
    return tool_name(tool.get("toolSpec") or tool) if isinstance(tool, dict) else None


def _of_history(was: Sequence[Piece], now: Sequence[Piece]) -> str:
    """Return what became of the first of these messages, by what goes on the same behind it."""
    if not now:
        return _REMOVED
    runs = {
        _CHANGED: _equal(was[1:], now[1:]),
        _INSERTED: max((_equal(was, now[at:]) for at in _places(was[0], now)), default=0),
        _REMOVED: max((_equal(was[at:], now) for at in _places(now[0], was)), default=0),
    }
    return max(runs, key=lambda cause: runs[cause])


def _places(piece: Piece, pieces: Sequence[Piece]) -> list[int]:
    return [number for number, other in enumerate(pieces) if other.key == piece.key][:MAX_EARLIER]


def _common(a: str, b: str) -> int:
    """Return the number of characters that two texts have in common from the first on."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


def _around(text: str | None, at: int, around: int) -> str | None:
    if text is None:
        return None
    start, end = max(at - around, 0), at + around
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _lost_usd(call: CallRecord | None, lost: int, price: Price) -> tuple[Decimal | None, bool]:
    """Return what a call would have cost less if it had read so many more tokens, and whether that is an estimate."""
    if call is None or (usage := call.usage) is None:
        return None, False
    written, five, hour = usage.cache_write_tokens, usage.cache_write_5m_tokens, usage.cache_write_1h_tokens
    unwritten = min(lost, written or 0)
    of_five = min(unwritten, five or 0)
    as_read = replace(
        usage,
        cost_usd=None,
        cache_read_tokens=(usage.cache_read_tokens or 0) + lost,
        cache_write_tokens=None if written is None else written - unwritten,
        cache_write_5m_tokens=None if five is None else five - of_five,
        cache_write_1h_tokens=None if hour is None else max(hour - (unwritten - of_five), 0),
    )
    costs = [price(replace(call, cost=None, usage=each)).cost for each in (replace(usage, cost_usd=None), as_read)]
    now, then = costs
    if now is None or then is None:
        return None, False
    is_estimated = now.estimated or then.estimated or usage.cost_usd is not None or bool(five and hour)
    return EXACT.subtract(now.usd, then.usd), is_estimated
