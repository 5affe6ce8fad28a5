"""OTLP variables: which signals are sent, by which protocol; and the service name."""

from __future__ import annotations

import os

import pytest

from callspan.otlp.variables import (
    SIGNALS,
    default_endpoint,
    endpoint_of,
    protocol_of,
    switch_of,
    wanted_signals,
)
from callspan.service import main_name, service_of_command

HTTP, GRPC = "http/protobuf", "grpc"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def sent(otlp: str | bool, **environment: str) -> dict[str, tuple[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return {one: (protocol_of(one), endpoint_of(one) or default_endpoint(one)) for one in wanted_signals(otlp)}


def test_none_turns_a_signal_off_even_where_an_address_is_given() -> None:
    assert set(sent("http://a", OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER=" None ")) == {"traces"}
    assert not sent(True, **dict.fromkeys(map(switch_of, SIGNALS), "none"))


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
