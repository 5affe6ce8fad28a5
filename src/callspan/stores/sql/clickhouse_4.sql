-- The calls of a batch.
ALTER TABLE calls ADD INDEX IF NOT EXISTS by_batch batch_id TYPE bloom_filter(0.001) GRANULARITY 1;
ALTER TABLE calls MATERIALIZE INDEX by_batch;
