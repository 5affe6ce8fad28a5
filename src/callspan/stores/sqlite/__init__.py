"""SQLite: one file, see `callspan.stores.columns` for its tables."""
