"""The spool: the durable hand-over from the caller's thread to the stores."""
