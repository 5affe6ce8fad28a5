"""The page that shows a store."""
