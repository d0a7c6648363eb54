"""The twin in Python: a mode of torch's dispatcher that looks at the gate before each operator."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from remora.core.saying import say
from remora.share.interception.contract import Gate
from remora.share.interception.standing import Standing, Words
from remora.share.interception.wrapping import Wrapped
from remora.share.slicing.call import is_view


class Dispatched(Standing):
    """Sees the operators of the thread that begins it, of autograd's threads when these work for
    it, and of threads that are started by :mod:`threading` afterwards.

    Operators are those that reach a kernel: composite ones have been taken apart by then, and what
    a kernel calls is a part of it. Views pass freely, there is nothing to compute.

    Not seen: threads that were there before, and threads that are started past :mod:`threading`.
    If the program is within a mode of its own that it entered after the begin, or if another
    thread ends it, the mode stays in its thread and lets all pass, which still costs, until that
    thread ends the hook once more or begins with it again.
    """

    name: ClassVar[str] = "python"
    title: ClassVar[str] = "a mode of torch's dispatcher"

    def __init__(self, report: Callable[[str], object] = say) -> None:
        super().__init__(report)
        self._gatehouse = _Gatehouse.open()
        self._mode: _Mode | None = None
        self._starting: Wrapped | None = None

    @property
    def operators(self) -> int:
        return self._gatehouse.operators

    def end(self) -> None:
        super().end()
        self._take_off()

    def _begin(self, words: Words, gate: Gate) -> None:
        self._take_off()
        self._gatehouse = _Gatehouse(words.data, self._asking(gate), gate.every)
        self._mode = _Mode(self._gatehouse)
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        self._starting = Wrapped(threading.Thread, "start", self._start)

    def _end(self) -> None:
        if self._starting is not None:
            self._starting.undo()
        self._forget()

    def _pass(self) -> None:
        self._gatehouse.passes()

    def _forget(self) -> None:
        self._gatehouse.close()
        self._take_off()

    def _take_off(self) -> None:
        """Leave the mode, if this is the thread that is in it and it is in no other since."""
        if self._mode is not None and _innermost() is self._mode:
            self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
            self._mode = None

    def _start(self, start: Callable[..., Any], thread: Any, *args: Any, **kwargs: Any) -> Any:
        """Have ``thread`` run within a mode of its own."""
        run, gatehouse = thread.run, self._gatehouse

        @functools.wraps(run)
        def within() -> None:
            del thread.run
            with _Mode(gatehouse):
                run()

        thread.run = within
        return start(thread, *args, **kwargs)


class _Gatehouse:
    """One begin's gate, looked at from every thread."""

    def __init__(self, words: memoryview, ask: Callable[[], object], every: int) -> None:
        self._words: memoryview | None = words
        self._ask, self._every = ask, every
        self._tickets = itertools.count(1)
        self._counts: dict[int, int] = {}
        self._asking = threading.local()

    @classmethod
    def open(cls) -> _Gatehouse:
        """One that is always open."""
        gatehouse = cls(memoryview(b""), lambda: None, 0)
        gatehouse.close()
        return gatehouse

    @property
    def operators(self) -> int:
        return sum(list(self._counts.values()))

    def close(self) -> None:
        """All pass from now on, and nobody looks any more."""
        self._words = None

    def passes(self) -> None:
        """Wait until an operator may run."""
        words = self._words
        if words is None or getattr(self._asking, "now", False):
            return
        thread = threading.get_ident()
        self._counts[thread] = self._counts.get(thread, 0) + 1
        is_due = bool(self._every) and next(self._tickets) % self._every == 0
        if is_due or not _is_open(words):
            self._asking.now = True
            try:
                self._ask()
            finally:
                self._asking.now = False


def _is_open(words: memoryview) -> bool:
    return all(words[at] == words[at + 1] for at in range(0, len(words), 2))


def _keep_compilers_out(function: Any) -> bool:
    """Have torch.compile leave ``function`` and all that it calls alone; whether it can be told.

    Torch would do so itself, but imports its compiler for that, which takes seconds.
    """
    found = torch._C._dynamo.eval_frame
    try:
        skip = found._FrameAction.SKIP
        strategy = found._FrameExecStrategy(skip, skip)
        found.set_code_exec_strategy(function.__code__, strategy)
    except (AttributeError, TypeError):
        return False
    return True


def _pass_and_call(
    mode: _Mode, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
) -> Any:
    if not (isinstance(func, torch._ops.OpOverload) and is_view(func)):
        mode.passes()
    return func(*args, **(kwargs or {}))


_COMPILERS_ARE_OUT = _keep_compilers_out(_pass_and_call)


class _Mode(TorchDispatchMode):
    supports_higher_order_operators = True

    def __init__(self, gatehouse: _Gatehouse) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.passes = gatehouse.passes

    __torch_dispatch__ = _pass_and_call

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return not _COMPILERS_ARE_OUT

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """What torch.compile makes passes as a whole; with a mode that wants to see into it, torch
        would compile nothing."""
        return True


def _innermost() -> object:
    """The mode of this thread that sees operators first."""
    depth = torch._C._len_torch_dispatch_stack()
    return torch._C._get_dispatch_stack_at(depth - 1) if depth else None
