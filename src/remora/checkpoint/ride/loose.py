"""Tensors that the script holds itself: a running loss, a hidden state, the best weights so far.

In replay they come out wrong, since what they are computed from is. So at a checkpoint they are
looked up, from the script's variables on, and saved by the path that leads to each; at the same
point of the replay the same paths lead to the same tensors, which then get their values back.

Left out is what replay makes itself: parameters and buffers of tracked modules, what a data loader
has just handed over, large tensors that the script made before its first forward and has not
written to since, and large results of a forward (a graph hangs on them; nobody goes on with those).
"""

from __future__ import annotations

import inspect
import weakref
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from types import FrameType, FunctionType, GeneratorType, MethodType, ModuleType
from typing import Any

import torch

from remora.tap.whereabouts import locals_of

DEPTH = 8
VISITS = 50_000
"""How many values one search looks at: about 0.3 µs each."""
SMALL_BYTES = 4096
"""Tensors no larger are saved whatever they are."""
_PLAIN = (int, float, complex, str, bytes, bool, type(None), type, ModuleType)
_NEVER = ("remora.", "torch.utils.data", "torch.optim", "torch.amp")
"""Rooms whose objects are looked after elsewhere, or (data) come right by themselves."""


class Unchanged:
    """Tensors that the script need not be given back, as long as nobody writes to them."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[torch.Tensor], int]] = {}

    def add(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            self._known[id(tensor)] = weakref.ref(tensor), tensor._version

    def has(self, tensor: torch.Tensor) -> bool:
        reference, version = self._known.get(id(tensor), (None, 0))
        return reference is not None and reference() is tensor and tensor._version == version

    def forget_dead(self) -> None:
        self._known = {
            key: (reference, version)
            for key, (reference, version) in self._known.items()
            if reference() is not None
        }


def find(frames: list[FrameType], tracked: Collection[int]) -> dict[str, torch.Tensor]:
    """The tensors that ``frames`` lead to, by path, each once; ``tracked`` holds ids to pass by."""
    return {
        path: value
        for path, value in _reachable(frames, set(tracked))
        if issubclass(type(value), torch.Tensor) and _is_plain(value)
    }


def worth_saving(tensor: torch.Tensor, unchanged: Unchanged) -> bool:
    """Whether replay might not come by the value of ``tensor`` itself."""
    if nbytes(tensor) <= SMALL_BYTES:
        return True
    return tensor.grad_fn is None and not unchanged.has(tensor)


def _is_plain(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.device.type != "meta"


def nbytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _reachable(frames: list[FrameType], seen: set[int]) -> Iterator[tuple[str, Any]]:
    queue: deque[tuple[str, Any, int]] = deque()
    for index, frame in enumerate(frames):
        queue.extend(
            (f"{index}:{frame.f_code.co_name}.{name}", value, 0)
            for name, value in _variables(frame).items()
            if not name.startswith("__")
        )
    visits = 0
    while queue and visits < VISITS:
        path, value, depth = queue.popleft()
        cls = type(value)
        if issubclass(cls, _PLAIN) or id(value) in seen:
            continue
        visits += 1
        seen.add(id(value))
        yield path, value
        if depth < DEPTH and not _is_data(cls):
            queue.extend((path + step, part, depth + 1) for step, part in _parts(value, cls))


def _variables(frame: FrameType) -> dict[str, Any]:
    if frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        return locals_of(frame)
    return dict(frame.f_locals)


def _is_data(cls: type) -> bool:
    return any(base.__module__.startswith(_NEVER) for base in cls.__mro__)


def _parts(value: Any, cls: type) -> Iterator[tuple[str, Any]]:
    if issubclass(cls, torch.Tensor):
        return
    if issubclass(cls, (list, tuple, deque)):
        yield from ((f"[{index}]", part) for index, part in enumerate(list(value)))
    elif issubclass(cls, dict):
        items = list(dict.items(value))
        yield from ((f"[{key!r}]", part) for key, part in items if isinstance(key, (str, int)))
    elif issubclass(cls, FunctionType):
        for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            yield f".{name}", _contents(cell)
    elif issubclass(cls, MethodType):
        yield ".__self__", value.__self__
    elif issubclass(cls, GeneratorType) and value.gi_frame is not None:
        yield from ((f".{name}", part) for name, part in list(value.gi_frame.f_locals.items()))
    yield from ((f".{name}", part) for name, part in _attributes(value, cls))


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _attributes(value: Any, cls: type) -> list[tuple[str, Any]]:
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        attributes = {}
    found = list(attributes.items()) if type(attributes) is dict else []
    for base in cls.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            try:
                found.append((name, object.__getattribute__(value, name)))
            except (AttributeError, TypeError):
                continue
    return found
