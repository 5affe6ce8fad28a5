"""Session tree: a session with its steps, calls, tools, events and messages, each below what was around it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from itertools import islice, pairwise, takewhile
from typing import Final, NamedTuple

from rich.console import Group
from rich.text import Text
from rich.tree import Tree as ScreenTree

from callspan.cli.agent_selection import inside_agents
from callspan.cli.terminal.call_text import call_tokens, other_outcome, retried, turn_lines
from callspan.cli.terminal.screen import cost_text, least, marks, reward_style, session_outcome, session_style, styled
from callspan.comparison.call_sums import summary
from callspan.formatting import UNKNOWN, duration, json_text, money, plural, reward, score, tokens
from callspan.records import (
    REWARD,
    CallRecord,
    EventRecord,
    MessageRecord,
    RewardRecord,
    SessionRecord,
    TimestepRecord,
    Tree,
    TreeRecord,
    is_agent,
    links_of,
    task_of,
)
from callspan.stores import (
    CallFilter,
    Entry,
    Reader,
    SessionSummary,
    Summary,
    duration_of,
    end_of,
    is_realtime,
    is_voice,
    minute_cost,
    start_of,
    voice_turns,
)

_GUIDE: Final = "bright_black"
_FAINT: Final = "dim"
_INDENT: Final = "    "
"""The tree's indentation per level."""
_NARROW: Final = 60
"""Minimum screen width for a waterfall."""
_MIN_CELLS: Final = 12
_MAX_CELLS: Final = 40
_RUNNING: Final = "\N{BOX DRAWINGS HEAVY HORIZONTAL}"
_MOMENT: Final = "\N{MIDDLE DOT}"
_BAR_STYLES: Final = {"error": "red", "timeout": "red", "cancelled": "yellow"}


def session_tree(excerpt: SessionExcerpt, width: int) -> ScreenTree:
    """Return the tree for a screen of the given width: each record below what was around it."""
    root = _Branch(ScreenTree(_session_line(excerpt), guide_style=_GUIDE), 0, 0)
    contents, ruler = _Contents(excerpt), _Ruler.of(excerpt, width)
    above: list[_Branch] = []
    leaves: list[tuple[_Branch, ScreenTree, int, Entry]] = []
    for number, depth in contents.tree:
        del above[depth:]
        parent, record = above[-1] if above else root, contents.records[number]
        if isinstance(record, TimestepRecord):
            branch = parent.tree.add(styled(_INDENT * parent.entries, contents.step_line(number, record)))
            above.append(_Branch(branch, parent.steps + 1, parent.entries))
        else:
            leaves.append((parent, parent.tree.add(""), number, record))
            above.append(parent._replace(entries=parent.entries + 1))
    deepest = max((parent.steps for parent, *_ in leaves), default=0)
    for parent, leaf, number, entry in leaves:
        # All bars share one column: entries nearer to the root get more padding.
        indent = _INDENT * (deepest - parent.steps) if ruler.cells else ""
        prefix = styled(indent, ruler.bar(entry), _INDENT * parent.entries)
        *earlier, last = contents.lines(number, entry)
        rows = [*(styled(" " * len(prefix), line) for line in earlier), styled(prefix, last)]
        leaf.label = Text("\n", no_wrap=True, overflow="ellipsis").join(rows)
    return root.tree


class _Branch(NamedTuple):
    """Where the records below one are drawn."""

    tree: ScreenTree
    """The branch of the nearest step, or the whole tree."""
    steps: int
    """The number of steps around them."""
    entries: int
    """The number of other records around them; each indents them once."""


