"""Graphs compiled by torch's compiler beside the interpreter, which runs them until that is done.

Only a graph that has been validated comes here, and only kinds of calls that come again: those of
one shape, or a decoder's step of one token, whatever its state's length. One thread compiles, one
after another; what it made is held against the interpreter before it is used, and where torch would
have to compile once more for what it is given, or anything fails, the interpreter runs it.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from remora.core.errors import Refused
from remora.remote.graph.decoder import state_in
from remora.remote.graph.fx_graph import as_fx
from remora.remote.graph.nodes import Graph
from remora.remote.graph.program import Program, first_line

SEEN = 3
"""A kind of call is compiled when it has come so often."""
MOST = 8
"""Kinds of calls that are kept compiled, of all models. Each takes up to its weights once more:
they are laid out for the processor."""
TOLERANCE = 1e-4
"""The largest difference to the interpreter's outputs, as a share of their largest value."""
KINDS = 1024
"""Kinds of calls of one model that are counted."""

Kind = tuple[tuple[int, ...], ...]
"""The shapes of all inputs, -1 for a size that may grow."""


class Variant:
    """One kind of call of one program, compiled or on its way to it."""

    def __init__(self) -> None:
        self.run: Callable[..., Sequence[Any]] | None = None
        """None until it is ready, and again when it has failed."""


@dataclass(frozen=True)
class Job:
    """What is to be compiled."""

    variant: Variant
    program: CompiledProgram
    kind: Kind
    example: Sequence[torch.Tensor]
    """Inputs of such a call."""


class Compiler:
    """Compiles in a thread of its own until it is closed. Thread-safe.

    Args:
        most: kinds of calls.
        said: told in words what was compiled, and what could not be.
    """

    def __init__(
        self, *, most: int = MOST, said: Callable[[str], object] = lambda words: None
    ) -> None:
        self._most, self._said = most, said
        self._variants: weakref.WeakSet[Variant] = weakref.WeakSet()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._is_full = False
        threading.Thread(target=self._work, name="remora-compile", daemon=True).start()

    def submit(self, job: Job) -> bool:
        """Have it compiled; False where as many are as may be."""
        if len(self._variants) >= self._most:
            if not self._is_full:
                self._said(f"{self._most} kinds of calls are compiled; others are interpreted")
            self._is_full = True
            return False
        self._variants.add(job.variant)
        self._waiting.put(job)
        return True

    def close(self) -> None:
        """Compile no more. What is under way is not waited for."""
        self._waiting.put(None)

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            self._do(job)
            del job  # it may be the last that holds its model

    def _do(self, job: Job) -> None:
        try:
            job.variant.run = _compiled(job)
        except Exception as error:  # of any kind: a compiler has many ways to say no
            self._said(f"a graph is interpreted, as it cannot be compiled: {first_line(error)}")
        else:
            self._said(f"a graph of {len(job.program.graph.nodes)} operators is compiled")


class CompiledProgram:
    """Runs a graph as its :class:`Program` does, compiled where it is."""

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, torch.Tensor],
        compiler: Compiler,
        *,
        decoder: bool,
    ) -> None:
        self.graph, self.interpreter, self.weights = program.graph, program, weights
        self._compiler = compiler
        self._growing = _growing(program.graph) if decoder else None
        self._seen: Counter[Kind] = Counter()
        self._variants: dict[Kind, Variant] = {}

    def run(self, inputs: Sequence[torch.Tensor]) -> list[Any]:
        """As :meth:`Program.run`."""
        kind = self._kind_of(inputs)
        variant = self._variants.get(kind) if kind is not None else None
        if variant is not None and (run := variant.run) is not None:
            try:
                return list(run(*inputs))
            except Exception:  # the interpreter says what is wrong, if it is the inputs
                variant.run = None
        elif variant is None and kind is not None:
            self._count(kind, inputs)
        return self.interpreter.run(inputs)

    def _count(self, kind: Kind, inputs: Sequence[torch.Tensor]) -> None:
        self._seen[kind] += 1
        if self._seen[kind] >= SEEN:
            variant = Variant()
            if self._compiler.submit(Job(variant, self, kind, inputs)):
                self._variants[kind] = variant
            del self._seen[kind]
        if len(self._seen) > KINDS:
            self._seen.clear()

    def _kind_of(self, inputs: Sequence[torch.Tensor]) -> Kind | None:
        """None for a call that is not compiled."""
        if self._growing is None:
            return tuple([tuple(tensor.shape) for tensor in inputs])
        if inputs[0].shape[1] != 1:
            return None  # a prompt: each has its own length
        kind = []
        for tensor, dim in zip(inputs, self._growing, strict=True):
            shape = [*tensor.shape]
            if dim is not None:
                if shape[dim] < 2:
                    return None
                shape[dim] = -1
            kind.append(tuple(shape))
        return tuple(kind)


def _growing(graph: Graph) -> list[int | None]:
    """For each input of a decoder's step the dim that grows from token to token."""
    mask, states = len(graph.inputs[2].dims) - 1, len(state_in(graph))
    fixed = len(graph.inputs) - 3 - states
    return [None, None, mask, *[None] * fixed, *[2] * states]


@torch.inference_mode()
def _compiled(job: Job) -> Callable[..., Sequence[Any]]:
    """Compile it, and hold it against the interpreter.

    Raises:
        Refused: it does not give the same.
    """
    from torch._inductor import config  # seconds: not for servers that compile nothing

    program = job.program
    module = as_fx(program.graph, program.weights, program.interpreter.device)
    for tensor, shape in zip(job.example, job.kind, strict=True):
        for dim in (dim for dim, size in enumerate(shape) if size == -1):
            torch._dynamo.mark_dynamic(tensor, dim)
    # As an option of compile() it would come too late: weights would be inputs by then.
    with config.patch(freezing=True, compile_threads=1):
        made = torch.compile(module, fullgraph=True)(*job.example)
    _check_same(program.interpreter.run(job.example), made)
    ready: Callable[..., Sequence[Any]] = torch._dynamo.run(module)  # it never compiles again
    _check_same(made, ready(*job.example))
    return torch.inference_mode()(ready)


def _check_same(wanted: Sequence[Any], made: Sequence[Any]) -> None:
    for one, other in zip(wanted, made, strict=True):
        if not isinstance(one, torch.Tensor) or not one.numel():
            continue
        if one.shape != other.shape or one.dtype != other.dtype:
            raise Refused("compiled, its outputs have other shapes or dtypes")
        difference = (one.double() - other.double()).abs().max()
        most = one.double().abs().max()
        if not difference <= TOLERANCE * most + 1e-12:
            raise Refused(f"compiled, an output differs by {float(difference / most):.1e}")
