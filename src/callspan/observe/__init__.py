"""Observation: follows one call from its start to its record. No I/O, no telemetry API."""
