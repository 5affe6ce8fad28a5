"""Providers: read the wire JSON of each endpoint. Pure: no SDK, no telemetry, no I/O."""
