"""Token ids: reads the ids that inference servers return with an answer, each server in its own fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from callspan.providers.wire_json import dig, integer, items, number, objects
from callspan.records import CallRecord

_CHOICE: Final = "choices"
"""The first part of a path within the first choice."""
PROMPT_FIELDS: Final = (
    "prompt_token_ids", "prompt_ids", "choices.prompt_token_ids", "choices.prompt_ids",
    "choices.message.prompt_token_ids", "choices.message.prompt_ids", "sglext.input_ids", "choices.sglext.input_ids",
    "nvext.prompt_token_ids", "nvext.engine_data.prompt_token_ids",
)  # fmt: skip
"""Where servers state the ids of the prompt: vLLM, FastDeploy and Dynamo (a field of the first delta), SGLang, Dynamo's
extension."""
COMPLETION_FIELDS: Final = (
    "choices.token_ids", "choices.completion_token_ids", "choices.message.token_ids",
    "choices.message.completion_token_ids", "choices.message.generation_token_ids", "sglext.output_ids",
    "choices.sglext.output_ids", "nvext.completion_token_ids", "nvext.engine_data.completion_token_ids",
)  # fmt: skip
"""The same for the ids of the answer."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """The token ids of a call, as returned by the server."""

    prompt_ids: list[int]
    completion_ids: list[int]
    completion_logprobs: list[float] | None
    """One per completion token; None if the server returned none, or a different number."""
    prompt_field: str
    """The field of the response with the prompt's ids, such as `sglext.input_ids`; `choices` is the first choice."""
    completion_field: str
    misfit: str | None = None
    """Why the ids cannot belong to the whole call: the server counted another number; None if they can."""


def tokens_of(call: CallRecord) -> Tokens | None:
    """Return the token ids of a call's prompt and first choice; None unless the server returned both."""
    body = bytes(call.response.body) if call.response else b""
    response: object = msgspec.json.decode(body) if body else None
    choice = next(objects(response, _CHOICE), None)
    prompt = next(_stated(response, choice, PROMPT_FIELDS), None)
    completion = next(_stated(response, choice, COMPLETION_FIELDS), None)
    if prompt is None or completion is None:
        return None
    return Tokens(
        prompt_ids=prompt[1],
        completion_ids=completion[1],
        completion_logprobs=_logprobs(choice, len(completion[1])),
        prompt_field=prompt[0],
        completion_field=completion[0],
        misfit=_misfit(call, response, len(prompt[1]), len(completion[1])),
    )


def _stated(response: object, choice: object, fields: tuple[str, ...]) -> Iterator[tuple[str, list[int]]]:
    """Yield the fields that have ids, with the ids; a list of lists has one per choice."""
    for field in fields:
        root, *path = field.split(".")
        value = dig(choice, *path) if root == _CHOICE else dig(response, root, *path)
        ids = _ids(value[0] if isinstance(value, list) and value and isinstance(value[0], list) else value)
        if ids:
            yield field, ids


def _ids(value: object) -> list[int]:
    """Return a list of integers; empty for anything else."""
    ids = value if isinstance(value, list) else []
    integers = [item for item in ids if isinstance(item, int) and not isinstance(item, bool)]
    return integers if len(integers) == len(ids) else []


_COUNTS: Final[Mapping[str, tuple[str, ...]]] = {
    "prompt": ("prompt_tokens", "input_tokens"),
    "completion": ("completion_tokens", "output_tokens"),
}
"""The names of the server's own counts, in the same response."""


def _misfit(call: CallRecord, response: object, prompt: int, completion: int) -> str | None:
    usage = call.usage
    of_record = (None, None) if usage is None or usage.estimated else (usage.input_tokens, usage.output_tokens)
    is_only_choice = len(list(items(response, _CHOICE))) <= 1
    for (part, names), recorded, ids in zip(_COUNTS.items(), of_record, (prompt, completion), strict=True):
        counts = (integer(response, "usage", name) for name in names)
        stated = next((count for count in counts if count is not None), None)
        if stated is None or ids in (stated, recorded):
            continue
        if part == "completion" and not is_only_choice and ids < stated:
            continue  # the count is of all choices
        return f"the ids of the {part} do not fit its counted tokens"
    return None


def _logprobs(choice: object, count: int) -> list[float] | None:
    logprobs = dig(choice, "logprobs")
    flat = [number({"": value}, "") for value in items(logprobs, "token_logprobs")]
    values = flat or [number(token, "logprob") for token in objects(logprobs, "content")]
    numbers = [value for value in values if value is not None]
    return numbers if len(numbers) == count == len(values) else None
