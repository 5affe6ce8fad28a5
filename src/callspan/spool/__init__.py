"""Spool: records wait on disk, one checksummed line each, until every store has them.

The life of a record, and the functions it passes through:

1. `Recorder.write` encodes a finished record (`delivery`);
2. `Spool.append` writes it as one line of this process's segment, where it survives `kill -9`;
3. `Shipper`, a thread for each store, wakes up and waits half a second for more records;
4. `Delivery.deliver` reads a batch of lines after the store's cursor;
5. the store's sink decodes and prices the records, and writes them as rows in one transaction;
6. `Segment.move` moves the cursor past the batch; after a crash before that it is delivered again, with no effect;
7. `Spool.remove_if_delivered` deletes a segment that every store has;
8. the next process (`Spool.adopt`) or a reading command (`Leftovers`) delivers the records of an ended process;
9. a reader's query finds the row.
"""
