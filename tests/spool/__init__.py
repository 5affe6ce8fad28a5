"""The spool: real files, real processes, real kills."""
