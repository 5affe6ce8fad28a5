"""Observation: one call as it happens, from its start to its record. No I/O, no telemetry API."""
