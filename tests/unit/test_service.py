"""Service: the name of a process, by its command line and its environment."""

from __future__ import annotations

import pytest

from callspan.service import main_name, service_of_command


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["app.py"], "app"),
        (["./deep/app.py", "--its-own", "x.py"], "app"),
        (["gunicorn", "app:application"], "gunicorn"),
        (["/usr/bin/gunicorn"], "gunicorn"),
        (["pkg/__main__.py"], "pkg"),
        (["my.service"], "my.service"),
        (["python", "app.py"], "app"),
        (["/usr/bin/python3.11", "-X", "dev", "-u", "app.py"], "app"),
        (["python3", "-m", "pkg.mod", "x"], "pkg.mod"),
        (["python", "-c", "print()"], None),
        (["python"], None),
    ],
)
def test_the_service_name_from_the_command_line(command: list[str], name: str | None) -> None:
    assert service_of_command(command) == name


@pytest.mark.parametrize(
    ("environment", "arguments", "name"),
    [
        ({"CALLSPAN_RUN_SERVICE": "shop"}, ["/x/app.py"], "shop"),
        ({}, ["/x/app.py"], "app"),
        ({}, ["-c"], None),
        ({}, [""], None),
        ({}, [], None),
    ],
)
def test_the_service_name_inside_a_process(
    environment: dict[str, str], arguments: list[str], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert main_name(arguments) == name
