"""Weights by the digest of their contents: each is there once, whoever needs it."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from contextlib import suppress

import torch

from remora.core.errors import Full, Refused
from remora.core.units import format_bytes
from remora.remote.graph.digest import digest_of
from remora.remote.server.weights_on_disk import WeightFolder


class WeightStore:
    """Tensors on one device. Thread-safe.

    What nobody holds stays until its place is needed; then the longest unused goes first.

    Args:
        device: where the tensors are kept.
        limit_bytes: the most that all of them may take.
        folder: where they are kept as well, so that what had to go need not be sent again.
    """

    def __init__(
        self, device: torch.device, limit_bytes: int, folder: WeightFolder | None = None
    ) -> None:
        self.device, self.limit_bytes, self._folder = device, limit_bytes, folder
        self._tensors: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._holders: Counter[str] = Counter()
        self._bytes = 0
        self._guard = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """What all tensors take."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._tensors)

    def lacking(self, digests: Iterable[str]) -> tuple[str, ...]:
        """Those that are not here; the others are the last to be let go from now on."""
        with self._guard:
            wanted = tuple(dict.fromkeys(digests))
            for digest in wanted:
                if digest in self._tensors:
                    self._tensors.move_to_end(digest)
            return tuple(digest for digest in wanted if not self._fetched(digest))

    def put(self, digest: str, tensor: torch.Tensor) -> None:
        """Keep ``tensor``, if its contents are what ``digest`` says.

        Raises:
            Refused: they are not, or there is no room and everything here is in use, or the disk
                is full.
        """
        if digest_of(tensor) != digest:
            raise Refused(f"the contents of weight {digest[:12]}… are not those of its digest")
        if self._folder is not None and digest not in self._folder:
            self._folder.put(digest, tensor)
        with self._guard:
            if digest not in self._tensors:
                self._keep(digest, tensor)

    def hold(self, digests: Iterable[str]) -> Mapping[str, torch.Tensor]:
        """Those tensors, which stay until :meth:`release`.

        Raises:
            Refused: one is not here.
        """
        with self._guard:
            wanted = set(digests)
            for digest in wanted:
                self._fetched(digest)
            missing = wanted - self._tensors.keys()  # one may have made room for another
            if missing:
                raise Refused(
                    f"{len(missing)} weights are not here ({min(missing)[:12]}…); upload them first"
                )
            self._holders.update(wanted)
            return {digest: self._tensors[digest] for digest in wanted}

    def release(self, digests: Iterable[str]) -> None:
        """Who held them needs them no longer."""
        with self._guard:
            self._holders.subtract(set(digests))

    def _fetched(self, digest: str) -> bool:
        """Whether it is in memory, from the folder if need be."""
        if digest not in self._tensors and self._folder is not None:
            tensor = self._folder.get(digest)
            if tensor is not None:
                with suppress(Refused):  # who uploads it is told that there is no room
                    self._keep(digest, tensor)
        return digest in self._tensors

    def _keep(self, digest: str, tensor: torch.Tensor) -> None:
        self._make_room(tensor.nbytes)
        self._tensors[digest] = tensor.to(self.device)
        self._bytes += tensor.nbytes

    def _make_room(self, needed: int) -> None:
        free = [digest for digest in self._tensors if self._holders[digest] <= 0]
        spare = self.limit_bytes - self._bytes + sum(self._tensors[d].nbytes for d in free)
        if needed > spare:
            raise Full(
                f"no room for a weight of {format_bytes(needed)}: {format_bytes(self._bytes)} of "
                f"{format_bytes(self.limit_bytes)} are taken by models in use; "
                "unload one, or start the server with a larger --weights"
            )
        for digest in free:
            if self._bytes + needed <= self.limit_bytes:
                return
            self._bytes -= self._tensors.pop(digest).nbytes
            del self._holders[digest]