class _Contents:
    """The records of an excerpt by their number in the tree, and their lines."""

    def __init__(self, excerpt: SessionExcerpt) -> None:
        self.records: list[TreeRecord] = [*excerpt.steps.values(), *excerpt.items]
        self._excerpt, self._turns = excerpt, voice_turns(excerpt.items)
        times = {call_id: turn.at_ns for call_id, turn in self._turns.items()}
        self.tree = Tree(map(links_of, self.records), times)
        self._positions = [*excerpt.steps]
        calls = [item for item in excerpt.items if isinstance(item, CallRecord)]
        self._calls = {call.call_id for call in calls}
        self._before = {call.call_id: before.call_id for before, call in pairwise(calls)}

    def step_line(self, number: int, step: TimestepRecord) -> Text:
        """Return the line of a step, with the sums of its record if not all calls in it are known."""
        return _step_line(step, self._positions[number], None if self._excerpt.is_part else self._calls_in(number))

    def lines(self, number: int, item: Entry) -> list[Text]:
        """Return the lines of an entry. A turn in a voice session may have several."""
        match item:
            case CallRecord(call_id=call_id):
                return (
                    [*turn_lines(item, self._turns[call_id])]
                    if call_id in self._turns
                    else [_call_line(item, is_branch=self._is_branch(item))]
                )
            case EventRecord():
                return [_run_line(item, self._calls_in(number) if self._is_whole(item) else (), self._task_of(number))]
            case MessageRecord():
                route = f"{item.sender or '?'} → {item.receiver or '?'}"
                return [styled((f"{item.message_type} ", "blue"), (f"{route}  ", _FAINT), json_text(item.content))]
            case RewardRecord():
                return [reward_line(item)]

    def _is_branch(self, call: CallRecord) -> bool:
        """Return whether a call continues another call of its run than the one before it."""
        previous = call.place.previous_call_id
        return previous in self._calls and self._before.get(call.call_id) != previous

    def _is_whole(self, event: EventRecord) -> bool:
        """Return whether this excerpt has all that began inside an entry."""
        return not self._excerpt.is_part or end_of(event) < start_of(self._excerpt.items[-1])

    def _calls_in(self, number: int) -> list[CallRecord]:
        records = (self.records[inner] for inner, _ in self.tree.below(number))
        return [record for record in records if isinstance(record, CallRecord)]

    def _task_of(self, number: int) -> str | None:
        """Return the task that a tool gave the agent it started, as its arguments word it; None for other records."""
        parent = self.tree.parents[number]
        tool = None if parent is None or not is_agent(self.records[number]) else self.records[parent]
        return task_of(tool) if isinstance(tool, EventRecord) else None


