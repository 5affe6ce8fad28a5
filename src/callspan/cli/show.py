"""`callspan show ID`: a session as a tree, or one call in full; for two ids their differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Final

import click
import msgspec
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from callspan.cli.cache import cache_line, cache_row
from callspan.cli.command_context import Command, CommandContext
from callspan.cli.json_rows import Row, call_rows, record_fields, session_json
from callspan.cli.prices import pricer_of_now
from callspan.cli.terminal.call_text import outcome_text
from callspan.cli.terminal.safe_text import clean, clean_lines
from callspan.cli.terminal.screen import Column, Screen
from callspan.cli.terminal.session_tree import SessionExcerpt, reward_line, session_tree
from callspan.cli.values import POSITIVE
from callspan.comparison.diff import (
    STATUS_WORDS,
    Diff,
    Pair,
    TextRun,
    against_text,
    diff,
    first_difference_text,
    name_text,
    value_text,
)
from callspan.comparison.sides import Side, facts_of_call, part_text, read_side, text_of
from callspan.cost.unknown import why_unknown
from callspan.formatting import UNKNOWN, count, duration, json_text, local_time, money, plural
from callspan.records import Attempt, CallRecord, Message, RewardRecord, UsageIteration
from callspan.stores import CacheUse, CallFilter, History, Reader, SessionSummary, whole_conversation

_LIMIT: Final = 1000
_EPILOG: Final = """\
callspan show 019aa0c1-77             a session or call, by the beginning of its id
callspan show chat-8843 chat-8842     the differences of two sessions or calls"""
_LABEL_WIDTH: Final = 18
"""Minimum width of the names of facts."""
_NO_END: Final = "not stored: the call runs, its process was killed, or its end was lost"
_UNRECOGNIZED: Final = "not recognized: nothing of {} is in its body"
_UNREAD: Final = "not read: the application passed it on as raw bytes"
_UNKNOWN_FINISH: Final = "unknown: the finish reason may state an answer or a failure"
_UNLISTED: Final = "the provider could not list the tools of a server"
_ROLE_STYLES: Final = {"system": "magenta", "user": "blue", "assistant": "green", "tool": "cyan"}

_AROUND: Final = 60
"""Number of equal characters shown on each side of a difference."""
_NO_AGENT: Final = "No agent of this session has the name, the task or an id that begins with {!r}."
_NO_SESSION: Final = "--agent selects from one session: name a session"
_MARKS: Final = {"a": ("[-", "-]", "red"), "b": ("{+", "+}", "green"), "both": ("", "", "")}


@click.command(
    "show",
    cls=Command,
    page="The command: The tree",
    short_help="Show a session or call, or the differences of two.",
    epilog=_EPILOG,
)
@click.argument("ident", metavar="[ID]", default="last")
@click.argument("other", metavar="[ID]", default="")
@click.option("--limit", type=POSITIVE, metavar="N", help=f"Show N entries. Default: {_LIMIT:,}; --json has all.")
@click.option("--agent", metavar="NAME", help="Show only what is inside this agent: its name, task, or id.")
def show_command(context: CommandContext, ident: str, other: str, limit: int | None, agent: str | None) -> None:
    """Show a session as a tree of steps, calls, tools and events, one call in full, or the differences of two ids.

    ID is the id of a session or call, a unique prefix of one, the span id of a call, the provider's response or request
    id, a trace id (its first call), the id of a timestep or your own of one (its session), or `last`: the newest
    session, or a later call outside of sessions.
    """
    if agent is not None and other:
        raise click.UsageError(_NO_SESSION)
    with context.reader() as reader:
        if other:
            show_difference(context, reader, ident, other, limit or _LIMIT)
            return
        session_or_call = context.named(reader, ident)
        if isinstance(session_or_call, SessionSummary):
            _show_session(context, reader, session_or_call, limit, agent)
            return
        if agent is not None:
            raise click.UsageError(_NO_SESSION)
        history, rewards, row = (
            reader.history(session_or_call),
            list(reader.rewards(session_or_call)),
            next(call_rows(reader, [session_or_call])),
        )
        selection = CallFilter(ids=(session_or_call.call_id,))
        use = next(reader.prompt_cache(selection, pricer_of_now().priced))
    _show_call(context, session_or_call, history, row, rewards, use)


def _show_call(
    context: CommandContext,
    call: CallRecord,
    history: History,
    row: Row,
    rewards: Sequence[RewardRecord],
    use: CacheUse,
) -> None:
    """Show a call; `row` is its row in lists."""
    if context.json:
        more = {"rewards": list(map(record_fields, rewards)), "prompt_cache": cache_row(use)}
        context.emit(row | more | _call_json(call, history))
        return
    print_call(context.screen, call, history, row["timestep_position"], rewards, use)


def _show_session(
    context: CommandContext, reader: Reader, summary: SessionSummary, limit: int | None, agent: str | None
) -> None:
    if context.json:
        context.emit(session_json(reader, summary, limit, agent) or context.no_match(_NO_AGENT.format(agent)))
        return
    excerpt = SessionExcerpt.of(reader, summary, limit or _LIMIT if agent is None else None)
    if agent is not None:
        excerpt = excerpt.of_agents(agent, limit or _LIMIT)
        if not excerpt.items:
            context.no_match(_NO_AGENT.format(agent))
    screen = context.screen
    screen.print(session_tree(excerpt, screen.console.width))
    if excerpt.is_part:
        hint = f"the first {len(excerpt.items):,} of {excerpt.total:,} entries: --limit N shows more, --json all"
        screen.paragraph(hint, "dim")


def _call_json(call: CallRecord, history: History) -> dict[str, object]:
    """Return a call's record; if it continues other calls, also those and all messages."""
    fields: dict[str, object] = {"record": _builtins(call)}
    if _continues(call):
        fields["history"] = {
            "calls": [earlier_call.call_id for earlier_call in history.calls],
            "missing": history.missing,
            "more": history.more,
            "conversation": _builtins(whole_conversation(call, history)),
        }
    return fields


