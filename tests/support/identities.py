"""Identities of processes: of this one, of one that is gone, of one that cannot be seen from here."""

from __future__ import annotations

from callspan.process_identity import own_identity, own_place

HERE = own_identity()
GONE = f"{own_place()}/{2**22 + 1}/5"
ELSEWHERE = "another boot/4026531836/1/5"
