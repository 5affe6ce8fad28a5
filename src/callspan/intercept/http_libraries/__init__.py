"""HTTP libraries, through which the calls of SDKs are sent and their answers read. `table` lists the hooks."""
