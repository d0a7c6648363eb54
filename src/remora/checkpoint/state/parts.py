"""Everything a checkpoint covers: a job's live objects by name, and the random numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from remora.checkpoint.state.decoder import read_document
from remora.checkpoint.state.known import KnownDict
from remora.checkpoint.state.modules import ModulePart
from remora.checkpoint.state.objects import (
    GroupPart,
    ItemPart,
    LoaderPart,
    StatefulPart,
    ValuesPart,
)
from remora.checkpoint.state.optimizers import OptimizerPart
from remora.checkpoint.state.part import Part
from remora.checkpoint.state.position import DataPosition
from remora.checkpoint.state.rng import capture_rng, restore_rng
from remora.checkpoint.state.stored import as_stored
from remora.checkpoint.state.tree import Flat, tensor_of
from remora.core.errors import BadValue, StateMismatch

RNG = "rng"
"""The random numbers' place in the state; no part may have this name."""
_SHOWN = 10
"""Lines of an error before it says how many there are more."""


class Parts:
    """Named objects whose state is taken and put back together.

    A part is a module (in DistributedDataParallel, DataParallel or ``torch.compile`` or not: the
    state is that of the module inside), an optimizer, anything with ``state_dict`` and
    ``load_state_dict``, a plain DataLoader, a dict or list of plain values and tensors, or a dict
    or list of parts. A DataLoader is watched from now until :meth:`close`.

    Raises:
        BadValue: a part is none of these.
    """

    def __init__(self, **parts: Any) -> None:
        if RNG in parts:
            raise BadValue(f"the part {RNG!r} is the random numbers'; give yours another name")
        self._parts = {name: _part(name, part) for name, part in parts.items()}
        self._volatile_of: tuple[tuple[KnownDict, ...], set[int]] = (), set()
        self._volatile: frozenset[str] = frozenset()

    def capture(self) -> dict[str, Any]:
        """The state of all parts and of the random numbers, as it is now.

        Tensors are the live ones where the objects give those: :func:`flatten` does not copy
        them either, so they have to be copied before they change.
        """
        state = {name: part.capture() for name, part in self._parts.items()}
        state[RNG] = capture_rng()
        return state

    @property
    def shared(self) -> frozenset[str]:
        """The parts that all ranks of a job have together: modules and optimizers."""
        return frozenset(name for name, part in self._parts.items() if _is_shared(part))

    @property
    def distributed(self) -> bool:
        """Whether a parameter is a DTensor, of which each rank has a part."""
        modules = (part.module for part in self._each(ModulePart))
        return any(hasattr(each, "to_local") for module in modules for each in module.parameters())

    def parameters(self, name: str) -> dict[int, torch.Tensor]:
        """The parameters of the optimizer ``name``, by their number in its state."""
        part = self._parts.get(name)
        if not isinstance(part, OptimizerPart):
            return {}
        groups = part.optimizer.param_groups
        return dict(enumerate(p for group in groups for p in group["params"]))

    def volatile(self, flat: Flat) -> frozenset[str]:
        """Which of :meth:`capture`'s tensors may change before an optimizer's next step.

        These must be copied at once. The others are the parameters of modules that an optimizer
        among the parts trains (of any module, if there is no optimizer), and what optimizers keep
        for each parameter. A moving average is volatile: it changes after the step.
        """
        steady = self._steady_addresses()
        if not flat.known or (flat.known, steady) != self._volatile_of:
            self._volatile_of = flat.known, steady
            self._volatile = self._changing(flat.tensors, steady)
            return self._volatile
        known = frozenset(name for name in self._volatile if name in flat.tensors)
        return known | self._changing(flat.fresh, steady)

    def _changing(
        self, tensors: Mapping[str, torch.Tensor], steady: Collection[int]
    ) -> frozenset[str]:
        kept = tuple(f"{part.at}.state." for part in self._each(OptimizerPart))
        return frozenset(
            name
            for name, tensor in tensors.items()
            if not name.startswith(kept) and tensor.data_ptr() not in steady
        )

    def _steady_addresses(self) -> set[int]:
        optimizers = [part.optimizer for part in self._each(OptimizerPart)]
        trained = {
            id(p) for each in optimizers for group in each.param_groups for p in group["params"]
        }
        steady: set[int] = set()
        changing: set[int] = set()
        for part in self._each(ModulePart):
            parameters = list(part.module.parameters())
            trains = not optimizers or any(id(each) in trained for each in parameters)
            if trains and not isinstance(part.module, AveragedModel):
                steady.update(_address(each) for each in parameters)
            changing.update(_address(each) for each in part.module.buffers())
        return steady - changing

    def targets(
        self, document: bytes, described: Callable[[str], torch.Tensor], *, strict: bool = True
    ) -> dict[str, torch.Tensor]:
        """Live tensors that the bytes of a stored tensor may be read into, by its name.

        ``described`` gives for a name a tensor of the stored dtype and shape, whose values are
        not looked at (a meta tensor will do). What comes back has that dtype and shape, shares
        no element with another target, and may be strided or on a device. Read those, read the
        others anywhere, and give all of them to :func:`unflatten` and its result to
        :meth:`apply`, which then copies only what is not in its place yet.

        Raises:
            StateMismatch: the state does not fit the parts, and ``strict``; nothing has changed.
            CheckpointDamaged: ``document`` is damaged.
        """
        names: dict[int, tuple[str, torch.Tensor]] = {}

        def describe(name: str, tag: str | None) -> torch.Tensor:
            tensor = tensor_of(described, name, tag)
            names[id(tensor)] = name, tensor  # kept, so that no other gets its id
            return tensor

        state = read_document(document, describe)
        if strict:
            _raise(self._misfits(state))
        pairs = [
            pair
            for at, part in self._parts.items()
            if at in state
            for pair in part.targets(state[at])
        ]
        return dict(_disjoint((names[id(tensor)][0], tensor, live) for tensor, live in pairs))

    def apply(self, state: dict[str, Any], *, strict: bool = True, rng: bool = True) -> list[str]:
        """Put ``state`` into the parts and, unless ``rng`` is False, into the random generators.

        Parts of the state that are not among these are left alone. Parameters and buffers are
        written in place; optimizers and others may keep the tensors given. Not ``strict`` puts
        back what fits, and returns a line for each thing that does not.

        Raises:
            StateMismatch: ``state`` does not fit, and ``strict``. Nothing has changed, unless an
                object refused only when asked to load.
        """
        misfits = self._misfits(state)
        if strict:
            _raise(misfits)
        lines = [_absent(name) for name in self._parts if name not in state]
        for name, part in self._parts.items():
            if name in state:
                lines += part.load(state[name], strict=strict)
        if rng and RNG in state:
            lines += restore_rng(state[RNG])
        return lines

    def close(self) -> None:
        """Stop watching; the objects are as they were. Calling it twice does no harm."""
        for part in self._parts.values():
            part.close()

    def _misfits(self, state: dict[str, Any]) -> list[str]:
        lines = []
        for name, part in self._parts.items():
            lines += part.misfits(state[name]) if name in state else [_absent(name)]
        return lines

    def _each(self, kind: type[Any]) -> Iterator[Any]:
        waiting: list[Part] = list(self._parts.values())
        while waiting:
            part = waiting.pop()
            if isinstance(part, GroupPart):
                waiting.extend(part.parts.values())
            elif isinstance(part, kind):
                yield part


