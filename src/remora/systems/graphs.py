"""Where a trial has its workload's graph from: captured in it, or once before all trials.

Capturing takes seconds and gives the same graph in every trial of a workload, so the lab has it
done once, by :func:`keep_graph`, and what it took is reported with start-up. What is kept is data:
the graph as it goes to a server, how its outputs make up what the model returns, and those of its
tensors that the model itself does not hold. The weights are the trial's own, found by digest.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.utils import _pytree as pytree

from remora.core.errors import Refused, ResultsUnusable
from remora.core.files import UNDECODABLE, write_atomically
from remora.remote.graph.call import Call
from remora.remote.graph.capture import Captured, capture
from remora.remote.graph.decoder import Decoder, capture_decoder
from remora.remote.graph.digest import digest_of
from remora.remote.graph.validation import GraphLimits, decode
from remora.systems.contract import Another, System
from remora.workloads.contract import Session
from remora.workloads.language.decoding import DecodeSession

PREPARATION = "graph"
"""What it is called among the preparations of a workload."""
_GRAPH, _ABOUT, _TENSORS = "graph.msgpack", "about.json", "tensors.safetensors"


class _About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is kept beside the graph."""

    lines: tuple[str, ...]
    outputs: str
    """How outputs make up what the model returns, as pytree writes it in JSON."""
    positions: int | None
    """Of a language model's step; None for another graph."""


@dataclass(frozen=True)
class Graphs:
    """Gives a workload's graph: what :func:`keep_graph` has left in ``kept``, or captured now."""

    kept: Path | None = None

    def decoder(self, model: torch.nn.Module) -> Decoder:
        """The step of ``model``, a language model.

        Raises:
            ResultsUnusable: what is kept is damaged, or of another model.
            CannotCapture: nothing is kept, and the model cannot become a graph.
        """
        found = self.before_a_call(model)
        if found is None:
            return capture_decoder(model)
        if not isinstance(found, Decoder):
            raise ResultsUnusable(f"{self.kept} holds no step of a language model; {_AGAIN}")
        return found

    def before_a_call(self, model: torch.nn.Module) -> Captured | Decoder | None:
        """What is known of ``model`` before it is first called; None where nothing is kept.

        Raises:
            ResultsUnusable: as above.
        """
        return None if self.kept is None else _read(self.kept, model)


@dataclass(frozen=True)
class RunsGraph(System):
    """A system that runs the workload's graph."""

    graphs: ClassVar[Graphs] = Graphs()

    def preparation(self) -> str:
        return PREPARATION

    def prepare(self, another: Another, kept: Path) -> None:
        keep_graph(another, kept)

    def prepared(self, kept: Path) -> System:
        ready = copy.copy(self)
        object.__setattr__(ready, "graphs", Graphs(kept))  # no option, so no field
        return ready


def _read(kept: Path, model: torch.nn.Module) -> Captured | Decoder:
    try:
        about = msgspec.json.decode((kept / _ABOUT).read_bytes(), type=_About)
        graph = decode((kept / _GRAPH).read_bytes(), GraphLimits())
        outputs = pytree.treespec_loads(about.outputs)
        others = load_file(kept / _TENSORS)
    except (OSError, Refused, SafetensorError, *UNDECODABLE, ValueError, NotImplementedError) as e:
        reason = " ".join(str(e).split())[:200]
        raise ResultsUnusable(f"{kept} holds no graph that can be read: {reason}; {_AGAIN}") from e
    found = {**others, **_by_digest(model)}
    lacking = [weight.name for weight in graph.weights if weight.digest not in found]
    if lacking:
        raise ResultsUnusable(
            f"{kept} was captured of a model with other weights, {lacking[0]} for one; {_AGAIN}"
        )
    tensors = {weight.digest: found[weight.digest] for weight in graph.weights}
    captured = Captured(graph, tensors, about.lines, outputs)
    return captured if about.positions is None else Decoder(captured, about.positions)


_AGAIN = "remove that folder, and the next run with --resume captures it again"


def keep_graph(another: Another, kept: Path) -> None:
    """Capture the workload's graph, of a session like the trials' own, into the folder ``kept``.

    Raises:
        CannotCapture: the model cannot become a graph.
    """
    session = another(0)
    try:
        module = session.model
        if isinstance(session, DecodeSession):
            found: Captured | Decoder = capture_decoder(module)
        else:
            found = _captured_of_a_step(session, module)
        _write(found, _by_digest(module), kept)
    finally:
        session.close()


def captured_call(module: torch.nn.Module, call: Call, tensors: Sequence[torch.Tensor]) -> Captured:
    """``module`` as it is called with these arguments, and with no others."""
    return capture(module, *call.made_of(tensors), dims=[{} for _ in tensors])


def _captured_of_a_step(session: Session, module: torch.nn.Module) -> Captured | Decoder:
    """What the first call of the model in a step is a call of."""
    watching = _Watching(module)
    session.model = watching  # type: ignore[assignment]
    try:
        session.step()
    finally:
        session.model = module
    if watching.found is None:
        raise ValueError("the session's step does not call its model")
    return watching.found


class _Watching:
    """Stands where the model was, and captures its first call."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        self.found: Captured | Decoder | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.found is None and kwargs.get("use_cache"):
            self.found = capture_decoder(self._module)
        elif self.found is None:
            self.found = captured_call(self._module, *Call.of(args, kwargs))
        return self._module(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _write(found: Captured | Decoder, held: Mapping[str, torch.Tensor], kept: Path) -> None:
    captured = found.captured if isinstance(found, Decoder) else found
    positions = found.positions if isinstance(found, Decoder) else None
    outputs = pytree.treespec_dumps(captured.outputs)
    about = _About(captured.lines, outputs, positions)
    others = {
        digest: tensor.contiguous().clone()
        for digest, tensor in captured.tensors.items()
        if digest not in held
    }
    write_atomically(kept / _GRAPH, msgspec.msgpack.encode(captured.graph))
    write_atomically(kept / _ABOUT, msgspec.json.encode(about))
    save_file(others, kept / _TENSORS)


def _by_digest(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The parameters and buffers of ``model``."""
    held = (*model.parameters(), *model.buffers())
    return {digest_of(tensor): tensor.detach() for tensor in held}
