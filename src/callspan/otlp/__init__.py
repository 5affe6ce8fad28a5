"""OTLP: sends spans, metrics and log events to a receiver, for applications that have no providers of their own."""
