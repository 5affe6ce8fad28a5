"""Unit tests of what is sent by OTLP."""
