"""A receiver of log records that appends each request to a file as a line of JSON, as a Collector does.

Run as a script: file_receiver.py PORT FILE. It answers once a request is in the file, and may be killed.
"""

from __future__ import annotations

import gzip
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if "json" not in self.headers["Content-Type"]:
            body = MessageToJson(ExportLogsServiceRequest.FromString(body), indent=None).encode()
        os.write(FILE, body + b"\n")
        answer = b"{}" if "json" in self.headers["Content-Type"] else b""
        self.send_response(200)
        self.send_header("Content-Type", self.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: object) -> None:
        """Print nothing."""


if __name__ == "__main__":
    FILE = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    server.serve_forever()
