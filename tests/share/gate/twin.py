"""A hook as small as can be, for tests of the gate: one mode of the thread that begins it."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from torch.utils._python_dispatch import TorchDispatchMode

from remora.share.interception.contract import Gate, Hook


class Twin(Hook):
    name: ClassVar[str] = "twin"
    title: ClassVar[str] = "a mode of torch's dispatcher"

    def __init__(self) -> None:
        self._mode: _Mode | None = None

    def begin(self, gate: Gate) -> None:
        self._mode = _Mode(gate)
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def end(self) -> None:
        mode, self._mode = self._mode, None
        if mode is not None:
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    @property
    def operators(self) -> int:
        return 0 if self._mode is None else self._mode.operators


class _Mode(TorchDispatchMode):
    def __init__(self, gate: Gate) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gate, self._asking = gate, threading.local()
        self.operators = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.operators += 1
        pairs, every = self._gate.pairs, self._gate.every
        is_due = bool(every) and self.operators % every == 0
        if is_due or any(pairs[at] != pairs[at + 1] for at in range(0, len(pairs), 2)):
            self._gate.passing()
        return func(*args, **(kwargs or {}))
