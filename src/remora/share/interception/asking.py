"""Ask at a gate, from wherever an operator is called."""

from __future__ import annotations

from collections.abc import Callable

from remora.tap.undisturbed import modes_are_on, undisturbed


class Asking:
    """Calls ``passing``, but where nothing may wait. Modes of the program see nothing of it.

    Args:
        may_pass: tells that the operator passes without being asked.
    """

    def __init__(
        self, passing: Callable[[], object], may_pass: tuple[Callable[[], bool], ...] = ()
    ) -> None:
        self._passing, self._may_pass = passing, may_pass

    def __call__(self) -> None:
        for may_pass in self._may_pass:
            if may_pass():
                return
        if modes_are_on():
            undisturbed(self._passing)
        else:
            self._passing()
