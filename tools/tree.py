"""Writes the tree of src/, each module with its first line, into the page on architecture; `--check` only compares."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/architecture.md"
BLOCK = re.compile(r"(?<=<!-- tree -->\n```\n).*?(?=```\n<!-- /tree -->)", re.DOTALL)


def main() -> int:
    """Write the page, or with `--check` return 1 if it is stale."""
    page = PAGE.read_text()
    fresh = BLOCK.sub(lambda _match: tree(ROOT / "src/callspan"), page)
    if "--check" in sys.argv:
        if fresh != page:
            print("docs/architecture.md shows another tree than src/: run tools/tree.py")
        return int(fresh != page)
    PAGE.write_text(fresh)
    return 0


def tree(folder: Path, indent: str = "") -> str:
    """Return the folder's modules, then its sub-packages, a line each."""
    inner = indent + "  "
    modules = [module for module in sorted(folder.glob("*.py")) if module.name != "__init__.py"]
    packages = sorted(path for path in folder.iterdir() if (path / "__init__.py").is_file())
    return "".join(
        [
            line(indent, folder.name + "/", folder / "__init__.py"),
            *(line(inner, module.name, module) for module in modules),
            *(tree(package, inner) for package in packages),
        ]
    )


def line(indent: str, name: str, module: Path) -> str:
    """Return one line: a name, and what it answers for."""
    return f"{indent}{name:<{28 - len(indent)}} {first_line(module)}\n"


def first_line(module: Path) -> str:
    """Return what the module says it answers for."""
    docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
    return docstring.splitlines()[0] if docstring else ""


if __name__ == "__main__":
    sys.exit(main())
