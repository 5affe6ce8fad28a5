-- As in SQLite: what failed.
CREATE INDEX calls_failed ON calls (start_ns) WHERE outcome IN ('error', 'timeout');
