"""Ways of calling a model on a server: from sending all every time to sending nearly nothing.

What differs is what stays on the server between calls: the graph, the weights, the state; and how
much of what the model gives comes back. All of them go over one wire and are computed by one
program, so that only the difference is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils import _pytree as pytree

from remora.remote.graph.call import Call
from remora.remote.graph.capture import Captured
from remora.remote.graph.decoder import no_state, state_in
from remora.remote.graph.masks import mask_for
from remora.remote.graph.program import Program
from remora.remote.messages import Wanted
from remora.remote.server.outputs import select


@dataclass(frozen=True)
class Keeps:
    """What stays on the server, and what comes back."""

    graph: bool = True
    weights: bool = True
    state: str = "kept"
    """``kept`` on the server, ``returned`` with every call, or ``recomputed`` from the tokens."""
    selected: bool = True
    """Whether only what is wanted of an output comes back."""
    streamed: bool = True
    """Whether tokens come one after another without being asked for each."""


class Runs(Protocol):
    """A captured graph that can be run, wherever that is."""

    captured: Captured

    def run(self, inputs: Sequence[torch.Tensor], *wanted: Wanted) -> list[torch.Tensor]:
        """The outputs for ``inputs``, or what is wanted of each."""
        ...


GraphOf = Callable[[Captured], Runs]


class GraphHere:
    """A captured graph run in this process: what running it elsewhere is to be compared with."""

    def __init__(self, captured: Captured) -> None:
        self.captured = captured
        self._program = Program(captured.graph, captured.tensors, torch.device("cpu"))

    def run(self, inputs: Sequence[torch.Tensor], *wanted: Wanted) -> list[torch.Tensor]:
        return select(self._program.run(inputs), wanted)


class CalledModule:
    """Stands where a session's model was: each call is a run of its graph.

    Args:
        runs: gives the graph of the first call; all further ones are taken to be like it.
        reads: gives the logits behind the last of the tokens (1, tokens), for a model that is asked
            to read a prompt.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        runs: Callable[[Call, Sequence[torch.Tensor]], Runs],
        reads: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self._module, self._runs, self._reads = module, runs, reads
        self._graph: Runs | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("use_cache"):
            return Read(self._reads(kwargs["input_ids"]))
        call, tensors = Call.of(args, kwargs)
        if self._graph is None:
            self._graph = self._runs(call, tensors)
        outputs = self._graph.run(tensors)
        return pytree.tree_unflatten(outputs, self._graph.captured.outputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class Read(NamedTuple):
    """What reading a prompt gives."""

    logits: torch.Tensor


class Reader:
    """A language model's graph: reads tokens, gives the token or the logits behind them."""

    def __init__(self, decoder: Captured, graph_of: GraphOf, keeps: Keeps) -> None:
        self._keeps = keeps
        self._decoder = decoder
        self._graph = graph_of(self._decoder)
        self._states = state_in(self._decoder.graph)
        self._tokens = torch.empty(1, 0, dtype=torch.int64)
        self._state = self._no_state()

    def forget(self, count: int) -> None:
        """Keep the first ``count`` tokens only."""
        self._tokens = self._tokens[:, :count]
        self._state = [tensor[:, :, :count] for tensor in self._state]

    def prompt(self, ids: torch.Tensor) -> torch.Tensor:
        """The logits behind the last of ``ids`` (1, tokens), with nothing read before."""
        self.forget(0)
        return self.read(ids, Wanted("last"))

    def read(self, tokens: torch.Tensor, wanted: Wanted) -> torch.Tensor:
        """Read ``tokens`` (1, count); what is wanted of the logits (1, 1, vocabulary) behind."""
        self._tokens = torch.cat([self._tokens, tokens], dim=1)
        if self._keeps.state == "recomputed":
            tokens, state = self._tokens, self._no_state()
        else:
            state = self._state
        held = state[0].shape[2]
        positions = torch.arange(held, held + tokens.shape[1])[None]
        no_pads = torch.zeros(1, dtype=torch.int64)
        mask = mask_for(
            self._decoder.graph.inputs[2], tokens.shape[1], held, no_pads, no_pads.device
        )
        inputs = [tokens, positions, mask, *state]
        chosen = wanted if self._keeps.selected else Wanted()
        back = Wanted() if self._keeps.state == "returned" else Wanted("nothing")
        output, *state = self._graph.run(inputs, chosen, *[back for _ in self._states])
        if self._keeps.state == "returned":
            self._state = state
        return output if self._keeps.selected else _selected(output, wanted)

    def _no_state(self) -> list[torch.Tensor]:
        return no_state(self._states)


def _selected(logits: torch.Tensor, wanted: Wanted) -> torch.Tensor:
    return logits.argmax(-1) if wanted.kind == "token" else logits
