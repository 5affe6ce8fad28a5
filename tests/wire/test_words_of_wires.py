"""Only rows and adapters have the words of a wire: whoever works on the bodies of any API asks the row.

A string constant or a field there is no word that an API defines, but for callspan's own words, which are named here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.bodies import APIS, OTHER, WIRE_WORDS, wire_fields

import callspan

SOURCE = Path(callspan.__file__).parent
OWN: dict[str, str] = {
    # Fields of errors, names of secrets in any setting or header, pairs of a name and a value.
    "process/secrets.py": (
        "code error frames message metadata model name param provider request_id response stream tools type value"
        " anthropic args authorization credential env headers id key keys mcp session signature token"
    ),
    # Fields of a reference to media, the scheme of a URL.
    "process/media_references.py": "base64 content data dimensions type",
    # Fields of records, of references to media, and of the file with the words of wires.
    "process/masked_texts.py": (
        "bytes call_id data dimensions event_id event_type keys messages metadata operation provider seconds session_id"
        " trace values"
    ),
    "process/redaction.py": "conversation",
    # Fields of records, a level, roles, and what stands for a text that is no word.
    "record/content_level.py": (
        "annotation assistant attempts code content conversation_id data error error_type event full id metadata model"
        " object operation provider request_id response service_tier status stream"
        " role system_fingerprint tool_call_id type unknown user"
    ),
    "record/codec.py": "",
    # The choice of a chat completion, by which spans have every answer.
    "semconv/body_messages.py": (
        "assistant bytes callspan_omitted content finish_reason index message messages null role system user"
    ),
    # Roles, an outcome, kinds of speech.
    "stores/query/voice.py": "assistant cancelled response seconds session speaker transcript user",
    # Kinds of pieces, the plain message, columns of contents and their types.
    "stores/tables/bodies.py": (
        "bytes content data instructions json message messages null reasoning role str text tools value"
    ),
    # Sides of a body, roles, fields of a plain message, and of what a piece says.
    "stores/tables/texts.py": (
        "assistant content instructions message messages name reasoning role system text type user words"
    ),
}
"""The words that a module may have."""


def strings(value: object) -> Iterator[str]:
    """Yield the words in a row of APIs."""
    if isinstance(value, str | bytes):
        yield from words(value if isinstance(value, str) else value.decode())
    for item in value if isinstance(value, tuple | frozenset | dict) else ():
        yield from strings(item)


def constants(source: str) -> Iterator[str]:
    """Yield the strings of a module but for docstrings and texts of exceptions, and the fields of its classes."""
    nodes = [*ast.walk(ast.parse(source))]
    prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    prose |= {id(part) for node in nodes if isinstance(node, ast.Raise) for part in ast.walk(node)}
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            yield from (
                row.target.id
                for row in node.body
                if isinstance(row, ast.AnnAssign) and isinstance(row.target, ast.Name)
            )
        if isinstance(node, ast.Constant) and id(node) not in prose and isinstance(node.value, str | bytes):
            yield node.value if isinstance(node.value, str) else node.value.decode("latin-1")


def words(constant: str) -> set[str]:
    """Return the words of a list of words, and those in quotes, as in a part of a body."""
    listed = {word.strip("\"':,;=[]{}") for word in constant.split()}
    return {word for word in (*listed, *re.findall(r'"([^"\s]+)"', constant)) if word}


TABLES = {name: table for name, table in vars(wire_fields).items() if name.isupper()}
KINDS = {"vectors"}
"""Kinds of fields in a row, which are no words of an API."""
OF_WIRES = WIRE_WORDS.union(*map(strings, (*APIS.values(), OTHER, *TABLES.values()))) - KINDS


@pytest.mark.parametrize("module", OWN)
def test_a_module_for_all_apis_has_no_word_of_a_wire(module: str) -> None:
    used = {word for constant in constants((SOURCE / module).read_text()) for word in words(constant)} & OF_WIRES
    assert used == {*OWN[module].split()}


def test_every_form_of_a_list_is_read() -> None:
    source = """
"generationConfig in a docstring"
A = "generationConfig"
B = frozenset({"systemInstruction", b'"nlineData"'})
C = "toolConfig tool_config".split()
D = {"inputText": b'{"inputTextTokenCount":%d}'}
def f(*, key="chat_history"): raise ValueError("no functionCall")
class Body(Struct):
    inferenceConfig: Raw = Raw()
"""
    used = {word for constant in constants(source) for word in words(constant)} & OF_WIRES
    assert used == {
        "generationConfig", "systemInstruction", "nlineData", "toolConfig", "tool_config", "inputText",
        "inputTextTokenCount", "chat_history", "inferenceConfig",
    }  # fmt: skip


def test_no_word_stands_twice_in_a_table_for_all_apis() -> None:
    tree = ast.parse((SOURCE / "record/wire_fields.py").read_text())
    listed = {
        node.target.id: [name for constant in ast.walk(node.value) if isinstance(constant, ast.Constant)
                         for name in str(constant.value).split()]
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Call)
    }  # fmt: skip
    assert listed.keys() == {name for name, table in TABLES.items() if isinstance(table, frozenset)}
    for name, entries in listed.items():
        assert entries == sorted(TABLES[name]), name
