"""JSON Schema: the words by which a part of a body is known as a schema."""

from __future__ import annotations

from typing import Final

BY_NAME: Final = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
"""Members that hold schemas by the names of what they describe."""
STRUCTURE: Final = frozenset({"type", "properties", "$ref", "anyOf", "oneOf", "allOf"})
"""Members, one of which nearly every schema has."""
KEYWORDS: Final = STRUCTURE | {"enum", "const", "title", "description"}
"""Members, one of which every schema with an effect has."""
