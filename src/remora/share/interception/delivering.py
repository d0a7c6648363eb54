"""Bring an exception to the program from where torch would swallow it.

The compiled hook asks at the gate from within torch's callbacks, and what these throw is dropped.
So the exception itself is raised in the program as the interpreter's own way of interrupting it
allows: at the next instruction of the thread whose operator it was. A thread of autograd has no
program; then it is the main thread.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable


class Delivery:
    """Exceptions on their way."""

    def __init__(self, reached: Callable[[], object]) -> None:
        """``reached`` is called in the thread to which one has come that was its own."""
        self._reached = reached
        self._elsewhere: set[int] = set()

    def hand_over(self, error: BaseException) -> type[BaseException] | None:
        """What is to be raised in this thread, once nothing of ours is left in it.

        None where it has no program: then it is raised in the main thread.
        """
        if _has_program():
            return _carrier(error, self._reached)
        self._elsewhere.add(threading.get_ident())
        raising = ctypes.pythonapi.PyThreadState_SetAsyncExc
        raising.argtypes = (ctypes.c_ulong, ctypes.py_object)
        raising(threading.main_thread().ident, _carrier(error, self._elsewhere.clear))
        return None

    def is_under_way(self) -> bool:
        """Whether one of this thread's is on its way to another one."""
        return bool(self._elsewhere) and threading.get_ident() in self._elsewhere


def _has_program() -> bool:
    """Whether Python called what called :meth:`Delivery.hand_over`."""
    return sys._getframe(1).f_back is not None


def _carrier(error: BaseException, reached: Callable[[], object]) -> type[BaseException]:
    """A class that gives ``error`` when it is called: the interpreter raises classes only."""

    def arrive(_: type) -> BaseException:
        reached()
        return error

    return type("Carrier", (BaseException,), {"__new__": arrive})
