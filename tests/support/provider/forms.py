"""Forms: the fields of multipart requests."""

from __future__ import annotations

from email.parser import BytesHeaderParser
from email.policy import HTTP

_ARRAY = "[]"


def form_fields(content_type: str, content: bytes) -> dict[str, object]:
    """Return the fields of a form by name; files as name, type and size."""
    boundary = b"--" + content_type.partition("boundary=")[2].strip('"').encode()
    fields: dict[str, object] = {}
    for part in content.split(boundary)[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = BytesHeaderParser(policy=HTTP).parsebytes(head + b"\r\n\r\n")
        disposition = headers["content-disposition"]
        if disposition is None:
            continue
        data = data.removesuffix(b"\r\n")
        name, filename = disposition.params.get("name", ""), disposition.params.get("filename")
        value: object = data.decode("utf-8", "replace")
        if filename is not None:
            value = {"filename": filename, "type": headers.get_content_type(), "bytes": len(data)}
        known = fields.setdefault(name.removesuffix(_ARRAY), []) if name.endswith(_ARRAY) else None
        if isinstance(known, list):
            known.append(value)
        else:
            fields[name] = value
    return fields
