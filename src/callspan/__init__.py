"""callspan: OpenTelemetry instrumentation for the openai and anthropic SDKs."""
