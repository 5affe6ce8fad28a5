"""Request parameters: total readers of parameters as they were sent, for every API. None: no such value."""

from __future__ import annotations

from typing import Final

_OUTPUT_TYPES: Final = {"text": "text", "json_object": "json", "json_schema": "json"}


def as_float(value: object) -> float | None:
    """Return a number as float, None for anything else; bool is no number."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def as_int(value: object) -> int | None:
    """Return a whole number, also one written as float, None for anything else; bool is no number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def as_text(value: object) -> str | None:
    """Return a string that is not empty, None for anything else."""
    return value if isinstance(value, str) and value else None


def as_texts(value: object) -> tuple[str, ...] | None:
    """Return the strings of a list, or of a single string, None where there are none."""
    if isinstance(value, str):
        return (value,) if value else None
    if isinstance(value, list):
        return tuple([item for item in value if isinstance(item, str)]) or None
    return None


def reasoning_level(value: object) -> str | None:
    """Return the effort of `reasoning_effort`, `reasoning` or `output_config`."""
    return as_text(value.get("effort")) if isinstance(value, dict) else as_text(value)


def choice_count(value: object) -> int | None:
    """Return the number of requested choices; None for a single one."""
    count = as_int(value)
    return None if count == 1 else count


def service_tier(value: object) -> str | None:
    """Return a requested service tier; None for `auto`."""
    return None if value == "auto" else as_text(value)


def output_type(value: object) -> str | None:
    """Return the conventions' word for `response_format` and its like: `text` or `json`."""
    kind = value.get("type") if isinstance(value, dict) else None
    return _OUTPUT_TYPES.get(kind) if isinstance(kind, str) else None


def output_type_of_text(value: object) -> str | None:
    """Return the same of an object that has it as `format`: `text` of Responses, `output_config` of Messages."""
    return output_type(value.get("format")) if isinstance(value, dict) else None


def output_type_of_modalities(value: object) -> str | None:
    """Return `speech` where audio is among the modalities."""
    return "speech" if isinstance(value, list) and "audio" in value else None
