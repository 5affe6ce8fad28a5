"""Metadata: the fields of `callspan.metadata` that have a name of their own; any other is free, under `extra`."""

from __future__ import annotations

from typing import Final

METADATA_FIELDS: Final = frozenset(
    {
        "application",
        "environment",
        "organization_id",
        "project_id",
        "user_id",
        "workflow_id",
        "workflow_name",
        "run_id",
        "step",
        "step_index",
        "prompt_id",
        "prompt_version",
        "purpose",
        "internal_organization_id",
        "internal_project_id",
        "internal_user_id",
    }
)
"""`internal_*` fields identify the platform's operator, the others its customers."""
