"""Write `src/callspan/process/wire_words.json`: the keys and values that the providers' APIs define.

A redactor of texts keeps these; any other key or value may be the application's.

python tools/wire_words.py

Run it in an environment of its own, with msgspec, botocore and the packages in `SOURCES`: it reads the types of their
requests and answers, and botocore's model of the service. For wires without an SDK it adds the keys that callspan's
adapters read, and the roles in the rows of APIs.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import enum
import importlib
import json
import pkgutil
import re
import sys
import textwrap
import typing
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

SRC = Path(__file__).resolve().parent.parent / "src"
sys.path.insert(0, str(SRC))

from callspan.record.apis import APIS  # noqa: E402 - the source of this work tree

TARGET = SRC / "callspan/process/wire_words.json"
SOURCES = {
    "openai": (
        "openai.types: audio chat responses realtime live beta.realtime completion image embedding create_embedding"
        " moderation decision batch"
    ),
    "anthropic": "anthropic.types: message raw_ beta.beta_message beta.beta_raw beta.message_",
    "groq": "groq.types: audio chat embedding create_embedding",
    "cerebras_cloud_sdk": "cerebras.cloud.sdk.types: chat completion",
    "together": "together.types: audio chat completion embedding image rerank",
    "google-genai": (
        "google.genai: types.GenerateContent types.GenerateImages types.Embed types.LiveClient types.LiveServer"
        " types._GenerateContent types._Embed _gaos.types.interactions.create _gaos.types.interactions.interaction"
    ),
    "cohere": "cohere: types.chat types.non_streamed_chat types.streamed_chat types.embed types.rerank v2.types",
    "mistralai": "mistralai.client.models: chatcompletion agentscompletion fimcompletion embedding moderation",
    "ollama": "ollama._types: ChatRe GenerateRe Embed",
    "huggingface_hub": "huggingface_hub.inference._generated.types: chat_completion text_generation",
    "ibm-watsonx-ai": "ibm_watsonx_ai.foundation_models.schema: _api.TextGen _api.TextChat _api.Rerank _api.Return",
}
"""Where a package has the types of requests and answers: a module, and the beginnings of the names in it."""
BOTOCORE = "bedrock-runtime"
JSON_SCHEMA = frozenset("""
    $defs $id $ref $schema additionalProperties allOf anyOf const default dependentSchemas deprecated definitions
    description else enum examples exclusiveMaximum exclusiveMinimum format if items maxItems maxLength maxProperties
    maximum minItems minLength minProperties minimum multipleOf not nullable oneOf pattern patternProperties
    prefixItems properties propertyNames readOnly required then title type uniqueItems writeOnly
""".split())  # fmt: skip  # noqa: SIM905 - shorter than a list
TYPES_OF_JSON = ("array", "boolean", "integer", "null", "number", "object", "string")
ROLES = ("assistant", "developer", "function", "system", "tool", "user")
OWN = ("callspan_media", "callspan_omitted", "callspan_truncated")
"""Keys that callspan puts into bodies."""
CHOSEN = ("agent", "content", "default", "input", "model", "name", "result", "summary", "text", "values")
"""Members whose value the application chooses, even where an SDK lists some values."""
ADAPTERS = ("fold", *sorted({row.family for row in APIS.values()}))
"""Folders of `callspan.providers`."""
KEY = re.compile(r"[A-Za-z](?:\w*[A-Za-z0-9])?")
WORD = re.compile(r"[!-~]{1,64}")


def roots(place: str) -> Iterator[type]:
    """Yield the types of requests and answers that a package defines."""
    root, _, beginnings = place.partition(": ")
    begins = re.compile(rf"{root}\.(?:{'|'.join(map(re.escape, beginnings.split()))})")
    for module in modules(root):
        # An SDK may load its types late.
        for name in {*vars(module), *getattr(module, "_dynamic_imports", ())}:
            if begins.match(f"{module.__name__}.{name}") and isinstance(defined := getattr(module, name, None), type):
                yield defined


def modules(root: str) -> Iterator[ModuleType]:
    """Yield a module and those below it."""
    module = importlib.import_module(root)
    yield module
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{root}."):
        if root in ("google.genai", "cohere") and "types" not in found.name:
            continue
        with contextlib.suppress(ImportError):
            yield importlib.import_module(found.name)


def reachable(kinds: Iterable[type]) -> Iterator[type]:
    """Yield these types, and those of their members."""
    seen, waiting = set[Any](), [*kinds]
    while waiting:
        kind = waiting.pop()
        if kind in seen or kind.__module__.startswith("pydantic"):
            continue
        seen.add(kind)
        yield kind
        for _, hint in fields(kind):
            waiting += classes(hint)


def classes(hint: Any) -> Iterator[type]:
    """Yield the classes in an annotation."""
    if isinstance(hint, type) and not typing.get_args(hint):
        yield hint
    for inner in parts(hint) if typing.get_origin(hint) is not typing.Literal else ():
        yield from classes(inner)


def parts(hint: Any) -> tuple[Any, ...]:
    """Return what an annotation is made of: its arguments, and the type that it is another name of."""
    alias = getattr(hint, "__value__", None)
    return (*typing.get_args(hint), *(() if alias is None else (alias,)))


def fields(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the names of the members of a type, in each spelling, with their types."""
    try:
        hints = typing.get_type_hints(kind, {**vars(typing), **vars(sys.modules[kind.__module__])}, include_extras=True)
    except (NameError, TypeError, AttributeError):
        hints = dict(getattr(kind, "__annotations__", {}))
    models = getattr(kind, "model_fields", {})
    is_body = bool(models) or hasattr(kind, "__total__") or dataclasses.is_dataclass(kind)
    for name, hint in hints.items() if is_body else ():
        if name.startswith(("_", "model_config")):
            continue
        yield name, hint
        aliases = [getattr(models.get(name), "alias", None)]
        aliases += [getattr(extra, "alias", None) for extra in metadata(hint)]
        yield from ((alias, hint) for alias in aliases if isinstance(alias, str))


