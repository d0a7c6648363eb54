"""The compiled hook: a callback of torch's own that looks at the gate's words itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import ClassVar

from remora.core.errors import Unavailable
from remora.core.saying import say
from remora.share.interception.building import ELSE, Build
from remora.share.interception.contract import Gate
from remora.share.interception.delivering import Delivery
from remora.share.interception.standing import Standing, Words


class Compiled(Standing):
    """Sees every operator that the dispatcher calls, on every thread.

    Operators are those that the program calls, and what composite operators call in turn; what an
    operator's kernel calls is a part of it. An exception of ``passing`` comes to the program at its
    next instruction in the same thread, behind the operator; until then nothing waits there. One
    from a thread of autograd comes to the main thread.

    Args:
        build: how it is built, if it is not there yet.
    """

    name: ClassVar[str] = "compiled"
    title: ClassVar[str] = "a callback of torch's, compiled here"

    def __init__(self, build: Build | None = None, report: Callable[[str], object] = say) -> None:
        super().__init__(report)
        self._build = build or Build(report=report)
        self._library: ctypes.PyDLL | None = None
        self._words: Words | None = None
        self._operators = 0

    def load(self) -> ctypes.PyDLL:
        """Build it if need be, and load it: :meth:`begin` takes no time then.

        Raises:
            Unavailable: it cannot be built or loaded here.
        """
        if self._library is None:
            self._library = _load(self._build.build())
        return self._library

    @property
    def operators(self) -> int:
        if self._words is None or self._library is None:
            return self._operators
        return int(self._library.remora_hook_operators())

    def _begin(self, words: Words, gate: Gate) -> None:
        library = self.load()
        delivery = _delivery(library)
        asking = self._asking(gate, delivery.is_under_way)
        self._words = words  # the memory stays for as long as it is looked at
        library.remora_hook_begin(
            words.ctypes.data, len(words), gate.every, asking, delivery.hand_over
        )

    def _end(self) -> None:
        library = self.load()
        library.remora_hook_end()
        self._operators = int(library.remora_hook_operators())
        self._words = None

    def _pass(self) -> None:
        if self._library is not None:
            self._library.remora_hook_pass()

    def _forget(self) -> None:
        self._operators, self._words = self.operators, None


@cache
def _load(path: Path) -> ctypes.PyDLL:
    import torch  # noqa: F401  # what the library is linked to is loaded then

    try:
        library = ctypes.PyDLL(str(path))
    except OSError as error:
        raise Unavailable(
            f"the compiled hook cannot be loaded ({error}); remove {path} to build it anew, {ELSE}"
        ) from error
    library.remora_hook_begin.argtypes = (
        *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64, ctypes.py_object, ctypes.py_object),
    )
    library.remora_hook_operators.restype = ctypes.c_uint64
    for each in ("begin", "end", "pass", "reached"):
        getattr(library, f"remora_hook_{each}").restype = None
    return library


@cache
def _delivery(library: ctypes.PyDLL) -> Delivery:
    return Delivery(library.remora_hook_reached)
