"""``server.device()``: a server as a device of torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar, cast

import torch

from remora.core.errors import BadValue
from remora.remote.client.placed import upload
from remora.remote.eager import backend
from remora.remote.eager.entries import Entries
from remora.remote.eager.memory import memory_of
from remora.remote.eager.recorder import Recorder
from remora.remote.eager.recording import CURRENT, made_of
from remora.remote.graph.digest import digest_of
from remora.remote.segment.plan import WEIGHT

if TYPE_CHECKING:
    from remora.remote.client.server import RemoteServer

Put = TypeVar("Put", torch.nn.Module, torch.Tensor)
_ENTRIES = Entries()


class Device(str):
    """A device of torch, ``remora:0``: a text, so that it goes wherever torch takes a device.

    ``x.to(device)``, ``torch.zeros(3, device=device)`` and ``torch.device(device)`` work. Operators
    on its tensors are recorded, and sent when a value is wanted: by ``.item()``, ``.cpu()``,
    ``print``, a comparison. There is one at a time in a program, which torch prescribes.
    """

    recorder: Recorder

    @classmethod
    def on(
        cls, server: RemoteServer, *, batched: bool = True, deadline_s: float | None = None
    ) -> Device:
        """A device on ``server``.

        Raises:
            BadValue: there is one already, or torch has another backend.
        """
        backend.register()
        before = CURRENT.recorder
        if before is not None and before.in_use:
            raise BadValue("this program has a device on a server already; close() that first")
        device = cls(f"{backend.NAME}:0")
        device.recorder = CURRENT.recorder = Recorder(
            server.channel, _ENTRIES, batched=batched, deadline_s=deadline_s
        )
        return device

    def put(self, what: Put) -> Put:
        """``what`` on the device: a tensor as a copy, a module as itself.

        Weights go by their contents: those that the server has are not sent again. Tensors that a
        module has under several names stay one.

        Raises:
            BadValue: neither module nor tensor, or of a dtype that a server does not keep.
            ServerLost, Refused: as for any use of the server.
        """
        if isinstance(what, torch.nn.Module):
            self._put_module(what)
            return what
        if isinstance(what, torch.Tensor):
            return self._put_tensors([what])[id(what)]
        raise BadValue(f"put() takes a module or a tensor, not a {type(what).__name__}")

    def synchronize(self) -> None:
        """Return when all that was asked for has been done; raise what went wrong."""
        self.recorder.synchronize()

    def close(self) -> None:
        """Free all that is on it. Its tensors cannot be used any more. May be called again."""
        self.recorder.end()
        if CURRENT.recorder is self.recorder:
            CURRENT.recorder = None

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _put_module(self, module: torch.nn.Module) -> None:
        tensors = [*module.parameters(), *module.buffers()]
        there = self._put_tensors(tensors)
        for part in module.modules():
            for owned in (part._parameters, part._buffers):
                for name, tensor in owned.items():
                    if tensor is not None:
                        owned[name] = there[id(tensor)]  # type: ignore[assignment]

    def _put_tensors(self, tensors: Iterable[torch.Tensor]) -> dict[int, torch.Tensor]:
        """A tensor there for each of ``tensors``, by its id."""
        here = {id(tensor): tensor for tensor in tensors}
        kept = {key: each.detach().cpu() for key, each in here.items() if not is_there(each)}
        digests = {key: digest_of(tensor) for key, tensor in kept.items()}
        with self.recorder.ending():
            upload(self.recorder.channel, {digests[key]: kept[key] for key in digests})
        return {
            key: _as_it_was(tensor, self._weight(kept[key], digests[key]))
            if key in digests
            else tensor
            for key, tensor in here.items()
        }

    def _weight(self, tensor: torch.Tensor, digest: str) -> torch.Tensor:
        recorder = self.recorder
        with recorder.lock:
            entry = recorder.entries.special(WEIGHT, digest, made=(made_of(tensor),))
            (made,) = recorder.add(entry, [])
            recorder.done()
        return cast(torch.Tensor, made)


def is_there(tensor: torch.Tensor) -> bool:
    """Whether ``tensor`` is on the device."""
    return tensor.device.type == backend.NAME and memory_of(tensor) is not None


def _as_it_was(tensor: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    if isinstance(tensor, torch.nn.Parameter):
        return torch.nn.Parameter(there, requires_grad=tensor.requires_grad)
    return there.requires_grad_(tensor.requires_grad)