def metadata(hint: Any) -> Iterator[object]:
    """Yield what an annotation says beside the type."""
    if hasattr(hint, "__metadata__"):
        yield from hint.__metadata__
    for inner in typing.get_args(hint):
        if hasattr(inner, "__metadata__") or typing.get_origin(inner) is not None:
            yield from metadata(inner)


def words(hint: Any, depth: int = 0) -> set[str]:
    """Return the words that a type lists; none if it also takes any text."""
    arguments = parts(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return {word for word in arguments if isinstance(word, str)}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {member.value for member in hint if isinstance(member.value, str)}
    if depth > 8 or origin is dict:
        return set()
    if typing.Annotated in (origin, getattr(hint, "__origin__", None)) or hasattr(hint, "__metadata__"):
        return words(arguments[0], depth + 1)
    if str in arguments and origin is not list:
        return set()
    return set().union(*(words(inner, depth + 1) for inner in arguments))


def of_botocore() -> Iterator[tuple[str, set[str]]]:
    """Yield the members of the shapes of a service, with their words."""
    from botocore.loaders import Loader

    shapes = Loader().load_service_model(BOTOCORE, "service-2")["shapes"]

    def listed(shape: dict[str, Any]) -> set[str]:
        return set(shape.get("enum", ())) or (listed(shapes[shape["member"]["shape"]]) if "member" in shape else set())

    for shape in shapes.values():
        for name, member in shape.get("members", {}).items():
            yield name, listed(shapes[member["shape"]])


def read_by_adapters() -> Iterator[str]:
    """Yield the names among the string constants of the adapters."""
    for folder in ADAPTERS:
        for path in sorted((SRC / "callspan/providers" / folder).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and KEY.fullmatch(node.value):
                    yield node.value


def table() -> tuple[set[str], dict[str, set[str]]]:
    """Return all keys, and the words by the key under which they stand."""
    keys = {*JSON_SCHEMA, *OWN, *read_by_adapters()}
    values: defaultdict[str, set[str]] = defaultdict(set)
    for place in SOURCES.values():
        for kind in reachable(roots(place)):
            for name, hint in fields(kind):
                keys.add(name)
                values[name] |= words(hint)
    for name, listed in of_botocore():
        keys.add(name)
        values[name] |= listed
    for row in APIS.values():
        keys |= {*row.said, *row.instructions, *row.repeats, *(field.outer for field in row.asked)}
        values["role"] |= {row.role_of_model, row.role_of_model.upper(), *ROLES}
    values["type"] |= {*TYPES_OF_JSON}
    kept = {name: {word for word in listed if WORD.fullmatch(word)} for name, listed in values.items()}
    return keys, {name: listed for name, listed in kept.items() if listed and name not in CHOSEN}


def page(keys: set[str], values: dict[str, set[str]]) -> str:
    """Return the file: a line for each list of words and the members that have it, in alphabetical order."""
    packages = ", ".join(f"{name} {version(name)}" for name in (*SOURCES, "botocore"))
    by_words: defaultdict[frozenset[str], list[str]] = defaultdict(list)
    for name, listed in values.items():
        by_words[frozenset(listed)].append(name)
    lines = textwrap.wrap(" ".join(sorted(keys)), 112, break_long_words=False, break_on_hyphens=False)
    rows = sorted([" ".join(sorted(names)), " ".join(sorted(listed))] for listed, names in by_words.items())
    tables = {"sources": [f"{packages}; the rows and adapters of callspan"], "keys": lines, "values": rows}
    listed_rows = {name: ",\n".join(f"  {json.dumps(row)}" for row in table) for name, table in tables.items()}
    return "{\n" + ",\n".join(f' "{name}": [\n{table}\n ]' for name, table in listed_rows.items()) + "\n}\n"


def main() -> None:
    """Write the file, and print what it has."""
    warnings.simplefilter("ignore")
    keys, values = table()
    TARGET.write_text(page(keys, values))
    print(json.dumps({"keys": len(keys), "members": len(values), "values": sum(map(len, values.values()))}))


if __name__ == "__main__":
    main()
