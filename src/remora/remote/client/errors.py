"""What a server says went wrong, as the error that it is."""

from __future__ import annotations

from remora.core.errors import BadValue, CannotCapture, Full, Refused, RemoraError, SessionLost
from remora.remote.messages import Failed

_KINDS: dict[str, type[RemoraError]] = {
    "BadValue": BadValue,
    "CannotCapture": CannotCapture,
    "SessionLost": SessionLost,
    "Refused": Refused,
    "Full": Full,
}


class CallFailed(Refused):
    """An operator of the model would not run on what it was given.

    ``node`` is its place in the graph; the model that was called turns that into a line of code.
    """

    def __init__(self, text: str, node: int) -> None:
        super().__init__(text)
        self.node = node


def as_error(reply: object) -> RemoraError | None:
    """The error that ``reply`` stands for, or None."""
    if not isinstance(reply, Failed):
        return None
    if reply.node >= 0:
        return CallFailed(reply.text, reply.node)
    return _KINDS.get(reply.kind, Refused)(reply.text)
