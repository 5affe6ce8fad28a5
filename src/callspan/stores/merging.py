"""Merging: what all versions of a session or timestep say together, in whatever order they arrive.

Of each field, and of each key of its metadata, the newest version that knows it is heard; it starts when the
earliest version says. A row keeps with it which version each value is of, so that a late one finds its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Final, NamedTuple, TypeVar, cast

import msgspec

from callspan.record.codec import encode_json
from callspan.record.events import SessionRecord, TimestepRecord
from callspan.stores.columns import Row, Table, Tree, to_row, to_tree

_R = TypeVar("_R", SessionRecord, TimestepRecord)

_VERSION: Final = "record_version"
_START: Final = "start_ns"
_KEYED: Final = "metadata"
_PREFIX: Final = _KEYED + "."

_KINDS: Final[dict[str, type[SessionRecord | TimestepRecord]]] = {"session": SessionRecord, "timestep": TimestepRecord}

_stamps = msgspec.json.Decoder(dict[str, int])


class _Story(NamedTuple):
    """Values by path, and of which version each is."""

    values: Tree
    stamps: dict[str, int]
    version: int


def merge(versions: Iterable[_R]) -> _R:
    """Return all versions of one session or timestep as one record. Raises TypeError for none."""
    known = list(versions)
    if len(known) == 1:
        return known[0]
    told = [_story(msgspec.json.decode(encode_json(record))) for record in known]
    return msgspec.convert(_tree(reduce(_told, told)), type(known[0]), strict=False)


def merged_row(table: Table, there: Mapping[str, object] | None, tree: Tree) -> Row:
    """Return the row of a record's JSON, merged with the row that is there already; `stamps` is filled in."""
    tree.pop("kind", None)
    story = _story(tree)
    if there is not None:
        stamps = there["stamps"]
        before = to_tree(table, there)
        before.pop("kind")
        story = _told(_story(before, _stamps.decode(stamps) if isinstance(stamps, str | bytes) else {}), story)
    whole = _tree(story)
    row = to_row(table, msgspec.convert(whole, _KINDS[table.kind], strict=False), whole)
    other = {path: stamp for path, stamp in story.stamps.items() if stamp != story.version}
    row["stamps"] = encode_json(other).decode() if other else None
    return row


def _story(tree: Tree, stamps: Mapping[str, int] | None = None) -> _Story:
    values: Tree = {path: value for path, value in tree.items() if path not in {_VERSION, _KEYED}}
    keyed = tree.get(_KEYED)
    if isinstance(keyed, dict):
        values |= {_PREFIX + key: value for key, value in keyed.items()}
    version = cast("int", tree[_VERSION])
    return _Story(values, dict.fromkeys(values, version) | dict(stamps or {}), version)


def _told(one: _Story, other: _Story) -> _Story:
    values, stamps = dict(one.values), dict(one.stamps)
    for path, value in other.values.items():
        if path not in values or other.stamps[path] > stamps[path]:
            values[path], stamps[path] = value, other.stamps[path]
    starts = [story.values[_START] for story in (one, other) if _START in story.values]
    if starts:
        values[_START] = min(cast("list[int]", starts))
    return _Story(values, stamps, max(one.version, other.version))


def _tree(story: _Story) -> Tree:
    tree: Tree = {path: value for path, value in story.values.items() if not path.startswith(_PREFIX)}
    keyed = {path[len(_PREFIX) :]: value for path, value in story.values.items() if path.startswith(_PREFIX)}
    return tree | {_VERSION: story.version} | ({_KEYED: keyed} if keyed else {})
