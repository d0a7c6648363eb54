"""Capture a model as a graph: ``torch.export`` once, and what it found as data of our own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.export
from torch.utils import _pytree as pytree

from remora.core.errors import CannotCapture
from remora.remote.graph.call import Call
from remora.remote.graph.digest import digest_of
from remora.remote.graph.nodes import Graph
from remora.remote.graph.translation import Translation

_NEXT = "server.device().put(model) runs it operator by operator"
Dims = Mapping[int, Any] | None
"""Which dims of one input may take any size, as ``torch.export`` wants to be told."""


@dataclass(frozen=True)
class Captured:
    """A model as a graph, with what only its owner needs to know."""

    graph: Graph
    tensors: Mapping[str, torch.Tensor]
    """Weights and constants by digest."""
    lines: tuple[str, ...]
    """For each node the line of the model's code that it comes from."""
    outputs: pytree.TreeSpec
    """How the graph's outputs make up what the model returns."""


class Bare(torch.nn.Module):
    """A module from tensors to tensors: the leaves of what ``module`` is given and returns."""

    def __init__(
        self, module: torch.nn.Module, call: Call, returned: list[pytree.TreeSpec]
    ) -> None:
        super().__init__()
        self.module = module
        self._call = call
        self._append = returned.append  # what a module is set while it is traced, export undoes

    def forward(self, *tensors: torch.Tensor) -> tuple[Any, ...]:
        args, kwargs = self._call.made_of(tensors)
        leaves, spec = pytree.tree_flatten(self.module(*args, **kwargs))
        self._append(spec)
        return tuple(leaves)


def capture(
    module: torch.nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    dims: Sequence[Dims] | None = None,
) -> Captured:
    """``module`` as a graph, traced with ``args`` and ``kwargs`` without running on its weights.

    Sizes of 1 would be taken for fixed; an example should have 2 or more wherever the size varies.

    Args:
        module: what to capture. Its buffers and parameters are read, and not changed.
        args: an example of what it is called with; tensors of any values.
        kwargs: likewise, by name.
        dims: for each tensor in ``args`` and ``kwargs``, in order, which dims may take any size;
            :func:`varying` of each by default.

    Raises:
        CannotCapture: ``torch.export`` cannot, or an operator is none that a graph may hold.
    """
    call, tensors = Call.of(args, kwargs or {})
    returned: list[pytree.TreeSpec] = []
    shapes = [varying(tensor) for tensor in tensors] if dims is None else dims
    try:
        translation = _translated(_export(Bare(module, call, returned), tensors, shapes), module)
    except CannotCapture as error:
        raise CannotCapture(f"{error}; {_NEXT}") from error
    kept: dict[str, torch.Tensor] = {}
    graph = translation.graph(lambda tensor: _kept(tensor, kept))
    return Captured(graph, kept, translation.lines, returned[-1])


def varying(tensor: torch.Tensor) -> Dims:
    """Dims of an input that vary: its batch, and of token ids and masks the sequence as well."""
    if not tensor.dim():
        return None
    whole = tensor.dtype in (torch.int64, torch.int32, torch.bool)
    dims = range(min(tensor.dim(), 2)) if whole else range(1)
    return dict.fromkeys(dims, torch.export.Dim.AUTO)


def _export(
    module: Bare, tensors: Sequence[torch.Tensor], shapes: Sequence[Dims]
) -> torch.export.ExportedProgram:
    from torch._dynamo import config as dynamo  # seconds: not for who captures nothing

    # What torch remembers of one operator's shapes for the next is of no use with sizes that vary:
    # looking it up is a fifth of the time.
    remembering_nothing = dynamo.patch(fake_tensor_cache_enabled=False)
    try:
        with torch.no_grad(), remembering_nothing, _without_warnings():
            return torch.export.export(
                module, tuple(tensors), dynamic_shapes=(tuple(shapes),), strict=False
            )
    except Exception as error:  # of any kind: it runs the model's own code
        raise _cannot(module.module, error) from error


def _translated(exported: torch.export.ExportedProgram, module: torch.nn.Module) -> Translation:
    """As it was traced, where nothing in it changes anything; else traced again without that.

    The second trace takes as long as the first, and most models write nothing in place.
    """
    try:
        return Translation(exported)
    except CannotCapture:
        pass
    try:
        with torch.no_grad(), _without_warnings():
            functional = exported.run_decompositions({})
    except Exception as error:  # of any kind: torch cannot tell what the model changes
        raise _cannot(module, error) from error
    return Translation(functional)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """What torch says of its own deprecated parts while it traces is nothing to a user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def _cannot(module: torch.nn.Module, error: Exception) -> CannotCapture:
    return CannotCapture(f"{type(module).__name__} cannot be captured: {_reason(error)}")


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no reason given'}"


def _kept(tensor: torch.Tensor, tensors: dict[str, torch.Tensor]) -> str:
    digest = digest_of(tensor)
    tensors[digest] = tensor.detach()
    return digest
