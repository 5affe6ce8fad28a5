"""Equal steps: runs of timesteps with the same action and reward, which a tree shows as one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from callspan.cli.screen import reward_style, styled
from callspan.comparison.call_sums import summary
from callspan.formatting import duration, money, reward, tokens
from callspan.record.call import CallRecord
from callspan.record.codec import encode_json
from callspan.record.events import EventRecord, TimestepRecord

if TYPE_CHECKING:
    from typing import TypeAlias

    from callspan.stores.entries import Entry

    Node: TypeAlias = Entry | TimestepRecord
    Inside: TypeAlias = Mapping[str | None, Sequence[Node]]

_FEWEST: Final = 3


def equal_runs(entries: Iterable[Node], below: Inside, gaps: Sequence[tuple[float, float]]) -> Iterator[list[Node]]:
    """Yield the entries in order: at least three steps with the same action and reward together, others alone.

    Steps in which something failed, was retried, ended the episode or has steps of its own stay alone, as do those with
    idle time between them.
    """
    run: list[Node] = []
    last: tuple[str, float | None] | None = None
    for entry in entries:
        key = _key(entry, below)
        if run and (key is None or key != last or _is_idle(run[-1], entry, gaps)):
            yield from _whole(run)
            run = []
        run.append(entry)
        last = key
    yield from _whole(run)


def _whole(run: list[Node]) -> Iterator[list[Node]]:
    if len(run) >= _FEWEST:
        yield run
    else:
        yield from ([one] for one in run)


def _is_idle(one: Node, other: Node, gaps: Sequence[tuple[float, float]]) -> bool:
    starts = [entry.start_ns or 0 for entry in (one, other) if isinstance(entry, TimestepRecord)]
    return any(starts[0] <= began and ended <= starts[-1] for began, ended in gaps)


def _key(entry: Node, below: Inside) -> tuple[str, float | None] | None:
    """Return what a step has in common with those that are equal; None: it is no step, or none is equal."""
    if not isinstance(entry, TimestepRecord) or entry.terminated or entry.truncated:
        return None
    inside = below.get(entry.timestep_id, ())
    action = next((one for one in inside if isinstance(one, EventRecord) and one.event_type == "action"), None)
    is_odd = entry.outcome not in (None, "success") or (entry.totals is not None and entry.totals.rewards)
    if action is None or is_odd or any(map(_is_odd, inside)):
        return None
    return _text(action), _reward(entry, inside)


def _is_odd(item: Node) -> bool:
    match item:
        case CallRecord():
            return item.outcome != "success" or bool(item.retries) or item.is_cut_off or item.is_cut_by_length
        case EventRecord():
            return item.error is not None or bool(item.metadata.get("triggered"))
    return isinstance(item, TimestepRecord)


def _reward(step: TimestepRecord, inside: Iterable[Node]) -> float | None:
    if step.totals is not None and step.totals.reward is not None:
        return step.totals.reward
    given = [one.reward for one in inside if isinstance(one, EventRecord) and one.reward is not None]
    return sum(given) if given else None


def _text(action: EventRecord) -> str:
    data = action.data
    if isinstance(data, dict) and len(data) == 1:
        (data,) = data.values()
    return data if isinstance(data, str) else encode_json(data).decode()


def equal_line(run: Sequence[Node], below: Inside, positions: Mapping[str, int]) -> Text:
    """Return the line of a run of equal steps: their positions, action and number, sums of rewards, calls and time."""
    steps = [one for one in run if isinstance(one, TimestepRecord)]
    calls = [one for step in steps for one in below[step.timestep_id] if isinstance(one, CallRecord)]
    (action, each) = _key(steps[0], below) or ("", None)
    total = None if each is None else each * len(steps)
    sums = summary(calls)
    start, end = steps[0].start_ns, steps[-1].end_ns
    return styled(
        (f"steps {positions[steps[0].timestep_id]} to {positions[steps[-1].timestep_id]}", "bold"),
        f"  {action}, {len(steps)} times",
        *((("  ", ""), (reward(total), reward_style(total))) if total is not None else ()),
        f"  {tokens(sums.input_tokens, sums.output_tokens)} tokens" if calls else "",
        f"  {money(sums.cost_usd)}" if sums.cost_usd is not None else "",
        f"  {duration(None if start is None or end is None else end - start)}",
    )
