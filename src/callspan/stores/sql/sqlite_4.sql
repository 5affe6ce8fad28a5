-- The calls of a batch.
CREATE INDEX calls_batch ON call_rows (batch_id) WHERE batch_id IS NOT NULL;
