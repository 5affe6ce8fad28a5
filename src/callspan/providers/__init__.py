"""Providers: what the wire JSON of each endpoint means. Pure: no SDK, no telemetry, no I/O."""
