"""The checklist of docs/features.md, where no other test shows a row's idea."""
