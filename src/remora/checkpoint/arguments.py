"""What may be asked of a checkpointer, and what is said of what may not."""

from __future__ import annotations

from remora.core.errors import BadValue

CHUNK_BYTES = 16 * 2**20
"""Large enough for full speed with one thread, small enough that a bounded buffer holds many."""


def check(
    *,
    every: int | str,
    threads: int | str,
    chunk_bytes: int,
    when_slow: str,
    on_error: str,
    snapshot: str,
) -> None:
    """Refuse what is out of its range.

    Raises:
        BadValue: one of them is; the message says which, and what there is to choose from.
    """
    if every != "auto" and (isinstance(every, str) or every < 1):
        raise BadValue(f"every={every!r}: choose a number of steps from 1, or 'auto'")
    if threads != "auto" and (isinstance(threads, str) or threads < 1):
        raise BadValue(f"threads={threads!r}: choose 1 or more, or 'auto'")
    if chunk_bytes < 4096 or chunk_bytes % 4096:
        raise BadValue(
            f"chunk_bytes={chunk_bytes}: choose a multiple of 4096, such as {CHUNK_BYTES}"
        )
    _one_of("when_slow", when_slow, ("skip", "block", "supersede"))
    _one_of("on_error", on_error, ("warn", "raise"))
    _one_of("snapshot", snapshot, ("thread", "fork"))


def _one_of(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise BadValue(f"{name}={value!r}: choose one of {', '.join(valid)}")
