"""Forms: converts the fields and files of a request form to the JSON of a record.

Only bytes in memory are read. Open files and other streams are left to the HTTP library; the record has their names.
"""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Iterator
from pathlib import PurePath
from typing import Final

from callspan.record.media_reference import MEDIA_KEY, media_reference

_ARRAY: Final = "[]"


def form_fields(fields: object, files: object) -> dict[str, object]:
    """Return the fields of a form and references to its files by name; a list for a list of files."""
    form: dict[str, object] = dict(fields) if isinstance(fields, dict) else {}
    for name, file in _named_files(files):
        reference = _reference(file)
        if not name.endswith(_ARRAY):
            form[name] = reference
            continue
        references = form.setdefault(name.removesuffix(_ARRAY), [])
        if isinstance(references, list):
            references.append(reference)
    return form


def _named_files(files: object) -> Iterator[tuple[str, object]]:
    pairs = files.items() if isinstance(files, dict) else files if isinstance(files, list | tuple) else ()
    for pair in pairs:
        yield str(pair[0]), pair[1]


def _reference(file: object) -> dict[str, object]:
    """Return a reference to a file as httpx takes it: its content, or a tuple of name, content, type, headers."""
    name, content, mime, *_ = (*file, None, None) if isinstance(file, tuple) else (None, file, None)
    if name is None:
        name = getattr(content, "name", None)
    name = PurePath(name).name if isinstance(name, str) else None
    content_type = mime if isinstance(mime, str) else None
    guessed_type = None if name is None else mimetypes.guess_type(name)[0]
    data = _in_memory(content)
    if data is None:
        kind = content_type or guessed_type
        reference: dict[str, object] = {} if kind is None else {"mime": kind}
    else:
        reference_fields = media_reference(data, content_type, guessed_type)[MEDIA_KEY]
        reference = reference_fields if isinstance(reference_fields, dict) else {}
    return {MEDIA_KEY: reference if name is None else {"name": name, **reference}}


def _in_memory(content: object) -> bytes | None:
    if isinstance(content, bytes | bytearray):
        return bytes(content)
    # Reading a subclass may have side effects.
    return content.getvalue() if type(content) is io.BytesIO else None