def _is_shared(part: Part) -> bool:
    if isinstance(part, GroupPart):
        return any(_is_shared(each) for each in part.parts.values())
    return isinstance(part, ModulePart | OptimizerPart)


def _address(tensor: torch.Tensor) -> int:
    """Where its elements are; of a DTensor, those of this rank."""
    local: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return local.data_ptr()


def _absent(name: str) -> str:
    return f"{name} is not in the checkpoint"


def _raise(misfits: list[str]) -> None:
    if misfits:
        shown = "; ".join(misfits[:_SHOWN])
        more = f"; and {len(misfits) - _SHOWN} more" if len(misfits) > _SHOWN else ""
        raise StateMismatch(
            f"the checkpoint does not fit: {shown}{more}. Restore into the objects it was made "
            "of, or with strict=False what fits"
        )


def _disjoint(
    triples: Iterator[tuple[str, torch.Tensor, torch.Tensor]],
) -> Iterator[tuple[str, torch.Tensor]]:
    """Targets by name: each name and each place in memory once, only where dtype and shape fit.

    Parts that share memory otherwise, or memory that two names claim, are left to copying.
    """
    taken: set[int] = set()
    given: set[str] = set()
    for name, described, live in triples:
        target, _ = as_stored(live.detach())
        address = live.data_ptr()
        fits = described.dtype is live.dtype and described.shape == live.shape
        if (
            fits and name not in given and address and address not in taken
            and target.data_ptr() == address and not _overlaps_itself(target)
        ):  # fmt: skip
            taken.add(address)
            given.add(name)
            yield name, target


def _overlaps_itself(tensor: torch.Tensor) -> bool:
    """Whether two of its indices may be one element, as after ``expand``."""
    reach = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1:
            if stride < reach:
                return True
            reach = (size - 1) * stride + 1
    return False


def _part(at: str, value: Any) -> Part:
    """The part that ``value`` is, at ``at``."""
    if isinstance(value, nn.Module):
        return ModulePart(at, value)
    if isinstance(value, Optimizer):
        return OptimizerPart(at, value)
    if _is_stateful(value):
        return StatefulPart(at, value)
    if isinstance(value, DataLoader):
        return LoaderPart(at, DataPosition.of(value))
    if isinstance(value, dict | list | tuple) and _has_parts(value):
        return _group(at, value)
    if isinstance(value, dict | list):
        return ValuesPart(at, value)
    raise BadValue(
        f"the part {at!r} is a {type(value).__qualname__}, which cannot be restored in place; "
        "give an object with state_dict and load_state_dict, or put the value in a dict"
    )


def _group(at: str, value: Any) -> Part:
    listed = not isinstance(value, dict)
    items = dict(enumerate(value)) if listed else value
    parts: dict[Any, Part] = {}
    for key, item in items.items():
        plain = not _is_part(item) and not isinstance(value, tuple)
        parts[key] = ItemPart(f"{at}.{key}", value, key) if plain else _part(f"{at}.{key}", item)
    return GroupPart(at, parts, listed=listed)


def _is_stateful(value: Any) -> bool:
    return callable(getattr(value, "state_dict", None)) and callable(
        getattr(value, "load_state_dict", None)
    )


def _is_part(value: Any) -> bool:
    return _is_stateful(value) or isinstance(value, DataLoader) or _has_parts(value)


def _has_parts(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_is_part(item) for item in value.values())
    return isinstance(value, list | tuple) and any(_is_part(item) for item in value)