def _builtins(value: object) -> object:
    return msgspec.to_builtins(value, builtin_types=(msgspec.Raw,))


def _continues(call: CallRecord) -> str | None:
    """Return the id of the response or conversation that a call continues."""
    return call.request.continues or call.request.conversation_id


def print_call(
    screen: Screen,
    call: CallRecord,
    history: History,
    position: object,
    rewards: Sequence[RewardRecord],
    use: CacheUse,
) -> None:
    """Print a complete call and the messages of the calls before it, with cleaned text.

    `position` is its timestep's position in the session; None if unknown.
    """
    screen.line((f"{call.operation} {call.model or UNKNOWN}", "bold cyan"), "  ", outcome_text(call))
    facts = Table.grid(padding=(0, 1, 0, 0))
    facts.add_column(min_width=_LABEL_WIDTH, style="dim")
    facts.add_column(overflow="fold")
    reward_facts = (("reward", reward_line(record)) for record in rewards)
    for label, value in (*_facts(call, position), ("cache", cache_line(use)), *_ending(call, history), *reward_facts):
        if value:
            facts.add_row(label, Text(clean(value)) if isinstance(value, str) else value)
    screen.print(facts)
    _print_conversation(screen, call, history)


def _ending(call: CallRecord, history: History) -> Iterator[tuple[str, str | Text]]:
    """Return what a call continues, its attempts and iterations, and its error."""
    if call.error is not None:
        lines = filter(None, (f"{call.error.kind}: {call.error.type}", call.error.message))
        yield "error", Text(clean_lines("\n".join(lines)), style="red")
    if len(call.attempts) > 1:
        yield from ((f"attempt {attempt.number}", _attempt(attempt)) for attempt in call.attempts)
    if call.usage is not None:
        yield from (("iteration", _of_iteration(iteration)) for iteration in call.usage.iterations)
    if (name := _continues(call)) is not None:
        yield "continues", name
        yield "", _earlier_calls(history)
    if call.request.tool_names:
        yield "tools", ", ".join(call.request.tool_names)


