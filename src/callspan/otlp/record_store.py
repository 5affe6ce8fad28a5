"""Records through a Collector: the store `otlp+http://host:4318?records`, which sends each as an OTLP log record."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from callspan.stores.protocol import ServerStore, split_url

if TYPE_CHECKING:
    from callspan.otlp.record_sink import RecordSink


class OtlpRecords(ServerStore):
    """An OTLP receiver of log records, such as a Collector. It may get a record twice, with the same id and version.

    Headers, TLS files, compression and time limit come from OTEL_EXPORTER_OTLP_[LOGS_]*.
    """

    example = "otlp+http://localhost:4318?records"
    option_names = ("records",)
    extra = "otlp"

    def __init__(self, url: str) -> None:
        """Raises SettingError if the URL has no `?records`, or another scheme than `otlp+http` and `otlp+https`."""
        super().__init__(url)
        scheme = self.url.partition("://")[0]
        if scheme not in {"otlp+http", "otlp+https"} or not split_url(self.url).hostname:
            raise self.error(f"is no OTLP receiver; write for example {self.example}")
        if self.options.keys() != {"records"}:
            raise self.error("does not say ?records; spans are sent by `instrument(otlp=...)` and by `callspan send`")

    @property
    def address(self) -> str:
        """The URL of the receiver's log records."""
        return f"{self.url.removeprefix('otlp+').partition('?')[0].rstrip('/')}/v1/logs"

    def sink(self) -> RecordSink:
        """Return the sink, unopened. Raises SettingError if the exporter is not installed."""
        return cast("RecordSink", self.load("callspan.otlp.record_sink:RecordSink")(self.address))
