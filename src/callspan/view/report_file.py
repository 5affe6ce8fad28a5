"""Report file: the page's HTML, styles, modules and data in one file, with a policy that allows no more."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Final

from callspan.formatting import json_block

_IMPORT: Final = re.compile(r'^import (\{.*\}) from "\./(\w+)\.js";$', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export (?=(?:const|class) (\w+))", re.MULTILINE)
_DEFAULT: Final = re.compile(r"^export default ", re.MULTILINE)
_LINKED: Final = re.compile(r'^<(?:link rel="stylesheet"|script|a href="#/compare").*\n', re.MULTILINE)
_FIRST: Final = "report"
"""The module that answers where otherwise the server does."""


def html(data: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the file; `data` are the pieces of a JSON text that the script reads."""
    style, script = _styles(), _script()
    head, _, body = _LINKED.sub("", _text("index.html")).partition("</head>")
    start, _, end = body.partition("</body>")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    first, rest = head.split("\n", 4)[:4], head.split("\n", 4)[4]
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    yield "\n".join([*first, meta, rest]).encode()
    yield f"<style>{style}</style>\n</head>{start}".encode()
    yield b'<script type="application/json" id="data">'
    yield from map(json_block, data)
    yield f'</script>\n<script type="module">{script}</script>\n</body>{end}'.encode()


def _styles() -> str:
    names = re.findall(r'href="/static/(\w+\.css)"', _text("index.html"))
    return "\n".join(map(_text, names))


def _script() -> str:
    """Return the modules as one: each is a function that returns its exports, behind those that it needs."""
    static = resources.files(__package__).joinpath("static")
    names = sorted(one.name.removesuffix(".js") for one in static.iterdir() if one.name.endswith(".js"))
    sources = {name: _text(f"{name}.js") for name in (_FIRST, *names)}
    ordered: list[str] = []

    def place(name: str) -> None:
        for _, needed in _IMPORT.findall(sources[name]):
            if needed not in ordered:
                place(needed)
        if name not in ordered:
            ordered.append(name)

    for name in sources:
        place(name)
    return "const modules = Object.create(null);\n" + "\n".join(_module(name, sources[name]) for name in ordered)


def _module(name: str, source: str) -> str:
    exported = _EXPORT.findall(source)
    text = _EXPORT.sub("", _IMPORT.sub(r"const \1 = modules.\2;", source))
    if _DEFAULT.search(text):
        text = _DEFAULT.sub("const made = ", text)
        exported.append("default: made")
    text = text.replace("import(`./${place.page}.js`)", "modules[place.page]")
    return f"modules.{name} = (() => {{\n{text}\nreturn {{ {', '.join(exported)} }};\n}})();"


def _text(name: str) -> str:
    return resources.files(__package__).joinpath("static").joinpath(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
