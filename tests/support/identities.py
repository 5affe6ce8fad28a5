"""Identities of processes: of this one, of ones that are gone, of one that cannot be seen from here."""

from __future__ import annotations

from callspan.runtime.process_identity import UNKNOWN_AFTER_S, identity_of, own_identity, own_machine, own_namespace

__all__ = ["BEFORE_RESTART", "ELSEWHERE", "GONE", "HERE", "UNKNOWN_AFTER_S", "identity_of"]

HERE = own_identity()
GONE = f"{own_namespace()}/{2**22 + 1}/5"
BEFORE_RESTART = f"another boot/4026531836/1/5@{own_machine()}" if own_machine() else GONE
ELSEWHERE = "another boot/4026531836/1/5"