def _earlier_calls(history: History) -> str:
    """Describe the recorded earlier calls of a conversation, and a missing link."""
    calls = history.calls
    if not calls:
        return "no earlier call is recorded" if history.missing is None else "a response of no recorded call"
    description = (
        f"call {calls[0].call_id}" if len(calls) == 1 else f"{len(calls):,} calls, the first {calls[0].call_id}"
    )
    if history.missing is not None:
        return f"{description}, which continues {history.missing}, a response of no recorded call"
    return f"{description}, and more before" if history.more else description


def _facts(call: CallRecord, position: object) -> Iterator[tuple[str, str | None]]:
    """Yield ids and facts of a call. None and empty values are not shown."""
    place, response = call.place, call.response
    step = "" if position is None else f", step {position}"
    yield "call", call.call_id
    yield "session", place.session_id and f"{place.session_id} ({place.session_name or 'no name'}{step})"
    yield "trace", call.trace_id and f"{call.trace_id}  span {call.span_id}"
    yield "batch", call.batch_id and f"{call.batch_id}{f', line {call.custom_id}' if call.custom_id else ''}"
    yield "response", response.id if response else None
    yield "request", call.request_id
    yield "server address", call.server_address and f"{call.server_address}:{call.server_port or UNKNOWN}"
    yield "start", local_time(call.timing.start_ns)
    for name, value in facts_of_call(call).items():
        yield name_text(name), None if value is None else value_text(name, value)
    yield from (("no cost", reason.removeprefix("no cost: ")) for reason in why_unknown([call], pricer_of_now))
    yield "end", _NO_END if call.is_first_version else None
    yield "context", "compacted" if call.request.compacted or (response and response.compacted) else None
    yield "response", _UNRECOGNIZED.format(call.api) if response and response.unrecognized else None
    yield "response", _UNREAD if response and response.unread else None
    yield "finish", _UNKNOWN_FINISH if response and response.unknown_finish else None
    yield "MCP", _UNLISTED if response and response.tools_unlisted else None
    yield "parameters", json_text(call.request.params) if call.request.params else None
    yield from (("left out", f"{redaction.what} ({redaction.why})") for redaction in call.redactions)


def _attempt(attempt: Attempt) -> str:
    status = str(attempt.status) if attempt.status is not None else attempt.error_type or "no answer"
    wait = "" if attempt.wait_s is None else f", then waited {duration(attempt.wait_s * 1e9)}"
    request = f", request {attempt.request_id}" if attempt.request_id else ""
    cost = f", cost {money(attempt.cost.usd)}" if attempt.cost else ""
    billed = ", may be billed" if attempt.may_be_billed else ""
    return f"{status} at {duration(attempt.start_ns)}{wait}{request}{cost}{billed}"


def _of_iteration(run: UsageIteration) -> str:
    """Return the model runs inside the server, with their tokens and cost."""
    cost = "" if run.cost is None else f", {money(run.cost.usd)}"
    tokens = f"{count(run.input_tokens)} tokens in, {count(run.output_tokens)} out"
    return f"{clean(run.kind)} by {clean(run.model or UNKNOWN)}: {tokens}{cost}"


def _print_conversation(screen: Screen, call: CallRecord, history: History) -> None:
    conversation = whole_conversation(call, history)
    if call.content_level != "full" and not (conversation.system or conversation.input or conversation.output):
        screen.print()
        screen.line((f"content is {call.content_level}", "dim"))
    turns = [Message(role="system", parts=conversation.system)] if conversation.system else []
    own_messages = len(call.conversation.input) if call.conversation is not None else 0
    own_start = len(turns) + len(conversation.input) - own_messages
    for number, message in enumerate((*turns, *conversation.input)):
        _print_message(screen, message, "earlier" if len(turns) <= number < own_start else "")
    for message in conversation.output:
        _print_message(screen, message, "answer")


def _print_message(screen: Screen, message: Message, note: str) -> None:
    screen.print()
    role = message.role or "?"
    finish_reason = f" {message.finish_reason}" if message.finish_reason else ""
    name = f" {message.name}" if message.name else ""
    screen.line((role, f"bold {_ROLE_STYLES.get(role, '')}"), (f"{name} {note}{finish_reason}".rstrip(), "dim"))
    for part in message.parts:
        screen.print(Padding(Text(clean_lines(part_text(part))), (0, 0, 0, 2)))


