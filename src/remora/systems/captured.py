"""The graph that our remote service runs, run here: what it computes faster or slower by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from remora.remote.graph.call import Call
from remora.remote.graph.decoder import Decoder, capture_decoder
from remora.systems.contract import Ride
from remora.systems.graphs import Graphs, RunsGraph, captured_call
from remora.systems.remote_calls import CalledModule, GraphHere, Keeps, Reader
from remora.systems.remote_decoding import DecodingHere
from remora.workloads.contract import Outcome, Session
from remora.workloads.language.decoding import DecodeSession

_KEEPS = Keeps(state="returned")


class _CapturedRide(Ride):
    def __init__(self, session: Session, graphs: Graphs) -> None:
        super().__init__(session)
        self._module = session.model
        self._decoding: DecodingHere | None = None
        self._reader: Reader | None = None
        self._graph: GraphHere | None = None
        if isinstance(session, DecodeSession):
            reader = _reader(graphs.decoder(session.model))
            self._decoding = DecodingHere(reader, session.prompt)
            return
        found = graphs.before_a_call(session.model)
        if isinstance(found, Decoder):
            self._reader = _reader(found)
        elif found is not None:
            self._graph = GraphHere(found)
        session.model = CalledModule(session.model, self._runs, self._read)  # type: ignore[assignment]

    def step(self) -> Outcome:
        if self._decoding is None or not isinstance(self.session, DecodeSession):
            return self.session.step()
        tokens = self._decoding.decode(self.session.new_tokens, self.session.first_is_known)
        return Outcome(torch.tensor([tokens]))

    def close(self) -> None:
        self.session.model = self._module

    def _runs(self, call: Call, tensors: Sequence[torch.Tensor]) -> GraphHere:
        if self._graph is None:
            self._graph = GraphHere(captured_call(self._module, call, tensors))
        return self._graph

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        if self._reader is None:
            self._reader = _reader(capture_decoder(self._module))
        return self._reader.prompt(ids)


def _reader(decoder: Decoder) -> Reader:
    return Reader(decoder.captured, GraphHere, _KEEPS)


@dataclass(frozen=True)
class Captured(RunsGraph):
    """No server: a model as a graph in the process that uses it."""

    name: ClassVar[str] = "captured"
    title: ClassVar[str] = "the model as a graph, run in the trial's own process"
    trains: ClassVar[bool] = False

    def ride(self, session: Session, directory: Path) -> Ride:
        return _CapturedRide(session, self.graphs)
