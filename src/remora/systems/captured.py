"""The graph that our remote service runs, run here: what it computes faster or slower by itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from remora.remote.graph.decoder import capture_decoder
from remora.systems.contract import Ride, System
from remora.systems.remote_calls import CalledModule, GraphHere, Keeps, Reader
from remora.systems.remote_decoding import DecodingHere
from remora.workloads.contract import Outcome, Session
from remora.workloads.language.decoding import DecodeSession

_KEEPS = Keeps(state="returned")


class _CapturedRide(Ride):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._module = session.model
        self._decoding: DecodingHere | None = None
        self._reader: Reader | None = None
        if isinstance(session, DecodeSession):
            reader = _reader(session.model)
            self._decoding = DecodingHere(reader, session.prompt)
        else:
            session.model = CalledModule(session.model, GraphHere, self._read)  # type: ignore[assignment]

    def step(self) -> Outcome:
        if self._decoding is None or not isinstance(self.session, DecodeSession):
            return self.session.step()
        return Outcome(torch.tensor([self._decoding.decode(self.session.new_tokens)]))

    def close(self) -> None:
        self.session.model = self._module

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        if self._reader is None:
            self._reader = _reader(self._module)
        return self._reader.prompt(ids)


def _reader(model: torch.nn.Module) -> Reader:
    return Reader(capture_decoder(model).captured, GraphHere, _KEEPS)


@dataclass(frozen=True)
class Captured(System):
    """No server: a model as a graph in the process that uses it."""

    name: ClassVar[str] = "captured"
    title: ClassVar[str] = "the model as a graph, run in the trial's own process"
    trains: ClassVar[bool] = False

    def ride(self, session: Session, directory: Path) -> Ride:
        return _CapturedRide(session)