def show_difference(context: CommandContext, reader: Reader, ident_a: str, ident_b: str, limit: int) -> None:
    """Show the differences of two calls or sessions: facts, parameters, tools, and messages word by word.

    Messages are aligned; ids of tool calls are ignored. `limit`: maximum number of calls read of each session.
    """
    a, b = (_side(context, reader, ident, limit) for ident in (ident_a, ident_b))
    if a.kind != b.kind:
        raise click.UsageError(f"A is a {a.kind} and B a {b.kind}: name two calls or two sessions")
    difference = diff(a, b)
    if context.json:
        context.emit(_json(difference))
    else:
        _print(context.screen, difference)


def _side(context: CommandContext, reader: Reader, ident: str, limit: int) -> Side:
    session_or_call = context.named(reader, ident)
    if isinstance(session_or_call, SessionSummary) and session_or_call.calls > limit:
        subject = f"{clean(session_or_call.session.session_id)}: only its first"
        click.echo(f"{subject} {plural(limit, 'call')} of {session_or_call.calls:,}", err=True)
    return read_side(reader, session_or_call, limit)


def _json(difference: Diff) -> dict[str, object]:
    value = msgspec.to_builtins(difference, builtin_types=(Decimal, msgspec.Raw))
    section, position = difference.first_difference or (None, None)
    value["first_difference"] = None if section is None else {"section": section, "place": position}
    return dict(value)


def _print(screen: Screen, difference: Diff) -> None:
    for name, side in (("A", difference.a), ("B", difference.b)):
        screen.line((name, "bold"), "  ", (side.kind, "dim"), " ", (side.id, "cyan"))
    for heading, rows in (("", difference.facts), ("parameters", difference.parameters), ("tools", difference.tools)):
        differing = [row for row in rows if row.status != "same"]
        if differing:
            screen.print()
            columns = (
                Column(heading, lambda row: name_text(row.name)),
                Column("A", lambda row: value_text(row.name, row.a), shrinks=True),
                Column("B", lambda row: value_text(row.name, row.b), shrinks=True),
                Column("B against A", against_text),
            )
            screen.table(columns, differing)
    for is_same, pairs in groupby(difference.messages, key=lambda pair: pair.status == "same"):
        if is_same:
            screen.print()
            screen.line((f"{plural(len([*pairs]), 'message')} the same", "dim"))
            continue
        for pair in pairs:
            _print_pair(screen, difference, pair)
    screen.print()
    screen.paragraph(first_difference_text(difference))


def _print_pair(screen: Screen, difference: Diff, pair: Pair) -> None:
    screen.print()
    screen.line((pair.role, "bold"), "  ", (STATUS_WORDS[pair.status], "dim"))
    text = Text()
    for start, body, end, style in _stretches(difference, pair):
        text.append(clean_lines(f"{start}{body}{end}"), style=style or None)
    screen.print(Padding(text, (0, 0, 0, 2)))


def _stretches(difference: Diff, pair: Pair) -> Iterator[tuple[str, str, str, str]]:
    """Yield the printed parts of a message: prefix, text, suffix, style; long equal text is shortened to its ends."""
    if pair.status == "differs":
        last_index = len(pair.changes) - 1
        for index, run in enumerate(pair.changes):
            start, end, style = _MARKS[run.where]
            yield start, _around(run, index, last_index), end, style
        return
    message = difference.b.messages[pair.b or 0] if pair.a is None else difference.a.messages[pair.a]
    start, end, style = _MARKS[{"only_a": "a", "only_b": "b"}.get(pair.status, "both")]
    yield start, text_of(message), end, style


def _around(run: TextRun, index: int, last_index: int) -> str:
    if run.where != "both" or len(run.text) <= 3 * _AROUND:
        return run.text
    head = run.text[:_AROUND] if index else ""
    tail = run.text[-_AROUND:] if index < last_index else ""
    return f"{head} … {tail}"
