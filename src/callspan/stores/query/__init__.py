"""Query: the reader of a store, its filters, and the sums and histories that it returns."""
