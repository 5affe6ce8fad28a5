"""Spool: records wait in checked lines until every store has them.

The life of a record, and the functions that it passes:

1. `Recorder.write` encodes a finished record (`delivery`);
2. `Spool.append` writes it as one line of this process's segment: from here on it survives `kill -9`;
3. `Shipper` wakes, a thread for each store, and waits half a second for more;
4. `Delivery.deliver` reads a batch of lines behind the store's cursor;
5. the store's sink decodes and prices the records, and writes them as rows in one transaction;
6. `Segment.move` moves the cursor behind the batch; a crash before that delivers it again, which changes nothing;
7. `Spool.remove_if_delivered` deletes a segment that every store has;
8. records of an ended process are delivered by the next one (`Spool.adopt`), or by a reading command (`leftover`);
9. a reader's query finds the row.
"""
