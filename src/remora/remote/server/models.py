"""Models: graphs with their weights, ready to run, each there once however many loaded it."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping

import torch

from remora.core.errors import Refused
from remora.remote.graph import masks
from remora.remote.graph.decoder import context_in, no_state, state_in
from remora.remote.graph.nodes import Graph
from remora.remote.graph.plan import Planner
from remora.remote.graph.program import Program
from remora.remote.graph.side_by_side import program_for
from remora.remote.graph.validation import GraphLimits, decode
from remora.remote.server.compiling import CompiledProgram, Compiler
from remora.remote.server.weights import WeightStore

Runs = Program | CompiledProgram
"""What runs a graph."""

_PLANNED_TOKENS = 256
"""Steps are planned for a state of so many tokens, or a multiple: not anew for every token."""


class Model:
    """A graph that can be called, and for how much memory. Immutable but for ``holders``."""

    def __init__(
        self,
        name: str,
        graph: Graph,
        program: Runs,
        planner: Planner,
        *,
        decoder: bool,
        positions: int = 0,
    ) -> None:
        self.name, self.graph, self.program, self.planner = name, graph, program, planner
        self.decoder, self.positions = decoder, positions
        self.digests = frozenset(weight.digest for weight in graph.weights)
        self.holders = 0
        self.token_bytes = 0
        """What one token adds to a decoder's state."""
        if decoder:
            _check_decoder(graph)
            self.token_bytes = sum(
                t.shape[1] * t.shape[3] * t.element_size() for t in self.no_state()
            )

    def no_state(self) -> list[torch.Tensor]:
        """A decoder's state before its first token, on the host."""
        return no_state(state_in(self.graph))

    def mask_for(self, new: int, old: int, pads: torch.Tensor) -> torch.Tensor:
        """The mask that a decoder takes, on the device of ``pads``."""
        return masks.mask_for(self.graph.inputs[2], new, old, pads, pads.device)

    def plan_step(self, batch: int, new: int, old: int) -> None:
        """See that a decoder's step has the memory it needs.

        Raises:
            Refused: it needs more than one call is given.
        """
        old = -(-old // _PLANNED_TOKENS) * _PLANNED_TOKENS
        context = [(batch, *value.dims[1:]) for value in context_in(self.graph)]
        states = [(batch, v.dims[1], old, v.dims[3]) for v in state_in(self.graph)]
        added = len(self.graph.inputs[2].dims) == 4
        mask = (batch, 1, new, old + new) if added else (batch, old + new)
        self.planner.needs(((batch, new), (batch, new), mask, *context, *states))


class Models:
    """All models of a server. Thread-safe.

    A model that nobody holds stays, so that a program that comes back finds it, until ``kept``
    others are unused as well.
    """

    def __init__(
        self,
        store: WeightStore,
        *,
        call_bytes: int,
        limits: GraphLimits | None = None,
        kept: int = 4,
        compiler: Compiler | None = None,
    ) -> None:
        self._store, self._call_bytes, self._kept = store, call_bytes, kept
        self._compiler = compiler
        self._limits = limits or GraphLimits()
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._models)

    def load(self, encoded: bytes | memoryview, *, decoder: bool, positions: int = 0) -> Model:
        """The model of that graph, held once more.

        Raises:
            Refused: it is no graph that may be run, or lacks weights.
        """
        name = hashlib.sha256(f"decoder {positions}".encode() if decoder else b"model")
        name.update(encoded)
        with self._guard:
            model = self._models.get(name.hexdigest())
            if model is None:
                self._let_go()
                model = self._made(name.hexdigest(), encoded, decoder, positions)
                self._models[model.name] = model
            self._models.move_to_end(model.name)
            model.holders += 1
            return model

    def release(self, model: Model) -> None:
        """One who loaded it needs it no longer."""
        with self._guard:
            model.holders -= 1
            self._let_go()

    def _made(self, name: str, encoded: bytes | memoryview, decoder: bool, positions: int) -> Model:
        graph = decode(encoded, self._limits)
        planner = Planner(graph, self._call_bytes)
        weights = self._store.hold(weight.digest for weight in graph.weights)
        try:
            _check_weights(graph, weights)
            program: Runs = program_for(graph, weights, self._store.device)
            if self._compiler is not None and isinstance(program, Program):
                program = CompiledProgram(program, weights, self._compiler, decoder=decoder)
            return Model(name, graph, program, planner, decoder=decoder, positions=positions)
        except BaseException:
            self._store.release(weights)
            raise

    def _let_go(self) -> None:
        """Of the unused the longest unused, until few enough are left."""
        unused = [model for model in self._models.values() if model.holders <= 0]
        for model in unused[: max(0, len(unused) - self._kept)]:
            del self._models[model.name]
            self._store.release(model.digests)


def _check_weights(graph: Graph, weights: Mapping[str, torch.Tensor]) -> None:
    for weight in graph.weights:
        tensor = weights[weight.digest]
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype != weight.dtype or tuple(tensor.shape) != weight.dims:
            raise Refused(
                f"weight {weight.name[:100]} is said to be {weight.dtype} {list(weight.dims)}, "
                f"and is {dtype} {list(tensor.shape)}"
            )


def _check_decoder(graph: Graph) -> None:
    """Whether it takes tokens, positions, a mask, context and state, and gives logits and state."""
    inputs = graph.inputs
    fits = 1 < len(graph.outputs) <= len(inputs) - 2 and masks.fits(inputs[2])
    fits = fits and all(v.dims == (-1, -1) and v.dtype == "int64" for v in inputs[:2])
    fits = fits and all(
        len(v.dims) == 4 and v.dims[0] == v.dims[2] == -1 and min(v.dims[1], v.dims[3]) > 0
        for v in state_in(graph)
    )
    fits = fits and all(
        v.dims[:1] == (-1,) and min(v.dims[1:], default=1) > 0 for v in context_in(graph)
    )
    if not fits:
        raise Refused("this graph is no step of a language model: load it without sessions")
