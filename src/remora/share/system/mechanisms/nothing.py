"""No mechanism: the job is in the roster, and the kernel treats it like any other."""

from __future__ import annotations

from remora.share.system.mechanisms.contract import Context, Mechanism


class Nothing(Mechanism):
    """What is left where nothing is permitted."""

    name = "none"
    title = "nothing: the job competes like any other"
    falls_back_to = "none"

    def apply(self, context: Context) -> None:
        """Nothing to do, so nothing can be refused."""

    def undo(self) -> None:
        """Nothing was done."""

    def holds(self, pid: int) -> bool:
        return False
