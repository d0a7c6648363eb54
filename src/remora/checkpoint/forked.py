"""A snapshot by ``fork``: a child sees the state as it is now, and writes it from there.

The kernel copies a page only when the parent changes it (copy on write), so the training thread
waits for the fork alone. What it pays instead are the page faults of its next optimizer step, and
memory for every page it changes while the child lives. Host memory only: a CUDA context does not
survive a fork. Measured against the copying thread (``docs/performance.md``), the fork alone holds
training up ten times as long as the whole of a copied save, and the memory is a thirtieth: this is
for where memory is scarce and checkpoints are rare, and nothing chooses it unasked.
"""

from __future__ import annotations

import array
import errno
import os
import struct
import threading
import warnings
from collections.abc import Callable

import torch
import xxhash

from remora.checkpoint.staging import Arena
from remora.checkpoint.writer import Finish, Save

_ERRNO = struct.Struct("<i")


class ForkedWriter:
    """Stands in for :class:`~remora.checkpoint.writer.Writer`: a child process for each save."""

    def __init__(self, finish: Finish) -> None:
        self._finish = finish
        self._waiting: list[threading.Thread] = []

    def submit(self, save: Save) -> None:
        """Begin ``save``. Its ``copied`` is set on return."""
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # the child runs none of our threads
            child = os.fork()
        if child == 0:
            os.close(reading)
            _run(lambda: _write_all(save), writing)
        os.close(writing)
        save.copy.issued()
        save.copied.set()
        thread = threading.Thread(
            target=self._wait,
            args=(save, child, reading),
            name="remora-checkpoint-fork",
            daemon=True,
        )
        self._waiting = [*(each for each in self._waiting if each.is_alive()), thread]
        thread.start()

    def close(self) -> None:
        """Return when every child is done."""
        for thread in self._waiting:
            thread.join()

    def _wait(self, save: Save, child: int, reading: int) -> None:
        try:
            with os.fdopen(reading, "rb") as pipe:
                answer = pipe.read()
            os.waitpid(child, 0)
            _take(save, answer)
        except BaseException as error:
            save.fail(error)
        try:
            self._finish(save)
        finally:
            save.done.set()


def _take(save: Save, answer: bytes) -> None:
    """What the child said: an errno, then a hash for every chunk."""
    if len(answer) < _ERRNO.size:
        raise OSError(errno.EIO, "the process that wrote the checkpoint died")
    (code,) = _ERRNO.unpack_from(answer)
    if code:
        raise OSError(code, os.strerror(code))
    hashes = array.array("Q", answer[_ERRNO.size :])
    save.hashes[:] = hashes.tolist()


def _run(work: Callable[[], bytes], writing: int) -> None:
    """In the child: do ``work``, tell the parent, and end without running anything of the job's."""
    try:
        try:
            answer = _ERRNO.pack(0) + work()
        except OSError as error:
            answer = _ERRNO.pack(error.errno or errno.EIO)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def _write_all(save: Save) -> bytes:
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    arena = Arena(1, save.layout.chunk_bytes)
    buffer = arena.take()
    hashes = array.array("Q")
    if buffer is None:
        return b""
    for index, chunk in enumerate(save.segments):
        begin, end = save.layout.chunk(index)
        save.copy.fill(buffer, chunk)
        data = buffer.view[: end - begin]
        hashes.append(xxhash.xxh3_64_intdigest(data))
        save.file.pwrite(data, begin)
    return hashes.tobytes()
