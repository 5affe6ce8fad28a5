"""Screen text: safe, small values not rounded to zero, and a dash for unknown values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callspan import formatting
from callspan.cli import safe_text, screen
from callspan.cli.screen import Screen


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain", "plain"),
        ("two\nlines", "two lines"),
        ("tab\there", "tab here"),
        ("dos\r\nline", "dos line"),
        ("\x1b[31mred", "\ufffd[31mred"),
        ("\x1b]0;title\x07", "\ufffd]0;title\ufffd"),
        ("null\x00", "null\ufffd"),
        ("del\x7f", "del\ufffd"),
        ("c1\x9b2J", "c1\ufffd2J"),
        ("left\u202eright", "left\ufffdright"),
        ("zero\u200bwidth", "zero\ufffdwidth"),
        ("line\u2028separator", "line\ufffdseparator"),
        ("isolate\u2066d", "isolate\ufffdd"),
        ("bom\ufeff", "bom\ufffd"),
        ("half\ud83d", "half\ufffd"),
        ("annotation\ufff9", "annotation\ufffd"),
        ("émigré 漢字 🙂", "émigré 漢字 🙂"),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
    ],
)
def test_control_characters_of_others_do_not_reach_the_terminal(text: str, shown: str) -> None:
    assert safe_text.clean(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines", "two\nlines"),
        ("a\n\nb\n", "a\n\nb\n"),
        ("tab\there", "tab here"),
        ("dos\r\nline", "dos\nline"),
        ("over\rwrite", "overwrite"),
        ("bell\x07\nnext", "bell\ufffd\nnext"),
        ("\u202eevil\n", "\ufffdevil\n"),
        ("half\udc00\n", "half\ufffd\n"),
    ],
)
def test_in_paragraphs_only_line_ends_stay(text: str, shown: str) -> None:
    assert safe_text.clean_lines(text) == shown


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, *range(0x80, 0xA0), 0x2028, 0x202E, 0x2066])
def test_no_control_character_is_raw_in_json_and_each_comes_back(code: int) -> None:
    text = screen.json_text({"said": f"a{chr(code)}b"})
    assert chr(code) not in text
    assert json.loads(text) == {"said": f"a{chr(code)}b"}


def test_json_is_one_line_and_keeps_other_scripts() -> None:
    assert screen.json_text({"a": ["é", None, 1.5, True]}) == '{"a":["é",null,1.5,true]}'


@pytest.mark.parametrize(
    ("value", "shown", "style"),
    [
        (None, "\N{EN DASH}", ""),
        (0, "+0", ""),
        (1, "+1", "green"),
        (0.25, "+0.25", "green"),
        (-0.5, "-0.5", "red"),
        (1 / 3, "+0.3333", "green"),
        (-123456.0, "-1.235e+05", "red"),
    ],
)
def test_rewards_have_a_sign_and_a_colour(value: float | None, shown: str, style: str) -> None:
    assert formatting.reward(value) == shown
    assert screen.reward_style(value) == style


def test_parts_of_a_line_are_cleaned_and_keep_their_styles() -> None:
    text = screen.styled("plain\n", ("red\x1b", "red"), ("", "bold"))
    assert text.plain == "plain red\ufffd"
    assert [(span.start, span.end, span.style) for span in text.spans] == [(6, 10, "red")]


def test_where_no_terminal_is_lines_end_at_a_hundred_columns(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().line("x" * 150)
    out = capsys.readouterr().out
    assert out == "x" * 99 + "…\n"


def test_a_paragraph_is_wrapped_and_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().paragraph("word " * 40 + "\x1b[2J")
    out = capsys.readouterr().out
    assert out.count("word") == 40
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("expected", ["[red]not red[/red]", ":smile:", "http://example.test 12345", "[link=x]y[/link]"])
def test_nothing_recorded_is_read_as_markup(expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown: Any = Screen()
    shown.print(expected)
    shown.line(expected)
    assert capsys.readouterr().out == f"{expected}\n{expected}\n"
