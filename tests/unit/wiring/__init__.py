"""Unit tests of the wiring: stores, providers, pipelines, process ends."""
