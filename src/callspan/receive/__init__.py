"""Receive: OTLP requests of agents and SDKs outside of this process, as records."""
