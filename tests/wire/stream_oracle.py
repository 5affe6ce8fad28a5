"""The oracle of streams: what the model wrote, read from the events of a stream alone.

It imports nothing of the code under test (a test checks that), is slow and plain, and knows one rule: an entry is what
its id says, else what its start says; an index is a hint.

- A start begins an entry, unless it announces one whose deltas came before it, or repeats the id of one that is open or
  has said nothing yet.
- A delta goes to the entry of its id, else to the newest open one of its index, else to the newest open one of its
  kind. Text on an entry of another kind begins an entry of its own.
- A start of the whole answer with another id than the one before discards what came before.
- Where a terminal event carries the answer, that is the answer. Of what was streamed it lacks the texts that are not in
  it, and the calls with another name or other arguments, counted; these are added.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
TEXT, THOUGHT, CALL = "text", "thought", "call"
LEGACY = "legacy"
"""Where the only call of an old model is."""
CALLS = ("function_call", "custom_tool_call", "mcp_call")
"""Items with a name and arguments; other tools of the provider say what they do in other fields."""
ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done")
CALL_DELTAS = ("function_call_arguments", "mcp_call_arguments", "custom_tool_call_input")
TEXT_DELTAS = {
    "output_text": TEXT, "text": TEXT, "output_audio_transcript": TEXT, "audio_transcript": TEXT, "refusal": TEXT,
    "reasoning_text": THOUGHT, "reasoning_summary_text": THOUGHT,
}  # fmt: skip


@dataclass(eq=False)
class Entry:
    """One text, thought or call, equal only to itself."""

    kind: str
    written: str = ""
    name: str | None = None
    ids: set[str] = field(default_factory=set)
    indexes: list[object] = field(default_factory=list)
    started: bool = False
    open: bool = True
    parts: list[Entry] = field(default_factory=list)

    @property
    def words(self) -> str:
        """The text of the entry or of its parts."""
        return self.written or "".join(part.written for part in self.parts)

    @property
    def call(self) -> tuple[str | None, str]:
        return self.name, normal(self.written)


@dataclass
class Answer:
    """What the model wrote in one choice."""

    text: str
    thoughts: str
    """Without white space, because it is read in paragraphs."""
    calls: list[tuple[str | None, str]]


def answers(api: str, events: Iterable[Json]) -> list[Answer]:
    """Return the answer of each choice."""
    listed = list(events)
    if api == "messages":
        return [answer_of(list(blocks(listed)))]
    if api == "responses":
        return [answer_of(response(listed))]
    return [answer_of(without_mirror(entries)) for entries in choices(listed)]


def answer_of(entries: list[Entry]) -> Answer:
    thoughts = "".join(entry.words for entry in entries if entry.kind == THOUGHT)
    return Answer(
        "".join(entry.words for entry in entries if entry.kind == TEXT),
        bare(thoughts),
        [entry.call for entry in entries if entry.kind == CALL],
    )


def bare(text: str) -> str:
    return "".join(text.split())


def normal(arguments: Any) -> str:
    """Arguments without the spelling of their JSON; none are an empty object."""
    if not isinstance(arguments, str):
        return json.dumps(arguments, sort_keys=True)
    try:
        return json.dumps(json.loads(arguments or "{}"), sort_keys=True)
    except ValueError:
        return arguments


# Messages


def blocks(events: list[Json]) -> Iterator[Entry]:
    held: list[Entry] = []
    answer_id = None
    for event in events:
        kind, index = event.get("type"), event.get("index")
        if kind == "message_start":
            answer_id = begin_answer(held, answer_id, event["message"].get("id"))
        elif kind == "content_block_start":
            begin_block(held, index, event["content_block"])
        elif kind == "content_block_delta":
            fill_block(held, index, event["delta"])
        elif kind == "content_block_stop":
            stop_block(held, index)
    yield from (entry for entry in held if entry.kind != CALL or entry.name)


def begin_answer(held: list[Entry], before: Any, identity: Any) -> Any:
    """Forget an attempt that was given up; return the id of the answer."""
    if before and identity and before != identity:
        held.clear()
    return identity or before


def kind_of_block(block: Json) -> str:
    kind = block["type"]
    return {"text": TEXT, "thinking": THOUGHT}.get(kind, CALL if kind.endswith("tool_use") else kind)


def begin_block(held: list[Entry], index: object, block: Json) -> None:
    kind, identity = kind_of_block(block), block.get("id")
    for entry in reversed(held):
        is_announced = not entry.started and entry.kind == kind and index in entry.indexes
        is_same = bool(identity) and identity in entry.ids and entry.kind == kind
        if (entry.open and (is_announced or is_same)) or (is_same and not entry.written):
            break
    else:
        entry = Entry(kind)
        held.append(entry)
    entry.open, entry.started, entry.name = True, True, block.get("name") or entry.name
    entry.indexes.append(index)
    entry.ids.add(identity or "")
    entry.written += (
        block.get("text") or block.get("thinking") or (json.dumps(block["input"]) if block.get("input") else "")
    )


def fill_block(held: list[Entry], index: object, delta: Json) -> None:
    piece = {
        "text_delta": ("text", TEXT),
        "thinking_delta": ("thinking", THOUGHT),
        "input_json_delta": ("partial_json", CALL),
    }
    if delta["type"] not in piece:
        return
    field_name, kind = piece[delta["type"]]
    newest_here = next((entry for entry in reversed(held) if entry.open and index in entry.indexes), None)
    if newest_here is None:
        newest_here = next((entry for entry in reversed(held) if entry.open and entry.kind == kind), None)
    if (newest_here is None or newest_here.kind != kind) and kind == CALL:
        newest_here = next((entry for entry in reversed(held) if entry.kind == kind), None)
    if newest_here is None or newest_here.kind != kind:
        newest_here = Entry(kind, indexes=[index])
        held.append(newest_here)
    newest_here.written += delta[field_name]


def stop_block(held: list[Entry], index: object) -> None:
    here = [entry for entry in held if entry.open and index in entry.indexes]
    for entry in reversed(here or [entry for entry in held if entry.open][-1:]):
        if entry.open:
            entry.open = False
            if entry.started:
                return


# Responses


def response(events: list[Json]) -> list[Entry]:
    held: list[Entry] = []
    stated: list[Entry] = []
    answer_id = None
    for event in events:
        kind = str(event.get("type"))
        if kind == "response.created":
            answer_id = begin_answer(held, answer_id, event["response"].get("id"))
            stated = stated if held else []
        elif kind in ENDS or (kind == "None" and "output" in event):
            stated = [
                entry for item in (event.get("response") or event).get("output") or [] for entry in stated_item(item)
            ]
        elif kind == "response.output_item.added":
            begin_item(held, event)
        elif kind == "response.output_item.done":
            end_item(held, event)
        elif kind.endswith((".delta", ".done", ".added")):
            of_part(held, event, kind.removeprefix("response."))
    return with_lacking(held, stated)


def kind_of_item(item: Json) -> str:
    kind = item.get("type", "message")
    return {"message": TEXT, "reasoning": THOUGHT}.get(kind, CALL if kind in CALLS else kind)


def stated_item(item: Json) -> Iterator[Entry]:
    kind = kind_of_item(item)
    if kind == CALL:
        yield Entry(CALL, item.get("arguments", item.get("input")) or "", item.get("name"))
        return
    parts = [part for key in ("summary", "content") for part in item.get(key) or []]
    texts = [part.get("text") or part.get("transcript") or part.get("refusal") or "" for part in parts]
    yield Entry(kind, parts=[Entry(kind, text) for text in texts])


def stated_words(item: Json) -> str:
    return "".join(entry.words or entry.written for entry in stated_item(item))


def begin_item(held: list[Entry], event: Json) -> None:
    item, index = event["item"], event.get("output_index")
    kind, identity = kind_of_item(item), item.get("id")
    for entry in reversed(held):
        is_same = bool(identity) and identity in entry.ids and entry.kind == kind
        is_announced = (
            not entry.started and entry.kind == kind and index in entry.indexes and not (identity and entry.ids)
        )
        is_elsewhere = index is not None and index not in (*entry.indexes, None) and {*entry.indexes} != {None}
        begins_anew = bool(entry.words or entry.written) and not stated_words(item)
        goes_on = entry.open and not is_elsewhere and not begins_anew
        if (entry.open and is_announced) or (is_same and (not entry.started or goes_on)):
            break
    else:
        entry = Entry(kind)
        held.append(entry)
    entry.started, entry.name = True, item.get("name") or entry.name
    entry.indexes.append(index)
    entry.ids |= {identity} - {None, ""}
    entry.written += item.get("arguments") or item.get("input") or ""


def end_item(held: list[Entry], event: Json) -> None:
    item, index = event["item"], event.get("output_index")
    (stated,) = stated_item(item)
    entry = find_item(held, item.get("id"), index, stated.kind)
    if entry is not None and not entry.open and (entry.call, entry.words) != (stated.call, stated.words):
        entry = None
    if entry is None:
        entry = Entry(stated.kind, indexes=[index])
        held.append(entry)
    if stated.words or stated.kind == CALL:
        entry.parts = stated.parts
        entry.written = stated.written or entry.written
        entry.name = stated.name or entry.name
    entry.ids |= {item.get("id")} - {None, ""}
    entry.open, entry.started = False, True


def find_item(held: list[Entry], identity: Any, index: object, kind: str) -> Entry | None:
    named = [entry for entry in held if identity and identity in entry.ids and entry.kind == kind]
    if named and (named[-1].open or index is None or index in named[-1].indexes):
        return named[-1]
    here = [entry for entry in held if entry.open and index is not None and index in entry.indexes]
    if here:
        same_kind = here[-1].kind == kind and not (identity and entry_keeps_its_id(here[-1]))
        return here[-1] if same_kind else None
    waiting = [entry for entry in held if entry.open and entry.kind == kind]
    if identity:
        waiting = [entry for entry in waiting if entry.started and not entry_keeps_its_id(entry)]
    if kind == CALL:
        waiting = [entry for entry in waiting if entry.started]
    return waiting[-1] if waiting else None


def entry_keeps_its_id(entry: Entry) -> bool:
    """Whether an event after its start has repeated the id; some servers invent one for each event."""
    return entry.name == "" or getattr(entry, "kept", False)


def of_part(held: list[Entry], event: Json, kind: str) -> None:
    step, what = kind.rpartition(".")[2], kind.rpartition(".")[0]
    index, identity = event.get("output_index"), event.get("item_id")
    if what in CALL_DELTAS:
        entry = item_of(held, identity, index, CALL)
        if entry.open and step == "delta":
            entry.written += event["delta"]
        elif entry.open and step == "done":
            entry.written = event.get("arguments", event.get("input")) or entry.written
        return
    if what in TEXT_DELTAS:
        family = TEXT_DELTAS[what]
    elif "part" in event:
        family = THOUGHT if what == "reasoning_summary_part" else None
    else:
        return
    entry = item_of(held, identity, index, family)
    if entry.open:
        in_part(entry, event, what, step)


def item_of(held: list[Entry], identity: Any, index: object, kind: str | None) -> Entry:
    if kind is None:
        open_items = [entry for entry in held if (identity and identity in entry.ids) or index in entry.indexes]
        open_items = [entry for entry in open_items if entry.open] or [entry for entry in held if entry.open]
        kind = open_items[-1].kind if open_items else TEXT
    entry = find_item(held, identity, index, kind)
    if entry is None:
        entry = Entry(kind)
        entry.kept = bool(identity)  # type: ignore[attr-defined]
        held.append(entry)
    elif identity and identity in entry.ids:
        entry.kept = True  # type: ignore[attr-defined]
    entry.indexes.append(index)
    entry.ids |= {identity} - {None, ""}
    return entry


def in_part(item: Entry, event: Json, what: str, step: str) -> None:
    """Parts have no id: a start begins one, deltas and the whole text go to the newest open one."""
    key = "summary_index" if "summary" in what else "content_index"
    index, family = (key, event.get(key)), what if what in TEXT_DELTAS else str((event.get("part") or {}).get("type"))
    words = event.get("delta") or event.get("text") or event.get("refusal") or event.get("transcript") or ""
    if "part" in event:
        part = event["part"]
        words = part.get("text") or part.get("refusal") or ""
    if step == "added":
        item.parts.append(Entry(family, words, indexes=[index], started=True))
        return
    open_parts = [part for part in item.parts if part.open and part.indexes[0][0] == key]
    here = [part for part in open_parts if index in part.indexes] or [
        part for part in open_parts if part.kind == family
    ]
    part = here[-1] if here and (here[-1].kind == family or step == "done") else None
    if "part" in event:
        closed = [one for one in item.parts if one.indexes[0][0] == key and bare(one.written) == bare(words)]
        part = part or (closed[-1] if closed else None)
    if part is None:
        part = Entry(family, indexes=[index])
        item.parts.append(part)
    part.written = part.written + words if step == "delta" else words or part.written
    part.open = step == "delta"


def with_lacking(streamed: list[Entry], stated: list[Entry]) -> list[Entry]:
    """The terminal account, with what it lacks of the streamed one at the place where that was streamed."""
    if not any(entry.words or entry.kind == CALL for entry in stated):
        return streamed
    made = list(stated)
    pools = {kind: bare("".join(entry.words for entry in stated if entry.kind == kind)) for kind in (TEXT, THOUGHT)}
    left = [entry.call for entry in stated if entry.kind == CALL]
    for place, entry in enumerate(streamed):
        if entry.kind != CALL:
            if entry.words and bare(entry.words) not in pools.get(entry.kind, ""):
                made.insert(min(place, len(made)), entry)
        elif entry.call in left:
            left.remove(entry.call)
        else:
            made.insert(min(place, len(made)), entry)
    return made


# Chat


def choices(chunks: list[Json]) -> list[list[Entry]]:
    found: dict[int, list[Entry]] = {}
    for chunk in chunks:
        for place, choice in enumerate(chunk.get("choices") or []):
            held = found.setdefault(
                choice.get("index") or place if choice.get("index") is None else choice["index"], []
            )
            if choice.get("finish_reason") and not choice.get("delta") and choice.get("message"):
                end_choice(held, choice["message"])
            else:
                of_choice(held, choice.get("delta") or choice.get("message") or {})
    return [found[index] for index in sorted(found)]


def without_mirror(held: list[Entry]) -> list[Entry]:
    """The entries without a call in the field of old models that is also one of the others."""
    others = [entry.call for entry in held if entry.kind == CALL and LEGACY not in entry.indexes]
    return [entry for entry in held if LEGACY not in entry.indexes or entry.call not in others]


def end_choice(held: list[Entry], message: Json) -> None:
    """The message that ends a choice is all of it, but for what it leaves out."""
    stated: list[Entry] = []
    of_choice(stated, message)
    stated = without_mirror(stated)
    for kind in (TEXT, THOUGHT):
        if any(entry.kind == kind for entry in stated):
            held[:] = [entry for entry in held if entry.kind != kind]
            held += [entry for entry in stated if entry.kind == kind]
    left = [entry.call for entry in held if entry.kind == CALL]
    for entry in (entry for entry in stated if entry.kind == CALL):
        if entry.call in left:
            left.remove(entry.call)
        else:
            held.append(entry)


def of_choice(held: list[Entry], delta: Json) -> None:
    for kind, keys in ((THOUGHT, ("reasoning_content", "reasoning")), (TEXT, ("content", "refusal"))):
        words = next((delta[key] for key in keys if delta.get(key)), None)
        if kind == THOUGHT and words is None:
            words = "".join(one.get("text") or one.get("summary") or "" for one in delta.get("reasoning_details") or [])
        if isinstance(words, list):
            thoughts = [part for one in words for part in (one.get("thinking") or [])]
            if thoughts:
                add_text(held, THOUGHT, "".join(part["text"] for part in thoughts))
            words = "".join(part.get("text", "") for part in words)
        if words:
            add_text(held, kind, words)
    if delta.get("function_call"):
        add_call(held, {"index": LEGACY, "function": delta["function_call"]})
    for call in delta.get("tool_calls") or []:
        add_call(held, call)


def add_text(held: list[Entry], kind: str, words: str) -> None:
    entry = next((entry for entry in held if entry.kind == kind), None)
    if entry is None:
        entry = Entry(kind)
        held.append(entry)
    entry.written += words


def add_call(held: list[Entry], call: Json) -> None:
    inner = call.get("function") or call.get("custom") or {}
    name, piece = inner.get("name") or "", inner.get("arguments", inner.get("input")) or ""
    identity, index = call.get("id") or None, call.get("index")
    entry = known_call([entry for entry in held if entry.kind == CALL], identity, index, name, piece)
    if entry is None:
        entry = Entry(CALL)
        held.append(entry)
    if entry.name is None or (not entry.written and name != entry.name):
        entry.name = (entry.name or "") + name
    entry.indexes.append(index)
    entry.ids |= {identity} - {None}
    entry.written += piece if isinstance(piece, str) else json.dumps(piece)


def known_call(calls: list[Entry], identity: Any, index: object, name: str, piece: Any) -> Entry | None:
    """The call that a piece belongs to: that of its id, else the newest of its index, else the newest."""
    by_id = [entry for entry in calls if identity in entry.ids] if identity else []
    here = [entry for entry in calls if index in entry.indexes] if index is not None else []
    entry = (by_id or here or calls or [None])[-1]
    if entry is None or not name or by_id:
        return entry
    is_whole_call = bool(entry.written) and is_whole(entry.written)
    if is_whole_call or (identity and entry.ids):
        return None
    if index is not None:
        return entry if here else None
    is_piece = bool(entry.ids) or (bool(entry.written) and name == entry.name)
    return entry if is_piece else None


def is_whole(written: str) -> bool:
    try:
        json.loads(written)
    except ValueError:
        return False
    return True
