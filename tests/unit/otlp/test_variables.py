"""OTLP variables: which signals are sent, by which protocol; and the service name."""

from __future__ import annotations

import os

import pytest

from callspan.otlp.variables import (
    SIGNALS,
    default_endpoint,
    endpoint_of,
    otlp_is_named,
    protocol_of,
    switch_of,
    wanted_signals,
)
from callspan.service import main_name, service_name, service_of_command

HTTP, GRPC = "http/protobuf", "grpc"
BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def sent(otlp: str | bool, **environment: str) -> dict[str, tuple[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return {one: (protocol_of(one), endpoint_of(one) or default_endpoint(one)) for one in wanted_signals(otlp)}


def every(base: str) -> dict[str, tuple[str, str]]:
    return {signal: (HTTP, f"{base}/v1/{signal}") for signal in ("traces", "metrics", "logs")}


def test_a_given_url_gets_every_signal_regardless_of_endpoint_variables() -> None:
    assert set(sent("http://here", **{BASE: "http://there", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})) == {*SIGNALS}


def test_none_turns_a_signal_off_even_where_an_address_is_given() -> None:
    assert set(sent("http://a", OTEL_METRICS_EXPORTER="none", OTEL_LOGS_EXPORTER=" None ")) == {"traces"}
    assert not sent(True, **dict.fromkeys(map(switch_of, SIGNALS), "none"))


def test_without_any_endpoint_everything_goes_to_the_usual_port() -> None:
    assert sent(True) == every("http://localhost:4318")
    assert sent(True, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")["traces"] == (GRPC, "http://localhost:4317")


def test_a_signal_goes_only_where_an_endpoint_is_named_for_it() -> None:
    assert sent(True, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://t/x") == {"traces": (HTTP, "http://t/x")}
    assert sent(True, **{BASE: "http://a:1", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l/y"}) == {
        **every("http://a:1"),
        "logs": (HTTP, "http://l/y"),
    }


@pytest.mark.parametrize(
    ("exporter", "signals"),
    [
        ("otlp", {"traces", "metrics"}),
        ("console", {"traces"}),
        ("console, otlp", {"traces", "metrics"}),
        ("", {"traces"}),
        ("OTLP", {"traces", "metrics"}),
    ],
)
def test_an_exporter_variable_names_what_is_sent(exporter: str, signals: set[str]) -> None:
    environment = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t", "OTEL_METRICS_EXPORTER": exporter}
    assert set(sent(True, **environment)) == signals


def test_the_protocol_may_differ_by_signal() -> None:
    found = sent(
        True,
        **{BASE: "http://a:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        OTEL_EXPORTER_OTLP_METRICS_PROTOCOL="http/protobuf",
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://m:4318/v1/metrics",
        OTEL_LOGS_EXPORTER="otlp_proto_http",
    )
    assert found == {
        "traces": (GRPC, "http://a:4317"),
        "metrics": (HTTP, "http://m:4318/v1/metrics"),
        "logs": (HTTP, "http://a:4317/v1/logs"),
    }


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, False),
        ({BASE: " "}, False),
        ({BASE: "http://a"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://a"}, True),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True),
        ({"OTEL_METRICS_EXPORTER": "none"}, False),
    ],
)
def test_whether_the_environment_asks_for_otlp(
    environment: dict[str, str], named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert otlp_is_named() is named


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


def test_the_service_is_that_of_the_setting_else_of_the_resource_else_of_the_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert service_name(None) == main_name()
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=shop")
    assert (service_name(None), service_name("own")) == ("shop", "own")
