"""What `instrument()` puts together: stores, parts, pipelines, endings."""
