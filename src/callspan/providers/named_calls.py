"""Named calls: ids that pair a tool call with its result, on wires that state no ids."""

from __future__ import annotations

from typing import TypeAlias

CallNames: TypeAlias = dict[str, int]
"""How often each tool occurs in one turn, by its name."""


def call_id(stated_id: str | None, name: str | None, names: CallNames) -> str | None:
    """Return the id of a call or of its result: the stated one, else the tool's name, numbered from the second."""
    if stated_id is not None or name is None:
        return stated_id
    names[name] = number = names.get(name, 0) + 1
    return name if number == 1 else f"{name}:{number}"
