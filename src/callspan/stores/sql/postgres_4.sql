-- The calls of a batch.
CREATE INDEX calls_batch ON calls (batch_id) WHERE batch_id IS NOT NULL;
