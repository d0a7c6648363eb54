"""The part of a checkpoint that only an unmodified script needs: what it holds besides its model.

One piece of bytes, padded, so that a checkpoint's layout stays the same while lists grow: where in
the journal it belongs, and the script's own tensors by path (:mod:`.loose`). Beside it, as tensors,
parameters that belong to no module and gradients that the script goes on accumulating into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import msgspec
import torch

from remora.checkpoint.ride import loose
from remora.checkpoint.ride.where import script_frames
from remora.checkpoint.state.stored import unsupported
from remora.core.errors import CheckpointUnusable
from remora.core.tensors import tensor_bytes
from remora.core.units import format_bytes

_LEAST_BYTES = 16 * 1024
LOOSE_BYTES = 256 * 2**20
"""The script's own tensors are saved up to this much or as much as its models hold."""


class _Tensor(msgspec.Struct, frozen=True, array_like=True):
    dtype: str
    shape: list[int]
    data: bytes


class _Held(msgspec.Struct, frozen=True, array_like=True):
    step: int
    calls: int
    tensors: dict[str, _Tensor]


class Tracked:
    """The program's models and optimizers, by the names under which they are saved."""

    def __init__(self, models: Mapping[str, Any], optimizers: Mapping[str, Any]) -> None:
        self.models, self.optimizers = dict(models), dict(optimizers)

    def ids(self) -> set[int]:
        """Of everything that is saved as part of them."""
        things = [*self.models.values(), *self.optimizers.values()]
        for module in self.models.values():
            things += [*module.modules(), *module.parameters(), *module.buffers()]
        return {id(each) for each in things} | {id(each) for _, each in self.parameters()}

    def nbytes(self) -> int:
        return sum(loose.nbytes(each) for _, each in self.parameters())

    def parameters(self) -> Iterable[tuple[str, torch.Tensor]]:
        """Every optimizer's parameters, by optimizer and place."""
        for name, optimizer in self.optimizers.items():
            for group, members in enumerate(optimizer.param_groups):
                for index, parameter in enumerate(members["params"]):
                    yield f"{name}.{group}.{index}", parameter

    def orphans(self) -> dict[str, torch.Tensor]:
        """Parameters that an optimizer holds and no model."""
        owned = {id(each) for module in self.models.values() for each in module.parameters()}
        return {name: each for name, each in self.parameters() if id(each) not in owned}


@dataclass(frozen=True)
class Capture:
    """When and where a capture takes place."""

    step: int
    calls: int
    """Steps of all optimizers together."""
    frame: FrameType | None
    """The innermost; None where the script has ended."""
    gradients: bool
    """Whether the script may go on accumulating into them."""


class ScriptState:
    """Captures and puts back; the checkpointer sees an object with a ``state_dict``.

    Args:
        begin: called when a capture begins.
        say: tells the user what could not be saved or put back.
    """

    def __init__(
        self,
        begin: Callable[[], Capture],
        say: Callable[[str], None],
    ) -> None:
        self._begin, self._say = begin, say
        self.tracked = Tracked({}, {})
        self.unchanged = loose.Unchanged()
        self.frame: FrameType | None = None
        """Where the script is when it is put back."""
        self._told: set[str] = set()

    # ------------------------------------------------------------ out

    def state_dict(self) -> dict[str, Any]:
        now = self._begin()
        tensors = {path: _packed(each) for path, each in self._worth_saving(now.frame)}
        blob = msgspec.msgpack.encode(_Held(now.step, now.calls, tensors))
        return {
            "held": _padded(blob),
            "parameters": self.tracked.orphans(),
            "gradients": self._gradients() if now.gradients else {},
        }

    def _worth_saving(self, frame: FrameType | None) -> list[tuple[str, torch.Tensor]]:
        self.unchanged.forget_dead()
        found = [
            (path, tensor)
            for path, tensor in self._found(frame).items()
            if unsupported(tensor) is None and loose.worth_saving(tensor, self.unchanged)
        ]
        found.sort(key=lambda each: loose.nbytes(each[1]))
        limit, total = max(LOOSE_BYTES, self.tracked.nbytes()), 0
        for index, (path, tensor) in enumerate(found):
            total += loose.nbytes(tensor)
            if total > limit:
                size = format_bytes(loose.nbytes(tensor))
                self._tell(
                    f"the script's own tensors exceed {format_bytes(limit)}: {path} of {size} is "
                    "not saved, and will not be put back on a restart"
                )
                return found[:index]
        return found

    def _found(self, frame: FrameType | None) -> dict[str, torch.Tensor]:
        return loose.find(script_frames(frame), self.tracked.ids())

    def _gradients(self) -> dict[str, torch.Tensor]:
        return {
            name: each.grad.detach().clone()  # backward will change it before it is copied
            for name, each in self.tracked.parameters()
            if each.grad is not None
        }

    def before_first_forward(self, frame: FrameType | None) -> None:
        """What the script has made by now, replay makes as well."""
        self.unchanged.add(self._found(frame).values())

    # ------------------------------------------------------------ back

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        held = msgspec.msgpack.decode(_unpadded(state["held"]), type=_Held)
        found = self._found(self.frame)
        missing = [path for path, each in held.tensors.items() if not _put(each, found.get(path))]
        if missing:
            self._tell(
                f"{len(missing)} of the script's own tensors could not be put back, since they are "
                f"not there any more or of another shape: {', '.join(missing[:3])}"
            )
        _put_all(state["parameters"], self.tracked.orphans())
        gradients = state["gradients"]
        for name, parameter in self.tracked.parameters():
            if name in gradients:
                parameter.grad = gradients[name].to(parameter.device)

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._say(line)


def _packed(tensor: torch.Tensor) -> _Tensor:
    return _Tensor(str(tensor.dtype), list(tensor.shape), bytes(tensor_bytes(tensor)))


def _put(saved: _Tensor, target: torch.Tensor | None) -> bool:
    """Give ``target`` the value of ``saved``, whatever graph it is part of."""
    if target is None or str(target.dtype) != saved.dtype or list(target.shape) != saved.shape:
        return False
    if saved.data:
        flat = torch.frombuffer(bytearray(saved.data), dtype=target.dtype)
        target.data.copy_(flat.view(target.shape))
    return True


def _put_all(saved: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]) -> None:
    if saved.keys() != targets.keys():
        raise CheckpointUnusable(
            "the optimizers hold other parameters than when the checkpoint was made; "
            "start over with --fresh"
        )
    for name, target in targets.items():
        target.data.copy_(saved[name])


def _padded(data: bytes) -> torch.Tensor:
    """``data`` with its length in front, in a power of two of bytes."""
    needed = 8 + len(data)
    room = max(_LEAST_BYTES, 1 << (needed - 1).bit_length())
    whole = bytearray(room)
    whole[:8] = len(data).to_bytes(8, "little")
    whole[8:needed] = data
    return torch.frombuffer(whole, dtype=torch.uint8)


def _unpadded(tensor: torch.Tensor) -> bytes:
    whole = bytes(tensor_bytes(tensor))
    length = int.from_bytes(whole[:8], "little")
    if length > len(whole) - 8:
        raise CheckpointUnusable("the script's own state in this checkpoint is not whole")
    return whole[8 : 8 + length]
