"""Adapters: environments of other libraries that record their episodes by themselves."""
