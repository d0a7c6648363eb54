"""Weights in a folder, by the digest of their contents: a server that starts again has them."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from remora.core.errors import BadValue, Refused
from remora.remote.graph.digest import digest_of

_SUFFIX = ".safetensors"
_NAME = "weight"
_DIGEST = re.compile("[0-9a-f]{64}")


class WeightFolder:
    """Tensors on disk, one file each. Thread-safe.

    What is read is checked against its digest, so a file that was cut short or changed is as good
    as none, and nothing has to be synced to the disk.

    Args:
        folder: made where it is not there, for its owner alone.
        limit_bytes: the most that all files may take; the longest unused go first. 0: any.
        troubled: told, in words, of files that are damaged.

    Raises:
        BadValue: the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        limit_bytes: int = 0,
        troubled: Callable[[str], object] = lambda words: None,
    ) -> None:
        self.folder, self._limit, self._troubled = folder, limit_bytes, troubled
        self._guard = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in folder.glob("*.part"):
                left.unlink()
        except OSError as error:
            raise BadValue(f"the folder {folder} cannot be used: {error.strerror}") from None
        if not os.access(folder, os.W_OK):
            raise BadValue(f"the folder {folder} cannot be written to; choose another")

    def __contains__(self, digest: str) -> bool:
        return _is_digest(digest) and self._file(digest).is_file()

    def put(self, digest: str, tensor: torch.Tensor) -> None:
        """Keep ``tensor``.

        Raises:
            Refused: the disk does not take it. Nothing is left of it then.
        """
        with self._guard:
            part = self.folder / f"{digest}.part"
            try:
                self._make_room(tensor.nbytes)
                save_file({_NAME: tensor.contiguous()}, part)
                part.replace(self._file(digest))
            except (OSError, SafetensorError) as error:
                with suppress(OSError):
                    part.unlink()
                raise Refused(
                    f"a weight cannot be kept in {self.folder}: {_reason(error)}; make room there, "
                    "or start the server with another --weights-folder, or with none"
                ) from error

    def get(self, digest: str) -> torch.Tensor | None:
        """The tensor of that digest, if it is here whole."""
        if digest not in self:
            return None
        file = self._file(digest)
        try:
            tensor = load_file(file)[_NAME].clone()
            os.utime(file)
        except (OSError, SafetensorError, KeyError):
            tensor = None
        if tensor is not None and digest_of(tensor) == digest:
            return tensor
        self._troubled(f"{file} is damaged, and was removed; its weight is uploaded again")
        file.unlink(missing_ok=True)
        return None

    def _file(self, digest: str) -> Path:
        return self.folder / (digest + _SUFFIX)

    def _make_room(self, needed: int) -> None:
        if not self._limit:
            return
        files = sorted(self.folder.glob("*" + _SUFFIX), key=lambda file: file.stat().st_mtime_ns)
        held = sum(file.stat().st_size for file in files)
        for file in files:
            if held + needed <= self._limit:
                return
            held -= file.stat().st_size
            file.unlink()


def _is_digest(text: str) -> bool:
    """It comes from clients, and is about to be part of a path."""
    return _DIGEST.fullmatch(text) is not None


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)[:200]
