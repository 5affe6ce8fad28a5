"""Parameter types: values of options that mean nothing, or are out of all bounds, are wrong usage and no traceback."""

from __future__ import annotations

import math
import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from callspan.cli.safe_text import clean
from callspan.safe_urls import is_http_url, safe_url

if TYPE_CHECKING:
    IntType: TypeAlias = click.ParamType[int]
    FloatType: TypeAlias = click.ParamType[float]
    TextType: TypeAlias = click.ParamType[str]
    DecimalType: TypeAlias = click.ParamType[Decimal]
    PairType: TypeAlias = click.ParamType[tuple[str, str]]
else:
    # Only the newest click lets it be subscripted.
    IntType = FloatType = TextType = DecimalType = PairType = click.ParamType

_MOST: Final = 2**53
_LONGEST_S: Final = 365 * 86_400.0


class Rows(click.IntRange):
    """A number of rows; one beyond all stores is the same as all of them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - as click has it
        """Return the number."""
        return min(int(super().convert(value, param, ctx)), _MOST)


class Seconds(click.FloatRange):
    """A time to wait; more than a year is a year."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Return seconds."""
        seconds = float(super().convert(value, param, ctx))
        return min(seconds, _LONGEST_S) if not math.isnan(seconds) else self.fail(f"{value!r} is no time", param, ctx)


class Amount(FloatType):
    """A number that can be compared with others."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """Return the number."""
        number = float(click.FLOAT.convert(value, param, ctx))
        return number if not math.isnan(number) else self.fail(f"{value!r} is no number", param, ctx)


class File(click.Path):
    """The path of a file; `-` is stdout where `allow_dash` is set."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path."""
        if not str(value):
            self.fail("an empty name is no file", param, ctx)
        try:
            return Path(os.fsdecode(super().convert(value, param, ctx)))
        except (ValueError, OSError) as error:
            self.fail(f"{clean(str(value))}: {error}", param, ctx)


class HttpUrl(TextType):
    """The address of a server that speaks HTTP."""

    name = "url"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the address."""
        text = str(value)
        return text if is_http_url(text) else self.fail(f"{safe_url(text)!r}: write http://host:port", param, ctx)
