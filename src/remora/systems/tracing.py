"""Full tracing, two ways: the upper bounds on what watching a job can cost.

``settrace`` records every Python call and return with its arguments, each tensor as a dictionary of
all its attributes, as the first baseline of TrainCheck's overhead experiment does (OSDI'25).
``dispatch-mode`` records every ATen operator with the shapes it was given.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from remora.systems.contract import Moved, Ride, System
from remora.systems.describe import TensorRecord, describe, every_attribute, shape_and_type
from remora.systems.trace_file import TraceFile
from remora.workloads.contract import Outcome, Session


class TracingRide(Ride):
    """Traces the session's step, and only that, into one file."""

    def __init__(self, session: Session, directory: Path) -> None:
        super().__init__(session)
        self.trace, self.steps = TraceFile(directory / "trace.jsonl"), 0

    def step(self) -> Outcome:
        self.steps += 1
        return self.traced_step()

    @abstractmethod
    def traced_step(self) -> Outcome:
        """One step of the session's work, recorded."""

    def counts(self) -> Mapping[str, float]:
        return {"records_per_step": self.trace.records / max(1, self.steps)}

    def drain(self) -> None:
        self.trace.flush()

    def moved(self) -> Moved:
        return Moved(disk_bytes=self.trace.bytes_written)

    def close(self) -> None:
        self.trace.close()


class _SettraceRide(TracingRide):
    def __init__(self, session: Session, directory: Path, tensor_record: TensorRecord) -> None:
        super().__init__(session, directory)
        self.tensor_record = tensor_record

    def traced_step(self) -> Outcome:
        outer = sys.gettrace()
        sys.settrace(self._on_call)
        try:
            return self.session.step()
        finally:
            sys.settrace(outer)

    def _on_call(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        frame.f_trace_lines = False
        self._record("call", frame, dict(frame.f_locals))
        return self._on_event

    def _on_event(self, frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        if event == "return":
            self._record("return", frame, argument)
        return self._on_event

    def _record(self, event: str, frame: FrameType, values: object) -> None:
        code = frame.f_code
        described = describe(values, self.tensor_record)
        self.trace.write([event, code.co_filename, code.co_qualname, described])


@dataclass(frozen=True)
class Settrace(System):
    """``sys.settrace``: every Python call with its arguments."""

    name: ClassVar[str] = "settrace"
    title: ClassVar[str] = "every Python call recorded, through sys.settrace"

    attributes: bool = True
    """Record every attribute and a fingerprint of each tensor, not only its shape and type."""

    def ride(self, session: Session, directory: Path) -> Ride:
        record = every_attribute if self.attributes else shape_and_type
        return _SettraceRide(session, directory, record)


class _RecordingMode(TorchDispatchMode):
    def __init__(self, trace: TraceFile) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = trace

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self.trace.write([str(func), describe([args, dict(kwargs)], shape_and_type)])
        return func(*args, **kwargs)


class _DispatchRide(TracingRide):
    def traced_step(self) -> Outcome:
        with _RecordingMode(self.trace):
            return self.session.step()


@dataclass(frozen=True)
class DispatchMode(System):
    """``TorchDispatchMode``: every ATen operator with the shapes it was given."""

    name: ClassVar[str] = "dispatch-mode"
    title: ClassVar[str] = "every ATen operator recorded, through TorchDispatchMode"

    def ride(self, session: Session, directory: Path) -> Ride:
        return _DispatchRide(session, directory)
