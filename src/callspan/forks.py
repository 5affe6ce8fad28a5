"""Forks: a lock that another thread held at a fork stays held for ever in the child; here it is made anew."""

from __future__ import annotations

import os
import threading
import weakref

_owners: weakref.WeakKeyDictionary[object, tuple[str, ...]] = weakref.WeakKeyDictionary()


def renew_locks(owner: object, *names: str) -> None:
    """See to it that a child process has fresh locks in these attributes of `owner`.

    Call it once, from the owner's construction. Reentrant locks stay reentrant.
    """
    if not _owners and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_renew)
    _owners[owner] = names


def _renew() -> None:
    for owner, names in list(_owners.items()):
        for name in names:
            reentrant = isinstance(getattr(owner, name), type(threading.RLock()))
            setattr(owner, name, threading.RLock() if reentrant else threading.Lock())
