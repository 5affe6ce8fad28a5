"""SDKs with a hook of their own: none of them has the base client of the generated ones. `table` lists the hooks."""