class _Ruler(NamedTuple):
    """The waterfall: bars of when each entry ran, `cells` characters wide; 0 on a narrow screen."""

    start_ns: int
    whole_ns: int
    cells: int

    @classmethod
    def of(cls, excerpt: SessionExcerpt, width: int) -> _Ruler:
        """Return the ruler from the start of the session, or of its first known entry, to the end of the last entry."""
        start = min([excerpt.summary.session.start_ns or sys.maxsize, *map(start_of, excerpt.items)])
        ends = [*map(end_of, excerpt.items)]
        if excerpt.is_part and excerpt.summary.last_ns is not None:
            ends.append(excerpt.summary.last_ns)
        cells = 0 if width < _NARROW else min(_MAX_CELLS, max(_MIN_CELLS, width // 8))
        return cls(start, max([1, *(end - start for end in ends)]), cells)

    def _cell(self, ns: int) -> int:
        return min(self.cells - 1, self.cells * (ns - self.start_ns) // self.whole_ns)

    def bar(self, item: Entry) -> Text:
        """Return an entry's bar in the waterfall; a thin mark for an instant."""
        if not self.cells:
            return styled()
        start, end = self._cell(start_of(item)), self._cell(end_of(item))
        mark = _MOMENT if duration_of(item) is None else _RUNNING * (end - start + 1)
        return styled((" " * start, ""), (mark, _mark_style(item)), " " * (self.cells + 1 - start - len(mark)))


def _mark_style(item: Entry) -> str:
    if isinstance(item, CallRecord):
        return _BAR_STYLES.get(item.outcome, "cyan")
    return "magenta" if isinstance(item, EventRecord) and item.event_type == "tool" else _FAINT


def _session_line(excerpt: SessionExcerpt) -> Group:
    summary = excerpt.summary
    session = summary.session
    line = styled(
        (session.name or "session", "bold"),
        "  ",
        (session_outcome(summary), session_style(summary)),
        "  ",
        (reward(summary.reward), reward_style(summary.reward)),
        _scores({name: score(values.mean, values.count, values.last) for name, values in summary.scores.items()}),
        f"  {plural(summary.timesteps, 'step')}, {plural(summary.calls, 'call')}",
        (f", {plural(summary.errors, 'error')}" if summary.errors else "", "red"),
        *((f", {mark}", "yellow") for mark in marks(summary)),
        retried(summary.retries),
        f"  {tokens(summary.input_tokens, summary.output_tokens)} tokens  cost {cost_text(summary)}",
        _minute(excerpt),
        f"  {duration(summary.duration_ns)}",
        "" if summary.active_ns is None else f", active {duration(summary.active_ns)}",
        ("" if session.content_level == "full" else f"  content is {session.content_level}", _FAINT),
    )
    # This line, the summary, wraps instead of being truncated.
    line.no_wrap, line.overflow = False, "fold"
    first_words = [] if excerpt.first_words is None else [styled(excerpt.first_words)]
    return Group(line, *first_words, styled((f"{session.session_id}{_labels(session)}", _FAINT)))


def _minute(excerpt: SessionExcerpt) -> str:
    """Return the cost per minute of a voice session as text; "" for any other session."""
    if not any(map(is_voice, excerpt.items)):
        return ""
    usd = minute_cost(excerpt.summary.cost_usd, excerpt.summary.duration_ns)
    estimate_mark = (
        ", estimated" if any(call.cost is not None and call.cost.estimated for call in excerpt.calls) else ""
    )
    return f" ({least(usd, is_partial=bool(excerpt.summary.calls_without_cost))} a minute{estimate_mark})"


def _labels(session: SessionRecord) -> str:
    ids = {
        "user": session.user_id,
        "group": session.group_id,
        "task": session.task_id,
        "experiment": session.experiment,
    }
    labels = {name: value for name, value in ids.items() if value is not None} | session.metadata
    return "".join(f"  {name}={_label(value)}" for name, value in labels.items())


def _label(value: object) -> str:
    """Return a value as text: a list of strings with commas, else JSON."""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return json_text(value)


def _scores(scores: Mapping[str, str]) -> str:
    """Return the scores of objectives other than `reward`, which may have any name."""
    return "".join(f"  score of {objective}: {value}" for objective, value in scores.items())


def _step_line(step: TimestepRecord, position: int, calls: Sequence[CallRecord] | None) -> Text:
    """Return a step's line with the sums of `calls`; if these are incomplete (None), with the sums in its record."""
    totals = step.totals
    time_ns = None if step.start_ns is None or step.end_ns is None else step.end_ns - step.start_ns
    end_flag = "  terminated" if step.terminated else "  truncated" if step.truncated else ""
    input_tokens = totals.input_tokens if totals else None
    output_tokens = totals.output_tokens if totals else None
    cost = None
    if calls is not None:
        sums = summary(calls)
        input_tokens, output_tokens, cost = sums.input_tokens, sums.output_tokens, sums.cost_usd
    amount = totals.reward if totals else None
    outcome = "" if step.outcome in (None, "success") else f"  {step.outcome}"
    return styled(
        (f"step {position}", "bold"),
        f" {step.name}" if step.name else "",
        f" ({step.user_step_id})" if step.user_step_id else "",
        *((("  ", ""), (reward(amount), reward_style(amount))) if amount is not None else ()),
        _scores({name: reward(mean) for name, mean in totals.rewards.items()} if totals else {}),
        f"  {tokens(input_tokens, output_tokens)} tokens" if calls or input_tokens is not None else "",
        f"  {money(cost)}" if cost is not None else "",
        f"  {duration(time_ns)}",
        (f"{outcome}{end_flag}", "yellow"),
    )


def _call_line(call: CallRecord, *, is_branch: bool) -> Text:
    first_token_ns = call.timing.first_token_ns
    text = " ".join(call.answer_texts or ()) or (call.error.message if call.error else None)
    return styled(
        (f"{call.operation} ", "cyan"),
        (call.model or UNKNOWN, "bold cyan"),
        f"  {call_tokens(call)}",
        f"  line {call.custom_id}" if call.custom_id else "",
        f"  {money(call.cost.usd)}" if call.cost else "",
        f"  {duration(call.timing.duration_ns)}",
        (
            f" (first token {duration(first_token_ns)})" if first_token_ns is not None and call.request.stream else "",
            _FAINT,
        ),
        "  ",
        other_outcome(call),
        ("branch  " if is_branch else "", "yellow"),
        (text or "", _FAINT),
    )


def _run_line(event: EventRecord, calls: Sequence[CallRecord], task: str | None) -> Text:
    """Return the line of an event with the sums of the calls inside it; `task`: what an agent was started for."""
    sums = summary(calls)
    cost = f"  {money(sums.cost_usd)}" if sums.cost_usd is not None else ""
    inside = f" {plural(len(calls), 'call')}  {tokens(sums.input_tokens, sums.output_tokens)}{cost}" if calls else ""
    if event.event_type == "tool":
        return _tool_line(event, inside)
    lasted = f"  {duration(event.duration_ns)}" if event.duration_ns is not None and (calls or is_agent(event)) else ""
    return styled(_event_line(event, task), inside, lasted)


def _tool_line(event: EventRecord, inside: str) -> Text:
    data = event.data if isinstance(event.data, dict) else {}
    failed = f"  {event.error.message or event.error.type}" if event.error else ""
    result = f" → {json_text(data['result'])}" if "result" in data else ""
    bound = "≤ " if event.inferred else ""
    return styled(
        ("tool ", "magenta"),
        (event.name or "tool", "bold magenta"),
        f" {json_text(data.get('arguments'))}" if data.get("arguments") is not None else "",
        f" {inside}" if inside else "",
        (f"  {bound}{duration(event.duration_ns)}" if event.duration_ns is not None else "", _FAINT),
        (failed, "red"),
        result,
    )


def _event_line(event: EventRecord, task: str | None) -> Text:
    name, data = event.name if task is None else f"{task} ({event.name or 'agent'})", event.data
    if event.event_type == "handoff":
        name = f"{event.system or '?'} → {name or '?'}"
    if event.event_type == "environment" and isinstance(data, dict):
        data = data.get("after", data)
    states = {
        "triggered": event.metadata.get("triggered"),
        "terminated": event.terminated,
        "truncated": event.truncated,
    }
    return styled(
        (f"{event.event_type} ", "blue"),
        f"{name} " if name else "",
        (f"{reward(event.reward)} " if event.reward is not None else "", reward_style(event.reward)),
        (next((f"{state} " for state, is_so in states.items() if is_so), ""), "yellow"),
        (json_text(data), _FAINT),
        (f"  {event.error.type}" if event.error else "", "red"),
    )


def reward_line(item: RewardRecord) -> Text:
    """Return the line of a reward: objective, value, target and source."""
    details = "  ".join(part for part in (item.label, item.source, item.annotation) if part)
    target = "step" if item.scope == "event" and item.event_id is None and item.timestep_id is not None else item.scope
    return styled(
        ("" if item.objective == REWARD else "score of ", "blue"),
        (f"{item.objective} ", "blue"),
        (reward(item.value), reward_style(item.value)),
        f" of the {target}{f'  {details}' if details else ''}",
    )


class SessionExcerpt(NamedTuple):
    """A session or its beginning."""

    summary: SessionSummary
    sums: Summary | None
    """The sums over all calls of the session; None if it has none."""
    steps: dict[int, TimestepRecord]
    """The steps that started before the last of `items`, by position; all steps if `items` is complete."""
    items: list[Entry]
    """The calls and events, in order of their start."""
    total: int
    """Calls and events of the whole session."""
    first_words: str | None = None
    """The first words of the session; None if it has no words or they were not kept."""

    @classmethod
    def of(cls, reader: Reader, summary: SessionSummary, limit: int | None) -> SessionExcerpt:
        """Read the first `limit` entries, or all. Only these are kept in memory."""
        session_id = summary.session.session_id
        sums = next(iter(reader.summary("session", CallFilter(session_id=session_id), latencies=False)), None)
        items = list(islice(reader.entries(session_id, content="response"), limit))
        if any(map(is_realtime, items)):  # the user's speech is in the requests
            items = list(islice(reader.entries(session_id), len(items)))
        total = max(summary.events + (sums.calls if sums else 0), len(items))
        until_ns = start_of(items[-1]) if len(items) < total else math.inf
        steps = takewhile(lambda step: (step.start_ns or 0) <= until_ns, reader.timesteps(session_id))
        first_words = reader.first_words([session_id]).get(session_id)
        return cls(summary, sums, dict(enumerate(steps)), items, total, first_words)

    def of_agents(self, name: str, limit: int) -> SessionExcerpt:
        """Return the first `limit` entries of the agents with this name, task, or beginning of an id.

        Without such an agent it has none.
        """
        contents = _Contents(self)
        numbers = inside_agents(contents.tree, contents.records, name)
        items = [item for number, item in enumerate(self.items, len(self.steps)) if number in numbers]
        steps = {position: step for number, (position, step) in enumerate(self.steps.items()) if number in numbers}
        return self._replace(items=items[:limit], steps=steps, total=len(items))

    @property
    def is_part(self) -> bool:
        """Whether the session has more entries."""
        return len(self.items) < self.total

    @property
    def calls(self) -> list[CallRecord]:
        """The calls of this excerpt."""
        return [item for item in self.items if isinstance(item, CallRecord)]
