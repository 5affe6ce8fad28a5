"""ClickHouse: over HTTP, or the embedded engine."""
