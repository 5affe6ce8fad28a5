"""Base URLs of clients: the recorded one is the one used, however it was set."""

from __future__ import annotations

import openai

from callspan.intercept.client_info import call_info


class _Options:
    json_data = None


class _Elsewhere(openai.OpenAI):
    """A client whose address is decided anew each time, beside the field the SDK keeps."""

    turn = 0

    @property  # type: ignore[override]
    def base_url(self) -> str:
        self.turn += 1
        return f"https://host-{self.turn}.example:8443/v1/"

    @base_url.setter
    def base_url(self, url: object) -> None:
        del url


def _address(client: object) -> tuple[str | None, int | None]:
    info = call_info(client, _Options(), stream=False)
    return info.server_address, info.server_port


def test_a_property_of_the_applications_own_is_read_each_time() -> None:
    client = _Elsewhere(api_key="sk-test")
    first, second = _address(client), _address(client)
    assert first[0] != second[0]
    assert {first[1], second[1]} == {8443}
    assert all(str(host).endswith(".example") for host, _ in (first, second))
