"""How many threads and how large a chunk a storage wants: tried out on it before the first save."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from remora.checkpoint.policy.probe import MIB, SETTINGS, Probed, probe
from remora.checkpoint.policy.records import Setting
from remora.checkpoint.storage.aligned import aligned
from remora.checkpoint.storage.contract import Storage, StorageFile
from remora.core.units import format_bytes

ABOUT_S = 0.06
"""How long one trial is to take: all of them together two seconds."""
LEAST, MOST = 16 * MIB, 128 * MIB
"""Bytes of a trial: enough for every thread and chunk that is tried, and no more than helps."""


def tune(
    storage: Storage, name: str = "slot-probe", settings: Sequence[Setting] = SETTINGS
) -> tuple[Probed, ...]:
    """What each setting reaches on ``storage``, in a file ``name`` that is removed again.

    Raises:
        OSError: the storage cannot be written.
    """
    with storage.open(name, create=True, direct=True) as file:
        try:
            file.allocate(MOST)
            first = _rate(file, MOST, Setting())  # into new extents: the slowest there is
            size = min(MOST, max(LEAST, int(first * ABOUT_S) // MIB * MIB))
            return probe(lambda setting: _rate(file, size, setting), settings)
        finally:
            storage.remove(name)


def tuned_words(probed: Sequence[Probed], best: Setting) -> str:
    """What was found, for the user."""
    rate = next(each.bytes_s for each in probed if each.setting == best)
    threads = "1 thread" if best.threads == 1 else f"{best.threads} threads"
    return (
        f"storage takes {format_bytes(rate)}/s here; "
        f"{threads} writing chunks of {format_bytes(best.chunk_bytes)} reach that"
    )


def _rate(file: StorageFile, size: int, setting: Setting) -> float:
    """Bytes a second at which ``size`` bytes are durable."""
    failed: list[BaseException] = []
    chunk = min(setting.chunk_bytes, size)
    buffers = [aligned(chunk) for _ in range(setting.threads)]

    def write(first: int) -> None:
        try:
            for begin in range(first * chunk, size, setting.threads * chunk):
                file.pwrite(buffers[first][: size - begin], begin)
        except OSError as error:
            failed.append(error)

    began = time.perf_counter()
    threads = [threading.Thread(target=write, args=(n,)) for n in range(setting.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    file.fdatasync()
    return size / (time.perf_counter() - began)
