"""Forwards that are not computed: each returns what the first of its kind did.

Values do not matter in replay, but everything else about an output does: its structure, shapes and
dtypes, and whether ``backward()`` may start from it. So the first call of each *signature* (module,
structure and shapes of the arguments, plain arguments, training mode, autocast and grad mode) is
computed for real, and later ones return its output again. Real values rather than zeros, since a
script may ask more of an output than its shape: that probabilities sum to one, for instance.

An output that had a graph gets a small one, of a single node. Its backward gives each parameter of
the module a gradient of zeros, if it has none, so that what looks at gradients finds some. It
passes zeros on to arguments that want gradients, so that a discriminator leads to its generator.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils import _pytree as pytree

from remora.checkpoint.ride import rng
from remora.core.errors import ReplayDiverged

_RUNS_ITS_OWN_BACKWARD = ("DistributedDataParallel",)
"""Wrappers that expect a backward after each forward: what they wrap is called instead."""


class Stubs:
    """The outputs learnt, by signature."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self._forward = forward
        """What calls a module for real."""
        self._learnt: dict[Any, _Template] = {}
        self._modules: dict[int, Any] = {}
        """Alive, so that their ids stay their own."""
        self._zeros: dict[int, torch.Tensor] = {}
        self.computed = 0
        """Forwards run for real."""
        self.over = False

    def answer(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the module returns in replay."""
        self._modules[id(module)] = module
        leaves, _ = pytree.tree_flatten((args, kwargs))
        key = _signature(module, args, kwargs)
        template = self._learnt.get(key)
        if template is None:
            template = self._learnt[key] = self._learn(module, args, kwargs)
        differentiable = [
            leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad
        ]
        return template.fill(self, module, differentiable)

    def _learn(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Template:
        self.computed += 1
        states = rng.capture()
        try:
            output = self._forward(_without_reducer(module), *args, **kwargs)
        finally:
            rng.apply(states)  # later calls draw nothing: nor does this one
        return _Template(output)

    def give_gradients(self, module: Any) -> None:
        """A gradient of zeros for every parameter that has none."""
        for parameter in module.parameters():
            if parameter.requires_grad and parameter.grad is None:
                zeros = self._zeros.get(id(parameter))
                if zeros is None or zeros.shape != parameter.shape:
                    zeros = self._zeros[id(parameter)] = torch.zeros_like(parameter)
                parameter.grad = zeros

    def close(self) -> None:
        """Replay is over: an output that is still about leads nowhere."""
        self.over = True
        for module in self._modules.values():
            for parameter in module.parameters():
                if parameter.grad is not None and parameter.grad is self._zeros.get(id(parameter)):
                    parameter.grad = None
        self._learnt.clear()
        self._modules.clear()
        self._zeros.clear()


class _Template:
    """An output taken apart."""

    def __init__(self, output: Any) -> None:
        self._tensors: list[torch.Tensor] = []
        self._had_graph: list[bool] = []
        self._versions: list[int] = []
        self._output = self._without_tensors(output)

    def _without_tensors(self, value: Any) -> Any:
        def take(leaf: Any) -> Any:
            if isinstance(leaf, torch.Tensor):
                self._tensors.append(leaf.detach())
                self._had_graph.append(leaf.requires_grad)
                self._versions.append(self._tensors[-1]._version)
                return _Slot(len(self._tensors) - 1)
            if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
                return self._of_dataclass(leaf)
            return leaf

        return pytree.tree_map(take, value)

    def _of_dataclass(self, value: Any) -> Any:
        """A dataclass that torch's trees do not know: a copy, its fields taken apart."""
        taken = copy.copy(value)
        for each in dataclasses.fields(value):
            if hasattr(value, each.name):
                part = self._without_tensors(getattr(value, each.name))
                object.__setattr__(taken, each.name, part)
        return _Opaque(taken)

    def fill(self, stubs: Stubs, module: Any, inputs: list[torch.Tensor]) -> Any:
        tensors = [self._fresh(index) for index in range(len(self._tensors))]
        if any(self._had_graph):
            anchor = torch.zeros((), requires_grad=True)
            node: Any = _Stub.apply
            tensors = list(node(stubs, module, tensors, self._had_graph, anchor, *inputs))
        return _filled(self._output, tensors)

    def _fresh(self, index: int) -> torch.Tensor:
        """The memory of the first output; a copy once the script has been seen to write to it."""
        tensor = self._tensors[index]
        if tensor._version != self._versions[index]:
            return tensor.clone()
        return tensor.detach()


@dataclasses.dataclass(frozen=True)
class _Slot:
    index: int


@dataclasses.dataclass(frozen=True)
class _Opaque:
    value: Any


def _filled(value: Any, tensors: list[torch.Tensor]) -> Any:
    def put(leaf: Any) -> Any:
        if isinstance(leaf, _Slot):
            return tensors[leaf.index]
        if isinstance(leaf, _Opaque):
            made = copy.copy(leaf.value)
            for each in dataclasses.fields(made):
                if hasattr(made, each.name):
                    object.__setattr__(made, each.name, _filled(getattr(made, each.name), tensors))
            return made
        return leaf

    return pytree.tree_map(put, value)


class _Stub(torch.autograd.Function):
    """One node, in place of a module's graph."""

    @staticmethod
    def forward(
        ctx: Any,
        stubs: Stubs,
        module: Any,
        tensors: list[torch.Tensor],
        had_graph: list[bool],
        anchor: torch.Tensor,
        *inputs: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        ctx.stubs, ctx.module = stubs, module
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        pairs = zip(tensors, had_graph, strict=True)
        ctx.mark_non_differentiable(*[tensor for tensor, graph in pairs if not graph])
        return tuple(tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        if ctx.stubs.over:
            raise ReplayDiverged(
                "the checkpoint lies within an iteration of the script: a forward made before it "
                "is used after it; resume an older one after `remora checkpoint prune`, start over "
                "with --fresh, or save with remora.Checkpointer in the script"
            )
        ctx.stubs.give_gradients(ctx.module)
        again = torch.is_grad_enabled()
        passed_on = [each * 0 if again else torch.zeros_like(each) for each in ctx.saved_tensors]
        return (None, None, None, None, None, *passed_on)


def _without_reducer(module: Any) -> Any:
    return module.module if type(module).__name__ in _RUNS_ITS_OWN_BACKWARD else module


def _signature(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    modes = (module.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled())
    return id(module), modes, torch.is_autocast_enabled(), _shape_of((args, kwargs))


def _shape_of(value: Any) -> Any:
    """What of an argument the structure of the output may depend on; hashable."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype, value.device, value.requires_grad
    if isinstance(value, Mapping):
        return type(value), tuple((key, _shape_of(part)) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return type(value), tuple(map(_shape_of, value))
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return type(value)
