"""TrainCheck itself (OSDI'25), the published tool: its own instrumentation around a session's step.

TrainCheck copies a script, adds lines to the copy, and runs it in a process of its own. Those lines
instrument torch, mark where a step begins, and switch the wrappers on or off there. The same calls
are made here, in the trial's process, with the settings its command line takes by default, so its
steps are timed as all others are. It is given what its command line gives it with ``--invariants``:
the functions that the deployed 100 name. Its checker, which reads the trace in another process, is
not run, and so is not in these numbers; ours is.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, ClassVar

import torch

from remora.core.errors import BadValue
from remora.systems.checkpointing import bytes_under
from remora.systems.contract import Moved, Requirement, Ride, System
from remora.systems.invariant_sets import missing_deployed, path_of_deployed
from remora.workloads.contract import Outcome, Session

_FOLDER = "TRAINCHECK_OUTPUT_DIR"
_ORIGINAL = "_traincheck_original_function"
_DEFAULT_WARM_UP = 10
"""Steps that are always recorded where it samples; from its configuration."""


class _TraincheckRide(Ride):
    """Instruments torch in this process, and takes that back."""

    def __init__(self, session: Session, directory: Path, one_in: int, options: Any) -> None:
        super().__init__(session)
        self.period, self.directory = one_in, directory
        self._config, self._dumper = _part("config.config"), _part("instrumentor.dumper")
        self._before = {(id(owner), name): value for owner, name, value in _functions()}
        self._folder_before = os.environ.get(_FOLDER)
        self._begin(options, one_in)
        self._start_step = _part("instrumentor.control").start_step

    def _begin(self, options: Any, one_in: int) -> None:
        os.environ[_FOLDER] = str(self.directory)
        self._dumper.stop_event, self._dumper.THREAD_DATA = threading.Event(), threading.local()
        self._config.INSTR_OPTS = options
        _part("instrumentor.caches").META_VARS.update(step=0)
        self._config.DISABLE_WRAPPER = True
        _part("instrumentor.tracer").Instrumentor(
            torch,
            scan_proxy_in_args=False,
            use_full_instr=False,
            funcs_to_instr=None,
            sampling_interval=one_in,
            warm_up_steps=_DEFAULT_WARM_UP if one_in > 1 else 1,
        ).instrument()

    def step(self) -> Outcome:
        self._start_step()
        try:
            return self.session.step()
        finally:
            self._config.DISABLE_WRAPPER = True  # what the lab reads now is not the job's

    def drain(self) -> None:
        buffer = getattr(self._dumper.THREAD_DATA, "api_trace_buffer", None)
        if buffer is not None:
            buffer._flush()
            buffer.queue.join()

    def moved(self) -> Moved:
        return Moved(disk_bytes=bytes_under(self.directory))

    def close(self) -> None:
        self._dumper.stop_event.set()
        for owner, name, value in list(_functions()):
            if (original := getattr(value, _ORIGINAL, None)) is not None:
                setattr(owner, name, self._before.get((id(owner), name), original))
        _part("instrumentor.tracer").modules_or_cls_id_instrumented.clear()
        if self._folder_before is None:
            os.environ.pop(_FOLDER, None)
        else:
            os.environ[_FOLDER] = self._folder_before


def _part(name: str) -> Any:
    return importlib.import_module(f"traincheck.{name}")


def _functions() -> Iterator[tuple[Any, str, Any]]:
    """Every function of torch's modules and classes: where it is, its name there, and it."""
    owners: dict[int, Any] = {
        id(module): module
        for name, module in list(sys.modules.items())
        if name.split(".")[0] == "torch" and type(module) is ModuleType
    }
    waiting = list(owners.values())
    while waiting:
        owner = waiting.pop()
        for name, value in list(vars(owner).items()):
            if type(value) in (FunctionType, BuiltinFunctionType):
                yield owner, name, value
            elif issubclass(type(value), type) and id(value) not in owners:
                owners[id(value)] = value
                waiting.append(value)


@dataclass(frozen=True)
class Traincheck(System):
    """The published tool, selective with the deployed invariants, or full."""

    name: ClassVar[str] = "traincheck"
    title: ClassVar[str] = "TrainCheck's own instrumentation, its checker not counted"

    one_in: int = 10
    """It records one step in so many; 10 is its default, 1 is every step."""
    full: bool = False
    """All of torch, as it does before there are invariants, instead of the deployed ones' part."""
    deployed: str = ""
    """The file with the deployed invariants; empty is where it lies beside a checkout."""

    def requires(self) -> tuple[Requirement, ...]:
        return (Requirement("traincheck", "pip install traincheck"),)

    def unavailable(self) -> str | None:
        return None if self.full else missing_deployed(self.deployed)

    def ride(self, session: Session, directory: Path) -> Ride:
        if self.one_in < 1:
            raise BadValue(f"one_in={self.one_in} is not a number of steps; choose 1 or more")
        options = None if self.full else self._selective()
        return _TraincheckRide(session, directory, self.one_in, options)

    def _selective(self) -> Any:
        """What its command line works out of a file of invariants."""
        collect = _part("collect_trace")
        invariants = collect.read_inv_file([str(path_of_deployed(self.deployed))])
        return _part("config.config").InstrOpt(
            func_instr_opts=collect.get_per_func_instr_opts(invariants),
            model_tracker_style=None,  # none of them is about a variable
            disable_proxy_dumping=True,
        )
