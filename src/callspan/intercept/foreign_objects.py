"""Foreign objects: what callspan knows of objects of the application, and what it puts inside them.

No function is set on an object. One that refers to its object is a reference cycle, and one that does not outlives the
object, as `read = body.read` shows. So functions are replaced in classes alone, where Python binds them, and find what
callspan knows by the identity of the object.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from callspan.runtime.fail_open import fail_open

_COLLECTED: Final = fail_open("note that an object was collected")
_T = TypeVar("_T")
_State = tuple[weakref.ref[Any], _T]


class StateByObject(Generic[_T]):
    """What callspan knows of objects, each as long as it exists. Safe from any thread, and in a finalizer."""

    __slots__ = ("states",)

    def __init__(self) -> None:
        self.states: Final[dict[int, _State[_T]]] = {}
        """The states by `id()` of their object; read outside of this class only to see whether there are any."""

    def get(self, owner: object) -> _T | None:
        """Return the state of an object; None if it has none."""
        entry = self.states.get(id(owner))
        return None if entry is None else entry[1]

    def put(self, owner: object, state: _T, collected: Callable[[], object] | None = None) -> None:
        """Keep the state of an object until that is collected, which is reported to `collected`.

        Neither may refer to the object. Raises TypeError if it cannot be weakly referenced.
        """
        # Both are bound for interpreter shutdown, when module globals are cleared.
        states, identity, step = self.states, id(owner), _COLLECTED

        def forget(reference: object) -> None:
            entry = states.get(identity)
            if entry is not None and entry[0] is reference:
                del states[identity]
                if collected is not None:
                    with step:
                        collected()

        states[identity] = (weakref.ref(owner, forget), state)

    def pop(self, owner: object) -> None:
        """Forget an object; its collection is not reported."""
        self.states.pop(id(owner), None)


class Proxy:
    """Stands for an iterator or stream inside an object of the application, and says to be that."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # an async generator is closed only by those who know it as one
        return type(self._inner)

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # not set: the constructor was interrupted
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __repr__(self) -> str:
        return repr(self._inner)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._inner.__reduce_ex__(protocol)


def named_like(generator: _T, original: object) -> _T:
    """Give a generator the name of the one that it stands for, if that is one; return it."""
    for name in ("__name__", "__qualname__"):
        if (value := getattr(original, name, None)) is not None:
            setattr(generator, name, value)
    return generator
